import { ValueError } from "../errors.js";
import { add, exp, mul } from "../ops/index.js";
import { checkNumber, checkOptions, describe } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkPointPair } from "./checks.js";
import { pairBlocks, pairSum, sumOver, sumWithin } from "./pairs.js";

export interface MaximumMeanDiscrepancyOptions {
  /** Standard deviations of the Gaussian kernels that are averaged, in units of the points. Default [0.2, 1]. */
  readonly bandwidths?: readonly number[];
}

/**
 * The maximum mean discrepancy of two sets of points x [n, d] and y [m, d] (Gretton et al. 2012, eq. 5):
 * sqrt(E k(x, x') - 2 E k(x, y) + E k(y, y')), with k the mean over bandwidths h of exp(-|x - y|^2 / (2 h^2)).
 * The means run over all pairs, each point with itself included (the biased V-statistic): never negative, and 0 for
 * equal sets. The sums are float64, over blocks.
 *
 * Errors: ShapeError unless both are [n, d] with one d; ValueError for points that are not finite or bad bandwidths.
 */
export function maximumMeanDiscrepancy(
  x: Tensor,
  y: Tensor,
  options: MaximumMeanDiscrepancyOptions = {},
): number {
  const where = "maximumMeanDiscrepancy";
  checkOptions(where, options, ["bandwidths"]);
  const given: unknown = options.bandwidths ?? [0.2, 1];
  if (!Array.isArray(given) || given.length === 0)
    throw new ValueError(
      `${where}: bandwidths must be an array of at least one number, got ${describe(given)}`,
    );
  const bandwidths = given.map((h, i) => checkNumber(where, `bandwidths[${i}]`, h, { above: 0 }));
  checkPointPair(where, x, y);
  const kernelSum = pairSum((squared) =>
    mul(
      bandwidths.map((h) => exp(mul(squared, -0.5 / h ** 2))).reduce((a, b) => add(a, b)),
      1 / bandwidths.length,
    ),
  );
  const [n, m] = [x.shape[0]!, y.shape[0]!];
  const [a, b] = pairBlocks(x, y);
  const squared =
    sumWithin(kernelSum, a) / n ** 2 -
    (2 * sumOver(kernelSum, a, b)) / (n * m) +
    sumWithin(kernelSum, b) / m ** 2;
  return Math.sqrt(Math.max(0, squared));
}
