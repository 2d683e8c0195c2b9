import type { Attributes, PrimitiveName, SingleResult } from "../graph/primitives.js";
import { emit } from "../graph/trace.js";
import { isFloat } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import * as raw from "./raw.js";

/** A tangent or cotangent; undefined is zero, which is never an array. */
export type Tangent = Tensor | undefined;

/** Everything a derivative rule sees of one application y = op(x...). */
export interface Application<P extends PrimitiveName> {
  readonly x: readonly Tensor[];
  readonly y: Tensor;
  readonly attrs: Attributes[P];
}

/** dy from dx, as operations that are linear in dx. */
type JvpRule<P extends PrimitiveName> = (dx: readonly Tangent[], application: Application<P>) => Tangent;

/**
 * For a primitive that is linear in some inputs: their cotangents from the cotangent of the result.
 * `x[i]` is undefined where the input is linear (its value does not exist in the transposed program);
 * `shapes[i]` is there for all.
 */
type TransposeRule<P extends PrimitiveName> = (
  ct: Tensor,
  application: TransposedApplication<P>,
) => Tangent[];

export interface TransposedApplication<P extends PrimitiveName> {
  readonly x: readonly Tangent[];
  readonly shapes: readonly (readonly number[])[];
  readonly attrs: Attributes[P];
}

export interface Rule<P extends PrimitiveName> {
  readonly jvp: JvpRule<P>;
  readonly transpose?: TransposeRule<P>;
}

const plus = (a: Tangent, b: Tangent): Tangent => (a === undefined ? b : b === undefined ? a : raw.add(a, b));

/** The result does not change with the inputs, or is not a float. */
const constant = { jvp: () => undefined };

/** One float input; dy = dx * f'(x). */
function pointwise<P extends PrimitiveName>(derivative: (application: Application<P>) => Tensor): Rule<P> {
  return {
    jvp: ([dx], application) => (dx === undefined ? undefined : raw.mul(dx, derivative(application))),
  };
}

/** Linear in its only input: the tangent goes through the same primitive. */
function linear<P extends PrimitiveName>(op: P, transpose: TransposeRule<P>): Rule<P> {
  return { jvp: ([dx], { attrs }) => (dx === undefined ? undefined : emit(op, [dx], attrs)), transpose };
}

/** max and min of two: an input that wins takes the tangent; in a tie both take half. */
function extreme<P extends "maximum" | "minimum">(wins: (a: Tensor, b: Tensor) => Tensor): Rule<P> {
  const share = (a: Tensor, b: Tensor) => {
    const value = (v: number) => raw.constantLike(a, v);
    return raw.where(wins(a, b), value(1), raw.where(raw.equal(a, b), value(0.5), value(0)));
  };
  return {
    jvp: ([da, db], { x: [a, b] }) =>
      plus(da && raw.mul(da, share(a!, b!)), db && raw.mul(db, share(b!, a!))),
  };
}

/** max and min along axes: the tangents where the extreme is attained, averaged. */
function extremeAlong<P extends "reduceMax" | "reduceMin">(): Rule<P> {
  return {
    jvp: ([dx], { x: [x], y, attrs: { axes } }) => {
      if (dx === undefined) return undefined;
      const attained = raw.cast(raw.equal(x!, raw.spread(y, x!.shape, axes)), x!.dtype);
      return raw.div(raw.reduceSum(raw.mul(dx, attained), axes), raw.reduceSum(attained, axes));
    },
  };
}

/** exp(-x^2 / 2) / sqrt(2 pi), the standard normal density. */
const normalDensity = (x: Tensor): Tensor =>
  raw.mul(
    raw.exp(raw.mul(raw.mul(x, x), raw.constantLike(x, -0.5))),
    raw.constantLike(x, 1 / Math.sqrt(2 * Math.PI)),
  );

const minus = (y: Tensor, value: number) => raw.sub(y, raw.constantLike(y, value));
const times = (y: Tensor, value: number) => raw.mul(y, raw.constantLike(y, value));
const zerosLike = (x: Tensor) => raw.constantLike(x, 0);

/**
 * The derivative rules, one row a primitive (those with several results: lib/autodiff/several.ts). vjp is jvp and then
 * transpose, so no primitive has a vjp rule.
 */
export const rules: { readonly [P in SingleResult]: Rule<P> } = {
  input: constant,
  constant,
  iota: constant,

  neg: linear("neg", (ct) => [raw.neg(ct)]),
  abs: pointwise(({ x: [x] }) => raw.sign(x!)),
  sign: constant,
  sqrt: pointwise(({ y }) => raw.div(raw.constantLike(y, 0.5), y)),
  // (x^(-1/2))' = -1/2 x^(-1/2) / x
  rsqrt: pointwise(({ x: [x], y }) => raw.div(times(y, -0.5), x!)),
  exp: pointwise(({ y }) => y),
  expm1: pointwise(({ x: [x] }) => raw.exp(x!)),
  log: { jvp: ([dx], { x: [x] }) => dx && raw.div(dx, x!) },
  log1p: { jvp: ([dx], { x: [x] }) => dx && raw.div(dx, raw.add(x!, raw.constantLike(x!, 1))) },
  sin: pointwise(({ x: [x] }) => raw.cos(x!)),
  cos: pointwise(({ x: [x] }) => raw.neg(raw.sin(x!))),
  tanh: pointwise(({ y }) => raw.sub(raw.constantLike(y, 1), raw.mul(y, y))),
  // erf'(x) = 2 / sqrt(pi) exp(-x^2)
  erf: pointwise(({ x: [x] }) => times(raw.exp(raw.neg(raw.mul(x!, x!))), 2 / Math.sqrt(Math.PI))),
  sigmoid: pointwise(({ y }) => raw.mul(y, raw.sub(raw.constantLike(y, 1), y))),
  softplus: pointwise(({ x: [x] }) => raw.sigmoid(x!)),
  // g' is order 1; g''(x) = phi(x) (2 - x^2)
  gelu: pointwise(({ x: [x], attrs: { order } }) =>
    order === 0
      ? raw.gelu(x!, 1)
      : raw.mul(normalDensity(x!), raw.sub(raw.constantLike(x!, 2), raw.mul(x!, x!))),
  ),
  floor: constant,
  round: constant,
  logicalNot: constant,
  cast: {
    jvp: ([dx], { attrs: { dtype } }) =>
      dx !== undefined && isFloat(dtype) ? raw.cast(dx, dtype) : undefined,
    // Only floats have tangents, and there are two of them: the other one is where the cotangent goes back to.
    transpose: (ct) => [raw.cast(ct, ct.dtype === "float32" ? "float64" : "float32")],
  },
  stopGradient: constant,

  add: {
    jvp: ([da, db]) => plus(da, db),
    transpose: (ct) => [ct, ct],
  },
  sub: {
    jvp: ([da, db]) => (da && db ? raw.sub(da, db) : (da ?? (db && raw.neg(db)))),
    transpose: (ct) => [ct, raw.neg(ct)],
  },
  mul: {
    jvp: ([da, db], { x: [a, b] }) =>
      // The square of one value. (Two inputs may also be one outer tensor, with tangents of their own.)
      a === b && da === db
        ? da && raw.mul(da, times(a!, 2))
        : plus(da && raw.mul(da, b!), db && raw.mul(a!, db)),
    transpose: (ct, { x: [a, b] }) => [b && raw.mul(ct, b), a && raw.mul(a, ct)],
  },
  div: {
    // d(a / b) = (da - (a / b) db) / b
    jvp: ([da, db], { x: [, b], y }) =>
      plus(da && raw.div(da, b!), db && raw.neg(raw.mul(raw.div(y, b!), db))),
    transpose: (ct, { x: [, b] }) => [raw.div(ct, b!), undefined],
  },
  pow: {
    // d(a^b) = b a^(b-1) da + a^b log(a) db; the first term is 0 at a = b = 0 and the second at a = 0, limits included.
    jvp: ([da, db], { x: [a, b], y }) => {
      const zero = raw.logicalAnd(raw.equal(b!, zerosLike(b!)), raw.equal(a!, zerosLike(a!)));
      const lower = raw.pow(a!, minus(raw.where(zero, raw.constantLike(b!, 1), b!), 1));
      const logarithm = raw.log(raw.where(raw.equal(a!, zerosLike(a!)), raw.constantLike(a!, 1), a!));
      return plus(
        da && raw.mul(da, raw.where(zero, zerosLike(b!), raw.mul(b!, lower))),
        db && raw.mul(db, raw.mul(y, logarithm)),
      );
    },
  },
  maximum: extreme(raw.greater),
  minimum: extreme(raw.less),
  // a - b floor(a / b)
  remainder: {
    jvp: ([da, db], { x: [a, b] }) => plus(da, db && raw.neg(raw.mul(db, raw.floor(raw.div(a!, b!))))),
  },
  equal: constant,
  notEqual: constant,
  greater: constant,
  greaterEqual: constant,
  less: constant,
  lessEqual: constant,
  logicalAnd: constant,
  logicalOr: constant,
  where: {
    jvp: ([, da, db], { x: [condition, a] }) =>
      da || db ? raw.where(condition!, da ?? zerosLike(a!), db ?? zerosLike(a!)) : undefined,
    transpose: (ct, { x: [condition] }) => [
      undefined,
      raw.where(condition!, ct, zerosLike(ct)),
      raw.where(condition!, zerosLike(ct), ct),
    ],
  },
  shiftRight: constant,
  threefry: constant,

  broadcast: linear("broadcast", (ct, { shapes: [shape], attrs: { axes } }) => {
    const repeated = ct.shape
      .map((_, i) => i)
      .filter((i) => {
        const from = axes.indexOf(i);
        return from === -1 || shape![from] !== ct.shape[i];
      });
    return [raw.reshape(raw.reduceSum(ct, repeated), shape!)];
  }),
  reshape: linear("reshape", (ct, { shapes: [shape] }) => [raw.reshape(ct, shape!)]),
  transpose: linear("transpose", (ct, { attrs: { perm } }) => [
    raw.transpose(
      ct,
      perm.map((_, i) => perm.indexOf(i)),
    ),
  ]),
  slice: linear("slice", (ct, { shapes: [shape], attrs: { start, size } }) => [
    raw.pad(
      ct,
      start,
      shape!.map((n, i) => n - start[i]! - size[i]!),
    ),
  ]),
  pad: linear("pad", (ct, { shapes: [shape], attrs: { before } }) => [raw.slice(ct, before, shape!)]),
  concat: {
    jvp: (dx, { x, attrs: { axis } }) =>
      dx.some((d) => d !== undefined)
        ? raw.concat(
            dx.map((d, i) => d ?? zerosLike(x[i]!)),
            axis,
          )
        : undefined,
    transpose: (ct, { shapes, attrs: { axis } }) => {
      let offset = 0;
      return shapes.map((shape) => {
        const start = shape.map((_, i) => (i === axis ? offset : 0));
        offset += shape[axis]!;
        return raw.slice(ct, start, shape);
      });
    },
  },
  flip: linear("flip", (ct, { attrs: { axes } }) => [raw.flip(ct, axes)]),

  reduceSum: linear("reduceSum", (ct, { shapes: [shape], attrs: { axes } }) => [
    raw.spread(ct, shape!, axes),
  ]),
  reduceMax: extremeAlong(),
  reduceMin: extremeAlong(),
  argmax: constant,
  argmin: constant,
  matmul: {
    jvp: ([da, db], { x: [a, b] }) => plus(da && raw.matmul(da, b!), db && raw.matmul(a!, db)),
    transpose: (ct, { x: [a, b] }) => [
      b && raw.matmul(ct, raw.matrixTranspose(b)),
      a && raw.matmul(raw.matrixTranspose(a), ct),
    ],
  },
  gather: {
    jvp: ([dx], { x: [, indices], attrs: { axis } }) => dx && raw.gather(dx, indices!, axis),
    transpose: (ct, { x: [, indices], shapes: [shape], attrs: { axis } }) => [
      raw.scatter(ct, indices!, axis, shape![axis]!),
      undefined,
    ],
  },
  scatter: {
    jvp: ([dx], { x: [, indices], attrs: { axis, size } }) => dx && raw.scatter(dx, indices!, axis, size),
    transpose: (ct, { x: [, indices], attrs: { axis } }) => [raw.gather(ct, indices!, axis), undefined],
  },
  argsort: constant,
  // The tangent of what is computed again belongs to it: it, too, is kept apart.
  barrier: linear("barrier", (ct) => [ct]),
  // y_j = sum over i <= j of x_i: x_i goes to every y_j with j >= i, the running sum from the other end.
  cumsum: linear("cumsum", (ct, { attrs: { axis, reverse } }) => [raw.cumsum(ct, axis, !reverse)]),
};
