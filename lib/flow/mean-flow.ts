import { jvp } from "../autodiff/index.js";
import { add, mul, ones, stopGradient, sub } from "../ops/index.js";
import { checkNumber } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import { anchoredInterval } from "./anchored-interval.js";
import {
  checkIntervalOptions,
  type Evaluation,
  type IntervalOptions,
  intervalObjective,
} from "./interval-objective.js";
import { type AverageVelocityObjective, type IntervalPoints, squaredErrors } from "./objective.js";
import { columnOf } from "./orientation.js";

export interface MeanFlowOptions extends IntervalOptions {
  /** Share of the samples with r = t, see IntervalOptions. Default 0; the mean flow paper uses 0.75. */
  readonly equalTimeFraction?: number;
  /**
   * b in the tangent b v + (1 - b) sg(u(z, t, t)) of z: 1 is mean flow's (default of `meanFlow`), 0 improved mean
   * flow's (default of `improvedMeanFlow`).
   */
  readonly conditionalTangentWeight?: number;
}

/**
 * Mean flow (Geng et al. 2025, "Mean flows for one-step generative modeling", eqs. 9-11) for an average-velocity
 * field u(z, r, t): the mean over batch and dimensions of |u - sg(u_target)|^2, sg the stopped gradient.
 *
 * Data-to-noise, anchored at the later time: u_target = v - (t - r) du/dt at z = z_t, where du/dt is one JVP of
 * (z, r, t) along (v, 0, 1). Noise-to-data, anchored at the earlier time: u_target = v + (t - r) du/dr at z = z_r,
 * along (v, 1, 0). v is the conditional velocity: the target is unbiased, its variance high.
 *
 * `loss(field, params, { data, noise, r, t, equalCount?, condition? })` is pure and differentiable by params.
 * Its errors: ValueError for a field of another kind, times outside [0, 1], r > t (naming the first such row), data
 * that are not finite; ShapeError for an empty batch and for shapes that do not fit; DTypeError for mixed dtypes.
 * Values are checked on concrete tensors only.
 */
export function meanFlow(options: MeanFlowOptions = {}): AverageVelocityObjective {
  return objective("meanFlow", "mean flow", options, 1);
}

/**
 * Improved mean flow (Geng et al. 2025, "Improved mean flows"): mean flow with the network's own velocity
 * sg(u(z, t, t)) as the tangent of z in place of the conditional one. It has the gradient of regressing
 * u + (t - r) sg(du/dt) on v. The target has less variance than mean flow's, and a bias while u(z, t, t) is not yet
 * the marginal velocity. It costs one more evaluation of the field on the rows with r < t. Options, orientations and
 * errors are those of `meanFlow`.
 */
export function improvedMeanFlow(options: MeanFlowOptions = {}): AverageVelocityObjective {
  return objective("improvedMeanFlow", "improved mean flow", options, 0);
}

function objective(
  where: string,
  name: string,
  options: MeanFlowOptions,
  defaultWeight: number,
): AverageVelocityObjective {
  const settings = checkIntervalOptions(where, options, ["conditionalTangentWeight"]);
  const weight = checkNumber(
    where,
    "conditionalTangentWeight",
    options.conditionalTangentWeight ?? defaultWeight,
    { min: 0, max: 1 },
  );
  return intervalObjective<IntervalPoints>(settings, {
    name,
    errors: (evaluation, points) => intervalErrors(evaluation, points, weight),
  });
}

/** |u - sg(target)|^2 with the target of the mean-flow identity, from one JVP whose primal is u itself. */
function intervalErrors<P>(
  evaluation: Evaluation<P>,
  points: IntervalPoints,
  conditionalWeight: number,
): Tensor {
  const { from, to, z, v, u } = anchoredInterval(evaluation, points);
  let tangent = v;
  if (conditionalWeight < 1) {
    const own = stopGradient(u(z, from, from));
    tangent = conditionalWeight === 0 ? own : add(mul(v, conditionalWeight), mul(own, 1 - conditionalWeight));
  }
  // The other end of the interval is closed over: its tangent is zero.
  const [prediction, derivative] = jvp(
    (at: Tensor, moving: Tensor) => u(at, moving, to),
    [z, from],
    [tangent, ones(from.shape, { dtype: from.dtype })],
  );
  return squaredErrors(prediction, add(v, mul(columnOf(sub(to, from), v.rank), derivative)));
}
