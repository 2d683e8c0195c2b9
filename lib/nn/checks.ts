import { DTypeError, ShapeError } from "../errors.js";
import { describe } from "../options.js";
import { type DType, isFloat } from "../tensor/dtype.js";
import { show } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";

/** The dtype, if it is float32 or float64; else DTypeError. */
export function checkFloatDType(where: string, dtype: unknown): DType {
  if (dtype !== "float32" && dtype !== "float64")
    throw new DTypeError(`${where}: dtype must be "float32" or "float64", got ${describe(dtype)}`);
  return dtype;
}

/** Throws ShapeError unless the last axis of x has this size. */
export function checkLastAxis(where: string, x: Tensor, size: number): void {
  if (x.rank === 0 || x.shape[x.rank - 1] !== size)
    throw new ShapeError(`${where}: expected an input of shape [..., ${size}], got ${show(x.shape)}`);
}

/** Throws DTypeError unless x is a float tensor. */
export function checkFloat(where: string, x: Tensor): void {
  if (!isFloat(x.dtype)) throw new DTypeError(`${where}: needs float32 or float64, got ${x.dtype}`);
}
