import { ShapeError, ValueError } from "../errors.js";
import { checkDType, type DType } from "../tensor/dtype.js";
import { normalizeAxis, show } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkTensor, needInteger, operation } from "./operation.js";
import * as raw from "./raw.js";

/**
 * The slices of x at these indices (int32 or uint32, any shape) along an axis: the indices' shape takes the place
 * of the axis. Negative indices count from the end; one out of range is an error when the program runs.
 */
export const take = operation((x: Tensor, indices: Tensor, axis = 0): Tensor => {
  needInteger("take", checkTensor("take", indices));
  const at = normalizeAxis("take", axis, checkTensor("take", x).rank);
  if (x.shape[at] === 0 && indices.size > 0)
    throw new ShapeError(`take: axis ${at} of ${show(x.shape)} is empty, there is nothing to take`);
  // A uint32 above the range of int32 must stay out of range.
  const bounded =
    indices.dtype === "uint32" ? raw.minimum(indices, raw.constantLike(indices, 2 ** 31 - 1)) : indices;
  const flat = raw.reshape(raw.cast(bounded, "int32"), [indices.size]);
  const shape = [...x.shape.slice(0, at), ...indices.shape, ...x.shape.slice(at + 1)];
  return raw.reshape(raw.gather(x, flat, at), shape);
});

/** Along a new last axis of size `depth`: 1 at the index, else 0 (all 0 for an index out of range). Default float32. */
export const oneHot = operation(
  (indices: Tensor, depth: number, options: { readonly dtype?: DType } = {}): Tensor => {
    needInteger("oneHot", checkTensor("oneHot", indices));
    if (!Number.isSafeInteger(depth) || depth < 0)
      throw new ValueError(`oneHot: depth must be a whole number >= 0, got ${depth}`);
    const shape = [...indices.shape, depth];
    const axis = indices.rank;
    const hot = raw.equal(raw.spread(indices, shape, [axis]), raw.iota(shape, axis, indices.dtype));
    return raw.cast(hot, checkDType("oneHot", options.dtype ?? "float32"));
  },
);
