import type { AverageVelocityField } from "../models/index.js";
import { concat, maximum, minimum, slice } from "../ops/index.js";
import { checkCount, checkNumber, checkOptions } from "../options.js";
import { foldIn, split } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import { Tensor } from "../tensor/tensor.js";
import { map } from "../tensor/tree.js";
import { checkField, checkIntervalPoints, checkOutput } from "./checks.js";
import {
  type AverageVelocityObjective,
  checkTimes,
  checkWeighting,
  type Draws,
  type IntervalPoints,
  reduceErrors,
  type SampleTimesOptions,
  squaredErrors,
  timesDType,
} from "./objective.js";
import { checkOrientation, type Orientation, pathAt } from "./orientation.js";
import { type TimeDistribution, uniformTimes } from "./times.js";
import type { Weighting } from "./weighting.js";

/** The options that all objectives over intervals of time have. */
export interface IntervalOptions {
  /** Default "data-to-noise". */
  readonly orientation?: Orientation;
  /** Distribution of the two times of an interval, which are then sorted. Default uniform in [0, 1). */
  readonly times?: TimeDistribution;
  /**
   * Share of the samples whose interval is a point, r = t; they need no derivative and teach the velocity itself.
   * round(share * n) rows of a batch of n, always the first ones (data and noise are drawn independently of the row,
   * so nothing is lost by that), with t drawn directly from `times`.
   */
  readonly equalTimeFraction?: number;
  /** Default: none, the plain mean. */
  readonly weighting?: Weighting;
}

/** The options, checked, with their defaults. */
export interface IntervalSettings {
  readonly where: string;
  readonly orientation: Orientation;
  readonly times: TimeDistribution;
  readonly equalTimeFraction: number;
  readonly weighting: Weighting | undefined;
}

/**
 * Checks the options of an objective, of which `own` are the names that it has besides those of all. `defaultFraction` is
 * the default of equalTimeFraction; null: the objective has no such option, and no rows with r = t.
 */
export function checkIntervalOptions(
  where: string,
  options: IntervalOptions,
  own: readonly string[],
  defaultFraction: number | null = 0,
): IntervalSettings {
  const fraction = defaultFraction === null ? [] : ["equalTimeFraction"];
  checkOptions(where, options, ["orientation", "times", ...fraction, "weighting", ...own]);
  return {
    where,
    orientation: checkOrientation(where, options.orientation ?? "data-to-noise"),
    times: checkTimes(where, options.times ?? uniformTimes()),
    equalTimeFraction: checkNumber(
      where,
      "equalTimeFraction",
      options.equalTimeFraction ?? defaultFraction ?? 0,
      { min: 0, max: 1 },
    ),
    weighting: checkWeighting(where, options.weighting),
  };
}

/** A field with its parameters, in a loss. */
export interface Evaluation<P> {
  readonly where: string;
  readonly field: AverageVelocityField<P>;
  readonly params: P;
  readonly orientation: Orientation;
}

/** Intervals of time, each [n, 1], r <= t. */
export interface Intervals {
  readonly r: Tensor;
  readonly t: Tensor;
}

/** What makes an objective over intervals: the errors of its samples, and what else it draws. */
export interface IntervalRule<Points extends IntervalPoints> {
  readonly name: string;
  /** [n]: the error of each sample on rows with r < t, summed over its dimensions. */
  errors<P>(evaluation: Evaluation<P>, points: Points): Tensor;
  /** [n]: the same where r = t. Default: |u(z, t, t) - v|^2. */
  pointErrors?<P>(evaluation: Evaluation<P>, points: Points): Tensor;
  /** Checks what the points hold besides what those of all objectives do, and what they must be besides. */
  check?(where: string, points: Points): void;
  /** Draws n intervals with r < t from two independent keys. Default: two times, sorted. */
  intervals?(keys: readonly [Tensor, Tensor], n: number, dtype: DType): Intervals;
  /** What the loss needs besides these intervals, each [n, ...] or a scalar. */
  draw?(key: Tensor, intervals: Intervals, sampling: SampleTimesOptions): Omit<Points, keyof IntervalPoints>;
}

/**
 * An objective whose batch falls into rows with r = t, for which no derivative is needed, and rows with r < t: each part
 * has its errors, and the loss is their mean.
 */
export function intervalObjective<Points extends IntervalPoints>(
  settings: IntervalSettings,
  rule: IntervalRule<Points>,
): AverageVelocityObjective<Points> {
  const { where, orientation, weighting } = settings;
  const lossAndRaw: AverageVelocityObjective<Points>["lossAndRaw"] = (field, params, points) => {
    checkField(where, field, ["average-velocity"]);
    checkIntervalPoints(where, points, field.dim);
    rule.check?.(where, points);
    const n = points.data.shape[0]!;
    const equal = points.equalCount ?? 0;
    const evaluation = { where, field, params, orientation };
    const errors: Tensor[] = [];
    if (equal > 0) errors.push((rule.pointErrors ?? pointErrors)(evaluation, rows(points, 0, equal)));
    if (equal < n) errors.push(rule.errors(evaluation, rows(points, equal, n - equal)));
    return reduceErrors(errors, points.data, weighting);
  };
  return {
    name: rule.name,
    fieldKind: "average-velocity",
    orientation,
    sampleTimes(key, n, sampling = {}) {
      const dtype = timesDType(where, sampling);
      const intervals = drawIntervals(key, checkCount(where, "n", n), dtype, settings, rule.intervals);
      const more = rule.draw?.(foldIn(key, 1), intervals, sampling);
      return { ...intervals, ...more } as Draws<Points> & { equalCount: number };
    },
    lossAndRaw,
    loss: (field, params, points) => lossAndRaw(field, params, points).loss,
  };
}

/** n intervals, points in the first rows. */
function drawIntervals(
  key: Tensor,
  n: number,
  dtype: DType,
  { times, equalTimeFraction }: IntervalSettings,
  intervals: IntervalRule<IntervalPoints>["intervals"] = (keys, count) => {
    const [a, b] = keys.map((k) => times.sample(k, count, dtype)) as [Tensor, Tensor];
    return { r: minimum(a, b), t: maximum(a, b) };
  },
): Intervals & { equalCount: number } {
  const equal = Math.round(equalTimeFraction * n);
  const [first, second, point] = split(key, 3) as [Tensor, Tensor, Tensor];
  const parts: Intervals[] = [];
  if (equal > 0) {
    const t = times.sample(point, equal, dtype);
    parts.push({ r: t, t });
  }
  if (equal < n) parts.push(intervals([first, second], n - equal, dtype));
  const join = (list: Tensor[]) => (list.length === 1 ? list[0]! : concat(list, 0));
  return { r: join(parts.map((p) => p.r)), t: join(parts.map((p) => p.t)), equalCount: equal };
}

/** u(z, r, t), which must be like z. */
export function evaluate<P>(
  { where, field, params }: Evaluation<P>,
  z: Tensor,
  r: Tensor,
  t: Tensor,
  condition: IntervalPoints["condition"],
): Tensor {
  return checkOutput(where, field.apply(params, z, r, t, condition), z);
}

/** Where r = t the average velocity is the velocity. */
function pointErrors<P>(evaluation: Evaluation<P>, points: IntervalPoints): Tensor {
  const { data, noise, r, t, condition } = points;
  const { z, v } = pathAt(evaluation.orientation, data, noise, t);
  return squaredErrors(evaluate(evaluation, z, r, t, condition), v);
}

/** These rows of the points; scalars are of all rows. */
function rows<Points extends IntervalPoints>(points: Points, start: number, count: number): Points {
  const n = points.data.shape[0]!;
  if (start === 0 && count === n) return points;
  const cut = (x: Tensor) =>
    x.rank === 0 ? x : slice(x, [start, ...x.shape.slice(1).map(() => 0)], [count, ...x.shape.slice(1)]);
  const isTree = (value: unknown): value is Tensor => value instanceof Tensor || typeof value === "object";
  return Object.fromEntries(
    Object.entries(points).map(([name, value]) => [name, isTree(value) ? map(cut, value) : value]),
  ) as unknown as Points;
}
