import { checkField, checkOrder, checkOutput } from "../flow/checks.js";
import { identitySides } from "../flow/identity.js";
import { checkOrientation, endsOf, intervalBetween } from "../flow/orientation.js";
import type { AverageVelocityField, NoParams, VelocityField } from "../models/index.js";
import { sub } from "../ops/index.js";
import { checkOptions } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import type { IntervalStates } from "./average-velocity-error.js";
import { checkExact, checkStates } from "./checks.js";
import { rootMeanSquare } from "./root-mean-square.js";

export interface IdentityPoints extends IntervalStates {
  /**
   * The velocity v of the identity, in the orientation of the points: an exact one, or any field without parameters.
   * Default: the field's own, u(z, t, t) data-to-noise, u(z, r, r) noise-to-data.
   */
  readonly velocity?: VelocityField<NoParams> | undefined;
}

/**
 * By how much a field fails the mean-flow identity (Geng et al. 2025, eq. 6), [n, ...dim]. Data-to-noise
 * u(z, r, t) - [v - (t - r) du/dt] with v = v(z, t) and du/dt one JVP of (z, r, t) along (v, 0, 1); noise-to-data
 * u(z, r, t) - [v + (t - r) du/dr] with v = v(z, r), along (v, 1, 0). Pure and differentiable.
 *
 * Data-to-noise this is the derivative of (t - r) u by t minus v, noise-to-data minus that by r, minus v. So it is 0
 * on all intervals if and only if u is the average of v. With the field's own velocity it says whether the field is the
 * average of *some* velocity; `velocityError` says whether that is the right one. A teacher with parameters is given
 * as a field that closes over them.
 *
 * Errors: ValueError for fields of another kind, a velocity of another orientation than the points, times outside
 * [0, 1] or r > t; ShapeError and DTypeError for tensors that do not fit. Values are checked on concrete tensors only.
 */
export function identityDefect<P>(field: AverageVelocityField<P>, params: P, points: IdentityPoints): Tensor {
  const where = "identityResidual";
  checkOptions(where, points, ["z", "r", "t", "velocity", "orientation", "condition"]);
  const { z, r, t, velocity, condition } = points;
  const orientation = checkOrientation(where, points.orientation ?? "data-to-noise");
  checkField(where, field, ["average-velocity"]);
  if (velocity !== undefined) checkExact(where, "velocity", velocity, "velocity", orientation);
  checkStates(where, field, z, { r, t }, condition);
  checkOrder(where, r, t);

  const { from, to } = endsOf(orientation, r, t);
  const u = (at: Tensor, start: Tensor, end: Tensor): [Tensor, undefined] => {
    const interval = intervalBetween(orientation, start, end);
    return [checkOutput(where, field.apply(params, at, interval.r, interval.t, condition), at), undefined];
  };
  const v =
    velocity === undefined
      ? u(z, from, from)[0]
      : checkOutput(`${where}, velocity`, velocity.apply({}, z, from, condition), z);
  const { prediction, target } = identitySides(u, { z, from, to }, { velocity: v, tangent: v });
  return sub(prediction, target);
}

/** The root mean square of `identityDefect` over batch and dimensions, in units of the data. Concrete tensors only. */
export function identityResidual<P>(
  field: AverageVelocityField<P>,
  params: P,
  points: IdentityPoints,
): number {
  return rootMeanSquare(identityDefect(field, params, points));
}
