import { ShapeError, TraceError, ValueError } from "../errors.js";
import {
  checkBatch,
  checkCondition,
  checkField,
  checkFinite,
  checkFloatTensor,
  checkTime,
} from "../flow/checks.js";
import type { Orientation } from "../flow/orientation.js";
import type { Condition, Field, FieldKind, NoParams } from "../models/index.js";
import { describe } from "../options.js";
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

/** Throws unless z is a batch for the field, with times of its rows in [0, 1] and a condition that fits. */
export function checkStates(
  where: string,
  field: Field,
  z: Tensor,
  times: Readonly<Record<string, Tensor>>,
  condition: Condition | undefined,
): void {
  checkFloatTensor(where, "z", z);
  checkBatch(where, "z", z, field.dim);
  for (const [name, time] of Object.entries(times)) checkTime(where, name, time, z, "z");
  checkCondition(where, condition, z.shape[0]!);
}

/** Throws unless an exact field is of this kind, and is not known to be of another orientation than the points. */
export function checkExact(
  where: string,
  name: string,
  exact: Field<NoParams>,
  kind: FieldKind,
  orientation: Orientation,
): void {
  checkField(`${where}, ${name}`, exact, [kind]);
  const own = (exact as { readonly orientation?: unknown }).orientation;
  if (own !== undefined && own !== orientation)
    throw new ValueError(`${where}: the points are ${orientation}, but ${name} is ${describe(own)}`);
}
