import { ShapeError, ValueError } from "../errors.js";
import { add, cast, expandDims, greaterEqual, mul, sum, take, tensor } from "../ops/index.js";
import { checkCount, checkNumber, checkOptions, describe } from "../options.js";
import { normal, randint, split, uniform } from "../random/index.js";
import { type Distribution, pointDistribution } from "./distribution.js";

export interface GaussianMixtureOptions {
  /** The means, [modes][dim]. Default: `modes` points on a circle around the origin. */
  readonly means?: readonly (readonly number[])[];
  /** Number of means on the circle. Default 8; not with `means`. */
  readonly modes?: number;
  /** Radius of the circle. Default 2; not with `means`. */
  readonly radius?: number;
  /** Standard deviation of every mode in every direction. Default 0.2. */
  readonly deviation?: number;
  /** Relative weights of the modes (>= 0, not all 0). Default: equal. */
  readonly weights?: readonly number[];
}

/** A mixture of isotropic Gaussians, with what its density is made of. */
export interface GaussianMixture extends Distribution {
  readonly dim: number;
  /** [modes][dim]. */
  readonly means: readonly (readonly number[])[];
  /** The probability of each mode; they sum to 1, and some may be 0. */
  readonly weights: readonly number[];
  /** The standard deviation of every mode in every direction. */
  readonly deviation: number;
}

/** A mixture of isotropic Gaussians: sum over k of w_k N(mean_k, deviation^2). */
export function gaussianMixture(options: GaussianMixtureOptions = {}): GaussianMixture {
  const where = "gaussianMixture";
  checkOptions(where, options, ["means", "modes", "radius", "deviation", "weights"]);
  const means = meansOf(where, options);
  const deviation = checkNumber(where, "deviation", options.deviation ?? 0.2, { min: 0 });
  const weights = weightsOf(where, options.weights, means.length);
  const thresholds = options.weights === undefined ? undefined : thresholdsOf(weights);
  const dim = means[0]!.length;
  const distribution = pointDistribution("gaussianMixture", dim, (key, n, dtype) => {
    const [modeKey, noiseKey] = split(key, 2);
    const mode =
      thresholds === undefined
        ? randint(modeKey!, [n], 0, means.length)
        : // The number of thresholds at or below a uniform number.
          sum(
            cast(
              greaterEqual(
                uniform(modeKey!, [n, 1], { dtype }),
                expandDims(tensor(thresholds, { dtype }), 0),
              ),
              "int32",
            ),
            1,
          );
    const centre = take(
      tensor(
        means.map((m) => [...m]),
        { dtype },
      ),
      mode,
      0,
    );
    return add(centre, mul(normal(noiseKey!, [n, dim], { dtype }), deviation));
  });
  return { ...distribution, means, weights, deviation };
}

function meansOf(
  where: string,
  { means, modes, radius }: GaussianMixtureOptions,
): readonly (readonly number[])[] {
  if (means === undefined) {
    const count = checkCount(where, "modes", modes ?? 8);
    const r = checkNumber(where, "radius", radius ?? 2, { min: 0 });
    return Array.from({ length: count }, (_, k) => {
      const angle = (2 * Math.PI * k) / count;
      return [r * Math.cos(angle), r * Math.sin(angle)];
    });
  }
  if (modes !== undefined || radius !== undefined)
    throw new ValueError(`${where}: give either means, or modes and radius`);
  if (!Array.isArray(means) || means.length === 0 || !Array.isArray(means[0]) || means[0].length === 0)
    throw new ValueError(`${where}: means must be an array of at least one point, got ${describe(means)}`);
  const dim = means[0].length;
  return means.map((mean, k) => {
    if (mean.length !== dim)
      throw new ShapeError(
        `${where}: means must have one size: means[0] has ${dim} numbers, means[${k}] ${mean.length}`,
      );
    return mean.map((value: unknown, i: number) => checkNumber(where, `means[${k}][${i}]`, value));
  });
}

/** The weights as probabilities: equal ones by default. */
function weightsOf(where: string, weights: readonly number[] | undefined, modes: number): readonly number[] {
  if (weights === undefined) return Array<number>(modes).fill(1 / modes);
  if (!Array.isArray(weights) || weights.length !== modes)
    throw new ValueError(
      `${where}: weights must be ${modes} numbers, one for each mode, got ${describe(weights)}`,
    );
  const checked = weights.map((w, k) => checkNumber(where, `weights[${k}]`, w, { min: 0 }));
  const total = checked.reduce((a, b) => a + b, 0);
  if (total === 0) throw new ValueError(`${where}: weights must not all be 0`);
  if (total === Infinity)
    throw new ValueError(`${where}: the sum of the weights is beyond the largest number`);
  return checked.map((w) => w / total);
}

/** The cumulative shares of all modes but the last; undefined for a single mode. */
function thresholdsOf(weights: readonly number[]): number[] | undefined {
  if (weights.length === 1) return undefined;
  // Divided by their own sum, so that the share is exactly 1 before modes of weight 0 at the end.
  const total = weights.reduce((a, b) => a + b, 0);
  let sofar = 0;
  return weights.map((w) => (sofar += w) / total).slice(0, -1);
}
