import { ShapeError } from "../errors.js";

/** Sizes of the axes, outermost first. A scalar has the empty shape. */
export type Shape = readonly number[];

export const show = (shape: Shape): string => `[${shape.join(", ")}]`;

/** Number of elements. */
export function sizeOf(shape: Shape): number {
  return shape.reduce((size, n) => size * n, 1);
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}

/** Strides, in elements, of a row-major array. */
export function rowMajor(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= shape[i]!;
  }
  return strides;
}

/** A checked copy of a shape: whole numbers, none negative, and a size that can be counted. */
export function checkShape(where: string, shape: unknown): number[] {
  if (!Array.isArray(shape) || !shape.every((n) => Number.isSafeInteger(n) && n >= 0))
    throw new ShapeError(`${where}: a shape is an array of whole numbers >= 0, got ${JSON.stringify(shape)}`);
  if (!Number.isSafeInteger(sizeOf(shape)))
    throw new ShapeError(`${where}: ${show(shape)} has more elements than can be counted`);
  return [...shape];
}

/** NumPy's broadcasting: axes are aligned at the end; sizes must be equal or 1. */
export function broadcastShapes(where: string, ...shapes: Shape[]): number[] {
  const rank = Math.max(...shapes.map((s) => s.length));
  return Array.from({ length: rank }, (_, i) => {
    let n = 1;
    for (const shape of shapes) {
      const m = shape[i - rank + shape.length] ?? 1;
      if (m !== 1 && n !== 1 && m !== n)
        throw new ShapeError(`${where}: shapes ${shapes.map(show).join(" and ")} do not broadcast together`);
      if (m !== 1) n = m;
    }
    return n;
  });
}

/** An axis counted from the end when negative, as an index in 0 .. rank - 1. */
export function normalizeAxis(where: string, axis: number, rank: number): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank)
    throw new ShapeError(`${where}: axis ${axis} is out of range for a tensor of rank ${rank}`);
  return axis < 0 ? axis + rank : axis;
}

/** Axes as sorted distinct indices; undefined means all of them. */
export function normalizeAxes(
  where: string,
  axis: number | readonly number[] | undefined,
  rank: number,
): number[] {
  if (axis === undefined) return Array.from({ length: rank }, (_, i) => i);
  const axes = (typeof axis === "number" ? [axis] : [...axis]).map((a) => normalizeAxis(where, a, rank));
  if (new Set(axes).size !== axes.length) throw new ShapeError(`${where}: axes ${show(axes)} repeat`);
  return axes.sort((a, b) => a - b);
}
