import { ValueError } from "../errors.js";
import { checkField, checkOutput } from "../flow/checks.js";
import { checkOrientation, columnOf, type Orientation } from "../flow/orientation.js";
import type { AverageVelocityField, Condition } from "../models/index.js";
import { add, mul, sub } from "../ops/index.js";
import { checkOptions } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkStates } from "./checks.js";
import { rootMeanSquare } from "./root-mean-square.js";

export interface IntervalConsistencyPoints {
  /** [n, ...dim]: the states at the anchored end of [r, t]: at t data-to-noise, at r noise-to-data. */
  readonly z: Tensor;
  /** [n, 1] each, 0 <= r <= s <= t <= 1. */
  readonly r: Tensor;
  readonly s: Tensor;
  readonly t: Tensor;
  /** The orientation in which the field was trained. Default "data-to-noise". */
  readonly orientation?: Orientation;
  readonly condition?: Condition;
}

/**
 * The residual of interval additivity [n, ...dim]: how much one jump over [r, t] differs from two, over [s, t] and
 * [r, s]. Data-to-noise (t - r) u(z_t, r, t) - (s - r) u(z_s, r, s) - (t - s) u(z_t, s, t) with
 * z_s = z_t - (t - s) u(z_t, s, t); noise-to-data (t - r) u(z_r, r, t) - (s - r) u(z_r, r, s) - (t - s) u(z_s, s, t)
 * with z_s = z_r + (s - r) u(z_r, r, s). 0 for an exact average velocity. Pure and differentiable.
 */
export function intervalResidual<P>(
  field: AverageVelocityField<P>,
  params: P,
  points: IntervalConsistencyPoints,
): Tensor {
  const where = "intervalConsistency";
  checkOptions(where, points, ["z", "r", "s", "t", "orientation", "condition"]);
  const { z, r, s, t, condition } = points;
  checkField(where, field, ["average-velocity"]);
  checkStates(where, field, z, { r, s, t }, condition);
  checkOrder(where, { r, s, t });
  const orientation = checkOrientation(where, points.orientation ?? "data-to-noise");

  /** The displacement over [from, to] of a state at its anchored end. */
  const jump = (at: Tensor, from: Tensor, to: Tensor) =>
    mul(
      columnOf(sub(to, from), z.rank),
      checkOutput(where, field.apply(params, at, from, to, condition), at),
    );
  const whole = jump(z, r, t);
  if (orientation === "data-to-noise") {
    const later = jump(z, s, t);
    return sub(whole, add(jump(sub(z, later), r, s), later));
  }
  const earlier = jump(z, r, s);
  return sub(whole, add(earlier, jump(add(z, earlier), s, t)));
}

/** The root mean square of `intervalResidual` over batch and dimensions, in units of the data. Concrete tensors only. */
export function intervalConsistency<P>(
  field: AverageVelocityField<P>,
  params: P,
  points: IntervalConsistencyPoints,
): number {
  return rootMeanSquare(intervalResidual(field, params, points));
}

function checkOrder(where: string, { r, s, t }: { r: Tensor; s: Tensor; t: Tensor }): void {
  if (r.isSymbolic || s.isSymbolic || t.isSymbolic) return;
  const [a, b, c] = [r.toTypedArray(), s.toTypedArray(), t.toTypedArray()];
  for (let i = 0; i < a.length; i++)
    if (!(a[i]! <= b[i]! && b[i]! <= c[i]!))
      throw new ValueError(`${where}: needs r <= s <= t, got ${a[i]}, ${b[i]}, ${c[i]} in row ${i}`);
}
