import { DTypeError, ShapeError, ValueError } from "../errors.js";
import {
  broadcastShapes,
  checkShape,
  normalizeAxes,
  normalizeAxis,
  type Shape,
  sameShape,
  show,
  sizeOf,
} from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkTensor, needNumber, operation } from "./operation.js";
import * as raw from "./raw.js";

const checkInteger = (where: string, what: string, value: number) => {
  if (!Number.isSafeInteger(value))
    throw new ShapeError(`${where}: ${what} must be whole numbers, got ${value}`);
};

/** Axes in another order; reversed by default. perm[i] is the old axis that becomes axis i. */
export const transpose = operation((x: Tensor, perm?: readonly number[]): Tensor => {
  const { rank } = checkTensor("transpose", x);
  if (perm === undefined)
    return raw.transpose(
      x,
      x.shape.map((_, i) => rank - 1 - i),
    );
  const axes = perm.map((axis) => normalizeAxis("transpose", axis, rank));
  if (axes.length !== rank || new Set(axes).size !== rank)
    throw new ShapeError(`transpose: ${show(perm)} is not an order of the ${rank} axes of ${show(x.shape)}`);
  return raw.transpose(x, axes);
});

/** The same elements in another shape; one size may be -1, which is then computed. */
export const reshape = operation((x: Tensor, shape: Shape): Tensor => {
  checkTensor("reshape", x);
  if (!Array.isArray(shape))
    throw new ShapeError(`reshape: a shape is an array, got ${JSON.stringify(shape)}`);
  const unknown = shape.indexOf(-1);
  const known = checkShape("reshape", unknown === -1 ? shape : shape.map((n, i) => (i === unknown ? 1 : n)));
  if (unknown !== -1) {
    const rest = sizeOf(known);
    if (rest === 0 || x.size % rest !== 0)
      throw new ShapeError(`reshape: ${show(x.shape)} (${x.size} elements) does not fit ${show(shape)}`);
    known[unknown] = x.size / rest;
  }
  if (sizeOf(known) !== x.size)
    throw new ShapeError(
      `reshape: ${show(x.shape)} has ${x.size} elements, ${show(known)} needs ${sizeOf(known)}`,
    );
  return raw.reshape(x, known);
});

/** x repeated to a larger shape by NumPy's broadcasting. */
export const broadcastTo = operation((x: Tensor, shape: Shape): Tensor => {
  checkTensor("broadcastTo", x);
  const target = checkShape("broadcastTo", shape);
  if (target.length < x.rank || !sameShape(broadcastShapes("broadcastTo", x.shape, target), target))
    throw new ShapeError(`broadcastTo: ${show(x.shape)} does not broadcast to ${show(target)}`);
  return raw.broadcastTo(x, target);
});

/** A new axis of size 1 before the axis (in the result's numbering; negative from the end). */
export const expandDims = operation((x: Tensor, axis: number): Tensor => {
  const at = normalizeAxis("expandDims", axis, checkTensor("expandDims", x).rank + 1);
  return raw.reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
});

/** x without axes of size 1: all of them, or those given. */
export const squeeze = operation((x: Tensor, axis?: number | readonly number[]): Tensor => {
  checkTensor("squeeze", x);
  if (axis === undefined)
    return raw.reshape(
      x,
      x.shape.filter((n) => n !== 1),
    );
  const axes = normalizeAxes("squeeze", axis, x.rank);
  for (const i of axes)
    if (x.shape[i] !== 1)
      throw new ShapeError(`squeeze: axis ${i} of ${show(x.shape)} has size ${x.shape[i]}, not 1`);
  return raw.reshape(
    x,
    x.shape.filter((_, i) => !axes.includes(i)),
  );
});

/** Tensors joined along an axis; the other sizes must be equal. */
export const concat = operation((list: readonly Tensor[], axis = 0): Tensor => {
  if (!Array.isArray(list) || list.length === 0)
    throw new ValueError("concat: needs an array of at least one tensor");
  const [first, ...rest] = list.map((x) => checkTensor("concat", x));
  const at = normalizeAxis("concat", axis, first!.rank);
  for (const x of rest) {
    if (x.dtype !== first!.dtype)
      throw new DTypeError(
        `concat: dtypes differ: ${first!.dtype} and ${x.dtype}; use cast(x, dtype) on one of them`,
      );
    if (x.rank !== first!.rank || x.shape.some((n, i) => i !== at && n !== first!.shape[i]))
      throw new ShapeError(`concat: ${show(x.shape)} does not join ${show(first!.shape)} along axis ${at}`);
  }
  return raw.concat(list, at);
});

/** Tensors of one shape joined along a new axis. */
export const stack = operation((list: readonly Tensor[], axis = 0): Tensor => {
  if (!Array.isArray(list) || list.length === 0)
    throw new ValueError("stack: needs an array of at least one tensor");
  const shape = checkTensor("stack", list[0]).shape;
  for (const x of list)
    if (!sameShape(checkTensor("stack", x).shape, shape))
      throw new ShapeError(`stack: shapes differ: ${show(shape)} and ${show(x.shape)}`);
  const at = normalizeAxis("stack", axis, shape.length + 1);
  return concat(
    list.map((x) => expandDims(x, at)),
    at,
  );
});

/** Consecutive pieces along an axis: `sections` of equal size, or of the sizes given. */
export function split(x: Tensor, sections: number | readonly number[], axis = 0): Tensor[] {
  const at = normalizeAxis("split", axis, checkTensor("split", x).rank);
  const extent = x.shape[at]!;
  if (
    typeof sections === "number" &&
    (!Number.isInteger(sections) || sections < 1 || extent % sections !== 0)
  )
    throw new ShapeError(
      `split: axis ${at} of size ${extent} does not divide into ${sections} equal sections`,
    );
  const sizes =
    typeof sections === "number"
      ? Array<number>(sections).fill(extent / sections)
      : checkShape("split", sections);
  if (sizes.reduce((a, b) => a + b, 0) !== extent)
    throw new ShapeError(`split: sizes ${show(sizes)} do not add up to ${extent}, the size of axis ${at}`);
  let offset = 0;
  return sizes.map((size) => {
    const start = x.shape.map((_, i) => (i === at ? offset : 0));
    offset += size;
    return slice(
      x,
      start,
      x.shape.map((n, i) => (i === at ? size : n)),
    );
  });
}

/** The block of x that begins at `start` and has the shape `size`; a size of -1 goes to the end. */
export const slice = operation((x: Tensor, start: readonly number[], size: readonly number[]): Tensor => {
  const { shape, rank } = checkTensor("slice", x);
  if (!Array.isArray(start) || !Array.isArray(size) || start.length !== rank || size.length !== rank)
    throw new ShapeError(
      `slice: start and size need one number for each of the ${rank} axes of ${show(shape)}`,
    );
  for (const value of [...start, ...size]) checkInteger("slice", "start and size", value);
  const sizes = size.map((n, i) => (n === -1 ? shape[i]! - start[i]! : n));
  if (start.some((s, i) => s < 0 || sizes[i]! < 0 || s + sizes[i]! > shape[i]!))
    throw new ShapeError(`slice: start ${show(start)} and size ${show(size)} leave the shape ${show(shape)}`);
  return raw.slice(x, [...start], sizes);
});

/** x with zeros before and after it along each axis. */
export const pad = operation((x: Tensor, widths: readonly (readonly [number, number])[]): Tensor => {
  const { shape, rank } = checkTensor("pad", x);
  if (
    !Array.isArray(widths) ||
    widths.length !== rank ||
    widths.some((w) => !Array.isArray(w) || w.length !== 2)
  )
    throw new ShapeError(`pad: needs [before, after] for each of the ${rank} axes of ${show(shape)}`);
  for (const width of widths.flat()) {
    checkInteger("pad", "widths", width);
    if (width < 0) throw new ShapeError(`pad: widths must not be negative, got ${JSON.stringify(widths)}`);
  }
  checkShape(
    "pad",
    shape.map((n, i) => n + widths[i]![0] + widths[i]![1]),
  );
  return raw.pad(
    needNumber("pad", x),
    widths.map((w) => w[0]),
    widths.map((w) => w[1]),
  );
});

/** x in the opposite order along an axis, some axes, or all. */
export const flip = operation(
  (x: Tensor, axis?: number | readonly number[]): Tensor =>
    raw.flip(x, normalizeAxes("flip", axis, checkTensor("flip", x).rank)),
);
