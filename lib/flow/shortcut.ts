import { ValueError } from "../errors.js";
import { add, div, floor, lessEqual, mul, sub, take, tensor, where } from "../ops/index.js";
import { checkCount } from "../options.js";
import { randint, uniform } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import { anchoredInterval } from "./anchored-interval.js";
import {
  checkIntervalOptions,
  type Evaluation,
  type IntervalOptions,
  intervalObjective,
} from "./interval-objective.js";
import { intervalsOf } from "./intervals.js";
import {
  type AverageVelocityObjective,
  checkTimes,
  type IntervalPoints,
  squaredErrors,
} from "./objective.js";
import { type TimeDistribution, uniformTimes } from "./times.js";

export interface ShortcutOptions extends IntervalOptions {
  /** Distribution of t where r = t. Default uniform in [0, 1). */
  readonly times?: TimeDistribution;
  /** Share of the samples with r = t, which learn the velocity, see IntervalOptions. Default 0.75, as in the paper. */
  readonly equalTimeFraction?: number;
  /** The smallest step is 2^-levels; from 1 to 20. Default 7. */
  readonly levels?: number;
}

/** Times on the grid of the smallest step are exact in float32 up to here. */
const mostLevels = 20;

/**
 * Shortcut models (Frans et al. 2024, "One step diffusion via shortcut models") for an average-velocity field
 * u(z, r, t), without a JVP: a step over [r, t], of size t - r = 2d, learns from two consecutive steps of half the size,
 *
 *     u_1 = u(z_t, t - d, t),  z' = z_t - d u_1,  u_2 = u(z', r, t - d),  |u(z_t, r, t) - sg((u_1 + u_2) / 2)|^2,
 *
 * and on rows with r = t the error is |u(z, t, t) - v|^2. The loss is its mean over batch and dimensions.
 * Noise-to-data, anchored at the earlier time: u_1 = u(z_r, r, r + d), z' = z_r + d u_1, u_2 = u(z', r + d, t).
 *
 * d is 2^-levels, ..., 1/4 or 1/2 with equal probability, and [r, t] one of the 1 / (2d) parts of [0, 1]. As in the
 * paper, no step is smaller than 2^-levels but that of size zero: where d = 2^-levels (or, in points of one's own, less),
 * u_1 and u_2 are the velocities u(z_t, t, t) and u(z', t - d, t - d). So the smallest interval that is learned has the
 * size 2^(1 - levels), and a sampler needs no smaller ones. The paper's average of the parameters in u_1 and u_2 and its
 * guidance are left out.
 *
 * `loss(field, params, { data, noise, r, t, equalCount?, condition? })`. The errors are those of `meanFlow`.
 */
export function shortcut(options: ShortcutOptions = {}): AverageVelocityObjective {
  const name = "shortcut";
  const checked = checkIntervalOptions(name, options, ["levels"], 0.75);
  const points = checkTimes(name, options.times ?? uniformTimes());
  const levels = checkCount(name, "levels", options.levels ?? 7);
  if (levels > mostLevels)
    throw new ValueError(`${name}: levels must be a whole number from 1 to ${mostLevels}, got ${levels}`);
  const times = intervalsOf("dyadic", points, (keys, n, dtype) => dyadicIntervals(keys, n, dtype, levels));
  return intervalObjective<IntervalPoints>(
    { ...checked, times },
    { name, errors: (evaluation, at) => errors(evaluation, at, levels) },
  );
}

function errors<P>(evaluation: Evaluation<P>, points: IntervalPoints, levels: number): Tensor {
  const { from, to, z, u, move, vAtPoints } = anchoredInterval(evaluation, points);
  const middle = div(add(from, to), 2);
  const smallest = lessEqual(sub(points.t, points.r), 2 ** (1 - levels));
  const first = u(z, from, where(smallest, from, middle));
  const second = u(move(z, from, middle, first), middle, where(smallest, middle, to));
  return squaredErrors(u(z, from, to), vAtPoints(div(add(first, second), 2)));
}

/** The parts of [0, 1] cut in 1, 2, ..., 2^(levels - 1): a number of parts drawn first, then one of them. */
function dyadicIntervals(
  [levelKey, partKey]: readonly [Tensor, Tensor],
  n: number,
  dtype: DType,
  levels: number,
): { r: Tensor; t: Tensor } {
  const counts = tensor(
    Array.from({ length: levels }, (_, k) => 2 ** k),
    { dtype },
  );
  const count = take(counts, randint(levelKey, [n, 1], 0, levels), 0);
  const part = floor(mul(uniform(partKey, [n, 1], { dtype }), count));
  return { r: div(part, count), t: div(add(part, 1), count) };
}
