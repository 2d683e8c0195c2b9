import * as fx from "fluxion";
import t from "tap";
import { typescriptBackend } from "#lib/backend/typescript/index.js";
import { lower } from "#lib/compile/lower.js";
import type { BufferSpec, Plan, Reducer, Step } from "#lib/compile/plan.js";
import { allocate, type DType, isFloat, type TypedArray } from "#lib/tensor/dtype.js";
import { sizeOf } from "#lib/tensor/shape.js";
import { cudaDevice } from "./support/cuda-device.js";
import { deviceRunners, isPlain } from "./support/cuda-plans.js";
import { Dice, randomProgram } from "./support/random-program.js";

type T = fx.Tensor;

fx.setBackend("typescript");

const missing = cudaDevice();
const skip = missing ? { skip: missing } : {};

interface Case {
  readonly name: string;
  readonly plan: Plan;
  readonly inputs: readonly TypedArray[];
}

const exact: Tolerance = { float32: 0, float64: 0 };

interface Tolerance {
  readonly float32: number;
  readonly float64: number;
  /** Relative to each element (but to no less than the least normal number), not to the largest one or 1. */
  readonly each?: boolean;
}

/** How the results of the device differ from those of the TypeScript backend, in words. */
function differences(cases: readonly Case[], tolerance: Tolerance): string[] {
  const runners = deviceRunners(cases.map(({ plan }) => plan));
  return cases.flatMap(({ name, plan, inputs }, i) => {
    const want = attempt(() => typescriptBackend.compile(plan).run(inputs));
    const got = attempt(() => runners[i]!(inputs));
    if (typeof want === "string" || typeof got === "string")
      return typeof want === "string" && typeof got === "string" && got.includes(want)
        ? []
        : [`${name}: ${got}, expected ${want}`];
    return want.flatMap((w, k) => {
      const { dtype } = plan.buffers[plan.outputs[k]!]!;
      const relative = dtype === "float32" || dtype === "float64" ? tolerance[dtype] : 0;
      const least = tolerance.each ? (dtype === "float32" ? 2 ** -126 : 2 ** -1022) : 1;
      let largest = least;
      for (const v of tolerance.each ? [] : w)
        if (Number.isFinite(v)) largest = Math.max(largest, Math.abs(v));
      const scale = (v: number) => Math.max(largest, tolerance.each ? Math.abs(v) : 0);
      const at = w.findIndex(
        (v, j) => !(Object.is(v, got[k]![j]) || Math.abs(v - got[k]![j]!) <= relative * scale(v)),
      );
      return at < 0 ? [] : [`${name}, result ${k}: [${at}] is ${got[k]![at]}, expected ${w[at]}`];
    });
  });
}

/** What an index out of range says, without the place. */
function attempt<V>(f: () => V): V | string {
  try {
    return f();
  } catch (error) {
    return (error as Error).message.replace(/ \(at .*/s, "");
  }
}

function caseOf(name: string, f: (...inputs: T[]) => T | T[], ...inputs: T[]): Case {
  const { graph } = fx.inspect(f, ...inputs);
  const arrays = [...inputs, ...graph.captured].map((x) => x.toTypedArray());
  return { name, plan: lower(graph), inputs: arrays };
}

const dice = new Dice(5);
const special = [Number.NaN, Infinity, -Infinity, 0, -0];

/** Around 0; with `ties` whole numbers from -4 to 4; with `odd` a third of them are NaN, infinite or zero. */
function random(dtype: DType, size: number, kind: "plain" | "ties" | "odd"): TypedArray {
  const array = allocate(dtype, size);
  for (let i = 0; i < size; i++) {
    const u = dice.unit() + dice.unit() + dice.unit() - 1.5;
    if (dtype === "bool") array[i] = u > 0 ? 1 : 0;
    else if (kind === "odd" && isFloat(dtype) && dice.chance(0.3)) array[i] = dice.pick(special);
    else if (kind === "ties") array[i] = Math.round(u * 3);
    else array[i] = isFloat(dtype) ? u : Math.round(u * 2 ** 31);
  }
  return array;
}

const rowMajor = (shape: readonly number[]): number[] =>
  shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));

/** A plan of one step, whose buffers are its inputs and then its output. */
function oneStep(
  name: string,
  step: Step,
  inputs: readonly TypedArray[],
  dtypes: DType[],
  size: number,
): Case {
  const buffers = dtypes.map(
    (dtype, i): BufferSpec => ({
      kind: i < inputs.length ? "input" : "output",
      dtype,
      size: inputs[i]?.length ?? size,
      offset: 0,
    }),
  );
  const plan = {
    buffers,
    steps: [step],
    inputs: inputs.map((_, i) => i),
    outputs: [inputs.length],
    arenaBytes: 0,
  };
  return { name, plan, inputs };
}

const dtypes = ["float32", "float64", "int32", "uint32", "bool"] as const;

t.test("scalar operations keep the semantics of the plan", skip, async (t) => {
  const corners = [
    ...[...special, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 3, -3, 7.25, 1e-40, -1e-40, 1e-45, 3e38, -3e38],
    ...[88.5, -88.5, -103.5, 89, 14.4, -14.4, 1e-7, 2147483648, -2147483648, 4294967296, 2147483520, 1e10],
  ];
  const grid = [...corners, ...Array.from({ length: 801 }, (_, i) => (i - 400) / 20)];
  const ones = [
    fx.neg,
    fx.abs,
    fx.sign,
    fx.sqrt,
    fx.rsqrt,
    fx.exp,
    fx.expm1,
    fx.log,
    fx.log1p,
    fx.sin,
    fx.cos,
  ];
  const more = [fx.tanh, fx.erf, fx.sigmoid, fx.softplus, fx.gelu, fx.floor, fx.round];
  const pairs = [fx.add, fx.sub, fx.mul, fx.div, fx.maximum, fx.minimum, fx.remainder, fx.pow];
  const tests = [fx.equal, fx.notEqual, fx.greater, fx.greaterEqual, fx.less, fx.lessEqual];
  const cases: Case[] = [];
  const nearZero: Case[] = [];
  for (const dtype of ["float32", "float64"] as const) {
    const x = fx.tensor(grid, { dtype });
    const slope = (x: T) => fx.grad((z: T) => fx.sum(fx.gelu(z)))(x) as T;
    for (const f of [...ones, ...more, ...dtypes.map((to) => (x: T) => fx.cast(x, to))])
      cases.push(caseOf(`${f.name || "cast"} of ${dtype}`, (x) => f(x!), x));
    cases.push(caseOf(`sine and cosine of ${dtype}`, (x) => [fx.sin(x!), fx.cos(x!)], x));
    // The slope of gelu is 0 at -0.7518: near there its terms cancel.
    const away = fx.tensor(
      grid.filter((v) => !(Math.abs(v + 0.75) < 0.2)),
      { dtype },
    );
    cases.push(caseOf(`gelu and its slope of ${dtype}`, (x) => [fx.gelu(x!), slope(x!)], away));
    cases.push(caseOf(`slope of gelu of ${dtype}`, (x) => slope(x!), away));
    nearZero.push(
      caseOf(`slope of gelu of ${dtype}`, (x) => slope(x!), fx.linspace(-1, -0.5, 500, { dtype })),
    );
    const a = fx.tensor(
      corners.flatMap((v) => corners.map(() => v)),
      { dtype },
    );
    const b = fx.tensor(
      corners.flatMap(() => corners),
      { dtype },
    );
    for (const f of [...pairs, ...tests])
      cases.push(caseOf(`${f.name} of ${dtype}`, (x, y) => f(x!, y!), a, b));
  }
  const whole = [0, 1, -1, 2, 3, -3, 7, 2147483647, -2147483648, 65536, -65535, 123456789];
  for (const dtype of ["int32", "uint32"] as const) {
    const of = (list: number[]) =>
      fx.tensor(
        list.map((v) => (dtype === "int32" ? v : v >>> 0)),
        { dtype },
      );
    const [a, b] = [of(whole.flatMap((v) => whole.map(() => v))), of(whole.flatMap(() => whole))];
    const f = (x: T, y: T) => [
      ...[fx.neg, fx.abs, fx.sign].map((f) => f(x)),
      ...[fx.add, fx.sub, fx.mul, fx.maximum, fx.minimum, fx.remainder, ...tests].map((f) => f(x, y)),
      ...dtypes.map((to) => fx.cast(x, to)),
    ];
    cases.push(caseOf(`operations of ${dtype}`, (x, y) => f(x!, y!), a, b));
  }
  cases.push(
    caseOf("bits", () => {
      const key = fx.random.key(9);
      return [fx.random.bits(key, [1000]), fx.random.normal(key, [50, 3])];
    }),
  );

  t.same(differences(cases, { float32: 1e-6, float64: 1e-13, each: true }), []);
  t.same(differences(nearZero, { float32: 1e-7, float64: 1e-15 }), []);
});

t.test("large maps, by fours and one by one, over views of any kind", skip, async (t) => {
  const cases = dtypes.map((dtype) =>
    caseOf(
      `maps of ${dtype}`,
      (x, row, column) => [
        fx.where(fx.equal(x!, row!), x!, column!),
        fx.where(fx.notEqual(x!, fx.flip(x!, 0)), x!, fx.flip(x!, 1)),
        fx.transpose(x!),
        fx.concat([x!, fx.slice(x!, [0, 1], [300, 5]), x!], 1),
      ],
      fx.cast(fx.random.normal(fx.random.key(1), [300, 512], { dtype: "float64" }), dtype),
      fx.cast(fx.random.normal(fx.random.key(2), [512], { dtype: "float64" }), dtype),
      fx.cast(fx.random.normal(fx.random.key(3), [300, 1], { dtype: "float64" }), dtype),
    ),
  );
  cases.push(caseOf("progressions", () => [fx.arange(200_000), fx.linspace(0, 1, 150_000)]));
  t.same(differences(cases, exact), []);
});

/** Kept axes, reduced axes, whether memory runs along the kept ones. */
const extents: [number[], number[], boolean?][] = [
  [[], [150_000]],
  [[3], [20_000]],
  [[2], [40_001]],
  [[4096], [4]],
  [[7], [5]],
  [[40], [33, 3]],
  [
    [5, 3],
    [2, 64],
  ],
  [[70], [1030]],
  [
    [4, 4],
    [1, 1],
  ],
  [[64], [2048], true],
  [[2], [20_000], true],
  [[130], [9], true],
  [[33, 5], [100], true],
  [[3, 2], [8, 1030], true],
];

t.test("reductions of every kind over extents of every kind", skip, async (t) => {
  const cases: Case[] = [];
  for (const dtype of dtypes) {
    for (const reducer of ["sum", "max", "min", "argmax", "argmin"] as const) {
      for (const [kept, reduced, along] of extents) {
        if (reducer === "sum" && dtype === "bool") continue;
        // The ways do not depend on the dtype: two of them go all of these.
        if (dtype !== "float32" && dtype !== "int32" && sizeOf([...kept, ...reduced]) > 10_000) continue;
        for (const kind of ["plain", "ties", "odd"] as const) {
          if (kind !== "plain" && sizeOf([...kept, ...reduced]) > 10_000) continue;
          cases.push(reduction(reducer, dtype, kept, reduced, along ?? false, kind));
        }
      }
    }
  }
  t.same(differences(cases, { float32: 1e-7, float64: 1e-15 }), []);
});

function reduction(
  reducer: Reducer,
  dtype: DType,
  kept: number[],
  reduced: number[],
  along: boolean,
  kind: "plain" | "ties" | "odd",
): Case {
  const shape = [...kept, ...reduced];
  const turned = rowMajor([...reduced, ...kept]);
  const strides = along
    ? [...turned.slice(reduced.length), ...turned.slice(0, reduced.length)]
    : rowMajor(shape);
  const expression = {
    instructions: [{ op: "load", dtype, view: { buffer: 0, offset: 0, strides } }],
    outputs: [{ value: 0, view: { buffer: 1, offset: 0, strides: rowMajor(kept) } }],
  } as const;
  const step: Step = { kind: "reduce", shape, reducedRank: reduced.length, reducer, expression };
  const result = reducer.startsWith("arg") ? "int32" : dtype;
  const name = `${reducer} of ${dtype} (${kind}) [${kept}] over [${reduced}]${along ? " along the kept axis" : ""}`;
  return oneStep(name, step, [random(dtype, sizeOf(shape), kind)], [dtype, result], sizeOf(kept));
}

t.test("a reduction over several axes whose last is read four at a time", skip, async (t) => {
  // Neither axis can join the other: one operand moves along the rows alone.
  const cases = (
    [
      [3, 4],
      [5, 2, 4],
      [2, 3, 8],
    ] as const
  ).map((shape) =>
    caseOf(
      `sum over [${shape}]`,
      (x, row) => [fx.sum(fx.maximum(x!, row!)), fx.sum(fx.mul(x!, row!), -1)],
      fx.random.normal(fx.random.key(1), shape),
      fx.random.normal(fx.random.key(2), [...shape.slice(0, -1), 1]),
    ),
  );
  t.same(differences(cases, { float32: 1e-6, float64: 1e-15 }), []);
});

t.test("a sum of a million float32 is as exact as its dtype", skip, async (t) => {
  const x = Float32Array.from(random("float32", 1_000_000, "plain"), (v) => v + 0.1);
  let total = 0;
  for (const v of x) total += v;
  const { plan } = caseOf("sum", (x) => fx.sum(x!), fx.tensor([...x]));
  const [sum] = deviceRunners([plan])[0]!([x]);
  t.ok(Math.abs(sum![0]! - total) <= 1.2e-7 * Math.abs(total), `${sum![0]}, exactly ${total}`);
});

t.test("sorts are stable, with NaN last", skip, async (t) => {
  const cases = dtypes.flatMap((dtype) =>
    (
      [
        [1, 1],
        [3, 2],
        [100, 5],
        [7, 500],
        [2, 4096],
        [2, 5000],
        [1, 9001],
      ] as const
    ).flatMap(([rows, size]) =>
      (["ties", "odd"] as const).map((kind) =>
        oneStep(
          `sort of ${dtype} (${kind}), ${rows} rows of ${size}`,
          { kind: "sort", rows, size, input: 0, output: 1 },
          [random(dtype, rows * size, kind)],
          [dtype, "int32"],
          rows * size,
        ),
      ),
    ),
  );
  t.same(differences(cases, exact), []);
});

t.test("running sums", skip, async (t) => {
  const cases: Case[] = [];
  for (const dtype of ["float32", "float64", "int32", "uint32"] as const)
    for (const reverse of [false, true])
      for (const [outer, size, inner] of [
        [1, 10_000, 1],
        [5000, 7, 1],
        [3, 4100, 2],
        [1, 100, 300],
        [2, 33, 1],
      ] as const)
        cases.push(
          oneStep(
            `cumsum of ${dtype} [${outer}, ${size}, ${inner}]${reverse ? " reversed" : ""}`,
            { kind: "cumsum", outer, size, inner, reverse, input: 0, output: 1 },
            [random(dtype, outer * size * inner, "plain")],
            [dtype, dtype],
            outer * size * inner,
          ),
        );
  t.same(differences(cases, { float32: 1e-7, float64: 0 }), []);
});

t.test(
  "gather and scatter, in the order of the indices, and errors that name the first wrong one",
  skip,
  async (t) => {
    const cases: Case[] = [];
    for (const kind of ["gather", "scatter"] as const)
      for (const dtype of dtypes)
        for (const [outer, size, inner, count, wrong] of [
          [1, 100, 64, 1024, false],
          [3, 5, 7, 11, false],
          [1, 30_000, 2, 5000, false],
          [2, 5, 1, 0, false],
          [1, 7, 4, 3000, false],
          [2, 40, 12, 1, false],
          [1, 7, 4, 3000, true],
          [0, 5, 3, 4, true],
        ] as const) {
          if (dtype === "bool" && kind === "scatter") continue;
          const indices = Int32Array.from({ length: count }, () => dice.below(2 * size) - size);
          if (wrong) [indices[count - 1], indices[count >> 1]] = [size, -size - 3];
          const [from, to] = [outer * size * inner, outer * count * inner];
          const [read, written] = kind === "gather" ? [from, to] : [to, from];
          cases.push(
            oneStep(
              `${kind} of ${dtype} [${outer}, ${size}, ${inner}], ${count} indices`,
              { kind, outer, size, inner, count, input: 0, indices: 1, output: 2 },
              [random(dtype, read, "plain"), indices],
              [dtype, "int32", dtype],
              written,
            ),
          );
        }
    t.same(differences(cases, exact), []);
  },
);

function randomCases(first: number, count: number, sizes?: number[], length?: number): Case[] {
  const cases: Case[] = [];
  for (let seed = first; cases.length < count; seed++) {
    const { f, inputs } = randomProgram(seed, sizes, length);
    const next = caseOf(`program ${seed}`, f, ...inputs);
    if (isPlain(next.plan)) cases.push(next);
  }
  return cases;
}

t.test("random programs give what the TypeScript backend gives", skip, async (t) => {
  t.same(differences(randomCases(70_000, 40), { float32: 1e-5, float64: 1e-12 }), []);
  const large = randomCases(80_000, 15, [1, 16, 33, 64, 130], 8);
  t.same(differences(large, { float32: 1e-5, float64: 1e-12 }), []);
});

t.test(
  "small steps one after another in a block wait for each other, in whatever order its threads run",
  skip,
  async (t) => {
    const draw = (shape: number[]) => fx.random.normal(fx.random.key(4), shape);
    const turned = (x: T) => fx.flip(fx.concat([x, x]));
    const cases = [
      caseOf(
        "keys",
        (key) => fx.random.bits(fx.random.split(fx.random.split(key!, 3)[1]!, 2)[0]!, [1000]),
        fx.random.key(2),
      ),
      caseOf("maps of several blocks", (x) => fx.exp(turned(fx.add(turned(x!), 1))), draw([200])),
      caseOf("folds of a block", (x) => fx.sub(fx.max(x!), fx.sum(fx.flip(turned(x!)))), draw([512])),
      caseOf("folds of one kind", (x) => [fx.max(fx.sub(x!, fx.max(x!))), fx.max(fx.neg(x!))], draw([2000])),
      caseOf("columns", (x) => fx.argmax(fx.sub(x!, fx.sum(x!, 0)), 0), draw([30, 40])),
      caseOf("rows", (x) => fx.softmax(fx.softmax(x!, 1), 0), draw([24, 40])),
    ];
    for (let turn = 0; turn < 5; turn++)
      t.same(differences(cases, { float32: 1e-5, float64: 1e-12 }), [], `turn ${turn}`);
  },
);
