import { DTypeError, ShapeError } from "../errors.js";
import { broadcastShapes, show, sizeOf } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkTensor, needNumber, operation } from "./operation.js";
import * as raw from "./raw.js";

/**
 * The matrix product over the last two axes: [..., m, k] x [..., k, n] gives [..., m, n]; the axes before
 * broadcast. A vector counts as a row on the left, as a column on the right, and its axis is dropped again.
 */
export const matmul = operation((a: Tensor, b: Tensor): Tensor => {
  needNumber("matmul", checkTensor("matmul", a));
  checkTensor("matmul", b);
  if (a.dtype !== b.dtype)
    throw new DTypeError(
      `matmul: dtypes differ: ${a.dtype} and ${b.dtype}; use cast(x, dtype) on one of them`,
    );
  if (a.rank === 0 || b.rank === 0)
    throw new ShapeError(`matmul: needs at least one axis, got ${show(a.shape)} x ${show(b.shape)}`);
  const left = a.rank === 1 ? raw.reshape(a, [1, a.size]) : a;
  const right = b.rank === 1 ? raw.reshape(b, [b.size, 1]) : b;
  const k = left.shape[left.rank - 1]!;
  if (k !== right.shape[right.rank - 2])
    throw new ShapeError(`matmul: inner dimensions differ: ${show(a.shape)} x ${show(b.shape)}`);
  const m = left.shape[left.rank - 2]!;
  const n = right.shape[right.rank - 1]!;
  const batch = broadcastShapes(
    `matmul of ${show(a.shape)} x ${show(b.shape)}`,
    left.shape.slice(0, -2),
    right.shape.slice(0, -2),
  );
  // One right-hand side for the whole batch: the batch is just more rows.
  const product =
    right.rank === 2
      ? raw.matmul(raw.reshape(left, [sizeOf(batch) * m, k]), right)
      : raw.matmul(raw.broadcastTo(left, [...batch, m, k]), raw.broadcastTo(right, [...batch, k, n]));
  return raw.reshape(product, [...batch, ...(a.rank === 1 ? [] : [m]), ...(b.rank === 1 ? [] : [n])]);
});
