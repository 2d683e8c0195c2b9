import * as fx from "fluxion";
import t from "tap";
import { setThreads, threads } from "#lib/backend/cpu.js";
import { lower } from "#lib/compile/lower.js";
import { liveNodes } from "#lib/graph/graph.js";
import { differences, eachSeed, sameBits, total } from "./support/compare.js";
import { onEach } from "./support/each-backend.js";
import { Dice, type RandomProgram, randomProgram } from "./support/random-program.js";

type T = fx.Tensor;
type Network = (x: T, ...w: T[]) => T;

const isFloat = (x: T) => x.dtype === "float32" || x.dtype === "float64";
const hasCpu = fx.backends().some((b) => b.name === "cpu" && b.available);
const random = (shape: readonly number[], seed: number) => fx.random.normal(fx.random.key(seed), shape);
const random64 = (shape: readonly number[], seed: number) => fx.cast(random(shape, seed), "float64");

/** Where the bits of two lists of results differ, in words. */
const bitsThatDiffer = (name: string, got: readonly T[], want: readonly T[]): string[] =>
  want.flatMap((x, i) => (got[i] && sameBits(got[i], x) ? [] : [`${name}, result ${i}`]));

// ---- The same numbers.

/** A random program's results and gradients, the program wrapped as asked. */
function withGradient({ f, floats }: RandomProgram, wrap: (f: (...x: T[]) => T[]) => (...x: T[]) => T[]) {
  const wrapped = wrap(f);
  return (...x: T[]) => {
    const loss = (...y: T[]): [T, T[]] => {
      const outputs = wrapped(...y);
      return [total(outputs), outputs];
    };
    const [[value, outputs], gradients] = fx.valueAndGrad(loss, { argnums: floats, hasAux: true })(...x);
    return [...outputs, value, ...(gradients as T[])];
  };
}

onEach(
  "a checkpoint around the whole changes no bit of values and gradients of random programs",
  async (t) => {
    const failures = eachSeed(400_000, 60, (seed) => {
      const program = randomProgram(seed);
      const plain = fx.jit(withGradient(program, (f) => f))(...program.inputs);
      const whole = fx.jit(withGradient(program, fx.checkpoint))(...program.inputs);
      const nested = fx.jit(
        withGradient(program, (f) => fx.checkpoint((...x: T[]) => fx.checkpoint(fx.checkpoint(f))(...x))),
      )(...program.inputs);
      return [...bitsThatDiffer("whole", whole, plain), ...bitsThatDiffer("nested", nested, plain)];
    });
    t.same(failures, []);
  },
);

/** A number of a piece's own: what is computed inside and outside is one value where there is no checkpoint. */
const inner = (made: readonly T[]) => total(made.filter(isFloat).map(fx.sin));

/** Two random programs, the second on what the first made of its inputs, so that the first one's values are needed. */
function inPieces(seed: number, wrap: (f: (...x: T[]) => T[]) => (...x: T[]) => T[]): RandomProgram {
  const first = randomProgram(seed);
  const later = [1, 2].map((k) => ({ dice: new Dice(seed + k), p: first }));
  const f = (...x: T[]) => {
    let now = x;
    const outputs: T[] = [];
    for (const { dice, p } of later) {
      const before = now;
      const piece = wrap((...y: T[]) => {
        const made = p.f(...y);
        const next = before.map((b, i) =>
          isFloat(b) && dice.chance(0.7) ? fx.tanh(fx.add(y[i]!, fx.cast(inner(made), b.dtype))) : y[i]!,
        );
        return [...next, ...made];
      });
      const results = piece(...now);
      now = results.slice(0, x.length);
      outputs.push(...results.slice(x.length));
      // A random program takes its inputs for exact: the second piece gets them back, with the made ones beside.
      outputs.push(...now.filter(isFloat));
      now = now.map((y, i) => (isFloat(y) ? fx.add(fx.mul(y, 0), x[i]!) : y));
    }
    return outputs;
  };
  return { ...first, f };
}

onEach("checkpoints of pieces change no bit of values and gradients of random programs", async (t) => {
  const failures = eachSeed(401_000, 40, (seed) => {
    const [plain, pieces] = [(f: (...x: T[]) => T[]) => f, fx.checkpoint as never].map((wrap) => {
      const program = inPieces(seed, wrap as never);
      return fx.jit(withGradient(program, (f) => f))(...program.inputs);
    }) as [T[], T[]];
    return bitsThatDiffer("pieces", pieces, plain);
  });
  t.same(failures, []);
});

onEach("checkpoints of random programs compose with every derivative and with vmap", async (t) => {
  const failures = eachSeed(402_000, 30, (seed) => {
    const program = randomProgram(seed, [1, 2, 2, 3], 10);
    const { f, inputs, floats } = program;
    const { graph } = fx.inspect(f, ...inputs);
    const tolerance = liveNodes(graph.nodes, graph.outputs).some((n) => n.dtype === "float32") ? 2e-3 : 1e-9;
    const primals = floats.map((i) => inputs[i]!);
    const v = primals.map((p) => fx.add(fx.mul(p, 0.5), 1));
    const argnums = primals.map((_, i) => i);
    const routes = (g: (...x: T[]) => T[]): { [name: string]: () => T[] } => {
      const loss = (...y: T[]) => total(g(...inputs.map((x, i) => y[floats.indexOf(i)] ?? x)));
      const gradient = (...y: T[]) => fx.grad(loss, { argnums })(...y) as T[];
      const dot = (a: readonly T[]) =>
        a.map((x, i) => fx.sum(fx.mul(x, v[i]!))).reduce((p, q) => fx.add(p, q));
      return {
        jvp: () => fx.jvp(loss, primals, v),
        vjp: () => fx.vjp(loss, ...primals)[1](fx.ones([], { dtype: "float64" })),
        linearize: () => [fx.linearize(loss, ...primals)[1](...v)],
        "jvp of grad": () => fx.jvp(gradient, primals, v)[1],
        "grad of grad": () => fx.grad((...y: T[]) => dot(gradient(...y)), { argnums })(...primals) as T[],
        "grad of jvp": () => fx.grad((...y: T[]) => fx.jvp(loss, y, v)[1], { argnums })(...primals) as T[],
        vmap: () => fx.vmap(g)(...inputs.map((x) => fx.stack([x, x]))),
        "vmap of grad": () => fx.vmap(gradient)(...primals.map((x) => fx.stack([x, x]))),
        "grad of vmap": () =>
          fx.grad((...y: T[]) => fx.sum(fx.vmap(loss)(...y)), { argnums })(
            ...primals.map((x) => fx.stack([x, x])),
          ) as T[],
      };
    };
    const plain = routes(f);
    const checkpointed = routes(fx.checkpoint(f));
    return Object.keys(plain).flatMap((name) =>
      differences(name, checkpointed[name]!(), plain[name]!(), tolerance),
    );
  });
  t.same(failures, []);
});

// ---- Memory and work.

/** Layers of width x width after each other, with a checkpoint around every few of them (0: none). */
const network =
  (every: number): Network =>
  (x, ...w) => {
    const piece = (h: T, ...own: T[]) => own.reduce((h, w) => fx.gelu(fx.matmul(h, w)), h);
    if (every === 0) return fx.mean(fx.square(piece(x, ...w)));
    let h = x;
    for (let i = 0; i < w.length; i += every) h = fx.checkpoint(piece)(h, ...w.slice(i, i + every));
    return fx.mean(fx.square(h));
  };

const gradientOf =
  (f: Network, layers: number) =>
  (x: T, ...w: T[]) =>
    fx.valueAndGrad(f, { argnums: Array.from({ length: layers }, (_, i) => i + 1) })(x, ...w);

const layersOf = (layers: number, batch: number, width: number) => [
  random([batch, width], 99),
  ...Array.from({ length: layers }, (_, i) => fx.mul(random([width, width], i), 1.4 / Math.sqrt(width))),
];

t.test("checkpoints every 4 of 24 layers take less than a third of the memory for activations", async (t) => {
  const args = layersOf(24, 128, 64) as [T, ...T[]];
  const activation = 128 * 64 * 4;
  const count = (every: number) =>
    lower(fx.inspect(gradientOf(network(every), 24), ...args).graph).arenaBytes / activation;
  const kept = count(0);
  // What 24 layers keep: their results and slopes.
  t.ok(kept >= 45 && kept <= 52, `${kept} activations without checkpoints`);
  for (const [every, most] of [
    [3, 16],
    [4, 16],
    [5, 18],
    [6, 18],
    [8, 22],
  ] as const)
    t.ok(count(every) <= most, `${count(every)} activations with a checkpoint every ${every} layers`);
  const nested: Network = (x, ...w) => {
    const part = (h: T, ...own: T[]): T =>
      own.length === 1
        ? fx.gelu(fx.matmul(h, own[0]!))
        : fx.checkpoint((h: T, ...own: T[]) =>
            part(part(h, ...own.slice(0, own.length / 2)), ...own.slice(own.length / 2)),
          )(h, ...own);
    return fx.mean(fx.square(part(x, ...w)));
  };
  const halves = layersOf(32, 128, 64) as [T, ...T[]];
  const bytes = lower(fx.inspect(gradientOf(nested, 32), ...halves).graph).arenaBytes;
  t.ok(
    bytes / activation <= 16,
    `${bytes / activation} activations of 32 layers with halves inside of halves`,
  );
});

t.test("the forward pass of a checkpoint is computed twice, what is around it once", async (t) => {
  const args = layersOf(6, 8, 4) as [T, ...T[]];
  const products = (every: number) => {
    const { plan } = fx.inspect(gradientOf(network(every), 6), ...args);
    return plan.steps.filter((step) => step.kind === "matmul").length;
  };
  // 6 forward, 6 by the weights, 5 by what comes in (nothing is asked of the first layer's).
  t.equal(products(0), 17);
  // The last layer of each checkpoint is not needed again where its derivative reads no result of it; gelu's does.
  t.equal(products(2), 17 + 6);
  t.equal(products(6), 17 + 6);
});

// ---- Bits, where the cpu backend runs rows in strips.

t.test(
  "on cpu the gradient of a checkpointed network has the same bits below 256 rows",
  { skip: !hasCpu },
  async (t) => {
    fx.setBackend("cpu");
    const before = threads();
    t.teardown(() => setThreads(before));
    for (const count of [1, 2, 3]) {
      setThreads(count);
      for (const rows of [1, 7, 64, 128, 255]) {
        const args = layersOf(6, rows, 32) as [T, ...T[]];
        const run = (every: number) => fx.tree.leaves(fx.jit(gradientOf(network(every), 6))(...args));
        t.same(bitsThatDiffer("every 2", run(2), run(0)), [], `${rows} rows, ${count} threads`);
      }
    }
  },
);

t.test(
  "on cpu the gradient of a checkpointed network is as exact from 256 rows on",
  { skip: !hasCpu },
  async (t) => {
    fx.setBackend("cpu");
    for (const rows of [256, 300, 1000]) {
      const args = layersOf(6, rows, 32) as [T, ...T[]];
      const [plain, pieces] = [0, 2].map((every) =>
        fx.tree.leaves(fx.jit(gradientOf(network(every), 6))(...args)),
      );
      t.same(differences(`${rows} rows`, pieces!, plain!, 1e-6), []);
      t.comment(
        `${rows} rows: ${bitsThatDiffer("", pieces!, plain!).length} of ${plain!.length} results differ in bits`,
      );
    }
  },
);

// ---- Trees, closures, errors.

onEach("a checkpoint takes trees, closes over tensors and passes on what is no tensor", async (t) => {
  const w = random64([2, 2], 1);
  const f = (p: { a: T; n: number; i: T }, s: string) => ({
    y: fx.mul(fx.sin(fx.matmul(p.a, w)), p.n),
    i: fx.add(p.i, 1),
    s,
  });
  const given = { a: random64([3, 2], 2), n: 3, i: fx.tensor([1], { dtype: "int32" }) };
  const [want, got] = [f(given, "s"), fx.checkpoint(f)(given, "s")];
  t.same([got.s, got.i.toArray(), bitsThatDiffer("y", [got.y], [want.y])], ["s", [2], []]);
  // Gradients by a tensor that it closes over.
  const loss = (wrap: <F extends (...x: never[]) => unknown>(f: F) => F) => (w: T) =>
    fx.sum(wrap((a: T) => fx.sin(fx.matmul(a, w)))(given.a));
  const [plain, checkpointed] = [(f: never) => f, fx.checkpoint].map((wrap) =>
    fx.grad(loss(wrap as never))(w),
  );
  t.same(bitsThatDiffer("by a closure", [checkpointed!], [plain!]), []);
  const shared = fx.checkpoint((a: T, b: T) => fx.mul(a, fx.sin(b)));
  t.ok(
    Math.abs(
      fx
        .grad((x: T) => shared(x, x))(fx.tensor(2, { dtype: "float64" }))
        .item() -
        (Math.sin(2) + 2 * Math.cos(2)),
    ) < 1e-12,
    "one tensor twice",
  );
  t.equal(
    fx
      .grad((x: T) => fx.checkpoint((_: T) => fx.ones([]))(x))(fx.ones([]))
      .item(),
    0,
    "a constant",
  );
  t.equal(
    fx
      .grad((x: T) => fx.checkpoint((x: T) => x)(x))(fx.ones([]))
      .item(),
    1,
    "the identity",
  );
});

onEach("dropout in a checkpoint is drawn alike in both passes", async (t) => {
  const layer = (x: T, key: T) => {
    const kept = fx.random.bernoulli(key, 0.5, x.shape);
    return fx.sin(fx.where(kept, fx.mul(x, 2), 0));
  };
  const loss = (f: typeof layer) => (x: T) => fx.sum(fx.square(f(x, fx.random.key(3))));
  const x = random([4, 8], 5);
  const [plain, again] = [layer, fx.checkpoint(layer)].map((f) => fx.grad(loss(f))(x));
  t.ok(sameBits(plain!, again!));
});

t.test("what cannot be checkpointed is an error that says why", async (t) => {
  const x = fx.ones([2]);
  t.throws(() => fx.checkpoint(3 as never)(x as never), {
    name: "ValueError",
    message: /checkpoint: expected a function/,
  });
  t.throws(() => fx.checkpoint(async (x: T) => x)(x), {
    name: "ValueError",
    message: /checkpoint: the function is async/,
  });
  t.throws(() => fx.checkpoint((x: T) => fx.matmul(x, fx.ones([3])))(x), {
    name: "ShapeError",
    message: /matmul/,
  });
  t.throws(
    () =>
      fx.checkpoint(() => {
        throw new Error("mine");
      })(),
    { message: "mine" },
  );
  t.equal(fx.sum(x).item(), 2, "and no trace is left open");
});
