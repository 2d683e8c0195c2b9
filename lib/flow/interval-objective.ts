import type { AverageVelocityField } from "../models/index.js";
import { add, mul, slice } from "../ops/index.js";
import { checkCount, checkNumber, checkOptions } from "../options.js";
import { foldIn } from "../random/index.js";
import { Tensor } from "../tensor/tensor.js";
import { map } from "../tensor/tree.js";
import { checkField, checkIntervalPoints, checkOutput } from "./checks.js";
import { checkIntervals, type IntervalDistribution } from "./intervals.js";
import {
  type AverageVelocityObjective,
  checkWeighting,
  type Draws,
  type IntervalPoints,
  type LossAndRaw,
  pathOf,
  reduceErrors,
  type SampleTimesOptions,
  squaredErrors,
  timesDType,
} from "./objective.js";
import { checkOrientation, endsOf, type Orientation } from "./orientation.js";
import { checkVelocityEstimate, type VelocityEstimate, withVelocity } from "./stable-target.js";
import { type TimeDistribution, uniformTimes } from "./times.js";
import type { Weighting } from "./weighting.js";

/** The options that all objectives over intervals of time have. */
export interface IntervalOptions {
  /** Default "data-to-noise". */
  readonly orientation?: Orientation;
  /**
   * Distribution of the two times of an interval, which are then sorted; or of intervals, see `intervalTimes`. Default
   * uniform in [0, 1).
   */
  readonly times?: TimeDistribution | IntervalDistribution;
  /**
   * Share of the samples whose interval is a point, r = t; they need no derivative and teach the velocity itself.
   * round(share * n) rows of a batch of n, always the first ones (data and noise are drawn independently of the row,
   * so nothing is lost by that), with t drawn directly from `times` (or as the order of `intervalTimes` says).
   */
  readonly equalTimeFraction?: number;
  /** Default: none, the plain mean. */
  readonly weighting?: Weighting;
  /** The velocity v in the target, such as `stableTarget()`. Default: that of each pair, noise - data or data - noise. */
  readonly velocity?: VelocityEstimate;
}

/** The options, checked, with their defaults. */
export interface IntervalSettings {
  readonly where: string;
  readonly orientation: Orientation;
  readonly times: IntervalDistribution;
  readonly equalTimeFraction: number;
  readonly weighting: Weighting | undefined;
  readonly velocity: VelocityEstimate | undefined;
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
  checkOptions(where, options, ["orientation", "times", ...fraction, "weighting", "velocity", ...own]);
  return {
    where,
    orientation: checkOrientation(where, options.orientation ?? "data-to-noise"),
    times: checkIntervals(where, options.times ?? uniformTimes()),
    equalTimeFraction: checkNumber(
      where,
      "equalTimeFraction",
      options.equalTimeFraction ?? defaultFraction ?? 0,
      { min: 0, max: 1 },
    ),
    weighting: checkWeighting(where, options.weighting),
    velocity: checkVelocityEstimate(where, options.velocity),
  };
}

/** A field with its parameters, in a loss. */
export interface Evaluation<P> {
  readonly where: string;
  readonly field: AverageVelocityField<P>;
  readonly params: P;
  readonly orientation: Orientation;
}

/**
 * Errors [n] of the samples, each summed over its dimensions; `auxiliary` ones are of another output of the network:
 * the weighting weights them by themselves, and the raw loss leaves them out.
 */
export type SampleErrors = Tensor | { readonly errors: Tensor; readonly auxiliary: Tensor };

/** Intervals of time, r and t each [n, 1], r <= t, and r = t in the first `equalCount` rows. */
export interface Intervals {
  readonly r: Tensor;
  readonly t: Tensor;
  readonly equalCount: number;
}

/** What makes an objective over intervals: the errors of its samples, and what else it draws. */
export interface IntervalRule<Points extends IntervalPoints> {
  readonly name: string;
  /** The errors on rows with r < t. */
  errors<P>(evaluation: Evaluation<P>, points: Points): SampleErrors;
  /** The same where r = t. Default: |u(z, t, t) - v|^2. */
  pointErrors?<P>(evaluation: Evaluation<P>, points: Points): SampleErrors;
  /** Factor of the auxiliary errors' loss in the whole. Default 1. */
  readonly auxiliaryWeight?: number;
  /** Checks what the points hold besides what those of all objectives do, and what they must be besides. */
  check?(where: string, points: Points): void;
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
  const { where, orientation, weighting, velocity } = settings;
  const lossAndRaw: AverageVelocityObjective<Points>["lossAndRaw"] = (field, params, given) => {
    checkField(where, field, ["average-velocity"]);
    checkIntervalPoints(where, given, field.dim);
    rule.check?.(where, given);
    const points = withVelocity(velocity, orientation, given, endsOf(orientation, given.r, given.t).from);
    const n = points.data.shape[0]!;
    const equal = points.equalCount ?? 0;
    const evaluation = { where, field, params, orientation };
    const errors: SampleErrors[] = [];
    if (equal > 0) errors.push((rule.pointErrors ?? pointErrors)(evaluation, rows(points, 0, equal)));
    if (equal < n) errors.push(rule.errors(evaluation, rows(points, equal, n - equal)));
    return reduceSampleErrors(errors, points.data, weighting, rule.auxiliaryWeight ?? 1);
  };
  return {
    name: rule.name,
    fieldKind: "average-velocity",
    orientation,
    sampleTimes(key, n, sampling = {}) {
      const dtype = timesDType(where, sampling);
      checkCount(where, "n", n);
      const equalCount = Math.round(settings.equalTimeFraction * n);
      const { r, t } = settings.times.sampleIntervals(key, n, { dtype, equalCount, orientation });
      const intervals = { r, t, equalCount };
      const more = rule.draw?.(foldIn(key, 1), intervals, sampling);
      return { ...intervals, ...more } as Draws<Points> & { equalCount: number };
    },
    lossAndRaw,
    loss: (field, params, points) => lossAndRaw(field, params, points).loss,
  };
}

/** The losses from the errors of the parts of a batch. */
function reduceSampleErrors(
  parts: readonly SampleErrors[],
  data: Tensor,
  weighting: Weighting | undefined,
  auxiliaryWeight: number,
): LossAndRaw {
  const errors = parts.map((part) => (part instanceof Tensor ? part : part.errors));
  const auxiliary = parts.flatMap((part) => (part instanceof Tensor ? [] : [part.auxiliary]));
  const { loss, raw } = reduceErrors(errors, data, weighting);
  if (auxiliary.length === 0) return { loss, raw };
  return { loss: add(loss, mul(reduceErrors(auxiliary, data, weighting).loss, auxiliaryWeight)), raw };
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
  const { r, t, condition } = points;
  const { z, v } = pathOf(evaluation.orientation, points, t);
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
