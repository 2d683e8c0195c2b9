import type { Attributes, PrimitiveName, SingleResult } from "../graph/primitives.js";
import { emit } from "../graph/trace.js";
import type { Tensor } from "../tensor/tensor.js";
import * as raw from "./raw.js";

/**
 * The result of a primitive for a batch of inputs, with the batch as its first axis. Inputs with a true in `batched`
 * have `size` instances along their first axis; at least one has; the others are shared by all instances.
 */
type BatchRule<P extends PrimitiveName> = (
  x: readonly Tensor[],
  attrs: Attributes[P],
  batched: readonly boolean[],
  size: number,
) => Tensor;

/** x repeated along a new first axis. */
export const repeated = (x: Tensor, size: number): Tensor =>
  raw.broadcast(
    x,
    [size, ...x.shape],
    x.shape.map((_, i) => i + 1),
  );

/** Inputs that all have the batch axis. */
const aligned = (x: readonly Tensor[], batched: readonly boolean[], size: number): Tensor[] =>
  x.map((t, i) => (batched[i] ? t : repeated(t, size)));

const later = (axes: readonly number[]) => axes.map((axis) => axis + 1);

/** Computed element by element, from inputs of one shape. */
const elementwise =
  <P extends PrimitiveName>(op: P): BatchRule<P> =>
  (x, attrs, batched, size) =>
    emit(op, aligned(x, batched, size), attrs);

/** One input, and attributes that count its axes. */
const shifted =
  <P extends PrimitiveName>(
    op: P,
    shift: (attrs: Attributes[P], size: number) => Attributes[P],
  ): BatchRule<P> =>
  ([x], attrs, _, size) =>
    emit(op, [x!], shift(attrs, size));

const along = <P extends "reduceSum" | "reduceMax" | "reduceMin" | "flip">(op: P): BatchRule<P> =>
  shifted(op, ({ axes }) => ({ axes: later(axes) }) as Attributes[P]);

const never = (): Tensor => {
  throw new Error("internal: a primitive without inputs is never batched");
};

/**
 * Indices [size, m] into an axis of n, for each of `size` instances, as indices into one axis of size * n. They are first
 * looked up in 0 .. n - 1: that counts negative ones from the end and refuses those that would reach another instance.
 */
function flatIndices(indices: Tensor, size: number, n: number): Tensor {
  const count = indices.shape[1]!;
  const own = raw.gather(raw.iota([n], 0, "int32"), raw.reshape(indices, [size * count]), 0);
  const first = raw.mul(raw.iota([size, count], 0, "int32"), raw.constant(n, [size, count], "int32"));
  return raw.add(own, raw.reshape(first, [size * count]));
}

/** How each primitive is computed for a batch, one row a primitive. */
export const batchRules: { readonly [P in SingleResult]: BatchRule<P> } = {
  input: never,
  constant: never,
  iota: never,

  neg: elementwise("neg"),
  abs: elementwise("abs"),
  sign: elementwise("sign"),
  sqrt: elementwise("sqrt"),
  rsqrt: elementwise("rsqrt"),
  exp: elementwise("exp"),
  expm1: elementwise("expm1"),
  log: elementwise("log"),
  log1p: elementwise("log1p"),
  sin: elementwise("sin"),
  cos: elementwise("cos"),
  tanh: elementwise("tanh"),
  erf: elementwise("erf"),
  sigmoid: elementwise("sigmoid"),
  softplus: elementwise("softplus"),
  gelu: elementwise("gelu"),
  floor: elementwise("floor"),
  round: elementwise("round"),
  logicalNot: elementwise("logicalNot"),
  cast: elementwise("cast"),
  stopGradient: elementwise("stopGradient"),
  barrier: elementwise("barrier"),

  add: elementwise("add"),
  sub: elementwise("sub"),
  mul: elementwise("mul"),
  div: elementwise("div"),
  pow: elementwise("pow"),
  maximum: elementwise("maximum"),
  minimum: elementwise("minimum"),
  remainder: elementwise("remainder"),
  equal: elementwise("equal"),
  notEqual: elementwise("notEqual"),
  greater: elementwise("greater"),
  greaterEqual: elementwise("greaterEqual"),
  less: elementwise("less"),
  lessEqual: elementwise("lessEqual"),
  logicalAnd: elementwise("logicalAnd"),
  logicalOr: elementwise("logicalOr"),
  where: elementwise("where"),
  shiftRight: elementwise("shiftRight"),
  threefry: elementwise("threefry"),

  broadcast: shifted("broadcast", ({ shape, axes }, size) => ({
    shape: [size, ...shape],
    axes: [0, ...later(axes)],
  })),
  reshape: shifted("reshape", ({ shape }, size) => ({ shape: [size, ...shape] })),
  transpose: shifted("transpose", ({ perm }) => ({ perm: [0, ...later(perm)] })),
  slice: shifted("slice", ({ start, size }, batch) => ({ start: [0, ...start], size: [batch, ...size] })),
  pad: shifted("pad", ({ before, after }) => ({ before: [0, ...before], after: [0, ...after] })),
  concat: (x, { axis }, batched, size) => raw.concat(aligned(x, batched, size), axis + 1),
  flip: along("flip"),

  reduceSum: along("reduceSum"),
  reduceMax: along("reduceMax"),
  reduceMin: along("reduceMin"),
  argmax: shifted("argmax", ({ axis }) => ({ axis: axis + 1 })),
  argmin: shifted("argmin", ({ axis }) => ({ axis: axis + 1 })),
  argsort: elementwise("argsort"),
  cumsum: shifted("cumsum", ({ axis, reverse }) => ({ axis: axis + 1, reverse })),
  matmul: ([a, b], _, batched, size) => {
    // One right-hand side for all: the batch is just more rows.
    if (batched[0] && !batched[1] && b!.rank === 2) {
      const [, m, k] = a!.shape as [number, number, number];
      const rows = raw.matmul(raw.reshape(a!, [size * m, k]), b!);
      return raw.reshape(rows, [size, m, b!.shape[1]!]);
    }
    const [left, right] = aligned([a!, b!], batched, size);
    return raw.matmul(left!, right!);
  },
  gather: ([x, indices], { axis }, batched, size) => {
    if (!batched[1]) return raw.gather(x!, indices!, axis + 1);
    const count = indices!.shape[1]!;
    if (!batched[0]) {
      // [..., size * count, ...]: the batch comes out in the middle.
      const flat = raw.gather(x!, raw.reshape(indices!, [size * count]), axis);
      const [before, after] = [x!.shape.slice(0, axis), x!.shape.slice(axis + 1)];
      return raw.moveAxis(raw.reshape(flat, [...before, size, count, ...after]), axis, 0);
    }
    const rows = raw.moveAxis(x!, axis + 1, 1); // [size, n, ...rest]
    const [, n, ...rest] = rows.shape as [number, number, ...number[]];
    const flat = raw.gather(raw.reshape(rows, [size * n, ...rest]), flatIndices(indices!, size, n), 0);
    return raw.moveAxis(raw.reshape(flat, [size, count, ...rest]), 1, axis + 1);
  },
  scatter: ([updates, indices], { axis, size: n }, batched, size) => {
    if (!batched[1]) return raw.scatter(updates!, indices!, axis + 1, n);
    const all = batched[0] ? updates! : repeated(updates!, size);
    const rows = raw.moveAxis(all, axis + 1, 1); // [size, count, ...rest]
    const [, count, ...rest] = rows.shape as [number, number, ...number[]];
    const flat = raw.reshape(rows, [size * count, ...rest]);
    const sums = raw.scatter(flat, flatIndices(indices!, size, n), 0, size * n);
    return raw.moveAxis(raw.reshape(sums, [size, n, ...rest]), 1, axis + 1);
  },
};
