import { ShapeError, TraceError } from "../errors.js";
import { checkFinite, checkFloatTensor } from "../flow/checks.js";
import { show } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";

/** Throws unless x is a concrete batch of points [n, d] of finite floats, n >= 1. */
export function checkPoints(where: string, name: string, x: Tensor): void {
  checkFloatTensor(where, name, x);
  if (x.isSymbolic)
    throw new TraceError(`${where}: ${name} is symbolic; metrics are computed outside of jit, grad and jvp`);
  if (x.rank !== 2 || x.size === 0)
    throw new ShapeError(`${where}: ${name} must be points [n, d] with n and d >= 1, got ${show(x.shape)}`);
  checkFinite(where, name, x);
}

/** Throws unless both are points of one dimension. */
export function checkPointPair(where: string, x: Tensor, y: Tensor): void {
  checkPoints(where, "x", x);
  checkPoints(where, "y", y);
  if (x.shape[1] !== y.shape[1])
    throw new ShapeError(`${where}: x has points of ${x.shape[1]} dimensions, y of ${y.shape[1]}`);
}

/** Throws unless x holds points of the plane. */
export function checkPlanar(where: string, x: Tensor): void {
  checkPoints(where, "samples", x);
  if (x.shape[1] !== 2)
    throw new ShapeError(`${where}: samples must be points of the plane [n, 2], got ${show(x.shape)}`);
}
