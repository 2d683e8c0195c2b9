import { checkField, checkOrder, checkOutput } from "../flow/checks.js";
import { checkOrientation, type Orientation } from "../flow/orientation.js";
import type { AverageVelocityField, Condition, NoParams } from "../models/index.js";
import { sub } from "../ops/index.js";
import { checkOptions } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkExact, checkStates } from "./checks.js";
import { rootMeanSquare } from "./root-mean-square.js";

/** States at the anchored end of intervals of time. */
export interface IntervalStates {
  /** [n, ...dim]: the states at the anchored end of [r, t]: at t data-to-noise, at r noise-to-data. */
  readonly z: Tensor;
  /** [n, 1] each, 0 <= r <= t <= 1. */
  readonly r: Tensor;
  readonly t: Tensor;
  /** The orientation in which the field was trained. Default "data-to-noise". */
  readonly orientation?: Orientation | undefined;
  /** Given to every field that is asked. */
  readonly condition?: Condition | undefined;
}

/**
 * The error of an average velocity, [n, ...dim]: u(z, r, t) - u*(z, r, t), with u* the exact one, such as
 * `flow.mixtureAverageVelocity`, or any field without parameters. A step over [r, t] is wrong by t - r times this.
 * Pure and differentiable.
 *
 * Errors: ValueError for fields of another kind, an exact field of another orientation than the points, times outside
 * [0, 1] or r > t; ShapeError and DTypeError for tensors that do not fit. Values are checked on concrete tensors only.
 */
export function averageVelocityResidual<P>(
  field: AverageVelocityField<P>,
  params: P,
  exact: AverageVelocityField<NoParams>,
  points: IntervalStates,
): Tensor {
  const where = "averageVelocityError";
  checkOptions(where, points, ["z", "r", "t", "orientation", "condition"]);
  const { z, r, t, condition } = points;
  const orientation = checkOrientation(where, points.orientation ?? "data-to-noise");
  checkField(where, field, ["average-velocity"]);
  checkExact(where, "exact", exact, "average-velocity", orientation);
  checkStates(where, field, z, { r, t }, condition);
  checkOrder(where, r, t);
  return sub(
    checkOutput(where, field.apply(params, z, r, t, condition), z),
    checkOutput(`${where}, exact`, exact.apply({}, z, r, t, condition), z),
  );
}

/**
 * The root mean square of `averageVelocityResidual` over batch and dimensions, in units of the data. Concrete tensors
 * only.
 */
export function averageVelocityError<P>(
  field: AverageVelocityField<P>,
  params: P,
  exact: AverageVelocityField<NoParams>,
  points: IntervalStates,
): number {
  return rootMeanSquare(averageVelocityResidual(field, params, exact, points));
}
