import { fourierFeatures, timestepEmbedding } from "../nn/index.js";
import { concat } from "../ops/index.js";
import { checkChoice } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * How a model sees time: `"raw"` gives the number itself; `"fourier"` adds cos and sin of 16 random frequencies
 * (standard deviation 1 period per unit); `"sinusoidal"` gives cos and sin of 16 frequencies from 10 down to about
 * 0.13 radians per unit, and the number itself.
 */
export type TimeEmbedding = "raw" | "fourier" | "sinusoidal";

/** Features of one time [batch, 1] as [batch, size]. */
export interface TimeFeatures {
  readonly size: number;
  apply(t: Tensor): Tensor;
}

const frequencies = 16;

/** The features of a time embedding; throws ValueError for an unknown name. */
export function timeFeatures(where: string, name: TimeEmbedding): TimeFeatures {
  checkChoice(where, "timeEmbedding", name, ["raw", "fourier", "sinusoidal"]);
  if (name === "raw") return { size: 1, apply: (t) => t };
  const module =
    name === "fourier"
      ? fourierFeatures({ in: 1, features: frequencies })
      : timestepEmbedding({ dim: 2 * frequencies, maxPeriod: 100, scale: 10 });
  return { size: 1 + 2 * frequencies, apply: (t) => concat([t, module.apply({}, t)], 1) };
}
