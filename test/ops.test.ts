import * as fx from "fluxion";
import t, { type Test } from "tap";
import { onEach } from "./support/each-backend.js";

/** The library's functions by name. */
const byName = { ...fx };

// ---- The reference: arrays of numbers, read index by index.

interface Arr {
  shape: readonly number[];
  data: readonly number[];
}
type Float = "float32" | "float64";

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
const floats: readonly Float[] = ["float32", "float64"];
const numeric: readonly fx.DType[] = [...floats, "int32", "uint32"];
const everyType: readonly fx.DType[] = [...numeric, "bool"];
const INT_MIN = -(2 ** 31);
const INT_MAX = 2 ** 31 - 1;
const UINT_MAX = 2 ** 32 - 1;

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

function indices(shape: readonly number[]): number[][] {
  return range(sizeOf(shape)).map((flat) => {
    const index: number[] = [];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index.unshift(flat % shape[axis]!);
      flat = Math.floor(flat / shape[axis]!);
    }
    return index;
  });
}

/** The element at an index, whose last axes are the array's; axes of size 1 repeat. */
function at(a: Arr, index: readonly number[]): number {
  const skip = index.length - a.shape.length;
  const flat = a.shape.reduce((o, n, i) => o * n + (n === 1 ? 0 : index[i + skip]!), 0);
  return a.data[flat]!;
}

const make = (shape: readonly number[], f: (index: number[]) => number): Arr => ({
  shape,
  data: indices(shape).map(f),
});

function broadcast(...shapes: (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map((s) => s.length));
  return range(rank).map((i) =>
    shapes.reduce((n, s) => {
      const m = s[i - rank + s.length] ?? 1;
      return m === 1 ? n : m;
    }, 1),
  );
}

/** A number as the dtype holds it. */
function as(dtype: fx.DType, v: number): number {
  if (dtype === "float32") return Math.fround(v);
  if (dtype === "int32") return Number(BigInt.asIntN(32, BigInt(v)));
  if (dtype === "uint32") return Number(BigInt.asUintN(32, BigInt(v)));
  return dtype === "bool" ? Number(v !== 0) : v;
}

let state = 1;
/** Uniform in [0, 1) from a fixed seed. */
function next(): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return (((state >>> 9) ^ Math.imul(state, 7)) >>> 0) / 2 ** 32;
}
const below = (n: number) => Math.floor(next() * n);

/** Some values of the dtype, small ones with ties by default. */
function some(shape: readonly number[], dtype: fx.DType, wide = false): Arr {
  return make(shape, () => {
    if (dtype === "bool") return below(2);
    if (dtype === "uint32") return wide ? below(2 ** 32) : below(9);
    if (dtype === "int32") return wide ? below(2 ** 32) - 2 ** 31 : below(9) - 4;
    return as(dtype, wide ? (next() - 0.5) * 20 : (below(33) - 16) / 4);
  });
}

const tensor = (a: Arr, dtype: fx.DType) => fx.tensor([...a.data], { shape: a.shape, dtype });

/** x has this shape, dtype and these elements: the same bits up to NaN's, or within rtol and atol. */
function check(
  t: Test,
  x: fx.Tensor,
  expected: Arr,
  dtype: fx.DType,
  title: string,
  rtol = 0,
  atol = 0,
): void {
  if (x.dtype !== dtype || String(x.shape) !== String(expected.shape)) {
    t.fail(`${title}: got ${x.dtype}[${x.shape}], expected ${dtype}[${expected.shape}]`);
    return;
  }
  const got = x.toTypedArray();
  const bad = expected.data.findIndex((value, i) => {
    const e = dtype === "float32" ? Math.fround(value) : value;
    const g = got[i]!;
    if (Object.is(g, e)) return false;
    return !(rtol + atol > 0 && Number.isFinite(e) && Math.abs(g - e) <= rtol * Math.abs(e) + atol);
  });
  if (bad < 0 && got.length === expected.data.length) t.pass(title);
  else t.fail(`${title}: element ${bad} is ${show(got[bad])}, expected ${show(expected.data[bad])}`);
}

const show = (v: number | undefined) => (Object.is(v, -0) ? "-0" : String(v));
const vector = (data: readonly number[]): Arr => ({ shape: [data.length], data });
const epsilon = { float32: 2 ** -23, float64: 2 ** -52 };

/** erf by its series of positive terms, 2 / sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!. */
function erf(x: number): number {
  if (Number.isNaN(x)) return nan;
  if (Math.abs(x) > 6) return Math.sign(x);
  let [term, sum] = [x, x];
  for (let n = 1; n < 200; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}
/** 1 - erf(a) by its continued fraction, for a > 1. */
function erfc(a: number): number {
  let f = a;
  for (let k = 400; k >= 1; k--) f = a + k / 2 / f;
  return Math.exp(-a * a) / Math.sqrt(Math.PI) / f;
}

// ---- Elementwise

/** name, reference, samples, relative tolerance in units of the last place, absolute one in units of epsilon. */
type UnaryCase = [
  (
    | "neg"
    | "abs"
    | "sign"
    | "square"
    | "sqrt"
    | "rsqrt"
    | "exp"
    | "expm1"
    | "log"
    | "log1p"
    | "sin"
    | "cos"
    | "tanh"
    | "erf"
    | "sigmoid"
    | "relu"
    | "gelu"
    | "silu"
    | "softplus"
    | "floor"
    | "round"
  ),
  (x: number) => number,
  readonly number[],
  number,
  number,
];

const line = range(201).map((i) => (i - 100) / 10);
const tiny = [1e-3, 1e-8, 1e-20, -1e-3, -1e-8, -1e-20, 1e-30];
const positive = [1e-30, 1e-8, 0.5, 0.99, 1, 1.01, 2, Math.E, 10, 1e4, 1e30];
const sigmoid = (x: number) => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x)));
const even = (x: number) => {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
};
// biome-ignore format: a table
const unaries: UnaryCase[] = [
  ["neg", (x) => -x, [...line, inf, -inf, nan, 0, -0], 0, 0],
  ["abs", Math.abs, [...line, inf, -inf, nan, -0], 0, 0],
  ["sign", (x) => (x > 0 ? 1 : x < 0 ? -1 : x + 0 === 0 ? 0 : x), [...line, inf, -inf, nan, 1e-30, 0], 0, 0],
  ["square", (x) => x * x, [...line, inf, -inf, nan, 1e15, -0], 0, 0],
  ["sqrt", Math.sqrt, [...positive, 0, -0, -1, inf, -inf, nan, 2, 3], 0, 0],
  ["rsqrt", (x) => 1 / Math.sqrt(x), [...positive, 0, -1, inf, nan], 4, 0],
  ["exp", Math.exp, [...line, ...tiny, 0, -0, 80, -80, inf, -inf, nan, 1e4, -1e4], 4, 0],
  ["expm1", Math.expm1, [...line, ...tiny, 0, -0, 80, -80, inf, -inf, nan], 4, 0],
  ["log", Math.log, [...positive, 0, -0, -1, inf, -inf, nan], 4, 0],
  ["log1p", Math.log1p, [...tiny, ...positive, 0, -0, -0.5, -0.999, -1, -2, inf, nan], 4, 0],
  ["sin", Math.sin, [...line, ...tiny, 0, -0, 100, -1000, 12345.678, 1e6, inf, -inf, nan], 4, 0.25],
  ["cos", Math.cos, [...line, ...tiny, 0, 100, -1000, 12345.678, 1e6, inf, -inf, nan], 4, 0.25],
  ["tanh", Math.tanh, [...line, ...tiny, 0, -0, 40, -40, inf, -inf, nan], 4, 0],
  ["erf", erf, [...line, ...tiny, 0, -0, 40, -40, inf, -inf, nan], 4, 2],
  ["sigmoid", sigmoid, [...line, ...tiny, 0, -0, 80, -80, 1e4, inf, -inf, nan], 6, 0],
  ["relu", (x) => (Number.isNaN(x) ? nan : x > 0 ? x : 0), [...line, inf, -inf, nan, 0], 0, 0],
  ["gelu", (x) => (x * (x < -1.5 ? erfc(-x / Math.SQRT2) : 1 + erf(x / Math.SQRT2))) / 2, [...line, ...tiny, 0, 40, inf, nan], 8, 2],
  ["silu", (x) => x * sigmoid(x), [...line, ...tiny, 0, 80, -80, 1e4, inf, nan], 8, 0],
  ["softplus", (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))), [...line, ...tiny, 0, 80, -80, 1e4, -1e4, inf, -inf, nan], 6, 0],
  ["floor", Math.floor, [...line, -0, 0, -0.5, 2 ** 24 + 1, 1e30, -1e30, inf, -inf, nan], 0, 0],
  ["round", even, [...line, -0, 0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997, 8388609, 1e30, -1e30, inf, -inf, nan], 0, 0],
];

onEach("elementwise functions of one tensor", (t) => {
  for (const [name, f, samples, rtol, atol] of unaries)
    for (const dtype of floats) {
      const data = samples.map((v) => as(dtype, v));
      const x = tensor(vector(data), dtype);
      const e = epsilon[dtype];
      // Below the smallest normal number results may be flushed to zero.
      const floor = rtol > 0 ? { float32: 2 ** -126, float64: 2 ** -1022 }[dtype] : 0;
      const expected = vector(data.map(f));
      check(t, byName[name](x), expected, dtype, `${name} in ${dtype}`, rtol * e, atol * e + floor);
      check(t, x[name](), expected, dtype, `method ${name}`, rtol * e, atol * e + floor);
    }
});

t.test("the reference erf has the published values", async (t) => {
  for (const [x, y] of [
    [0.5, 0.5204998778130465],
    [1, 0.8427007929497149],
    [2, 0.9953222650189527],
    [3, 0.9999779095030014],
    [-1.5, -0.9661051464753108],
  ] as const)
    t.ok(Math.abs(erf(x) - y) < 1e-15);
});

onEach("integers wrap around", (t) => {
  const edge = [0, 1, -1, 2, 7, -7, INT_MIN, INT_MAX, INT_MIN + 1, 46341, 65536, -65536, 123456789];
  const pairs = edge.flatMap((a) => edge.map((b) => [a, b] as const));
  for (const dtype of ["int32", "uint32"] as const) {
    const of = (v: number) => as(dtype, v);
    const a = pairs.map(([x]) => of(x));
    const b = pairs.map(([, y]) => of(y));
    const [x, y] = [tensor(vector(a), dtype), tensor(vector(b), dtype)];
    const big = (f: (a: bigint, b: bigint) => bigint) =>
      vector(
        a.map((v, i) =>
          Number(BigInt[dtype === "int32" ? "asIntN" : "asUintN"](32, f(BigInt(v), BigInt(b[i]!)))),
        ),
      );
    check(
      t,
      fx.add(x, y),
      big((p, q) => p + q),
      dtype,
      `add ${dtype}`,
    );
    check(
      t,
      fx.sub(x, y),
      big((p, q) => p - q),
      dtype,
      `sub ${dtype}`,
    );
    check(
      t,
      fx.mul(x, y),
      big((p, q) => p * q),
      dtype,
      `mul ${dtype}`,
    );
    check(
      t,
      fx.neg(x),
      big((p) => -p),
      dtype,
      `neg ${dtype}`,
    );
    check(
      t,
      fx.square(x),
      big((p) => p * p),
      dtype,
      `square ${dtype}`,
    );
    check(
      t,
      fx.abs(x),
      big((p) => (p < 0n ? -p : p)),
      dtype,
      `abs ${dtype}`,
    );
    check(t, fx.sign(x), vector(a.map((v) => Math.sign(v) + 0)), dtype, `sign ${dtype}`);
    check(t, fx.relu(x), vector(a.map((v) => Math.max(v, 0))), dtype, `relu ${dtype}`);
    check(
      t,
      fx.maximum(x, y),
      big((p, q) => (p > q ? p : q)),
      dtype,
      `maximum ${dtype}`,
    );
    check(
      t,
      fx.minimum(x, y),
      big((p, q) => (p < q ? p : q)),
      dtype,
      `minimum ${dtype}`,
    );
    const mod = (p: bigint, q: bigint) => (q === 0n ? 0n : ((p % q) + q) % q);
    check(t, fx.remainder(x, y), big(mod), dtype, `remainder ${dtype}`);
    const all = a.reduce((sum, v) => sum + BigInt(v), 0n);
    check(t, fx.sum(x), { shape: [], data: [of(Number(BigInt.asIntN(32, all)))] }, dtype, `sum ${dtype}`);
    const odd = a.filter((v) => v % 2 !== 0);
    const product = odd.reduce((s, v) => s * BigInt(v), 1n);
    check(
      t,
      fx.prod(tensor(vector(odd), dtype)),
      { shape: [], data: [of(Number(BigInt.asIntN(32, product)))] },
      dtype,
      `prod ${dtype}`,
    );
    check(t, fx.max(x), { shape: [], data: [Math.max(...a)] }, dtype, `max ${dtype}`);
    check(t, fx.min(x), { shape: [], data: [Math.min(...a)] }, dtype, `min ${dtype}`);
    for (const [name, f] of comparisons)
      check(t, byName[name](x, y), vector(a.map((v, i) => Number(f(v, b[i]!)))), "bool", `${name} ${dtype}`);
  }
});

const comparisons = [
  ["equal", (a: number, b: number) => a === b],
  ["notEqual", (a: number, b: number) => a !== b],
  ["greater", (a: number, b: number) => a > b],
  ["greaterEqual", (a: number, b: number) => a >= b],
  ["less", (a: number, b: number) => a < b],
  ["lessEqual", (a: number, b: number) => a <= b],
] as const;
// biome-ignore format: a table
const shapePairs: [number[], number[]][] = [
  [[], []], [[3], []], [[], [2, 3]], [[4], [4]], [[2, 3], [3]], [[2, 1], [3]], [[1], [5]],
  [[2, 1, 4], [3, 1]], [[1, 1], [4, 5]], [[2, 3, 4], [2, 1, 4]], [[0], [1]], [[2, 0], [1, 1]],
  [[3, 1, 0], [2, 1]], [[5, 1, 2, 1], [3, 1, 7]],
];

onEach("operations on two tensors broadcast, in every dtype that they take", (t) => {
  const pairs: [
    "add" | "sub" | "mul" | "div" | "maximum" | "minimum",
    (a: number, b: number) => number,
    readonly fx.DType[],
  ][] = [
    ["add", (a, b) => a + b, numeric],
    ["sub", (a, b) => a - b, numeric],
    ["mul", (a, b) => a * b, numeric],
    ["div", (a, b) => a / b, floats],
    ["maximum", Math.max, numeric],
    ["minimum", Math.min, numeric],
  ];
  for (const [sa, sb] of shapePairs) {
    const shape = broadcast(sa, sb);
    for (const [name, f, types] of pairs)
      for (const dtype of types) {
        const [a, b] = [some(sa, dtype), some(sb, dtype)];
        const expected = make(shape, (i) => as(dtype, f(at(a, i), at(b, i))));
        check(
          t,
          byName[name](tensor(a, dtype), tensor(b, dtype)),
          expected,
          dtype,
          `${name} ${dtype} [${sa}] [${sb}]`,
        );
      }
    for (const [name, f] of comparisons)
      for (const dtype of everyType) {
        const [a, b] = [some(sa, dtype), some(sb, dtype)];
        const expected = make(shape, (i) => Number(f(at(a, i), at(b, i))));
        check(
          t,
          byName[name](tensor(a, dtype), tensor(b, dtype)),
          expected,
          "bool",
          `${name} ${dtype} [${sa}] [${sb}]`,
        );
      }
    const [p, q] = [some(sa, "bool"), some(sb, "bool")];
    const [x, y] = [tensor(p, "bool"), tensor(q, "bool")];
    check(
      t,
      x.logicalAnd(y),
      make(shape, (i) => at(p, i) & at(q, i)),
      "bool",
      "logicalAnd",
    );
    check(
      t,
      x.logicalOr(y),
      make(shape, (i) => at(p, i) | at(q, i)),
      "bool",
      "logicalOr",
    );
    check(
      t,
      x.logicalNot(),
      make(sa, (i) => 1 - at(p, i)),
      "bool",
      "logicalNot",
    );
    for (const dtype of everyType) {
      const [a, b] = [some(sb, dtype, true), some([1], dtype, true)];
      const full = broadcast(shape, [1]);
      const expected = make(full, (i) => (at(p, i) ? at(a, i) : at(b, i)));
      check(t, fx.where(x, tensor(a, dtype), tensor(b, dtype)), expected, dtype, `where ${dtype}`);
      check(t, x.where(tensor(a, dtype), tensor(b, dtype)), expected, dtype, `where method ${dtype}`);
    }
  }
});

onEach("numbers take the dtype of the tensor that they meet", (t) => {
  for (const dtype of numeric) {
    const x = fx.tensor([1, 2, 3], { dtype });
    for (const y of [fx.add(x, 2), fx.add(2, x), x.add(2)])
      check(t, y, vector([3, 4, 5]), dtype, `add 2 in ${dtype}`);
    check(t, fx.sub(5, x), vector([4, 3, 2]), dtype, "5 - x");
    check(t, x.greater(2), vector([0, 0, 1]), "bool", "x > 2");
    check(t, fx.where(x.greater(2), x, 0), vector([0, 0, 3]), dtype, "where with a number");
    check(t, x.clip(2), vector([2, 2, 3]), dtype, "clip from below");
    check(t, x.clip(undefined, 2), vector([1, 2, 2]), dtype, "clip from above");
    check(t, x.clip(2, 2), vector([2, 2, 2]), dtype, "clip to one value");
  }
  t.equal(fx.add(1, 2).dtype, "float32");
  t.equal(fx.add(1, 2).item(), 3);
  t.equal(fx.exp(0).item(), 1);
  check(
    t,
    fx.tensor([0.1], { dtype: "float64" }).mul(0.1),
    vector([0.1 * 0.1]),
    "float64",
    "a float64 number",
  );
  check(t, fx.where(true, fx.tensor([1, 2]), 0), vector([1, 2]), "float32", "a boolean condition");
  check(t, fx.tensor([true, false]).logicalAnd(true), vector([1, 0]), "bool", "logicalAnd with true");
});

onEach("NaN, infinities and signed zeros follow IEEE 754", (t) => {
  const special = [0, -0, 1, -1, 2.5, inf, -inf, nan];
  const grid = special.flatMap((a) => special.map((b) => [a, b] as const));
  for (const dtype of floats) {
    const x = fx.tensor(
      grid.map((p) => p[0]),
      { dtype },
    );
    const y = fx.tensor(
      grid.map((p) => p[1]),
      { dtype },
    );
    const of = (f: (a: number, b: number) => number) => vector(grid.map(([a, b]) => f(a, b)));
    check(
      t,
      fx.add(x, y),
      of((a, b) => a + b),
      dtype,
      "add",
    );
    check(
      t,
      fx.sub(x, y),
      of((a, b) => a - b),
      dtype,
      "sub",
    );
    check(
      t,
      fx.mul(x, y),
      of((a, b) => a * b),
      dtype,
      "mul",
    );
    check(
      t,
      fx.div(x, y),
      of((a, b) => a / b),
      dtype,
      "div",
    );
    for (const [name, f] of comparisons)
      check(
        t,
        byName[name](x, y),
        of((a, b) => Number(f(a, b))),
        "bool",
        name,
      );
    // Which zero is the larger one of 0 and -0 is open.
    const oneZero = (z: fx.Tensor) => fx.where(z.equal(0), 0, z);
    check(
      t,
      oneZero(fx.maximum(x, y)),
      of((a, b) => Math.max(a, b) + 0),
      dtype,
      "maximum: NaN wins",
    );
    check(
      t,
      oneZero(fx.minimum(x, y)),
      of((a, b) => Math.min(a, b) + 0),
      dtype,
      "minimum: NaN wins",
    );
    // C's pow, as in NumPy: 1^NaN = 1 and (-1)^inf = 1, which JavaScript makes NaN.
    const pow = (a: number, b: number) => (a === 1 || (a === -1 && Math.abs(b) === inf) ? 1 : a ** b);
    check(t, fx.pow(x, y), of(pow), dtype, "pow", 4 * epsilon[dtype]);
    check(
      t,
      fx.isFinite(x),
      of((a) => Number(Number.isFinite(a))),
      "bool",
      "isFinite",
    );
    check(t, fx.clip(fx.tensor([nan, inf, -inf], { dtype }), -1, 1), vector([nan, 1, -1]), dtype, "clip");
    // biome-ignore format: a table
    const mod: [number, number, number][] = [
      [5, 3, 2], [-5, 3, 1], [5, -3, -1], [-5, -3, -2], [5.5, 2, 1.5], [6, 3, 0], [5, 0, nan],
      [inf, 2, nan], [nan, 1, nan], [5, inf, 5], [-5, -inf, -5],
    ];
    const r = fx.remainder(
      fx.tensor(
        mod.map((m) => m[0]),
        { dtype },
      ),
      fx.tensor(
        mod.map((m) => m[1]),
        { dtype },
      ),
    );
    check(t, r, vector(mod.map((m) => m[2])), dtype, "remainder as % in Python");
  }
});

onEach("a number as operand computes what a tensor of it would", (t) => {
  const special = [0, -0, 1, -1, 2, 0.5, -3, 8, inf, -inf, nan];
  const ops = {
    add: (a: number, b: number) => a + b,
    sub: (a: number, b: number) => a - b,
    mul: (a: number, b: number) => a * b,
    div: (a: number, b: number) => a / b,
    maximum: Math.max,
    minimum: Math.min,
    pow: (a: number, b: number) => (a === 1 || (a === -1 && Math.abs(b) === inf) ? 1 : a ** b),
  };
  for (const dtype of floats)
    for (const [name, f] of Object.entries(ops) as [keyof typeof ops, (a: number, b: number) => number][])
      for (const c of special)
        for (const left of [false, true]) {
          const op = (x: fx.Tensor) => (left ? byName[name](c, x) : byName[name](x, c));
          const x = fx.tensor(special, { dtype });
          // The sign of a zero is open: x + 0 is simplified to x.
          const y = fx.jit(op)(x);
          const got = fx.where(y.equal(fx.zeros([11], { dtype })), fx.zeros([11], { dtype }), y);
          const expected = special.map((v) => {
            const e = left ? f(c, v) : f(v, c);
            return e === 0 ? 0 : e;
          });
          check(
            t,
            got,
            vector(expected),
            dtype,
            `${name} with ${show(c)} ${left ? "left" : "right"} in ${dtype}`,
            4 * epsilon[dtype],
          );
        }
});

onEach("identities keep NaN, infinities and wrapped integers", (t) => {
  const x = fx.tensor([nan, inf, -inf, 2, -0.5]);
  const run = (f: (y: fx.Tensor) => fx.Tensor) => fx.jit(f)(x);
  check(
    t,
    run((y) => y.sub(y)),
    vector([nan, nan, nan, 0, 0]),
    "float32",
    "x - x",
  );
  check(
    t,
    run((y) => y.div(y)),
    vector([nan, nan, nan, 1, 1]),
    "float32",
    "x / x",
  );
  check(
    t,
    run((y) => y.mul(0).add(y)),
    vector([nan, nan, nan, 2, -0.5]),
    "float32",
    "0 x + x",
  );
  check(
    t,
    run((y) => y.neg().neg()),
    vector([nan, inf, -inf, 2, -0.5]),
    "float32",
    "-(-x)",
  );
  check(
    t,
    run((y) => y.equal(y)),
    vector([0, 1, 1, 1, 1]),
    "bool",
    "x = x",
  );
  check(
    t,
    run((y) => y.notEqual(y)),
    vector([1, 0, 0, 0, 0]),
    "bool",
    "x != x",
  );
  check(
    t,
    run((y) => y.cast("float64").cast("float32")),
    vector([nan, inf, -inf, 2, -0.5]),
    "float32",
    "there and back",
  );
  check(
    t,
    run((y) => y.cast("int32").cast("float32")),
    vector([0, 2147483648, -2147483648, 2, 0]),
    "float32",
    "through int32",
  );
  check(
    t,
    run((y) => y.cast("bool").cast("float32")),
    vector([1, 1, 1, 1, 1]),
    "float32",
    "through bool",
  );
  const wide = fx.tensor([0.1, 1 / 3], { dtype: "float64" });
  check(
    t,
    fx.jit((y: fx.Tensor) => y.cast("float32").cast("float64"))(wide),
    vector([Math.fround(0.1), Math.fround(1 / 3)]),
    "float64",
    "rounded to float32",
  );
  const big = fx.tensor([INT_MAX, INT_MIN], { dtype: "int32" });
  check(t, fx.jit((y: fx.Tensor) => y.add(1).sub(1))(big), vector([INT_MAX, INT_MIN]), "int32", "x + 1 - 1");
  check(t, fx.jit((y: fx.Tensor) => y.add(1).greater(y))(big), vector([0, 1]), "bool", "x + 1 > x");
});

onEach("pow", (t) => {
  // biome-ignore format: a table
  const cases: [number, number][] = [
    [2, 10], [2, -1], [9, 0.5], [-2, 3], [-2, 2], [-8, 1 / 3], [10, -5], [1.5, 30], [0.5, 100], [2, 0.1],
    [7, 1],
  ];
  for (const dtype of floats) {
    const p = cases.map((c) => c.map((v) => as(dtype, v)) as [number, number]);
    const y = fx.pow(
      fx.tensor(
        p.map((c) => c[0]),
        { dtype },
      ),
      fx.tensor(
        p.map((c) => c[1]),
        { dtype },
      ),
    );
    check(t, y, vector(p.map(([a, b]) => a ** b)), dtype, `pow ${dtype}`, 16 * epsilon[dtype]);
    for (const n of [0, 1, 2, 3, -1, -2, 0.5])
      check(
        t,
        fx.tensor([1, 2, 3.5], { dtype }).pow(n),
        vector([1, 2, 3.5].map((v) => v ** n)),
        dtype,
        `x^${n}`,
        4 * epsilon[dtype],
      );
  }
});

onEach("cast: cut toward zero, saturate, NaN is 0; integers wrap; bool is x != 0", (t) => {
  const toInt = (v: number, low: number, high: number) =>
    Number.isNaN(v) ? 0 : Math.min(high, Math.max(low, Math.trunc(v))) + 0;
  const cut = (from: fx.DType, to: fx.DType, v: number): number => {
    if (to === "bool") return Number(v !== 0);
    if (to === "float32") return Math.fround(v);
    if (to === "float64") return v;
    if (from === "float32" || from === "float64")
      return to === "int32" ? toInt(v, INT_MIN, INT_MAX) : toInt(v, 0, UINT_MAX);
    return to === "int32" ? v | 0 : v >>> 0;
  };
  const real = [
    0,
    -0,
    0.5,
    -0.5,
    1.9,
    -1.9,
    2.5,
    1e5,
    -1e5,
    2147483520,
    2147483648,
    -2147483648,
    4294967040,
    4294967296,
    1e10,
    -1e10,
    1e30,
    inf,
    -inf,
    nan,
  ];
  const samples: Record<fx.DType, number[]> = {
    float32: [...real, 16777216].map(Math.fround),
    float64: [...real, 0.1, 16777217, 2147483647.5, -2147483648.5, 4294967295.5, 1e300, 1e-300],
    int32: [0, 1, -1, 16777217, INT_MIN, INT_MAX],
    uint32: [0, 1, 16777217, 2 ** 31, UINT_MAX],
    bool: [0, 1],
  };
  for (const from of everyType)
    for (const to of everyType) {
      const x = tensor(vector(samples[from]), from);
      const expected = vector(samples[from].map((v) => cut(from, to, v)));
      check(t, fx.cast(x, to), expected, to, `${from} to ${to}`);
      check(t, fx.jit((y: fx.Tensor) => y.cast(to))(x), expected, to, `in jit, ${from} to ${to}`);
    }
});

// ---- Reductions

// biome-ignore format: a table
const reductionCases: [number[], number | number[] | undefined][] = [
  [[], undefined], [[], []], [[5], undefined], [[5], 0], [[5], -1], [[3, 4], undefined], [[3, 4], 0],
  [[3, 4], 1], [[3, 4], [0, 1]], [[3, 4], []], [[2, 3, 4], [0, -1]], [[2, 3, 4], -2], [[2, 3, 4], [2, 0]],
  [[2, 3, 4], [-1, -2]], [[2, 1, 3, 2], [1, 3]], [[1, 1], 0], [[300, 3], 0], [[3, 300], 1], [[0, 3], 1],
  [[2, 0], 0], [[2, 0, 3], [0, 2]], [[7, 33, 17], [0, 2]],
];
const emptyCases: [number[], number | number[] | undefined][] = [
  [[0], undefined],
  [[2, 0], 1],
  [[0, 3], 0],
  [
    [2, 0, 3],
    [1, 2],
  ],
];

const axesOf = (shape: readonly number[], axis: number | number[] | undefined): number[] =>
  (axis === undefined ? range(shape.length) : [axis].flat()).map((a) => (a < 0 ? a + shape.length : a));

/** For each index of the other axes, the elements along the reduced ones. */
function reduce(
  a: Arr,
  axis: number | number[] | undefined,
  keep: boolean,
  f: (list: number[]) => number,
): Arr {
  const axes = axesOf(a.shape, axis);
  const kept = a.shape.map((n, i) => (axes.includes(i) ? 1 : n));
  const lists: number[][] = range(sizeOf(kept)).map(() => []);
  const all = indices(a.shape);
  a.data.forEach((v, flat) => {
    const at = kept.reduce((o, n, i) => o * n + (n === 1 ? 0 : all[flat]![i]!), 0);
    lists[at]!.push(v);
  });
  return { shape: keep ? kept : a.shape.filter((_, i) => !axes.includes(i)), data: lists.map(f) };
}

const total = (list: number[]) => list.reduce((a, b) => a + b, 0);
const average = (list: number[]) => total(list) / list.length;
const deviation = (list: number[]) => average(list.map((v) => (v - average(list)) ** 2));
const lse = (list: number[]) => {
  const m = Math.max(...list);
  return m + Math.log(total(list.map((v) => Math.exp(v - m))));
};

onEach("reductions over any axes, with and without keepDims", (t) => {
  const kinds: [
    "sum" | "mean" | "variance" | "max" | "min" | "prod" | "logsumexp",
    (list: number[]) => number,
    readonly fx.DType[],
    number,
  ][] = [
    ["sum", total, numeric, 0],
    ["mean", average, floats, 4],
    ["variance", deviation, floats, 16],
    ["max", (list) => Math.max(...list), everyType, 0],
    ["min", (list) => Math.min(...list), everyType, 0],
    ["prod", (list) => list.reduce((a, b) => a * b, 1), ["float64"], 64],
    ["logsumexp", lse, floats, 8],
  ];
  for (const [name, f, types, tolerance] of kinds)
    for (const dtype of types)
      for (const [shape, axis] of reductionCases)
        for (const keepDims of [false, true]) {
          const a = some(shape, dtype);
          const e = dtype === "float32" ? 2 ** -23 : 2 ** -52;
          const expected = reduce(a, axis, keepDims, f);
          const title = `${name} ${dtype} [${shape}] over ${axis}${keepDims ? ", kept" : ""}`;
          check(
            t,
            byName[name](tensor(a, dtype), axis, { keepDims }),
            expected,
            dtype,
            title,
            tolerance * e,
            tolerance * e,
          );
        }
  for (const [shape, axis] of [...reductionCases, ...emptyCases]) {
    const a = some(shape, "bool");
    check(
      t,
      fx.sum(tensor(a, "bool"), axis),
      reduce(a, axis, false, total),
      "int32",
      `sum of bool [${shape}]`,
    );
  }
  for (const dtype of numeric)
    for (const [shape, axis] of emptyCases) {
      check(
        t,
        fx.zeros(shape, { dtype }).sum(axis),
        reduce(
          make(shape, () => 0),
          axis,
          false,
          () => 0,
        ),
        dtype,
        "the sum of nothing is 0",
      );
      check(
        t,
        fx.zeros(shape, { dtype }).prod(axis),
        reduce(
          make(shape, () => 0),
          axis,
          false,
          () => 1,
        ),
        dtype,
        "the product of nothing is 1",
      );
    }
});

onEach("prod is the product, zeros and signs included", (t) => {
  for (const dtype of numeric)
    for (const list of [[2, 3, 4], [0, 5], [5, 0, 0], [1], [2, 2, 2, 2, 2, 2, 2, 2, 2], [3, 1, 2, 1, 1, 5]])
      check(
        t,
        fx.prod(fx.tensor(list, { dtype })),
        { shape: [], data: [list.reduce((a, b) => a * b, 1)] },
        dtype,
        `prod ${list}`,
      );
  check(t, fx.prod(fx.tensor([-1, 2, -3, -0.5])), { shape: [], data: [-3] }, "float32", "negative factors");
  check(
    t,
    fx.prod(
      fx.tensor([
        [1, 2],
        [3, 4],
        [5, 6],
      ]),
      0,
    ),
    vector([15, 48]),
    "float32",
    "axis 0",
  );
});

onEach("reductions of NaN and infinity", (t) => {
  for (const dtype of floats) {
    const rows: [number[], number, number, number, number, number][] = [
      // elements, max, min, sum, argmax, argmin
      [[1, nan, 3], nan, nan, nan, 1, 1],
      [[nan, 1, nan], nan, nan, nan, 0, 0],
      [[inf, 1, -inf], inf, -inf, nan, 0, 2],
      [[-inf, -inf, -inf], -inf, -inf, -inf, 0, 0],
      [[2, 5, 5], 5, 2, 12, 1, 0],
      [[-1, -1, -3], -1, -3, -5, 0, 2],
    ];
    const x = fx.tensor(
      rows.map((r) => r[0]),
      { dtype },
    );
    check(t, x.max(1), vector(rows.map((r) => r[1])), dtype, "max");
    check(t, x.min(1), vector(rows.map((r) => r[2])), dtype, "min");
    check(t, x.sum(1), vector(rows.map((r) => r[3])), dtype, "sum");
    check(t, x.argmax(1), vector(rows.map((r) => r[4])), "int32", "argmax: the first; NaN wins");
    check(t, x.argmin(1), vector(rows.map((r) => r[5])), "int32", "argmin: the first; NaN wins");
    // A long row: vectorised loops see NaN at every place.
    for (const place of [0, 1, 15, 16, 99, 100]) {
      const long = range(101).map((i) => (i === place ? nan : i));
      t.ok(Number.isNaN(fx.tensor(long, { dtype }).max().item()), `max with NaN at ${place}`);
      t.ok(Number.isNaN(fx.tensor(long, { dtype }).min().item()), `min with NaN at ${place}`);
      t.equal(fx.tensor(long, { dtype }).argmax().item(), place);
    }
  }
});

// biome-ignore format: a table
const argShapes = [
  [[7], 0], [[7], undefined], [[3, 5], 1], [[3, 5], 0], [[3, 5], undefined], [[2, 3, 4], -2], [[0, 3], 1],
  [[40, 3], 0],
] as [number[], number | undefined][];

onEach("argmax, argmin and argsort", (t) => {
  for (const dtype of everyType)
    for (const [shape, axis] of argShapes) {
      const a = some(shape, dtype);
      const x = tensor(a, dtype);
      const first = (best: (list: number[]) => number) => (list: number[]) => list.indexOf(best(list));
      for (const keepDims of [false, true]) {
        check(
          t,
          x.argmax(axis, { keepDims }),
          reduce(
            a,
            axis,
            keepDims,
            first((l) => Math.max(...l)),
          ),
          "int32",
          `argmax ${dtype} [${shape}] ${axis}`,
        );
        check(
          t,
          x.argmin(axis, { keepDims }),
          reduce(
            a,
            axis,
            keepDims,
            first((l) => Math.min(...l)),
          ),
          "int32",
          `argmin ${dtype} [${shape}] ${axis}`,
        );
      }
    }
  for (const dtype of everyType)
    for (const shape of [[0], [1], [9], [4, 6], [2, 3, 5], [2, 0], [1000]]) {
      const a = some(shape, dtype, true);
      const n = shape[shape.length - 1]!;
      const data = range(n === 0 ? 0 : a.data.length / n).flatMap((row) => {
        const list = a.data.slice(row * n, (row + 1) * n);
        return range(n).sort((i, j) => list[i]! - list[j]! || i - j);
      });
      check(t, fx.argsort(tensor(a, dtype)), { shape, data }, "int32", `argsort ${dtype} [${shape}]`);
    }
  check(
    t,
    fx.argsort(fx.tensor([nan, 2, -inf, nan, inf, -1])),
    vector([2, 5, 1, 4, 0, 3]),
    "int32",
    "NaN last",
  );
});

// biome-ignore format: a table
const softmaxShapes = [
  [[5], -1], [[3, 4], 0], [[3, 4], -1], [[2, 3, 4], 1], [[0, 3], 1], [[4, 100], 1],
] as const;

onEach("softmax, logSoftmax and logsumexp are stable", (t) => {
  for (const dtype of floats) {
    const e = epsilon[dtype];
    const of = (data: fx.NestedArray) => fx.tensor(data, { dtype });
    const rows: [number[], number, number[]][] = [
      [[1e4, 1e4], 1e4 + Math.LN2, [0.5, 0.5]],
      [[-1e4, -1e4], -1e4 + Math.LN2, [0.5, 0.5]],
      [[1e4, -1e4], 1e4, [1, 0]],
      [[-inf, 0], 0, [0, 1]],
      [[-inf, -5], -5, [0, 1]],
      [[0, Math.LN2], Math.log(3), [1 / 3, 2 / 3]],
      [[1e30, 0], 1e30, [1, 0]],
    ];
    for (const [list, top, share] of rows) {
      check(t, of(list).logsumexp(), { shape: [], data: [top] }, dtype, `logsumexp(${list})`, 4 * e);
      check(t, of(list).softmax(), vector(share), dtype, `softmax(${list})`, 4 * e);
    }
    check(t, of([1e4, 0]).logSoftmax(), vector([0, -1e4]), dtype, "logSoftmax of 1e4");
    check(t, of([-inf, 3]).logSoftmax(), vector([-inf, 0]), dtype, "logSoftmax of -inf");
    t.equal(of([inf, 0]).logsumexp().item(), inf);
    t.equal(of([-inf, -inf]).logsumexp().item(), -inf, "the sum of nothing but zeros");
    t.ok(Number.isNaN(of([nan, 0]).logsumexp().item()));
    for (const [shape, axis] of softmaxShapes) {
      const a = some(shape, dtype);
      const top = reduce(a, axis, true, lse);
      check(
        t,
        tensor(a, dtype).softmax(axis),
        make(shape, (i) => Math.exp(at(a, i) - at(top, i))),
        dtype,
        `softmax [${shape}] ${axis}`,
        16 * e,
      );
      check(
        t,
        tensor(a, dtype).logSoftmax(axis),
        make(shape, (i) => at(a, i) - at(top, i)),
        dtype,
        `logSoftmax [${shape}] ${axis}`,
        16 * e,
        8 * e,
      );
    }
    check(
      t,
      fx.softmax(
        of([
          [1, 1],
          [1, 1],
        ]),
      ),
      { shape: [2, 2], data: [0.5, 0.5, 0.5, 0.5] },
      dtype,
      "the last axis by default",
      4 * e,
    );
  }
});

onEach("large tensors", (t) => {
  const n = 1_000_003;
  const data = Float32Array.from({ length: n }, (_, i) => (i % 17) - 8);
  const exact = data.reduce((a, b) => a + b, 0);
  const x = fx.tensor(data);
  t.equal(x.sum().item(), exact);
  t.ok(
    Math.abs(fx.full([n], 0.1).sum().item() / (n * Math.fround(0.1)) - 1) < 1e-4,
    "a float32 sum of 10^6 is good",
  );
  t.equal(x.max().item(), 8);
  t.equal(x.argmin().item(), 0);
  const y = x.mul(2).add(1).toTypedArray();
  t.ok(
    y.every((v, i) => v === 2 * data[i]! + 1),
    "a chain over 10^6 elements",
  );
  const square = fx.tensor(data.subarray(0, 1000 * 1000), { shape: [1000, 1000] });
  const turned = square.transpose().toTypedArray();
  t.ok(
    turned.every((v, i) => v === data[(i % 1000) * 1000 + Math.floor(i / 1000)]),
    "a large transpose",
  );
  const columns = square.sum(0).toTypedArray();
  const expected = new Float64Array(1000);
  for (let i = 0; i < 1e6; i++) expected[i % 1000]! += data[i]!;
  t.ok(
    columns.every((v, i) => v === expected[i]),
    "sums of columns",
  );
});

// ---- Matrix products

function product(a: Arr, b: Arr, dtype: fx.DType): Arr {
  const left = a.shape.length === 1 ? { ...a, shape: [1, ...a.shape] } : a;
  const right = b.shape.length === 1 ? { ...b, shape: [...b.shape, 1] } : b;
  const k = left.shape[left.shape.length - 1]!;
  const batch = broadcast(left.shape.slice(0, -2), right.shape.slice(0, -2));
  const m = left.shape[left.shape.length - 2]!;
  const n = right.shape[right.shape.length - 1]!;
  const full = make([...batch, m, n], (index) => {
    const [outer, i, j] = [index.slice(0, -2), index[index.length - 2]!, index[index.length - 1]!];
    let sum = 0;
    for (let p = 0; p < k; p++) {
      const term = at(left, [...outer, i, p]) * at(right, [...outer, p, j]);
      sum = dtype === "int32" || dtype === "uint32" ? as(dtype, sum + as(dtype, term)) : sum + term;
    }
    return sum;
  });
  return {
    shape: [...batch, ...(a.shape.length === 1 ? [] : [m]), ...(b.shape.length === 1 ? [] : [n])],
    data: full.data,
  };
}
// biome-ignore format: a table
const matmulShapes: [number[], number[]][] = [
  [[3], [3]], [[1], [1]], [[3], [3, 2]], [[2, 3], [3]], [[2, 3], [3, 4]], [[1, 1], [1, 1]],
  [[5, 1], [1, 7]], [[1, 9], [9, 1]], [[2, 2, 3], [3, 4]], [[2, 3], [5, 3, 4]], [[2, 2, 3], [2, 3, 4]],
  [[2, 1, 2, 3], [3, 3, 2]], [[1, 4, 2, 3], [5, 1, 3, 2]], [[2, 2, 2, 3], [3]], [[3], [2, 2, 3, 4]],
  [[4, 2, 3], [3]], [[0, 3], [3, 2]], [[2, 0], [0, 3]], [[2, 3], [3, 0]], [[0], [0]], [[0, 2, 3], [3, 4]],
  [[17, 33], [33, 19]], [[2, 65, 31], [31, 70]],
];

onEach("matmul of ranks 1 to 4, batches broadcast", (t) => {
  for (const [sa, sb] of matmulShapes)
    for (const dtype of numeric) {
      const integer = dtype === "int32" || dtype === "uint32";
      const [a, b] = [some(sa, dtype), some(sb, dtype)];
      // The floats are multiples of 1/4 below 4: every product and sum is exact.
      check(
        t,
        fx.matmul(tensor(a, dtype), tensor(b, dtype)),
        product(a, b, dtype),
        dtype,
        `[${sa}] x [${sb}] ${dtype}`,
      );
      if (integer) continue;
      const [c, d] = [some(sa, dtype, true), some(sb, dtype, true)];
      const e = epsilon[dtype as Float] * 400 * Math.sqrt(sa[sa.length - 1]!);
      check(
        t,
        tensor(c, dtype).matmul(tensor(d, dtype)),
        product(c, d, dtype),
        dtype,
        `[${sa}] x [${sb}] ${dtype}, rounded`,
        e,
        e,
      );
    }
  for (const dtype of ["int32", "uint32"] as const) {
    const [a, b] = [some([4, 5], dtype, true), some([5, 3], dtype, true)];
    const wrapped = make([4, 3], ([i, j]) =>
      Number(
        BigInt[dtype === "int32" ? "asIntN" : "asUintN"](
          32,
          range(5).reduce((s, p) => s + BigInt(at(a, [i!, p])) * BigInt(at(b, [p, j!])), 0n),
        ),
      ),
    );
    check(t, fx.matmul(tensor(a, dtype), tensor(b, dtype)), wrapped, dtype, `matmul wraps in ${dtype}`);
  }
  check(
    t,
    fx.matmul(fx.tensor([[nan, 1]]), fx.tensor([[0], [1]])),
    { shape: [1, 1], data: [nan] },
    "float32",
    "NaN x 0 is NaN",
  );
  check(
    t,
    fx.matmul(fx.tensor([[inf, 1]]), fx.tensor([[0], [1]])),
    { shape: [1, 1], data: [nan] },
    "float32",
    "inf x 0 is NaN",
  );
});

// biome-ignore format: a table
const fusedSizes = [
  [3, 4, 5], [16, 16, 16], [33, 7, 50], [1, 100, 1], [64, 130, 20],
] as const;

onEach("matmul of views, with a fused bias and activation", (t) => {
  for (const dtype of floats)
    for (const [m, k, n] of fusedSizes) {
      const [a, b, c] = [some([k, m], dtype), some([n, k], dtype), some([n], dtype)];
      const f = (x: fx.Tensor, y: fx.Tensor, z: fx.Tensor) =>
        fx.relu(fx.matmul(x.transpose(), y.flip(1).transpose()).add(z));
      const expected = make([m, n], ([i, j]) =>
        Math.max(0, total(range(k).map((p) => at(a, [p, i!]) * at(b, [j!, k - 1 - p]))) + at(c, [j!])),
      );
      const args = [tensor(a, dtype), tensor(b, dtype), tensor(c, dtype)] as const;
      check(t, f(...args), expected, dtype, `eager ${m} ${k} ${n}`);
      check(t, fx.jit(f)(...args), expected, dtype, `jit ${m} ${k} ${n}`);
    }
});

// ---- Shapes and indices

/** The element at an index of full rank. */
function element(a: Arr, index: readonly number[]): number {
  return a.data[a.shape.reduce((o, n, k) => o * n + index[k]!, 0)]!;
}

/** Each view operation on the reference. */
const view = {
  transpose(a: Arr, perm: readonly number[]): Arr {
    const shape = perm.map((p) => a.shape[p]!);
    return make(shape, (i) => {
      const source = Array<number>(i.length);
      for (const [k, p] of perm.entries()) source[p] = i[k]!;
      return element(a, source);
    });
  },
  slice(a: Arr, start: readonly number[], size: readonly number[]): Arr {
    const moved = (i: number[]) => i.map((v, k) => v + start[k]!);
    return make(size, (i) => element(a, moved(i)));
  },
  pad(a: Arr, widths: readonly (readonly number[])[]): Arr {
    const shape = a.shape.map((n, k) => n + widths[k]![0]! + widths[k]![1]!);
    return make(shape, (i) => {
      const source = i.map((v, k) => v - widths[k]![0]!);
      return source.every((v, k) => v >= 0 && v < a.shape[k]!) ? element(a, source) : 0;
    });
  },
  flip(a: Arr, axes: readonly number[]): Arr {
    const turned = (i: number[]) => i.map((v, k) => (axes.includes(k) ? a.shape[k]! - 1 - v : v));
    return make(a.shape, (i) => element(a, turned(i)));
  },
  broadcastTo: (a: Arr, shape: readonly number[]): Arr => make(shape, (i) => at(a, i)),
  concat(list: readonly Arr[], axis: number): Arr {
    const size = total(list.map((a) => a.shape[axis]!));
    const shape = list[0]!.shape.map((n, k) => (k === axis ? size : n));
    return make(shape, (i) => {
      let offset = i[axis]!;
      let which = 0;
      while (offset >= list[which]!.shape[axis]!) offset -= list[which++]!.shape[axis]!;
      const source = i.map((v, k) => (k === axis ? offset : v));
      return element(list[which]!, source);
    });
  },
  take(a: Arr, index: Arr, axis: number): Arr {
    const rank = index.shape.length;
    return make([...a.shape.slice(0, axis), ...index.shape, ...a.shape.slice(axis + 1)], (i) => {
      const v = element(index, i.slice(axis, axis + rank));
      const from = v < 0 ? v + a.shape[axis]! : v;
      return element(a, [...i.slice(0, axis), from, ...i.slice(axis + rank)]);
    });
  },
  reshape: (a: Arr, shape: readonly number[]): Arr => ({ shape, data: a.data }),
};

// biome-ignore format: a table
const permutations = [
  [0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0],
];
// biome-ignore format: a table
const reshapes = [
  [[24], [24]], [[4, 6], [4, 6]], [[-1], [24]], [[3, -1], [3, 8]], [[2, 1, -1, 2], [2, 1, 6, 2]],
  [[24, 1, -1], [24, 1, 1]],
];
// biome-ignore format: a table
const broadcasts = [
  [[], [3]], [[1], [4]], [[3], [2, 3]], [[2, 1], [2, 5]], [[1, 3], [2, 4, 3]], [[2, 3], [2, 3]],
  [[1, 0], [5, 0]], [[1], [0]],
];
// biome-ignore format: a table
const newAxes = [
  [0, [1, 2, 3, 4]], [3, [2, 3, 4, 1]], [-1, [2, 3, 4, 1]], [-2, [2, 3, 1, 4]], [-4, [1, 2, 3, 4]],
] as const;
// biome-ignore format: a table
const squeezes = [
  [undefined, [24]], [0, [24, 1, 1]], [-1, [1, 24, 1]], [[0, 2], [24, 1]], [[-1, 0, 2], [24]],
  [[], [1, 24, 1, 1]],
] as const;

onEach("transpose, reshape, broadcastTo, expandDims and squeeze", (t) => {
  for (const dtype of everyType) {
    const a = some([2, 3, 4], dtype, true);
    const x = tensor(a, dtype);
    for (const perm of permutations)
      check(t, x.transpose(perm), view.transpose(a, perm), dtype, `transpose ${perm} ${dtype}`);
    check(t, x.transpose(), view.transpose(a, [2, 1, 0]), dtype, "transpose reverses");
    check(t, x.transpose([-1, 0, -2]), view.transpose(a, [2, 0, 1]), dtype, "negative axes");
    for (const [shape, full] of reshapes)
      check(t, x.reshape(shape!), { shape: full!, data: a.data }, dtype, `reshape ${shape}`);
    for (const [from, to] of broadcasts) {
      const b = some(from!, dtype);
      check(
        t,
        tensor(b, dtype).broadcastTo(to!),
        view.broadcastTo(b, to!),
        dtype,
        `broadcast [${from}] to [${to}]`,
      );
    }
    for (const [axis, shape] of newAxes)
      check(t, x.expandDims(axis), { shape, data: a.data }, dtype, `expandDims ${axis}`);
    const y = x.reshape([1, 24, 1, 1]);
    for (const [axis, shape] of squeezes)
      check(t, y.squeeze(axis), { shape, data: a.data }, dtype, `squeeze ${axis}`);
  }
  check(t, fx.zeros([0, 3]).reshape([3, 0]), { shape: [3, 0], data: [] }, "float32", "reshape of nothing");
  check(
    t,
    fx.zeros([0, 3]).reshape([5, 0, 7]),
    { shape: [5, 0, 7], data: [] },
    "float32",
    "reshape of nothing",
  );
  check(t, fx.zeros([0, 3]).transpose(), { shape: [3, 0], data: [] }, "float32", "transpose of nothing");
});

// biome-ignore format: a table
const concats = [
  [[[2], [3]], 0], [[[2, 3], [2, 1], [2, 4]], 1], [[[2, 3], [2, 1]], -1], [[[1, 2], [3, 2]], -2],
  [[[2, 0], [2, 3]], 1], [[[0], [0]], 0], [[[2, 2]], 0], [[[2, 3, 2], [2, 1, 2], [2, 2, 2]], 1],
] as [number[][], number][];
// biome-ignore format: a table
const stacks = [
  [[], 0], [[3], 0], [[3], 1], [[3], -1], [[2, 3], 1], [[2, 3], -2], [[2, 3], 2], [[0], 0],
] as const;
// biome-ignore format: a table
const splits = [
  [2, 0], [4, 0], [1, 1], [3, -1], [[1, 2, 3], 1], [[0, 6], 1], [[4], 0],
] as [number | number[], number][];
// biome-ignore format: a table
const slices = [
  [[0, 0], [4, 6], [4, 6]], [[1, 2], [2, 3], [2, 3]], [[1, 2], [-1, -1], [3, 4]], [[4, 0], [0, 6], [0, 6]],
  [[3, 5], [1, 1], [1, 1]], [[4, 6], [-1, -1], [0, 0]],
] as const;
// biome-ignore format: a table
const flips = [
  [undefined, [0, 1]], [0, [0]], [1, [1]], [-1, [1]], [[0, 1], [0, 1]], [[], []],
] as const;
// biome-ignore format: a table
const pads = [
  [[0, 0], [0, 0]], [[1, 0], [0, 2]], [[2, 3], [1, 1]],
] as [number, number][][];

onEach("concat, stack, split, slice, pad and flip", (t) => {
  for (const dtype of everyType) {
    for (const [shapes, axis] of concats) {
      const list = shapes.map((s) => some(s, dtype, true));
      const positive = axis < 0 ? axis + shapes[0]!.length : axis;
      check(
        t,
        fx.concat(
          list.map((a) => tensor(a, dtype)),
          axis,
        ),
        view.concat(list, positive),
        dtype,
        `concat ${JSON.stringify(shapes)} ${axis}`,
      );
    }
    for (const [shape, axis] of stacks) {
      const list = range(3).map(() => some(shape, dtype, true));
      const p = axis < 0 ? axis + shape.length + 1 : axis;
      const expected = make([...shape.slice(0, p), 3, ...shape.slice(p)], (i) =>
        at(list[i[p]!]!, [...i.slice(0, p), ...i.slice(p + 1)]),
      );
      check(
        t,
        fx.stack(
          list.map((a) => tensor(a, dtype)),
          axis,
        ),
        expected,
        dtype,
        `stack [${shape}] ${axis}`,
      );
    }
    const a = some([4, 6], dtype, true);
    const x = tensor(a, dtype);
    for (const [sections, axis] of splits) {
      const p = axis < 0 ? axis + 2 : axis;
      const sizes =
        typeof sections === "number" ? Array<number>(sections).fill(a.shape[p]! / sections) : sections;
      const parts = fx.split(x, sections, axis);
      t.equal(parts.length, sizes.length);
      let offset = 0;
      parts.forEach((part, i) => {
        const [start, size] = [[0, 0], [...a.shape]];
        start[p] = offset;
        size[p] = sizes[i]!;
        offset += sizes[i]!;
        check(t, part, view.slice(a, start, size), dtype, `split ${sections} of axis ${axis}, part ${i}`);
      });
    }
    for (const [start, size, full] of slices)
      check(t, x.slice(start, size), view.slice(a, start, full), dtype, `slice ${start} ${size}`);
    for (const [axis, axes] of flips) check(t, x.flip(axis), view.flip(a, axes), dtype, `flip ${axis}`);
    if (dtype !== "bool")
      for (const widths of pads)
        check(t, x.pad(widths), view.pad(a, widths), dtype, `pad ${JSON.stringify(widths)}`);
  }
  check(
    t,
    fx.pad(fx.zeros([0, 2]), [
      [1, 1],
      [0, 0],
    ]),
    { shape: [2, 2], data: [0, 0, 0, 0] },
    "float32",
    "pad of nothing",
  );
  check(t, fx.pad(fx.tensor(3), []), { shape: [], data: [3] }, "float32", "pad of a scalar");
  check(
    t,
    fx.pad(fx.tensor([nan, inf]), [[1, 1]]),
    vector([0, nan, inf, 0]),
    "float32",
    "pad keeps NaN out of the border",
  );
});

onEach("take and oneHot", (t) => {
  for (const dtype of everyType) {
    const a = some([3, 4, 5], dtype, true);
    const x = tensor(a, dtype);
    for (const axis of [0, 1, 2, -1, -3])
      for (const shape of [[], [1], [4], [2, 3], [0], [2, 0, 2]]) {
        const p = axis < 0 ? axis + 3 : axis;
        const n = a.shape[p]!;
        const index = make(shape, () => below(2 * n) - n);
        check(
          t,
          x.take(tensor(index, "int32"), axis),
          view.take(a, index, p),
          dtype,
          `take [${shape}] of axis ${axis}`,
        );
        const unsigned = make(shape, () => below(n));
        check(
          t,
          fx.take(x, tensor(unsigned, "uint32"), axis),
          view.take(a, unsigned, p),
          dtype,
          `take uint32 [${shape}]`,
        );
      }
    check(
      t,
      fx.take(fx.zeros([0, 2], { dtype }), fx.zeros([0], { dtype: "int32" })),
      { shape: [0, 2], data: [] },
      dtype,
      "nothing from nothing",
    );
  }
  check(
    t,
    fx.take(fx.tensor([1, 2]), fx.tensor(-1, { dtype: "int32" })),
    { shape: [], data: [2] },
    "float32",
    "axis 0 by default",
  );
  for (const index of ["int32", "uint32"] as const)
    for (const dtype of everyType)
      for (const shape of [[], [3], [2, 2], [0]]) {
        const a = make(shape, () => below(6));
        const expected = make([...shape, 4], (i) => Number(at(a, i.slice(0, -1)) === i[i.length - 1]));
        check(t, fx.oneHot(tensor(a, index), 4, { dtype }), expected, dtype, `oneHot [${shape}] ${dtype}`);
      }
  check(
    t,
    fx.oneHot(fx.tensor([-1, 0, 3], { dtype: "int32" }), 2),
    { shape: [3, 2], data: [0, 0, 1, 0, 0, 0] },
    "float32",
    "out of range is all 0",
  );
  t.same(fx.oneHot(fx.zeros([2], { dtype: "int32" }), 0).shape, [2, 0]);
});

onEach("chains of views, in one program, are what loops give", (t) => {
  state = 20240607;
  for (let round = 0; round < 250; round++) {
    const dtype = everyType[round % 4]!;
    const first = some(
      range(1 + below(4)).map(() => (below(12) === 0 ? 0 : 1 + below(4))),
      dtype,
      true,
    );
    let expected = first;
    const steps: [string, (x: fx.Tensor) => fx.Tensor][] = [];
    for (let length = 1 + below(7); length > 0; length--) {
      const { shape } = expected;
      const rank = shape.length;
      const kind = below(9);
      if (kind === 0) {
        const perm = range(rank)
          .map((i) => [next(), i] as const)
          .sort((a, b) => a[0] - b[0])
          .map((p) => p[1]);
        expected = view.transpose(expected, perm);
        steps.push([`transpose ${perm}`, (x) => x.transpose(perm)]);
      } else if (kind === 1) {
        const size = shape.map((n) => (n < 2 ? n : n - below(2)));
        const start = shape.map((n, i) => below(n - size[i]! + 1));
        expected = view.slice(expected, start, size);
        steps.push([`slice ${start} / ${size}`, (x) => x.slice(start, size)]);
      } else if (kind === 2) {
        const axes = range(rank).filter(() => below(2));
        expected = view.flip(expected, axes);
        steps.push([`flip ${axes}`, (x) => x.flip(axes)]);
      } else if (kind === 3 && sizeOf(shape) < 300) {
        const target = [1 + below(3), ...shape.map((n) => (n === 1 ? 1 + below(3) : n))];
        expected = view.broadcastTo(expected, target);
        steps.push([`broadcast ${target}`, (x) => x.broadcastTo(target)]);
      } else if (kind === 4) {
        const split = shape.flatMap((n) => (n === 4 ? [2, 2] : below(4) === 0 ? [1, n] : [n]));
        const target = below(2) ? split : [sizeOf(shape)];
        expected = view.reshape(expected, target);
        steps.push([`reshape ${target}`, (x) => x.reshape(target)]);
      } else if (kind === 5 && sizeOf(shape) < 300) {
        const widths = shape.map(() => [below(2), below(2)] as [number, number]);
        expected = view.pad(expected, widths);
        steps.push([`pad ${JSON.stringify(widths)}`, (x) => x.pad(widths)]);
      } else if (kind === 6 && rank > 0 && sizeOf(shape) < 300) {
        const axis = below(rank);
        expected = view.concat([expected, view.flip(expected, [axis])], axis);
        steps.push([`concat with its flip ${axis}`, (x) => fx.concat([x, x.flip(axis)], axis)]);
      } else if (kind === 7 && rank > 0) {
        const axis = below(rank);
        const n = shape[axis]!;
        const index = make([n === 0 ? 0 : 1 + below(3)], () => below(2 * n) - n);
        expected = view.take(expected, index, axis);
        const list = tensor(index, "int32");
        steps.push([`take ${index.data} of ${axis}`, (x) => x.take(list, axis)]);
      } else if (kind === 8) {
        expected = make(shape, (i) => as(dtype, at(expected, i) * 2 + 1));
        steps.push(["2 x + 1", (x) => x.mul(2).add(1)]);
        expected = { ...expected, data: expected.data.map((v) => as(dtype, v)) };
      }
    }
    const f = (x: fx.Tensor) => steps.reduce((y, step) => step[1](y), x);
    const title = `round ${round}: [${first.shape}] ${steps.map((s) => s[0]).join(", ")}`;
    const x = tensor(first, dtype);
    const exact = { ...expected };
    const tolerance = dtype === "float32" || dtype === "float64" ? 4 * epsilon[dtype] : 0;
    check(t, fx.jit(f)(x), exact, dtype, `jit, ${title}`, tolerance, tolerance);
    check(t, f(x), exact, dtype, `eager, ${title}`);
  }
});

onEach("methods are the functions", (t) => {
  const x = fx.tensor([
    [0.5, -1.25, 2],
    [3, 0.25, -0.75],
  ]);
  const y = fx.tensor([
    [1.5, 2, -1],
    [0.5, 0.25, 4],
  ]);
  const index = fx.tensor([1, 0], { dtype: "int32" });
  const truth = x.greater(0);
  const calls: Record<string, unknown[]> = {
    add: [y],
    sub: [y],
    mul: [y],
    div: [y],
    pow: [2],
    remainder: [y],
    maximum: [y],
    minimum: [y],
    equal: [y],
    notEqual: [y],
    greater: [y],
    greaterEqual: [y],
    less: [y],
    lessEqual: [y],
    neg: [],
    abs: [],
    sign: [],
    square: [],
    sqrt: [],
    rsqrt: [],
    exp: [],
    expm1: [],
    log: [],
    log1p: [],
    sin: [],
    cos: [],
    tanh: [],
    erf: [],
    sigmoid: [],
    relu: [],
    gelu: [],
    silu: [],
    softplus: [],
    floor: [],
    round: [],
    isFinite: [],
    stopGradient: [],
    clip: [-1, 1],
    cast: ["int32"],
    sum: [0],
    mean: [1, { keepDims: true }],
    variance: [],
    max: [0],
    min: [-1],
    prod: [],
    argmax: [1],
    argmin: [],
    argsort: [],
    cumsum: [1, { reverse: true }],
    logsumexp: [1],
    softmax: [0],
    logSoftmax: [],
    matmul: [y.transpose()],
    transpose: [[1, 0]],
    reshape: [[3, -1]],
    broadcastTo: [[2, 2, 3]],
    expandDims: [1],
    squeeze: [],
    slice: [
      [0, 1],
      [2, 2],
    ],
    pad: [
      [
        [1, 0],
        [0, 1],
      ],
    ],
    flip: [1],
    take: [index, 1],
    split: [3, 1],
  };
  for (const [name, args] of Object.entries(calls)) {
    const f = (fx as unknown as Record<string, (...a: unknown[]) => fx.Tensor | fx.Tensor[]>)[name]!;
    const method = (x as unknown as Record<string, typeof f>)[name]!;
    t.equal(String([f(x, ...args)].flat()), String([method.apply(x, args)].flat()), name);
  }
  for (const name of ["logicalAnd", "logicalOr"] as const)
    t.same(truth[name](truth).toArray(), byName[name](truth, truth).toArray());
  t.same(truth.logicalNot().toArray(), fx.logicalNot(truth).toArray());
  t.same(truth.where(x, y).toArray(), fx.where(truth, x, y).toArray());
  t.same(index.oneHot(3).toArray(), fx.oneHot(index, 3).toArray());
});
