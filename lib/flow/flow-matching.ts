import { checkCount, checkOptions } from "../options.js";
import { checkField, checkOutput, checkVelocityPoints } from "./checks.js";
import {
  checkTimes,
  checkWeighting,
  type LossAndRaw,
  pathOf,
  reduceErrors,
  squaredErrors,
  timesDType,
  type VelocityObjective,
} from "./objective.js";
import { checkOrientation, type Orientation } from "./orientation.js";
import { checkVelocityEstimate, type VelocityEstimate, withVelocity } from "./stable-target.js";
import { type TimeDistribution, uniformTimes } from "./times.js";
import type { Weighting } from "./weighting.js";

export interface FlowMatchingOptions {
  /** Default "data-to-noise". */
  readonly orientation?: Orientation;
  /** Distribution of t. Default uniform in [0, 1). */
  readonly times?: TimeDistribution;
  /** Default: none, the plain mean. */
  readonly weighting?: Weighting;
  /** The velocity that is regressed on, such as `stableTarget()`. Default: that of each pair, noise - data or data - noise. */
  readonly velocity?: VelocityEstimate;
}

/**
 * Conditional flow matching (Lipman et al. 2023, eq. 9, on straight paths): the mean over batch and dimensions of
 * |v(z_t, t) - v|^2, with z_t and the conditional velocity v as `Orientation` says.
 *
 * `loss(field, params, { data, noise, t, condition? })` is pure and differentiable by params. Its errors: ValueError
 * for a field of another kind, times outside [0, 1], data that are not finite; ShapeError for an empty batch and for
 * shapes that do not fit; DTypeError for mixed dtypes. Values are checked on concrete tensors only.
 */
export function flowMatching(options: FlowMatchingOptions = {}): VelocityObjective {
  const where = "flowMatching";
  checkOptions(where, options, ["orientation", "times", "weighting", "velocity"]);
  const orientation = checkOrientation(where, options.orientation ?? "data-to-noise");
  const times = checkTimes(where, options.times ?? uniformTimes());
  const weighting = checkWeighting(where, options.weighting);
  const velocity = checkVelocityEstimate(where, options.velocity);

  const lossAndRaw: VelocityObjective["lossAndRaw"] = (field, params, points): LossAndRaw => {
    checkField(where, field, ["velocity"]);
    checkVelocityPoints(where, points, field.dim);
    const { data, t, condition } = points;
    const { z, v } = pathOf(orientation, withVelocity(velocity, orientation, points, t), t);
    const prediction = checkOutput(where, field.apply(params, z, t, condition), z);
    return reduceErrors([squaredErrors(prediction, v)], data, weighting);
  };
  return {
    name: "flow matching",
    fieldKind: "velocity",
    orientation,
    sampleTimes(key, n, sampling = {}) {
      return { t: times.sample(key, checkCount(where, "n", n), timesDType(where, sampling)) };
    },
    lossAndRaw,
    loss: (field, params, points) => lossAndRaw(field, params, points).loss,
  };
}
