import { timestepEmbedding } from "../nn/index.js";
import { concat, cos, mul, sin, tensor } from "../ops/index.js";
import { checkChoice } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * How a model sees time: `"raw"`: the number t itself; `"fourier"`: t, and cos and sin of three octaves, pi t, 2 pi t
 * and 4 pi t; `"sinusoidal"`: t, and cos and sin of 8 geometric frequencies from 2 pi down to about 0.11 radians per
 * unit. The frequencies are low on purpose: mean flow differentiates by time, and high ones make that derivative,
 * and with it the variance of the target, large.
 */
export type TimeEmbedding = "raw" | "fourier" | "sinusoidal";

/** Features of one time [batch, 1] as [batch, size]. */
export interface TimeFeatures {
  readonly size: number;
  apply(t: Tensor): Tensor;
}

const sinusoidal = timestepEmbedding({ dim: 16, maxPeriod: 100, scale: 2 * Math.PI });

const features: Record<TimeEmbedding, TimeFeatures> = {
  raw: { size: 1, apply: (t) => t },
  fourier: {
    size: 7,
    apply(t) {
      const angles = mul(t, tensor([[Math.PI, 2 * Math.PI, 4 * Math.PI]], { dtype: t.dtype }));
      return concat([t, cos(angles), sin(angles)], 1);
    },
  },
  sinusoidal: { size: 17, apply: (t) => concat([t, sinusoidal.apply({}, t)], 1) },
};

/** The features of a time embedding; throws ValueError for an unknown name. */
export function timeFeatures(where: string, name: TimeEmbedding): TimeFeatures {
  return features[checkChoice(where, "timeEmbedding", name, ["raw", "fourier", "sinusoidal"])];
}
