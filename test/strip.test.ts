import * as fx from "fluxion";
import t from "tap";
import { instructionSet, instructionSets, setInstructionSet, setThreads, threads } from "#lib/backend/cpu.js";
import { lower } from "#lib/compile/lower.js";
import type { StripStep } from "#lib/compile/plan.js";
import { stripMine } from "#lib/compile/strip.js";
import { hidden, rowPrograms } from "./support/row-programs.js";

type T = fx.Tensor;
type F = (...inputs: T[]) => T | T[];

const cpu = fx.backends().find((b) => b.name === "cpu")!;
const skip = cpu.available ? {} : { skip: cpu.reason ?? "not available" };

fx.setBackend("typescript");

const planOf = (f: F, inputs: readonly T[]) => stripMine(lower(fx.inspect(f, ...inputs).graph));
const stripsOf = (f: F, inputs: readonly T[]): StripStep[] =>
  planOf(f, inputs).steps.filter((step) => step.kind === "strip");
const rolesOf = ({ parts }: StripStep): string[] => parts.map(({ role, step }) => `${step.kind} ${role}`);

// ---- What becomes a strip.

const n = 600;
const key = fx.random.key(1);
const draw = (i: number, shape: number[], dtype: fx.DType) =>
  fx.random.normal(fx.random.foldIn(key, i), shape, { dtype });

const inputs = (dtype: fx.DType = "float32"): T[] => [
  draw(0, [n, 5], dtype),
  draw(1, [5, 32], dtype),
  draw(2, [32], dtype),
  draw(3, [32, 3], dtype),
  draw(4, [n, 3], dtype),
];
const loss: F = (x, w1, b, w2, y) => fx.mean(fx.square(fx.sub(fx.matmul(hidden(x!, w1!, b!), w2!), y!)));
const gradients: F = (x, w1, b, w2, y) => {
  const f = (...p: T[]) => loss(x!, ...p, y!) as T;
  const [value, grads] = fx.valueAndGrad(f, { argnums: [0, 1, 2] })(w1!, b!, w2!);
  return [value, ...(grads as T[])];
};

t.test("a forward and backward pass is one strip, and its activations are local", async (t) => {
  const plan = planOf(gradients, inputs());
  const [strip] = plan.steps.filter((step) => step.kind === "strip");
  t.equal(plan.steps.filter((step) => step.kind === "strip").length, 1);
  t.equal(strip!.rows, n);
  t.same(
    rolesOf(strip!).sort(),
    [
      "map rows", // the scaled error
      "matmul rows", // two layers forwards
      "matmul rows",
      "matmul rows", // one backwards
      "matmul sum", // two weights' gradients
      "matmul sum",
      "reduce sum", // the loss and the bias's gradient
      "reduce sum",
    ].filter((role) => role !== "map rows" || rolesOf(strip!).includes("map rows")),
  );
  const large = plan.buffers.filter(({ kind, size }) => kind === "temporary" && size >= n);
  t.same(large, [], "no activation of the batch is left in the arena");
  t.ok(plan.buffers.some(({ kind }) => kind === "local"));
  t.equal(
    strip!.chunks.reduce((sum, chunk) => sum + chunk, 0),
    n,
  );
  t.ok(strip!.chunks.slice(0, -1).every((chunk) => chunk % strip!.block === 0));
  t.equal(strip!.localBytes % 64, 0);
});

t.test("what every row needs of all rows comes after the strip", async (t) => {
  const normalized: F = (x, w1, b, w2) => {
    const h = hidden(x!, w1!, b!);
    const centred = fx.sub(h, fx.mean(h, 0));
    return fx.matmul(fx.tanh(centred), w2!);
  };
  const strips = stripsOf(normalized, inputs());
  t.ok(strips.length >= 1);
  t.notOk(
    strips.some((strip) => rolesOf(strip).filter((role) => role === "matmul rows").length > 1),
    "the layers before and after the mean are not in one strip",
  );
});

t.test("no strip where there is nothing to keep in the cache", async (t) => {
  const [x, w1, b, w2, y] = inputs() as [T, T, T, T, T];
  t.same(
    stripsOf((x, w) => fx.matmul(x!, w!), [x, w1]),
    [],
    "a product alone",
  );
  t.same(
    stripsOf((x, y) => fx.add(x!, y!), [x, fx.ones([n, 5])]),
    [],
    "no product at all",
  );
  const few = (z: T) => fx.slice(z, [0, 0], [100, z.shape[1]!]);
  t.same(stripsOf(loss, [few(x), w1, b, w2, few(y)]), [], "few rows");
  const wide = [fx.ones([n, 4]), fx.ones([4, 20000]), fx.ones([20000]), fx.ones([20000, 3]), fx.ones([n, 3])];
  t.same(stripsOf(gradients, wide), [], "rows too long for the cache");
});

t.test("rows that are shifted, turned or mixed do not count as the same rows", async (t) => {
  const [x, w1, b, w2] = inputs() as [T, T, T, T];
  const then =
    (mix: (h: T) => T): F =>
    (x, w1, b, w2) =>
      fx.matmul(fx.sin(mix(hidden(x!, w1!, b!))), w2!);
  const mixes: [string, (h: T) => T][] = [
    ["flipped", (h) => fx.add(h, fx.flip(h, 0))],
    [
      "shifted",
      (h) => fx.add(h, fx.concat([fx.slice(h, [1, 0], [n - 1, 32]), fx.slice(h, [0, 0], [1, 32])], 0)),
    ],
    ["first row", (h) => fx.add(h, fx.slice(h, [0, 0], [1, 32]))],
  ];
  for (const [name, mix] of mixes) {
    const strips = stripsOf(then(mix), [x, w1, b, w2]);
    t.notOk(
      strips.some((strip) => rolesOf(strip).filter((role) => role === "matmul rows").length > 1),
      name,
    );
  }
  const columns = stripsOf(
    then((h) => fx.add(h, fx.flip(h, 1))),
    [x, w1, b, w2],
  );
  t.equal(columns.length, 1, "the columns of a row may be mixed");
});

// ---- What a strip computes.

/** Programs whose rows run together, with all that may take part. */
const programs: { readonly [name: string]: F } = {
  "gradients of two layers": gradients,
  "a jvp beside its value": (x, w1, b, w2, y) =>
    fx.jvp(
      (z: T) => fx.matmul(hidden(z, w1!, b!), w2!),
      [x!],
      [fx.mul(x!, fx.sum(y!, 1, { keepDims: true }))],
    ),
  "gradient of a jvp": (x, w1, b, w2, y) => {
    const f = (w: T, c: T) => {
      const [u, du] = fx.jvp((z: T) => fx.matmul(hidden(z, w, b!), c), [x!], [fx.cos(x!)]);
      return fx.mean(fx.square(fx.sub(fx.add(u, du), y!)));
    };
    return fx.grad(f, { argnums: [0, 1] })(w1!, w2!) as T[];
  },
  ...rowPrograms(n),
  "a mean over the batch between two layers": (x, w1, b, w2) => {
    const h = hidden(x!, w1!, b!);
    return [fx.matmul(fx.sub(h, fx.mean(h, 0)), w2!), fx.sum(h)];
  },
  "half of the rows go on, through more layers": (x, w1, b, w2) => {
    const square = fx.mul(fx.matmul(fx.transpose(w1!), w1!), 0.02);
    let h = fx.slice(fx.matmul(hidden(x!, w1!, b!), square), [n / 2, 0], [n / 2, 32]);
    for (let layer = 0; layer < 6; layer++) h = fx.sin(fx.matmul(h, square));
    return fx.matmul(h, w2!);
  },
};

const bytesOf = (x: T) => Buffer.from(x.toTypedArray().buffer);
const numbers = (x: T): number[] => Array.from(x.toTypedArray(), Number);
const list = (x: T | T[]): T[] => (Array.isArray(x) ? x : [x]);
const run = (backend: fx.BackendName, f: F, xs: readonly T[]): T[] => {
  fx.setBackend(backend);
  try {
    return list(fx.jit(f)(...xs));
  } finally {
    fx.setBackend("typescript");
  }
};

for (const [name, f] of Object.entries(programs)) {
  t.test(`${name}: as step by step, on any number of threads and instruction set`, skip, async (t) => {
    t.ok(stripsOf(f, inputs()).length > 0, "is run as a strip");
    for (const dtype of ["float64", "float32"] as const) {
      const xs = inputs(dtype);
      const expected = run("typescript", f, xs);
      const before = { threads: threads(), set: instructionSet() };
      try {
        for (const set of instructionSets()) {
          setInstructionSet(set);
          let first: T[] | undefined;
          for (const count of [1, 2, 3, 8]) {
            setThreads(count);
            const got = run("cpu", f, xs);
            first ??= got;
            const same = got.every((x, i) => bytesOf(x).equals(bytesOf(first![i]!)));
            t.ok(same, `${dtype}, ${set}: the same bits with ${count} threads`);
          }
          expected.forEach((want, i) => {
            const got = first![i]!;
            t.same([got.dtype, got.shape], [want.dtype, want.shape]);
            const [a, b] = [numbers(got), numbers(want)];
            const scale = b.reduce((m, v) => Math.max(m, Math.abs(v)), 1);
            const error = a.reduce((m, v, j) => Math.max(m, Math.abs(v - b[j]!)), 0);
            t.ok(
              error <= (dtype === "float64" ? 1e-13 : 1e-5) * scale,
              `${dtype}, ${set}: output ${i} off by ${error}`,
            );
          });
        }
      } finally {
        setThreads(before.threads);
        setInstructionSet(before.set);
      }
    }
  });
}

t.test("a float32 sum over very many numbers of each row stays exact to a few roundings", skip, async (t) => {
  const [x, w] = [fx.random.uniform(key, [512, 3]), fx.random.uniform(key, [3, 1024])];
  const f: F = (x, w) => {
    const h = fx.add(fx.matmul(x!, w!), 1);
    return [fx.sum(fx.reshape(h, [512, 64, 16]), [0, 1]), fx.matmul(h, fx.transpose(w!))];
  };
  t.equal(stripsOf(f, [x, w]).length, 1);
  const got = numbers(run("cpu", f, [x, w])[0]!);
  const want = numbers(run("typescript", f, [fx.cast(x, "float64"), fx.cast(w, "float64")])[0]!);
  const worst = got.reduce((most, v, i) => Math.max(most, Math.abs(v / want[i]! - 1)), 0);
  t.ok(worst < 8e-8, `relative error ${worst}`);
});

t.test("a strip of any number of rows gives what the steps give", skip, async (t) => {
  for (const rows of [256, 257, 319, 1000, 4097]) {
    const [x, w1, b, w2, y] = inputs("float64") as [T, T, T, T, T];
    const tall = (z: T) => fx.take(z, fx.tensor(Int32Array.from({ length: rows }, (_, i) => i % n)), 0);
    const xs = [tall(x), w1, b, w2, tall(y)];
    t.equal(stripsOf(gradients, xs).length, 1);
    const [got, want] = [run("cpu", gradients, xs), run("typescript", gradients, xs)];
    got.forEach((a, i) => {
      const [p, q] = [numbers(a), numbers(want[i]!)];
      t.ok(
        p.every((v, j) => Math.abs(v - q[j]!) < 1e-12),
        `${rows} rows, output ${i}`,
      );
    });
  }
});
