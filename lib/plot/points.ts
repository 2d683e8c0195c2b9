import { ShapeError, ValueError } from "../errors.js";
import { show } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";

/** Points in the plane: a tensor of shape [n, 2], or pairs of numbers. */
export type Points = Tensor | readonly (readonly [number, number] | readonly number[])[];

/** One point as a row of a figure's data. */
export interface Row {
  readonly x: number;
  readonly y: number;
}

/**
 * At most `limit` of the points, evenly spaced in their order, so that a figure is the same each time.
 * Points that are not finite are left out.
 */
export function rows(where: string, points: Points, limit: number): Row[] {
  const read = reader(where, points);
  const count = Math.min(read.count, limit);
  const result: Row[] = [];
  for (let i = 0; i < count; i++) {
    const row = read.at(Math.floor((i * read.count) / count));
    if (Number.isFinite(row.x) && Number.isFinite(row.y)) result.push(row);
  }
  return result;
}

/** The largest absolute coordinate (1 when there are no points), rounded up to a tenth. */
export function extent(where: string, points: Points): number {
  const read = reader(where, points);
  let largest = 0;
  for (let i = 0; i < read.count; i++) {
    const { x, y } = read.at(i);
    if (Number.isFinite(x) && Number.isFinite(y)) largest = Math.max(largest, Math.abs(x), Math.abs(y));
  }
  return largest === 0 ? 1 : Math.ceil(largest * 10) / 10;
}

export function checkLimit(where: string, limit: number): void {
  if (!Number.isInteger(limit) || limit < 1)
    throw new ValueError(`${where}: limit must be a whole number above 0, got ${limit}`);
}

export function checkScale(where: string, scale: number): void {
  if (!(scale > 0 && Number.isFinite(scale)))
    throw new ValueError(`${where}: scale must be a finite number above 0, got ${scale}`);
}

function reader(where: string, points: Points): { count: number; at(i: number): Row } {
  if (points instanceof Tensor) {
    if (points.rank !== 2 || points.shape[1] !== 2)
      throw new ShapeError(`${where}: points must have shape [n, 2], got ${show(points.shape)}`);
    const data = points.toTypedArray();
    return { count: points.shape[0]!, at: (i) => ({ x: data[2 * i]!, y: data[2 * i + 1]! }) };
  }
  if (!Array.isArray(points)) throw new ValueError(`${where}: points must be a tensor or an array of pairs`);
  const list: readonly (readonly number[])[] = points;
  const at = (i: number): Row => {
    const pair = list[i];
    if (!Array.isArray(pair) || pair.length !== 2)
      throw new ShapeError(`${where}: point ${i} must be a pair of numbers, got ${JSON.stringify(pair)}`);
    return { x: Number(pair[0]), y: Number(pair[1]) };
  };
  return { count: list.length, at };
}
