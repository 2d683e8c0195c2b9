import { ValueError } from "../errors.js";
import { concat, maximum, minimum, mul, slice, sub } from "../ops/index.js";
import { checkChoice, checkOptions, describe } from "../options.js";
import { split } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkTimes } from "./objective.js";
import type { Orientation } from "./orientation.js";
import { type TimeDistribution, uniformTimes } from "./times.js";

/** What an objective asks of a distribution of intervals. */
export interface IntervalRequest {
  readonly dtype: DType;
  /** Number of the first rows in which r = t: a promise that the distribution must keep. */
  readonly equalCount: number;
  /** Says which end is the anchored one: t, data to noise, and r, noise to data. */
  readonly orientation: Orientation;
}

/** A distribution of intervals [r, t] of time, 0 <= r <= t <= 1. */
export interface IntervalDistribution {
  readonly name: string;
  /** n intervals, r and t each [n, 1]; runs inside a compiled step. */
  sampleIntervals(
    key: Tensor,
    n: number,
    request: IntervalRequest,
  ): { readonly r: Tensor; readonly t: Tensor };
}

export interface IntervalTimesOptions {
  /** Distribution of the earlier time. Default uniform in [0, 1). */
  readonly r?: TimeDistribution;
  /** Distribution of the later time. Default uniform in [0, 1). */
  readonly t?: TimeDistribution;
  /** See `intervalTimes`. Default "direct". */
  readonly order?: "direct" | "sort-then-mask" | "mask-then-min" | "scaled";
}

/**
 * Intervals whose ends have distributions of their own. Both times are drawn independently, and an end may then lie on
 * the wrong side of the other. `order` says what becomes of that, and of the rows with r = t (share
 * `equalTimeFraction`, always the first ones). The anchored end is the noisier one, at which the network is asked:
 * t, data to noise.
 *
 * - "direct": rows with r = t draw the anchored end's distribution; the others are sorted, r = min and t = max of the
 *   two draws. This is what an objective makes of a single distribution of times.
 * - "sort-then-mask": all rows are sorted, then the first ones get r = t at their anchored end; so that the t of these
 *   rows has the distribution of the maximum. This is the order of mean flow's JAX code.
 * - "mask-then-min": the first rows get r = t at the anchored draw, then r = min(r, t) in the others: t has exactly its
 *   distribution in every row. Where the draws lie the wrong way round a further row gets r = t; such a row is right,
 *   but not among those that save the derivative.
 * - "scaled": t has exactly its distribution, and r = t rho, where rho has r's. Rows with r = t draw t's distribution.
 *
 * r and t are literally the earlier and the later time, in both orientations. Noise to data the anchored end is r:
 * the points with r = t stand there, "mask-then-min" keeps r and sets t = max(r, t), and "scaled" keeps r and sets
 * 1 - t = (1 - r) (1 - tau), where tau has t's. So the mirror image of a
 * setting swaps the two distributions and mirrors each, t -> 1 - t: a logit-normal's mean changes its sign.
 *
 * The setting of the mean flow paper for CIFAR-10 (Geng et al. 2025, data to noise) has
 * `r: logitNormalTimes({ mean: -4, std: 1.6 })` and `t: logitNormalTimes({ mean: -0.6, std: 1.6 })`; noise to data that
 * is r with mean 0.6, and t with mean 4.
 *
 * @throws ValueError for unknown options and for what is no distribution of times
 */
export function intervalTimes(options: IntervalTimesOptions = {}): IntervalDistribution {
  const where = "intervalTimes";
  checkOptions(where, options, ["r", "t", "order"]);
  const times = {
    r: checkTimes(where, options.r ?? uniformTimes(), "r"),
    t: checkTimes(where, options.t ?? uniformTimes(), "t"),
  };
  const order = checkChoice(where, "order", options.order ?? "direct", [
    "direct",
    "sort-then-mask",
    "mask-then-min",
    "scaled",
  ]);
  return {
    name: `${order} intervals`,
    sampleIntervals: { direct, "sort-then-mask": sortThenMask, "mask-then-min": maskThenMin, scaled }[order](
      times,
    ),
  };
}

/** The distribution of intervals that the option `times` of an objective means: of a distribution of times, the direct one. */
export function checkIntervals(
  where: string,
  times: TimeDistribution | IntervalDistribution,
): IntervalDistribution {
  if (typeof (times as Partial<IntervalDistribution>)?.sampleIntervals === "function")
    return times as IntervalDistribution;
  if (typeof (times as Partial<TimeDistribution>)?.sample !== "function")
    throw new ValueError(
      `${where}: times must be a distribution { name, sample } or { name, sampleIntervals }, got ${describe(times)}`,
    );
  const both = times as TimeDistribution;
  return { name: both.name, sampleIntervals: direct({ r: both, t: both }) };
}

/** Draws n intervals with r < t from two independent keys. */
export type DrawIntervals = (keys: readonly [Tensor, Tensor], n: number, dtype: DType) => Ends<Tensor>;

/** Intervals that are drawn so where r < t; where r = t, times of this distribution. */
export function intervalsOf(
  name: string,
  points: TimeDistribution,
  intervals: DrawIntervals,
): IntervalDistribution {
  return { name, sampleIntervals: pointsFirst(() => points, intervals) };
}

interface Ends<T> {
  readonly r: T;
  readonly t: T;
}

type SampleIntervals = IntervalDistribution["sampleIntervals"];

function direct(times: Ends<TimeDistribution>): SampleIntervals {
  return pointsFirst(
    (orientation) => times[anchorOf(orientation)],
    ([first, second], n, dtype) =>
      sorted({ r: times.r.sample(first, n, dtype), t: times.t.sample(second, n, dtype) }),
  );
}

/** Points in the first rows, then intervals. */
function pointsFirst(
  pointsOf: (orientation: Orientation) => TimeDistribution,
  intervals: DrawIntervals,
): SampleIntervals {
  return (key, n, { dtype, equalCount, orientation }) => {
    const [first, second, point] = split(key, 3) as [Tensor, Tensor, Tensor];
    const parts: Ends<Tensor>[] = [];
    if (equalCount > 0) {
      const at = pointsOf(orientation).sample(point, equalCount, dtype);
      parts.push({ r: at, t: at });
    }
    if (equalCount < n) parts.push(intervals([first, second], n - equalCount, dtype));
    const join = (list: Tensor[]) => (list.length === 1 ? list[0]! : concat(list, 0));
    return { r: join(parts.map((p) => p.r)), t: join(parts.map((p) => p.t)) };
  };
}

function sortThenMask(times: Ends<TimeDistribution>): SampleIntervals {
  return (key, n, request) => masked(sorted(drawn(times, key, n, request)), request);
}

function maskThenMin(times: Ends<TimeDistribution>): SampleIntervals {
  return (key, n, request) => {
    const { r, t } = masked(drawn(times, key, n, request), request);
    return anchorOf(request.orientation) === "t" ? { r: minimum(r, t), t } : { r, t: maximum(r, t) };
  };
}

function scaled(times: Ends<TimeDistribution>): SampleIntervals {
  return (key, n, request) => {
    const { r, t } = drawn(times, key, n, request);
    return masked(
      anchorOf(request.orientation) === "t"
        ? { r: mul(t, r), t }
        : { r, t: sub(1, mul(sub(1, r), sub(1, t))) },
      request,
    );
  };
}

/** The end of an interval at which the network is asked, the noisier one. */
function anchorOf(orientation: Orientation): "r" | "t" {
  return orientation === "data-to-noise" ? "t" : "r";
}

function drawn(
  times: Ends<TimeDistribution>,
  key: Tensor,
  n: number,
  { dtype }: IntervalRequest,
): Ends<Tensor> {
  const [r, t] = split(key, 2);
  return { r: times.r.sample(r!, n, dtype), t: times.t.sample(t!, n, dtype) };
}

function sorted({ r, t }: Ends<Tensor>): Ends<Tensor> {
  return { r: minimum(r, t), t: maximum(r, t) };
}

/** Both ends at the anchored one in the first rows. */
function masked({ r, t }: Ends<Tensor>, { equalCount, orientation }: IntervalRequest): Ends<Tensor> {
  return anchorOf(orientation) === "t"
    ? { r: withFirst(t, r, equalCount), t }
    : { r, t: withFirst(r, t, equalCount) };
}

/** The first `count` rows of a, then the other ones of b; both [n, 1]. */
function withFirst(a: Tensor, b: Tensor, count: number): Tensor {
  const n = a.shape[0]!;
  if (count === 0) return b;
  if (count === n) return a;
  return concat([slice(a, [0, 0], [count, 1]), slice(b, [count, 0], [n - count, 1])], 0);
}
