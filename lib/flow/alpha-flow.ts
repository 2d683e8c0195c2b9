import { ValueError } from "../errors.js";
import {
  add,
  cast,
  clip,
  div,
  equal,
  full,
  greater,
  mul,
  reshape,
  sigmoid,
  sub,
  where,
  zeros,
} from "../ops/index.js";
import { checkCount, checkNumber, checkOptions, describe } from "../options.js";
import { Tensor } from "../tensor/tensor.js";
import { anchoredInterval } from "./anchored-interval.js";
import { checkScalar } from "./checks.js";
import {
  checkIntervalOptions,
  type Evaluation,
  type IntervalOptions,
  intervalObjective,
} from "./interval-objective.js";
import { type AverageVelocityObjective, type IntervalPoints, squaredErrors } from "./objective.js";
import { columnOf } from "./orientation.js";

/** alpha as a function of the training steps done so far (an int32 scalar): a scalar in (0, 1]. */
export type AlphaSchedule = (step: Tensor) => Tensor;

export interface AlphaFlowOptions extends IntervalOptions {
  /**
   * A number in (0, 1], or a schedule such as `sigmoidAlpha`. Default 0.5: the target lies half of the interval ahead, as
   * that of a shortcut model.
   */
  readonly alpha?: number | AlphaSchedule;
}

/** What the loss of alpha-flow is computed from. */
export interface AlphaFlowPoints extends IntervalPoints {
  /** A scalar in (0, 1]. */
  readonly alpha: Tensor;
}

const alphaLimits = { above: 0, max: 1 } as const;

/**
 * Alpha-flow (Zhang et al. 2025, "AlphaFlow: understanding and improving MeanFlow models") for an average-velocity field
 * u(z, r, t), without a JVP: with s = alpha r + (1 - alpha) t and z_s = z_t - (t - s) v, the error of a sample is
 *
 *     (1 / alpha) |u(z_t, r, t) - sg(alpha v + (1 - alpha) u(z_s, r, s))|^2,
 *
 * and the loss is its mean over batch and dimensions. alpha = 1 is trajectory flow matching, the regression of u on v;
 * as alpha tends to 0, the gradient tends to that of `meanFlow`, the difference being O(alpha). alpha = 1/2 with the
 * network's velocity in place of v is a shortcut model's. Noise-to-data, anchored at the earlier time:
 * s = alpha t + (1 - alpha) r, z_s = z_r + (s - r) v, and u(z_s, s, t).
 *
 * On rows with r = t the error is |u(z, t, t) - v|^2, which has the gradient of the error above at any alpha.
 * `sampleTimes` draws alpha with the intervals, so that the loss is pure: `loss(field, params, { data, noise, r, t,
 * alpha, equalCount?, condition? })`. The errors are those of `meanFlow`, and ValueError for alpha outside (0, 1].
 */
export function alphaFlow(options: AlphaFlowOptions = {}): AverageVelocityObjective<AlphaFlowPoints> {
  const name = "alphaFlow";
  const settings = checkIntervalOptions(name, options, ["alpha"]);
  const alpha = options.alpha ?? 0.5;
  if (typeof alpha !== "function") checkNumber(name, "alpha", alpha, alphaLimits);
  return intervalObjective<AlphaFlowPoints>(settings, {
    name: "alpha flow",
    errors,
    check: (where, points) => checkScalar(where, "alpha", points.alpha, points.data, alphaLimits),
    draw: (_, { r: { dtype } }, { step = zeros([], { dtype: "int32" }) }) => ({
      alpha: typeof alpha === "number" ? full([], alpha, { dtype }) : cast(scalarAt(alpha, step), dtype),
    }),
  });
}

function errors<P>(evaluation: Evaluation<P>, points: AlphaFlowPoints): Tensor {
  const { from, to, z, v, u, move } = anchoredInterval(evaluation, points);
  // alpha = 1 where r = t, where it leaves |u - v|^2.
  const alpha = where(equal(from, to), 1, points.alpha);
  const s = add(mul(to, alpha), mul(from, sub(1, alpha)));
  const ahead = u(move(z, from, s, v), s, to);
  const share = columnOf(alpha, v.rank);
  const target = add(mul(v, share), mul(ahead, sub(1, share)));
  return div(squaredErrors(u(z, from, to), target), reshape(alpha, [v.shape[0]!]));
}

function scalarAt(schedule: AlphaSchedule, step: Tensor): Tensor {
  const value: unknown = schedule(step);
  if (!(value instanceof Tensor) || value.size !== 1)
    throw new ValueError(
      `alphaFlow: a schedule of alpha must give a tensor of one element, got ${describe(value)}`,
    );
  return reshape(value, []);
}

export interface SigmoidAlphaOptions {
  /** The training step at which the transition from alpha = 1 begins. */
  readonly from: number;
  /** The training step at which it ends; above `from`. */
  readonly to: number;
  /** How sharp the transition is, above 0. Default 25. */
  readonly temperature?: number;
  /** Smallest alpha, above 0 and below 1/2. Default 5e-3. */
  readonly smallest?: number;
}

/**
 * alpha(k) = 1 - sigmoid(temperature (k - (from + to) / 2) / (to - from)) at training step k (Zhang et al. 2025,
 * "AlphaFlow"): from trajectory flow matching to mean flow. Above 1 - smallest it is 1. Below `smallest` the
 * paper takes mean flow's JVP instead; here alpha stays at `smallest`, so that the derivative along the path remains a
 * difference quotient over that share of the interval, whose gradient is O(smallest) away from mean flow's.
 */
export function sigmoidAlpha(options: SigmoidAlphaOptions): AlphaSchedule {
  const name = "sigmoidAlpha";
  checkOptions(name, options, ["from", "to", "temperature", "smallest"]);
  const start = checkCount(name, "from", options.from, 0);
  const end = checkCount(name, "to", options.to, start + 1);
  const temperature = checkNumber(name, "temperature", options.temperature ?? 25, { above: 0 });
  const smallest = checkNumber(name, "smallest", options.smallest ?? 5e-3, { above: 0, below: 0.5 });
  return (step) => {
    const progress = div(sub(cast(step, "float64"), (start + end) / 2), end - start);
    const alpha = sigmoid(mul(progress, -temperature));
    return where(greater(alpha, 1 - smallest), 1, clip(alpha, smallest));
  };
}
