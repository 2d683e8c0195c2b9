import { jvp } from "../autodiff/index.js";
import { ones, stopGradient, sub } from "../ops/index.js";
import { checkFlag } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import { anchoredInterval } from "./anchored-interval.js";
import {
  checkIntervalOptions,
  type Evaluation,
  type IntervalOptions,
  intervalObjective,
} from "./interval-objective.js";
import { type AverageVelocityObjective, type IntervalPoints, squaredNorms } from "./objective.js";

export interface LagrangianSelfDistillationOptions extends IntervalOptions {
  /**
   * Share of the samples with r = t, see IntervalOptions. Default 0.75. They alone learn from the data: at 0 any
   * constant field has no loss.
   */
  readonly equalTimeFraction?: number;
  /** Whether the teacher u(X, r, r), X included, is a constant. Default true; false: the gradient flows through both. */
  readonly stopTarget?: boolean;
}

/**
 * Lagrangian self-distillation (Boffi, Albergo & Vanden-Eijnden 2025, "How to build a consistency model: learning flow
 * maps via self-distillation") of the flow map X(z) = z - (t - r) u(z, r, t) from t to r: its end moves with the velocity
 * where it is, dX/dr = v(X, r), and the field's own velocity is v(z, t) = u(z, t, t). The error of a sample is
 *
 *     |dX/dr - sg(u(X, r, r))|^2,  dX/dr = u(z_t, r, t) - (t - r) du/dr,
 *
 * du/dr being a JVP in r alone, through which the gradient flows; and |u(z, t, t) - v|^2 on rows with r = t. The loss is
 * its mean over batch and dimensions. Noise-to-data, anchored at the earlier time: X(z) = z_r + (t - r) u(z_r, r, t) from
 * r to t, dX/dt = u + (t - r) du/dt, and the teacher u(X, t, t).
 *
 * `loss(field, params, { data, noise, r, t, equalCount?, condition? })`. The errors are those of `meanFlow`.
 */
export function lagrangianSelfDistillation(
  options: LagrangianSelfDistillationOptions = {},
): AverageVelocityObjective {
  const where = "lagrangianSelfDistillation";
  const settings = checkIntervalOptions(where, options, ["stopTarget"], 0.75);
  const stopTarget = checkFlag(where, "stopTarget", options.stopTarget ?? true);
  return intervalObjective<IntervalPoints>(settings, {
    name: "Lagrangian self-distillation",
    errors: (evaluation, points) => errors(evaluation, points, stopTarget),
  });
}

function errors<P>(evaluation: Evaluation<P>, points: IntervalPoints, stopTarget: boolean): Tensor {
  const { from, to, z, u, move, vAtPoints } = anchoredInterval(evaluation, points);
  const flowMap = (end: Tensor) => move(z, from, end, u(z, from, end));
  const [landed, rate] = jvp(flowMap, [to], [ones(to.shape, { dtype: to.dtype })]);
  const teacher = u(landed, to, to);
  return squaredNorms(sub(rate, vAtPoints(stopTarget ? stopGradient(teacher) : teacher)));
}
