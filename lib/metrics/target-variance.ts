import { jvp } from "../autodiff/index.js";
import { checkField, checkIntervalPoints, checkOutput } from "../flow/checks.js";
import { checkOrientation, columnOf, endsOf, type Orientation, pathAt } from "../flow/orientation.js";
import type { AverageVelocityField, Condition, NoParams, VelocityField } from "../models/index.js";
import { add, mean, mul, square, sub, zeros } from "../ops/index.js";
import { checkNumber, checkOptions } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkExact } from "./checks.js";

export interface TargetPoints {
  /** [n, ...dim] each: independent pairs, as a training step draws them. */
  readonly data: Tensor;
  readonly noise: Tensor;
  /** [n, 1] each, 0 <= r <= t <= 1. */
  readonly r: Tensor;
  readonly t: Tensor;
  /** The exact marginal velocity E[v | z], in the orientation of the points: `flow.mixtureVelocity`, for one. */
  readonly velocity: VelocityField<NoParams>;
  /** b of the objective: 1 (default) is mean flow, 0 improved mean flow. */
  readonly conditionalTangentWeight?: number | undefined;
  /** The orientation of the objective. Default "data-to-noise". */
  readonly orientation?: Orientation | undefined;
  /** Given to both fields. */
  readonly condition?: Condition | undefined;
}

/**
 * How the regression target of (improved) mean flow departs from the one that it should have, for each pair:
 * { spread, bias }, both [n, ...dim].
 *
 * A pair of data and noise gives z at the anchored end a of [r, t], and the conditional velocity v. With h the signed
 * length of the interval from a (data-to-noise r - t, noise-to-data t - r), J = du/dz at (z, r, t), and
 * o = u(z, a, a) the field's own velocity, the target of the objectives is
 *
 *     T = v + h (J (b v + (1 - b) o) + du/da)
 *
 * Given z only v is random, with the mean v* = velocity(z, a), and T depends on it linearly. The target that the
 * identity demands is T* = v* + h (J v* + du/da). So T - T* = spread + bias, exactly, with
 *
 *     spread = T - E[T | z]  = (1 + h b J) (v - v*),      of mean 0 given z
 *     bias   = E[T | z] - T* = h (1 - b) J (o - v*),      a function of z
 *
 * Mean flow (b = 1) has no bias; its spread is that of v carried through 1 + h J, which for an exact u is the Jacobian
 * of the flow from one end of the interval to the other. Improved mean flow (b = 0) has the spread of v alone, which
 * is that of flow matching, and a bias that vanishes with the error of the field's own velocity. Pure and
 * differentiable.
 *
 * Errors: ValueError for fields of another kind, a velocity of another orientation than the points, times outside
 * [0, 1], r > t or data that are not finite; ShapeError and DTypeError for tensors that do not fit. Values are checked
 * on concrete tensors only.
 */
export function targetDeparture<P>(
  field: AverageVelocityField<P>,
  params: P,
  points: TargetPoints,
): { spread: Tensor; bias: Tensor } {
  const where = "targetVariance";
  checkOptions(where, points, [
    "data",
    "noise",
    "r",
    "t",
    "velocity",
    "conditionalTangentWeight",
    "orientation",
    "condition",
  ]);
  const { data, noise, r, t, velocity, condition } = points;
  const b = checkNumber(where, "conditionalTangentWeight", points.conditionalTangentWeight ?? 1, {
    min: 0,
    max: 1,
  });
  const orientation = checkOrientation(where, points.orientation ?? "data-to-noise");
  checkField(where, field, ["average-velocity"]);
  checkExact(where, "velocity", velocity, "velocity", orientation);
  checkIntervalPoints(where, { data, noise, r, t, condition }, field.dim);

  const { from: anchor, to: other } = endsOf(orientation, r, t);
  const { z, v } = pathAt(orientation, data, noise, anchor);
  const u = (at: Tensor, from: Tensor, to: Tensor) =>
    checkOutput(where, field.apply(params, at, from, to, condition), at);
  /** h J w. */
  const carried = (w: Tensor) =>
    mul(columnOf(sub(other, anchor), z.rank), jvp((at: Tensor) => u(at, r, t), [z], [w])[1]);

  const marginal = checkOutput(`${where}, velocity`, velocity.apply({}, z, anchor, condition), z);
  const error = sub(v, marginal);
  return {
    spread: b === 0 ? error : add(error, mul(carried(error), b)),
    bias:
      b === 1 ? zeros(z.shape, { dtype: z.dtype }) : mul(carried(sub(u(z, anchor, anchor), marginal)), 1 - b),
  };
}

export interface TargetVariance {
  /** The mean over batch and dimensions of |T - E[T | z]|^2. */
  readonly variance: number;
  /** The mean over batch and dimensions of |E[T | z] - T*|^2: the square of the bias. */
  readonly bias: number;
}

/**
 * The variance of the target T of (improved) mean flow given z, and its squared bias against the exact target T*, both
 * in squared units of the data: the mean squares of `targetDeparture`, where T and T* are defined. Over many pairs
 * variance + bias is the mean of |T - T*|^2. Concrete tensors only.
 *
 * The variance is estimated without bias, with one pair for each z: over random pairs the mean of
 * |T - E[T | z]|^2 is the mean over z of the variance given z.
 */
export function targetVariance<P>(
  field: AverageVelocityField<P>,
  params: P,
  points: TargetPoints,
): TargetVariance {
  const { spread, bias } = targetDeparture(field, params, points);
  return { variance: mean(square(spread)).item(), bias: mean(square(bias)).item() };
}
