import { concat, cos, matmul, mul, sin } from "../ops/index.js";
import { checkCount, checkNumber, checkOptions } from "../options.js";
import { normal, key as randomKey } from "../random/index.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkFloat, checkLastAxis } from "./checks.js";
import type { Module, NoParams } from "./module.js";

export interface FourierFeaturesOptions {
  /** Features of the input. */
  readonly in: number;
  /** Number of random frequencies; the output has twice as many features. */
  readonly features: number;
  /** Standard deviation of the frequencies, in periods per unit of the input. Default 1. */
  readonly scale?: number;
  /** Seed of the frequencies. Default 0. */
  readonly seed?: number;
}

/**
 * Random Fourier features of x [..., in] as [..., 2 features]: cos(2 pi x B), then sin(2 pi x B), with a fixed
 * B [in, features] ~ N(0, scale^2) (Tancik et al. 2020, "Fourier features let networks learn high frequency
 * functions", eq. 5). B follows from the seed: it is not a parameter, so no optimizer and no weight decay moves it.
 * The dtype is that of the input.
 */
export function fourierFeatures(options: FourierFeaturesOptions): Module<NoParams> {
  const where = "fourierFeatures";
  checkOptions(where, options, ["in", "features", "scale", "seed"]);
  const size = checkCount(where, "in", options.in);
  const features = checkCount(where, "features", options.features);
  const scale = checkNumber(where, "scale", options.scale ?? 1, { min: 0 });
  const seed = checkCount(where, "seed", options.seed ?? 0, 0);
  return {
    init: () => ({}),
    apply(_params: NoParams, x: Tensor) {
      checkLastAxis(where, x, size);
      checkFloat(where, x);
      const frequencies = mul(
        normal(randomKey(seed), [size, features], { dtype: x.dtype }),
        2 * Math.PI * scale,
      );
      const angles = matmul(x, frequencies);
      return concat([cos(angles), sin(angles)], -1);
    },
  };
}
