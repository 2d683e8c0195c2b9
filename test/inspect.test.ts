import { inspect as nodeInspect } from "node:util";
import * as fx from "fluxion";
import t from "tap";
import { byteSize } from "#lib/tensor/dtype.js";
import { onEach } from "./support/each-backend.js";

type T = fx.Tensor;

/** What one kernel takes, in the order that the tests say it in. */
const counts = ({ flops, transcendentals, bytesRead, bytesWritten }: fx.Kernel) => ({
  flops,
  transcendentals,
  bytesRead,
  bytesWritten,
});
const only = ({ kernels }: fx.Inspection): fx.Kernel => {
  if (kernels.length !== 1) throw new Error(`${kernels.length} kernels`);
  return kernels[0]!;
};
const indices = (list: number[]) => fx.tensor(list, { dtype: "int32" });

onEach("a layer is one product with its bias and activation", async (t) => {
  const layer = (x: T, w: T, b: T) => fx.gelu(x.matmul(w).add(b));
  const seen = fx.inspect(layer, fx.ones([64, 32]), fx.ones([32, 16]), fx.ones([16]));
  const kernel = only(seen);
  t.equal(kernel.kind, "matmul");
  t.equal(kernel.description, "matmul 64x16x32 + bias, gelu");
  t.same(kernel.outputs, [{ dtype: "float32", shape: [64, 16], value: "%6" }]);
  t.same(counts(kernel), {
    flops: 2 * 64 * 16 * 32 + 2 * 64 * 16,
    transcendentals: 64 * 16,
    bytesRead: 4 * (64 * 32 + 32 * 16 + 16),
    bytesWritten: 4 * 64 * 16,
  });
  t.equal(seen.flops, kernel.flops);
  t.equal(seen.transcendentals, kernel.transcendentals);
  t.equal(seen.bytes, kernel.bytesRead + kernel.bytesWritten);
  t.equal(seen.backend, fx.backend());
});

onEach(
  "the gradient of a layer: the slope, its sum over the rows, and the product for the weights",
  async (t) => {
    const loss = (w: T, b: T, x: T) => fx.sum(fx.gelu(x.matmul(w).add(b)));
    const gradient = fx.grad(loss, { argnums: [0, 1] });
    const seen = fx.inspect(gradient, fx.ones([32, 16]), fx.ones([16]), fx.ones([64, 32]));
    const by = (description: string) => counts(seen.kernels.find((k) => k.description === description)!);
    t.equal(seen.kernels.length, 3);
    t.same(by("matmul 64x16x32 + bias, geluSlope"), {
      flops: 2 * 64 * 16 * 32 + 2 * 64 * 16,
      transcendentals: 64 * 16,
      bytesRead: 4 * (64 * 32 + 32 * 16 + 16),
      bytesWritten: 4 * 64 * 16,
    });
    t.same(by("reduce sum 16x64 -> 16"), {
      flops: 64 * 16,
      transcendentals: 0,
      bytesRead: 4 * 64 * 16,
      bytesWritten: 4 * 16,
    });
    t.same(by("matmul 32x16x64"), {
      flops: 2 * 32 * 16 * 64,
      transcendentals: 0,
      bytesRead: 4 * (64 * 32 + 64 * 16),
      bytesWritten: 4 * 32 * 16,
    });
    t.equal(seen.memory.arena, 4 * 64 * 16, "the slope");
    t.equal(seen.kernels[0]!.temporaryBytes, 4 * 64 * 16);
    t.equal(seen.peakBytes, 4 * (32 * 16 + 16 + 64 * 32) + 4 * (32 * 16 + 16) + 4 * 64 * 16);
  },
);

onEach("maps and reductions: elements, not operands, are counted", async (t) => {
  const x = fx.ones([100, 7]);
  t.same(
    counts(only(fx.inspect((x: T, row: T) => x.mul(row).add(1), x, fx.ones([7])))),
    { flops: 1400, transcendentals: 0, bytesRead: 4 * 707, bytesWritten: 2800 },
    "a row is read once",
  );
  t.same(
    counts(only(fx.inspect((x: T) => x.add(x.transpose()), fx.ones([5, 5])))),
    { flops: 25, transcendentals: 0, bytesRead: 100, bytesWritten: 100 },
    "two views of one array are read once",
  );
  t.same(
    counts(only(fx.inspect((x: T) => x.slice([0, 0], [100, 2]).mul(x.slice([0, 5], [100, 2])), x))),
    { flops: 200, transcendentals: 0, bytesRead: 1600, bytesWritten: 800 },
    "of slices, what they show",
  );
  const squares = only(fx.inspect((x: T) => fx.sum(x.square(), 1), x));
  t.equal(squares.description, "reduce sum 100x7 -> 100: mul");
  t.same(counts(squares), { flops: 1400, transcendentals: 0, bytesRead: 2800, bytesWritten: 400 });
  t.same(
    counts(only(fx.inspect((x: T) => x.cast("float64"), x))),
    { flops: 0, transcendentals: 0, bytesRead: 2800, bytesWritten: 5600 },
    "a cast is free, its traffic is not",
  );
  t.same(
    counts(only(fx.inspect((x: T) => fx.sqrt(fx.exp(x)), x))),
    { flops: 1400, transcendentals: 700, bytesRead: 2800, bytesWritten: 2800 },
    "a root is arithmetic, an exponential is transcendental",
  );
  t.same(
    counts(only(fx.inspect((x: T, y: T) => x.matmul(y), fx.ones([3, 4, 5]), fx.ones([3, 5, 6])))),
    { flops: 2 * 3 * 4 * 6 * 5, transcendentals: 0, bytesRead: 4 * (60 + 90), bytesWritten: 4 * 72 },
    "a batch of products",
  );
  const nothing = fx.inspect((x: T) => x.add(1), fx.ones([0, 3]));
  t.same([nothing.flops, nothing.bytes, nothing.peakBytes], [0, 0, 0], "no elements");
});

onEach("gather, scatter and sort", async (t) => {
  const x = fx.ones([10, 4]);
  const take = only(fx.inspect((x: T, i: T) => x.take(i), x, indices([1, 2, 3])));
  t.equal(take.kind, "gather");
  t.match(take.description, /gather 3 of 10/);
  t.match(take.location, /^test\/inspect\.test\.ts:\d+:\d+$/, "it says who asked for it");
  t.same(counts(take), { flops: 0, transcendentals: 0, bytesRead: 4 * (12 + 3), bytesWritten: 4 * 12 });
  const back = fx.inspect(
    fx.grad((x: T, i: T) => fx.sum(x.take(i).square())),
    x,
    indices([1, 2, 3]),
  );
  const scatter = back.kernels.find(({ kind }) => kind === "scatter")!;
  t.same(counts(scatter), { flops: 12, transcendentals: 0, bytesRead: 4 * (12 + 3), bytesWritten: 4 * 40 });
  t.ok(scatter.location, "the derivative of a gather stands where the gather does");
  const sort = only(fx.inspect((x: T) => x.argsort(), x));
  t.equal(sort.description, "sort 10 rows of 4");
  t.same(counts(sort), { flops: 0, transcendentals: 0, bytesRead: 160, bytesWritten: 160 });
});

const cpu = fx.backends().find(({ name }) => name === "cpu")!;

/** The gradients of two layers of 512 samples. */
const twoLayers = fx.grad((w1: T, w2: T, x: T) => fx.mean(fx.square(fx.gelu(x.matmul(w1)).matmul(w2))), {
  argnums: [0, 1],
});
const layers = [fx.ones([8, 32]), fx.ones([32, 4]), fx.ones([512, 8])] as const;

t.test(
  "a strip shows its parts, and counts what goes through memory",
  { skip: !cpu.available },
  async (t) => {
    fx.setBackend("typescript");
    const steps = fx.inspect(twoLayers, ...layers);
    fx.setBackend("cpu");
    const seen = fx.inspect(twoLayers, ...layers);
    t.ok(steps.kernels.every(({ kind, parts }) => kind !== "strip" && parts.length === 0));
    const strips = seen.kernels.filter(({ kind }) => kind === "strip");
    t.equal(strips.length, 1);
    const [strip] = strips as [fx.Kernel];
    const step = seen.plan.steps.find((s) => s.kind === "strip")!;
    t.equal(strip.parts.length, step.parts.length);
    t.equal(strip.localBytes, step.localBytes);
    t.equal(seen.memory.local, step.localBytes);
    t.same([seen.flops, seen.transcendentals], [steps.flops, steps.transcendentals], "the same arithmetic");
    t.equal(
      strip.flops,
      strip.parts.reduce((sum, { flops }) => sum + flops, 0),
    );
    t.equal(strip.bytesRead, 4 * (512 * 8 + 8 * 32 + 32 * 4), "samples and weights, once");
    t.equal(strip.bytesWritten, 4 * (8 * 32 + 32 * 4), "gradients");
    t.ok(seen.bytes < steps.bytes / 5, "layers stay in the cache");
    t.ok(
      strip.parts.some(({ description }) => description === "matmul 8x32x512, summed over the rows"),
      "a sum over the rows says so",
    );
  },
);

onEach("memory is that of the plan", async (t) => {
  const { plan, memory, peakBytes } = fx.inspect(twoLayers, ...layers);
  const sum = (kind: string) =>
    plan.buffers
      .filter((buffer) => buffer.kind === kind)
      .reduce((bytes, { dtype, size }) => bytes + size * byteSize(dtype), 0);
  const local = Math.max(0, ...plan.steps.map((step) => (step.kind === "strip" ? step.localBytes : 0)));
  t.same(memory, { inputs: sum("input"), outputs: sum("output"), arena: plan.arenaBytes, local });
  t.equal(memory.inputs, 4 * (8 * 32 + 32 * 4 + 512 * 8));
  t.equal(memory.outputs, 4 * (8 * 32 + 32 * 4));
  t.equal(peakBytes, memory.inputs + memory.outputs + memory.arena + memory.local);
});

onEach("jitted functions, trees, numbers, captured tensors", async (t) => {
  const w = fx.ones([4, 4]);
  const f = (p: { x: T; more: T[] }, power: number) => {
    let y = p.x;
    for (let i = 0; i < power; i++) y = y.matmul(w);
    return { y, sum: y.add(p.more[0]!).sum() };
  };
  const trees = { x: fx.ones([2, 4]), more: [fx.ones([2, 4])] };
  const plain = fx.inspect(f, trees, 3);
  t.equal(plain.kernels.filter(({ kind }) => kind === "matmul").length, 3, "a number is a constant");
  t.equal(plain.memory.inputs, 4 * (8 + 8 + 16), "a captured tensor is an input");
  t.match(String(plain.graph), /^capture /m);
  t.equal(String(fx.inspect(fx.jit(f), trees, 3)), String(plain), "jit changes nothing");

  const inside = (x: T) => {
    t.equal(String(fx.inspect((y: T) => y.mul(x), x).graph).match(/mul/g)?.length, 1);
    return x;
  };
  fx.jit(inside)(fx.ones([3]));
});

onEach("nothing runs, and what is passed on costs nothing", async (t) => {
  t.doesNotThrow(() => fx.inspect((x: T, i: T) => x.take(i), fx.ones([2]), indices([7])));
  const seen = fx.inspect((x: T) => [x, x], fx.ones([3]));
  t.same([seen.kernels, seen.flops, seen.bytes, seen.peakBytes], [[], 0, 0, 12]);
  t.match(String(seen), "no kernels");
  const wrong = 3 as unknown as () => T;
  t.throws(() => fx.inspect(wrong), { name: "ValueError", message: /inspect: expected a function/ });
  t.throws(() => seen.toString({ ful: true } as object), { name: "ValueError", message: /"ful"/ });
  t.throws(() => seen.toString({ full: 1 as unknown as boolean }), { name: "ValueError", message: /full/ });
});

onEach("the text holds totals, graph, kernels and memory", async (t) => {
  const layer = (x: T, w: T, b: T) => fx.gelu(x.matmul(w).add(b));
  const seen = fx.inspect(layer, fx.ones([640, 320]), fx.ones([320, 160]), fx.ones([160]));
  const text = String(seen);
  t.match(text, `1 kernel on the ${fx.backend()} backend`);
  t.match(text, "65.7 MFLOP, of them 102 k transcendental"); // 2 * 640 * 160 * 320 + 2 * 640 * 160 = 65,740,800
  t.match(text, "1.02 MB read, 410 kB written, 45.8 FLOP a byte"); // 1,024,640 and 409,600
  t.match(text, String(seen.graph).split("\n").at(-2)!);
  t.match(text, /1 {2}matmul 640x160x320 \+ bias, gelu +%6 +65\.7 M +100\.0% +1\.43 MB +100\.0%/);
  t.match(text, "memory 1.43 MB: inputs 1.02 MB, outputs 410 kB, temporaries 0 B");
  t.equal(nodeInspect(seen), text, "a console shows it");
});

onEach("a training step fits a terminal, and is whole when asked for", async (t) => {
  const model = fx.models.averageVelocityMlp({ dim: 2, hidden: 16, layers: 2 });
  const objective = fx.flow.meanFlow();
  const params = model.init(fx.random.key(0));
  const data = fx.data.checkerboard();
  const step = (p: typeof params, key: T) => {
    const [a, b, c] = fx.random.split(key, 3) as [T, T, T];
    const x = data.sample(a, 512);
    const points = { data: x, noise: fx.random.normal(b, [512, 2]), ...objective.sampleTimes(c, 512) };
    return fx.grad((q: typeof params) => objective.loss(model, q, points))(p);
  };
  const seen = fx.inspect(step, params, fx.random.key(1));
  const lines = String(seen).split("\n");
  const long = lines.filter((line) => line.length > 110);
  t.same(long, [], "110 columns");
  t.match(String(seen), /\.\.\. \d+ more; toString\(\{ full: true \}\) shows them/);
  const full = seen.toString({ full: true });
  for (const line of String(seen.graph).split("\n")) if (!full.includes(line)) t.fail(line);
  for (const { description } of seen.kernels) if (!full.includes(description)) t.fail(description);
  t.notMatch(full, "…");
});

onEach("a loop counts all of its turns, and shows the kernels of one", async (t) => {
  const turns = (x: T, w: T) => fx.forLoop(0, 7, (_, v: T) => fx.sin(fx.matmul(v, w)), x);
  const kernel = only(fx.inspect(turns, fx.ones([4, 8]), fx.ones([8, 8])));
  t.equal(kernel.description, "loop of 7 turns: 1 kernel each");
  t.equal(kernel.parts[0]!.description, "matmul 4x8x8 + sin");
  t.same(counts(kernel), {
    flops: 7 * (2 * 4 * 8 * 8 + 4 * 8),
    transcendentals: 7 * 4 * 8,
    bytesRead: 7 * 4 * (4 * 8 + 8 * 8),
    bytesWritten: 7 * 4 * 4 * 8,
  });
  t.same(kernel.outputs[0]!.shape, [4, 8]);
});

onEach("attention counts the products of the pairs that it sees", async (t) => {
  const [n, m, d, e] = [5, 7, 3, 2];
  const args = [fx.ones([2, n, d]), fx.ones([2, m, d]), fx.ones([2, m, e])] as const;
  const value = only(fx.inspect((q: T, k: T, v: T) => fx.attention(q, k, v), ...args));
  t.equal(value.description, "attention value, 2x5x7 scores of 3 and 2 features");
  t.same(counts(value), {
    flops: 2 * n * m * (2 * (d + e) + 1),
    transcendentals: 2 * n * m,
    bytesRead: 4 * 2 * (n * d + m * d + m * e),
    bytesWritten: 4 * 2 * n * e,
  });
  const causal = (q: T, k: T, v: T) => fx.attention(q, k, v, { causal: true });
  t.equal(only(fx.inspect(causal, ...args)).transcendentals, 2 * (1 + 2 + 3 + 4 + 5));
  const gradients = fx.grad((q: T, k: T, v: T) => fx.sum(fx.attention(q, k, v)), { argnums: [0, 1, 2] });
  const cotangent = fx.inspect(gradients, ...args).kernels.find((k) => /cotangent/.test(k.description))!;
  t.equal(cotangent.flops, 2 * n * m * (2 * (3 * d + 2 * e) + 1));
});

onEach("a running sum counts an addition an element", async (t) => {
  const kernel = only(fx.inspect((x: T) => fx.cumsum(x, 1), fx.ones([3, 5])));
  t.same(counts(kernel), { flops: 15, transcendentals: 0, bytesRead: 60, bytesWritten: 60 });
});
