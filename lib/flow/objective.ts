import { ValueError } from "../errors.js";
import type { AverageVelocityField, Condition, VelocityField } from "../models/index.js";
import { add, div, mul, square, stopGradient, sub, sum } from "../ops/index.js";
import { checkChoice, describe } from "../options.js";
import type { DType } from "../tensor/dtype.js";
import { sizeOf } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { type Orientation, pathAt } from "./orientation.js";
import type { TimeDistribution } from "./times.js";
import type { Weighting } from "./weighting.js";

/** The ends of the paths of a batch. All tensors of a loss have one float dtype. */
export interface Pairs {
  /** [n, ...dim]. */
  readonly data: Tensor;
  /** [n, ...dim], usually N(0, 1). */
  readonly noise: Tensor;
  /** Given to the field as it is; the first axis of its tensors is the batch. */
  readonly condition?: Condition | undefined;
}

/** What a loss is computed from. */
export interface VelocityPoints extends Pairs {
  /** [n, 1], in [0, 1]. */
  readonly t: Tensor;
  /** The velocity in the target, like the data. Default: what the objective's option `velocity` estimates, or noise and data say. */
  readonly velocity?: Tensor | undefined;
}

/** What a mean-flow loss is computed from: intervals [r, t] of time. */
export interface IntervalPoints extends VelocityPoints {
  /** [n, 1], 0 <= r <= t. */
  readonly r: Tensor;
  /**
   * A promise that r = t in the first `equalCount` rows, as `sampleTimes` makes it: these rows need no derivative,
   * and none is computed. Default 0: every row gets one, which is right for any r <= t.
   */
  readonly equalCount?: number | undefined;
}

export interface LossAndRaw {
  /** What is minimised: weighted when the objective has a weighting. */
  readonly loss: Tensor;
  /** The mean of the squared error over batch and dimensions: what is worth logging. Equal to `loss` without weighting. */
  readonly raw: Tensor;
}

export interface SampleTimesOptions {
  /** Default float32. */
  readonly dtype?: DType;
  /** Training steps done so far, an int32 scalar: for objectives with a schedule. Default 0. */
  readonly step?: Tensor;
}

/** What an objective draws at random for a batch, times before all: the rest of the points of its loss. */
export type Draws<Points extends Pairs> = Omit<Points, keyof Pairs>;

/** An objective for a velocity field: pure functions that run inside a compiled step. */
export interface VelocityObjective {
  readonly name: string;
  readonly fieldKind: "velocity";
  readonly orientation: Orientation;
  /** n times as { t: [n, 1] }. */
  sampleTimes(key: Tensor, n: number, options?: SampleTimesOptions): { t: Tensor };
  /** The scalar loss, differentiable by params. */
  loss<P>(field: VelocityField<P>, params: P, points: VelocityPoints): Tensor;
  /** The loss and, from the same computation, the unweighted one. */
  lossAndRaw<P>(field: VelocityField<P>, params: P, points: VelocityPoints): LossAndRaw;
}

/** An objective for an average-velocity field: pure functions that run inside a compiled step. */
export interface AverageVelocityObjective<Points extends IntervalPoints = IntervalPoints> {
  readonly name: string;
  readonly fieldKind: "average-velocity";
  readonly orientation: Orientation;
  /**
   * n intervals as { r: [n, 1], t: [n, 1], equalCount }, r = t in the first equalCount rows, with whatever else the loss
   * needs to be drawn.
   */
  sampleTimes(
    key: Tensor,
    n: number,
    options?: SampleTimesOptions,
  ): Draws<Points> & { readonly equalCount: number };
  /** The scalar loss, differentiable by params. */
  loss<P>(field: AverageVelocityField<P>, params: P, points: Points): Tensor;
  /** The loss and, from the same computation, the unweighted one. */
  lossAndRaw<P>(field: AverageVelocityField<P>, params: P, points: Points): LossAndRaw;
}

// biome-ignore lint/suspicious/noExplicitAny: what an objective draws for its loss is its own business.
export type Objective = VelocityObjective | AverageVelocityObjective<any>;

/** The points z of the paths at this time, and the velocity v of the target there. */
export function pathOf(
  orientation: Orientation,
  { data, noise, velocity }: VelocityPoints,
  time: Tensor,
): { z: Tensor; v: Tensor } {
  const { z, v } = pathAt(orientation, data, noise, time);
  return { z, v: velocity ?? v };
}

/** The squared error of each sample, summed over its dimensions: [n]. No gradient flows through the target. */
export function squaredErrors(prediction: Tensor, target: Tensor): Tensor {
  return squaredNorms(sub(prediction, stopGradient(target)));
}

/** The sum of the squares of each sample's dimensions: [n]. */
export function squaredNorms(x: Tensor): Tensor {
  return sum(square(x), x.shape.map((_, i) => i).slice(1));
}

/**
 * The losses from the squared errors [n_k] of the parts of a batch: raw = mean over samples and dimensions;
 * loss = mean over samples of L_i w_i, w_i constant, with a weighting, else raw.
 */
export function reduceErrors(
  parts: readonly Tensor[],
  data: Tensor,
  weighting: Weighting | undefined,
): LossAndRaw {
  const n = data.shape[0]!;
  const total = (list: readonly Tensor[]) => list.map((x) => sum(x)).reduce((a, b) => add(a, b));
  const raw = div(total(parts), n * sizeOf(data.shape.slice(1)));
  if (weighting === undefined) return { loss: raw, raw };
  const weighted = parts.map((errors) => mul(errors, stopGradient(weighting.weights(stopGradient(errors)))));
  return { loss: div(total(weighted), n), raw };
}

export function checkTimes(where: string, times: TimeDistribution, name = "times"): TimeDistribution {
  if (typeof times?.sample !== "function")
    throw new ValueError(`${where}: ${name} must be a distribution { name, sample }, got ${describe(times)}`);
  return times;
}

export function checkWeighting(where: string, weighting: Weighting | undefined): Weighting | undefined {
  if (weighting !== undefined && typeof weighting?.weights !== "function")
    throw new ValueError(`${where}: weighting must be { name, weights }, got ${describe(weighting)}`);
  return weighting;
}

/** The dtype of sampled times. */
export function timesDType(where: string, options: SampleTimesOptions): DType {
  return checkChoice(where, "dtype", options.dtype ?? "float32", ["float32", "float64"]);
}
