import { jvp } from "../autodiff/index.js";
import type { AverageVelocityField } from "../models/index.js";
import { add, concat, maximum, minimum, mul, ones, slice, stopGradient, sub } from "../ops/index.js";
import { checkCount, checkNumber, checkOptions } from "../options.js";
import { split } from "../random/index.js";
import type { Tensor } from "../tensor/tensor.js";
import { map } from "../tensor/tree.js";
import { checkField, checkIntervalPoints, checkOutput } from "./checks.js";
import {
  type AverageVelocityObjective,
  checkTimes,
  checkWeighting,
  type IntervalPoints,
  reduceErrors,
  squaredErrors,
  timesDType,
} from "./objective.js";
import { checkOrientation, columnOf, type Orientation, pathAt } from "./orientation.js";
import { type TimeDistribution, uniformTimes } from "./times.js";
import type { Weighting } from "./weighting.js";

export interface MeanFlowOptions {
  /** Default "data-to-noise". */
  readonly orientation?: Orientation;
  /** Distribution of the two times of an interval, which are then sorted. Default uniform in [0, 1). */
  readonly times?: TimeDistribution;
  /**
   * Share of the samples whose interval is a point, r = t; they need no derivative and teach the velocity itself.
   * round(share * n) rows of a batch of n, always the first ones (data and noise are drawn independently of the row,
   * so nothing is lost by that), with t drawn directly from `times`. Default 0; the mean flow paper uses 0.75.
   */
  readonly equalTimeFraction?: number;
  /** Default: none, the plain mean. */
  readonly weighting?: Weighting;
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
  return intervalObjective("meanFlow", "mean flow", options, 1);
}

/**
 * Improved mean flow (Geng et al. 2025, "Improved mean flows"): mean flow with the network's own velocity
 * sg(u(z, t, t)) as the tangent of z in place of the conditional one. It has the gradient of regressing
 * u + (t - r) sg(du/dt) on v. The target has less variance than mean flow's, and a bias while u(z, t, t) is not yet
 * the marginal velocity. It costs one more evaluation of the field on the rows with r < t. Options, orientations and
 * errors are those of `meanFlow`.
 */
export function improvedMeanFlow(options: MeanFlowOptions = {}): AverageVelocityObjective {
  return intervalObjective("improvedMeanFlow", "improved mean flow", options, 0);
}

function intervalObjective(
  where: string,
  name: string,
  options: MeanFlowOptions,
  defaultWeight: number,
): AverageVelocityObjective {
  checkOptions(where, options, [
    "orientation",
    "times",
    "equalTimeFraction",
    "weighting",
    "conditionalTangentWeight",
  ]);
  const orientation = checkOrientation(where, options.orientation ?? "data-to-noise");
  const times = checkTimes(where, options.times ?? uniformTimes());
  const fraction = checkNumber(where, "equalTimeFraction", options.equalTimeFraction ?? 0, {
    min: 0,
    max: 1,
  });
  const weighting = checkWeighting(where, options.weighting);
  const weight = checkNumber(
    where,
    "conditionalTangentWeight",
    options.conditionalTangentWeight ?? defaultWeight,
    {
      min: 0,
      max: 1,
    },
  );

  const lossAndRaw: AverageVelocityObjective["lossAndRaw"] = (field, params, points) => {
    checkField(where, field, ["average-velocity"]);
    checkIntervalPoints(where, points, field.dim);
    const n = points.data.shape[0]!;
    const equal = points.equalCount ?? 0;
    const evaluate = { where, field, params, orientation };
    const errors: Tensor[] = [];
    if (equal > 0) errors.push(pointErrors(evaluate, rows(points, 0, equal)));
    if (equal < n) errors.push(intervalErrors(evaluate, rows(points, equal, n - equal), weight));
    return reduceErrors(errors, points.data, weighting);
  };
  return {
    name,
    fieldKind: "average-velocity",
    orientation,
    sampleTimes(key, n, sampling = {}) {
      const dtype = timesDType(where, sampling);
      const equal = Math.round(fraction * checkCount(where, "n", n));
      const [first, second, point] = split(key, 3);
      const parts: { r: Tensor; t: Tensor }[] = [];
      if (equal > 0) {
        const t = times.sample(point!, equal, dtype);
        parts.push({ r: t, t });
      }
      if (equal < n) {
        const a = times.sample(first!, n - equal, dtype);
        const b = times.sample(second!, n - equal, dtype);
        parts.push({ r: minimum(a, b), t: maximum(a, b) });
      }
      const join = (list: Tensor[]) => (list.length === 1 ? list[0]! : concat(list, 0));
      return { r: join(parts.map((p) => p.r)), t: join(parts.map((p) => p.t)), equalCount: equal };
    },
    lossAndRaw,
    loss: (field, params, points) => lossAndRaw(field, params, points).loss,
  };
}

interface Evaluation<P> {
  readonly where: string;
  readonly field: AverageVelocityField<P>;
  readonly params: P;
  readonly orientation: Orientation;
}

/** Where r = t the mean-flow identity is u = v, and no derivative is needed. */
function pointErrors<P>(
  { where, field, params, orientation }: Evaluation<P>,
  points: IntervalPoints,
): Tensor {
  const { data, noise, r, t, condition } = points;
  const { z, v } = pathAt(orientation, data, noise, t);
  return squaredErrors(checkOutput(where, field.apply(params, z, r, t, condition), z), v);
}

/** |u - sg(target)|^2 with the target of the mean-flow identity, from one JVP whose primal is u itself. */
function intervalErrors<P>(
  { where, field, params, orientation }: Evaluation<P>,
  { data, noise, r, t, condition }: IntervalPoints,
  conditionalWeight: number,
): Tensor {
  const later = orientation === "data-to-noise";
  const anchor = later ? t : r;
  const { z, v } = pathAt(orientation, data, noise, anchor);
  const u = (at: Tensor, from: Tensor, to: Tensor) =>
    checkOutput(where, field.apply(params, at, from, to, condition), at);

  let tangent = v;
  if (conditionalWeight < 1) {
    const own = stopGradient(u(z, anchor, anchor));
    tangent = conditionalWeight === 0 ? own : add(mul(v, conditionalWeight), mul(own, 1 - conditionalWeight));
  }
  // The other end of the interval is closed over: its tangent is zero.
  const along = (at: Tensor, moving: Tensor) => (later ? u(at, r, moving) : u(at, moving, t));
  const [prediction, derivative] = jvp(
    along,
    [z, anchor],
    [tangent, ones(anchor.shape, { dtype: anchor.dtype })],
  );
  const change = mul(columnOf(sub(t, r), data.rank), derivative);
  return squaredErrors(prediction, later ? sub(v, change) : add(v, change));
}

/** These rows of the points. */
function rows(
  { data, noise, r, t, condition }: IntervalPoints,
  start: number,
  count: number,
): IntervalPoints {
  const cut = (x: Tensor) =>
    start === 0 && count === x.shape[0]
      ? x
      : slice(x, [start, ...x.shape.slice(1).map(() => 0)], [count, ...x.shape.slice(1)]);
  const part = { data: cut(data), noise: cut(noise), r: cut(r), t: cut(t) };
  return condition === undefined ? part : { ...part, condition: map(cut, condition) };
}
