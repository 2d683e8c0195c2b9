import type { Attributes } from "../graph/primitives.js";
import { emit } from "../graph/trace.js";
import type { DType } from "../tensor/dtype.js";
import type { Shape } from "../tensor/shape.js";
import { sameShape } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * The primitives as functions, inside of a trace. Operands have equal shapes and dtypes and nothing is checked:
 * this is the language in which operations and derivative rules are written, not what users call.
 */

type Plain = {
  [P in keyof Attributes]: Record<never, never> extends Attributes[P] ? P : never;
}[keyof Attributes];

const plain =
  <P extends Plain>(op: P) =>
  (...inputs: Tensor[]): Tensor =>
    emit(op, inputs, {} as Attributes[P]);

export const neg = plain("neg");
export const abs = plain("abs");
export const sign = plain("sign");
export const sqrt = plain("sqrt");
export const rsqrt = plain("rsqrt");
export const exp = plain("exp");
export const expm1 = plain("expm1");
export const log = plain("log");
export const log1p = plain("log1p");
export const sin = plain("sin");
export const cos = plain("cos");
export const tanh = plain("tanh");
export const erf = plain("erf");
export const sigmoid = plain("sigmoid");
export const softplus = plain("softplus");
export const floor = plain("floor");
export const round = plain("round");
export const logicalNot = plain("logicalNot");
export const stopGradient = plain("stopGradient");
export const add = plain("add");
export const sub = plain("sub");
export const mul = plain("mul");
export const div = plain("div");
export const pow = plain("pow");
export const maximum = plain("maximum");
export const minimum = plain("minimum");
export const remainder = plain("remainder");
export const equal = plain("equal");
export const notEqual = plain("notEqual");
export const greater = plain("greater");
export const greaterEqual = plain("greaterEqual");
export const less = plain("less");
export const lessEqual = plain("lessEqual");
export const logicalAnd = plain("logicalAnd");
export const logicalOr = plain("logicalOr");
export const where = plain("where");
export const shiftRight = plain("shiftRight");
export const matmul = plain("matmul");
export const argsort = plain("argsort");
export const barrier = plain("barrier");

export const constant = (value: number, shape: Shape, dtype: DType): Tensor =>
  emit("constant", [], { value: dtype === "float32" ? Math.fround(value) : value, shape: [...shape], dtype });
export const constantLike = (x: Tensor, value: number): Tensor => constant(value, x.shape, x.dtype);
export const iota = (shape: Shape, axis: number, dtype: DType): Tensor =>
  emit("iota", [], { axis, shape: [...shape], dtype });
export const gelu = (x: Tensor, order: 0 | 1 = 0): Tensor => emit("gelu", [x], { order });
export const cast = (x: Tensor, dtype: DType): Tensor => emit("cast", [x], { dtype });
export const threefry = (words: Tensor[], word: 0 | 1 | "xor"): Tensor => emit("threefry", words, { word });

export const broadcast = (x: Tensor, shape: Shape, axes: readonly number[]): Tensor =>
  emit("broadcast", [x], { shape: [...shape], axes });
/** NumPy's broadcasting: axes aligned at the end. */
export const broadcastTo = (x: Tensor, shape: Shape): Tensor =>
  sameShape(x.shape, shape)
    ? x
    : broadcast(
        x,
        shape,
        x.shape.map((_, i) => i + shape.length - x.rank),
      );
/** Undoes a reduction over these axes: each value is repeated along them. */
export const spread = (x: Tensor, shape: Shape, axes: readonly number[]): Tensor =>
  broadcast(
    x,
    shape,
    shape.map((_, i) => i).filter((i) => !axes.includes(i)),
  );
export const reshape = (x: Tensor, shape: Shape): Tensor => emit("reshape", [x], { shape: [...shape] });
export const transpose = (x: Tensor, perm: readonly number[]): Tensor => emit("transpose", [x], { perm });
/** The axis `from` at place `to`, the others in their order. */
export const moveAxis = (x: Tensor, from: number, to: number): Tensor => {
  const perm = x.shape.map((_, i) => i).filter((i) => i !== from);
  perm.splice(to, 0, from);
  return transpose(x, perm);
};
/** The last two axes exchanged. */
export const matrixTranspose = (x: Tensor): Tensor => {
  const perm = x.shape.map((_, i) => i);
  perm.push(...perm.splice(-2).reverse());
  return transpose(x, perm);
};
export const slice = (x: Tensor, start: readonly number[], size: readonly number[]): Tensor =>
  emit("slice", [x], { start, size });
export const pad = (x: Tensor, before: readonly number[], after: readonly number[]): Tensor =>
  emit("pad", [x], { before, after });
export const concat = (list: readonly Tensor[], axis: number): Tensor => emit("concat", list, { axis });
export const flip = (x: Tensor, axes: readonly number[]): Tensor => emit("flip", [x], { axes });
export const reduceSum = (x: Tensor, axes: readonly number[]): Tensor => emit("reduceSum", [x], { axes });
export const reduceMax = (x: Tensor, axes: readonly number[]): Tensor => emit("reduceMax", [x], { axes });
export const reduceMin = (x: Tensor, axes: readonly number[]): Tensor => emit("reduceMin", [x], { axes });
export const argmax = (x: Tensor, axis: number): Tensor => emit("argmax", [x], { axis });
export const argmin = (x: Tensor, axis: number): Tensor => emit("argmin", [x], { axis });
export const gather = (x: Tensor, indices: Tensor, axis: number): Tensor =>
  emit("gather", [x, indices], { axis });
export const cumsum = (x: Tensor, axis: number, reverse: boolean): Tensor =>
  emit("cumsum", [x], { axis, reverse });
export const scatter = (x: Tensor, indices: Tensor, axis: number, size: number): Tensor =>
  emit("scatter", [x, indices], { axis, size });
