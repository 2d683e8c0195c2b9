import { sqrt } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkPointPair } from "./checks.js";
import { pairBlocks, pairSum, sumOver, sumWithin } from "./pairs.js";

const distanceSum = pairSum((squared) => sqrt(squared));

/**
 * The energy distance of two sets of points x [n, d] and y [m, d] (Szekely & Rizzo 2013):
 * 2 E|x - y| - E|x - x'| - E|y - y'|, with |.| the Euclidean norm, in units of the points' coordinates.
 *
 * It is the V-statistic: the means run over all pairs, each point with itself included, so it is never negative (up
 * to rounding) and 0 for equal sets. Two samples of one distribution give about E|x - x'| (1/n + 1/m): for the
 * checkerboard at n = m = 10,000 some 4e-4. The sums are float64, over blocks: memory
 * does not grow with n m.
 *
 * Errors: ShapeError unless both are [n, d] with one d; ValueError for points that are not finite.
 */
export function energyDistance(x: Tensor, y: Tensor): number {
  checkPointPair("energyDistance", x, y);
  const [n, m] = [x.shape[0]!, y.shape[0]!];
  const [a, b] = pairBlocks(x, y);
  const between = sumOver(distanceSum, a, b) / (n * m);
  return 2 * between - sumWithin(distanceSum, a) / n ** 2 - sumWithin(distanceSum, b) / m ** 2;
}
