import { ValueError } from "../errors.js";
import { add, div, minimum, mul, sub } from "../ops/index.js";
import { uniform } from "../random/index.js";
import type { Tensor } from "../tensor/tensor.js";
import { anchoredInterval } from "./anchored-interval.js";
import { checkTime } from "./checks.js";
import {
  checkIntervalOptions,
  type Evaluation,
  type IntervalOptions,
  intervalObjective,
} from "./interval-objective.js";
import { type AverageVelocityObjective, type IntervalPoints, squaredErrors } from "./objective.js";
import { columnOf } from "./orientation.js";

export interface SplitMeanFlowOptions extends IntervalOptions {
  /**
   * Share of the samples with r = t, see IntervalOptions. Default 0.5. They alone learn from the data: at 0 any
   * constant field has no loss.
   */
  readonly equalTimeFraction?: number;
}

/** What the loss of split mean flow is computed from. */
export interface SplitMeanFlowPoints extends IntervalPoints {
  /** [n, 1]: where the interval is split, r <= s <= t. */
  readonly s: Tensor;
}

/**
 * Split mean flow (Guo et al. 2025, "SplitMeanFlow: interval splitting consistency in few-step generative modeling") for
 * an average-velocity field u(z, r, t), without a JVP. Displacements add up,
 * (t - r) u(z_t, r, t) = (s - r) u(z_s, r, s) + (t - s) u(z_t, s, t), so with s = (1 - lambda) t + lambda r,
 * u_2 = u(z_t, s, t), z_s = z_t - (t - s) u_2 and u_1 = u(z_s, r, s), the error of a sample is
 *
 *     |u(z_t, r, t) - sg((1 - lambda) u_1 + lambda u_2)|^2,
 *
 * and |u(z, t, t) - v|^2 on rows with r = t. The loss is its mean over batch and dimensions. Noise-to-data, anchored at
 * the earlier time: s = (1 - lambda) r + lambda t, u_2 = u(z_r, r, s), z_s = z_r + (s - r) u_2 and u_1 = u(z_s, s, t).
 *
 * `sampleTimes` draws s, lambda being uniform in [0, 1): `loss(field, params, { data, noise, r, t, s, equalCount?,
 * condition? })`. The errors are those of `meanFlow`, and ValueError for s outside [r, t].
 */
export function splitMeanFlow(
  options: SplitMeanFlowOptions = {},
): AverageVelocityObjective<SplitMeanFlowPoints> {
  const settings = checkIntervalOptions("splitMeanFlow", options, [], 0.5);
  return intervalObjective<SplitMeanFlowPoints>(settings, {
    name: "split mean flow",
    errors,
    check: checkSplit,
    draw: (key, { r, t }) => ({
      // Rounding may lead above t.
      s: minimum(add(r, mul(sub(t, r), uniform(key, r.shape, { dtype: r.dtype }))), t),
    }),
  });
}

function errors<P>(evaluation: Evaluation<P>, points: SplitMeanFlowPoints): Tensor {
  const { from, to, z, u, move, vAtPoints } = anchoredInterval(evaluation, points);
  const { s } = points;
  const first = u(z, from, s);
  const second = u(move(z, from, s, first), s, to);
  const share = columnOf(div(sub(s, from), sub(to, from)), z.rank);
  const target = add(mul(second, sub(1, share)), mul(first, share));
  return squaredErrors(u(z, from, to), vAtPoints(target));
}

function checkSplit(where: string, { data, r, t, s }: SplitMeanFlowPoints): void {
  checkTime(where, "s", s, data, "data");
  if (r.isSymbolic || t.isSymbolic || s.isSymbolic) return;
  const [start, split, end] = [r, s, t].map((x) => x.toTypedArray());
  const row = split!.findIndex((x: number, i: number) => !(x >= start![i]! && x <= end![i]!));
  if (row !== -1)
    throw new ValueError(
      `${where}: s must lie in [r, t], got r = ${start![row]}, s = ${split![row]} and t = ${end![row]} in row ${row}`,
    );
}
