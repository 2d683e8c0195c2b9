import { ValueError } from "../errors.js";
import type { Condition } from "../models/index.js";
import {
  div,
  equal,
  less,
  matmul,
  maximum,
  mul,
  neg,
  reshape,
  where as select,
  softmax,
  square,
  stopGradient,
  sub,
  sum,
  transpose,
} from "../ops/index.js";
import { checkCount, checkOptions, describe } from "../options.js";
import { sizeOf } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import type { Pairs, VelocityPoints } from "./objective.js";
import { columnOf, type Orientation, pathAt } from "./orientation.js";

/** What stands for the marginal velocity in the target of an objective: an estimate of it from the batch. */
export interface VelocityEstimate {
  readonly name: string;
  /**
   * The velocities at the points of the paths of these pairs at these times [n, 1], like the data, without gradient. Runs
   * inside a compiled step, once for the whole batch.
   */
  estimate(orientation: Orientation, pairs: Pairs, time: Tensor): Tensor;
}

export interface StableTargetOptions {
  /** Rows among whose data the posterior is taken. A batch is a multiple of it, or smaller: then it is the group. Default 512. */
  readonly groupSize?: number;
}

/** Where less than this share of a point is noise, the posterior is its own data, and float32 cannot hold the scores. */
const leastNoise = 0.01;

/**
 * A target of low variance for the option `velocity` of objectives (Xu, Tong & Jaakkola 2023, "Stable target field for reduced
 * variance score estimation in diffusion models", on straight paths). The velocity noise - data of one pair is an
 * estimate of the marginal velocity E[v | z]; here the data of a whole group of the batch are weighted by how likely they
 * lead to z. With sigma the share of noise in z, t or 1 - t by the orientation,
 *
 *     w_j = softmax_j(-|z - (1 - sigma) x_j|^2 / (2 sigma^2)),   v = (z - sum_j w_j x_j) / sigma   (data-to-noise)
 *
 * and minus that noise-to-data. The row's own data are among the x_j. The variance falls with the group's size, and the bias is
 * O(1 / groupSize). Where sigma < 0.01 the pair's own velocity is taken. In few dimensions a group leaves little variance; in
 * many only one x_j is likely, and this is the conditional velocity at a higher price. Noise must be N(0, 1).
 *
 * Conditions may be labels, int32 [n] or { label }: only data of the row's label count.
 *
 * Errors, when a loss is computed: ValueError for a batch that cannot be cut into groups, and for other conditions.
 */
export function stableTarget(options: StableTargetOptions = {}): VelocityEstimate {
  const where = "stableTarget";
  checkOptions(where, options, ["groupSize"]);
  const groupSize = checkCount(where, "groupSize", options.groupSize ?? 512);
  return {
    name: "stable target",
    estimate(orientation, { data, noise, condition }, time) {
      const n = data.shape[0]!;
      const size = Math.min(groupSize, n);
      if (n % size !== 0)
        throw new ValueError(`${where}: a batch of ${n} rows cannot be cut into groups of ${groupSize}`);
      const { z, v } = pathAt(orientation, data, noise, time);
      const grouped = (x: Tensor, features: number) => reshape(x, [n / size, size, features]);
      const features = sizeOf(data.shape.slice(1));
      const noiseShare = orientation === "data-to-noise" ? time : sub(1, time);
      const sigma = maximum(noiseShare, leastNoise);
      const label = labelOf(where, condition);
      const mean = posteriorMean(
        grouped(z, features),
        grouped(data, features),
        grouped(sigma, 1),
        label && reshape(label, [n / size, size]),
      );
      const towardsNoise = div(sub(z, reshape(mean, data.shape)), columnOf(sigma, data.rank));
      const marginal = orientation === "data-to-noise" ? towardsNoise : neg(towardsNoise);
      return stopGradient(select(columnOf(less(noiseShare, leastNoise), data.rank), v, marginal));
    },
  };
}

/** E[x | z] [groups, m, d] for z among the data x of each group, sigma [groups, m, 1] the shares of noise. */
function posteriorMean(z: Tensor, x: Tensor, sigma: Tensor, label: Tensor | undefined): Tensor {
  const share = sub(1, sigma);
  // -|z - s x|^2 / 2 sigma^2 without the term in |z|^2, which the softmax takes away.
  const product = matmul(z, transpose(x, [0, 2, 1]));
  const squares = transpose(sum(square(x), 2, { keepDims: true }), [0, 2, 1]);
  const exponent = mul(share, sub(product, mul(mul(share, squares), 0.5)));
  const scores = div(exponent, square(sigma));
  if (label === undefined) return matmul(softmax(scores, 2), x);
  const [groups, m] = label.shape as [number, number];
  const alike = equal(reshape(label, [groups, m, 1]), reshape(label, [groups, 1, m]));
  return matmul(softmax(select(alike, scores, -1e30), 2), x);
}

function labelOf(where: string, condition: Condition | undefined): Tensor | undefined {
  if (condition === undefined) return undefined;
  const members = condition instanceof Tensor ? { label: condition } : condition;
  const { label, ...others } = members;
  if (label?.dtype !== "int32" || label.rank !== 1 || Object.keys(others).length > 0)
    throw new ValueError(
      `${where}: the condition must be labels, int32 [n] or { label }, got { ${Object.entries(members)
        .map(([name, x]) => `${name}: ${x.dtype}[${x.shape.join(", ")}]`)
        .join(", ")} }`,
    );
  return label;
}

export function checkVelocityEstimate(
  where: string,
  velocity: VelocityEstimate | undefined,
): VelocityEstimate | undefined {
  if (velocity !== undefined && typeof velocity?.estimate !== "function")
    throw new ValueError(
      `${where}: velocity must be an estimate like stableTarget(), got ${describe(velocity)}`,
    );
  return velocity;
}

/** The points with the estimated velocity at these times, unless they have a velocity of their own. */
export function withVelocity<Points extends VelocityPoints>(
  velocity: VelocityEstimate | undefined,
  orientation: Orientation,
  points: Points,
  time: Tensor,
): Points {
  if (velocity === undefined || points.velocity !== undefined) return points;
  return { ...points, velocity: velocity.estimate(orientation, points, time) };
}
