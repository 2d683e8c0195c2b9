import { add, arange, cast, clip, mul, remainder, reshape, slice, sub } from "../ops/index.js";
import { checkCount, checkNumber } from "../options.js";
import { uniform } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";

/*
 * What images that are drawn by distance have in common. Lengths are in pixels; pixels are one axis, row after row,
 * until the image is done.
 */

/** The side of an image in pixels, if it is a whole number from 1 to 1024; default 16. */
export function checkSize(where: string, size: unknown = 16): number {
  return checkNumber(where, "size", checkCount(where, "size", size), { max: 1024 });
}

/** The centres of the pixels, seen from the middle of the image: x to the right, y down, each [size^2]. */
export function pixelCentres(size: number, dtype: DType): { readonly x: Tensor; readonly y: Tensor } {
  const index = arange(size * size);
  const column = remainder(index, size);
  const middle = (size - 1) / 2;
  return {
    x: sub(cast(column, dtype), middle),
    y: sub(mul(cast(sub(index, column), dtype), 1 / size), middle),
  };
}

/** Uniform numbers for n images, one in each of the ranges: columns [n, 1]. */
export function uniformColumns(
  key: Tensor,
  n: number,
  ranges: readonly (readonly [number, number])[],
  dtype: DType,
): Tensor[] {
  const unit = uniform(key, [n, ranges.length], { dtype });
  return ranges.map(([low, high], i) => add(mul(slice(unit, [0, i], [n, 1]), high - low), low));
}

/**
 * Images [n, size, size, 1] of signed distances [n, size^2] to an edge, negative in the ink: +1 is ink, -1 ground. The
 * ink falls off over one pixel across the edge, as the share that it covers of a pixel does when the edge is straight
 * and along the grid.
 */
export function inked(distance: Tensor, size: number): Tensor {
  return reshape(clip(mul(distance, -2), -1, 1), [distance.shape[0]!, size, size, 1]);
}
