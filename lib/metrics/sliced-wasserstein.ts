import { cast, div, matmul, sqrt, square, sum, transpose } from "../ops/index.js";
import { checkCount, checkOptions } from "../options.js";
import { normal, key as randomKey } from "../random/index.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkPointPair } from "./checks.js";

export interface SlicedWassersteinOptions {
  /** Number of directions. Default 128. */
  readonly projections?: number;
  /** Seed of the directions. Default 0: the same directions at each call. */
  readonly seed?: number;
}

/**
 * The sliced 2-Wasserstein distance of two sets of points x [n, d] and y [m, d] (Bonneel et al. 2015):
 * the root of the mean, over random directions on the unit sphere, of the squared 2-Wasserstein distance of the
 * projections, which in one dimension is the mean of (F_x^-1(q) - F_y^-1(q))^2 over q in [0, 1]. In units of the
 * points' coordinates; n and m may differ.
 *
 * Errors: ShapeError unless both are [n, d] with one d; ValueError for points that are not finite or bad options.
 */
export function slicedWasserstein(x: Tensor, y: Tensor, options: SlicedWassersteinOptions = {}): number {
  const where = "slicedWasserstein";
  checkOptions(where, options, ["projections", "seed"]);
  const projections = checkCount(where, "projections", options.projections ?? 128);
  const seed = checkCount(where, "seed", options.seed ?? 0, 0);
  checkPointPair(where, x, y);
  const gaussian = normal(randomKey(seed), [projections, x.shape[1]!], { dtype: "float64" });
  const directions = transpose(div(gaussian, sqrt(sum(square(gaussian), 1, { keepDims: true }))));
  const project = (points: Tensor) => transpose(matmul(cast(points, "float64"), directions)).toTypedArray();
  const [a, b] = [project(x), project(y)];
  const [n, m] = [x.shape[0]!, y.shape[0]!];
  let total = 0;
  for (let k = 0; k < projections; k++)
    total += squaredDistance(a.subarray(k * n, (k + 1) * n).sort(), b.subarray(k * m, (k + 1) * m).sort());
  return Math.sqrt(total / projections);
}

/** The squared 2-Wasserstein distance of two sorted samples: the integral of the squared difference of quantiles. */
function squaredDistance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const [n, m] = [a.length, b.length];
  let [i, j, sofar, total] = [0, 0, 0, 0];
  // Shares are counted in units of 1 / (n m), where all the jumps of both quantile functions are whole numbers.
  while (i < n && j < m) {
    const next = Math.min((i + 1) * m, (j + 1) * n);
    total += (next - sofar) * (a[i]! - b[j]!) ** 2;
    if (next === (i + 1) * m) i++;
    if (next === (j + 1) * n) j++;
    sofar = next;
  }
  return total / (n * m);
}
