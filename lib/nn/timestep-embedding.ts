import { ValueError } from "../errors.js";
import { arange, concat, cos, exp, mul, sin } from "../ops/index.js";
import { checkCount, checkNumber, checkOptions } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkFloat, checkLastAxis } from "./checks.js";
import type { Module, NoParams } from "./module.js";

export interface TimestepEmbeddingOptions {
  /** Features of the embedding: even. */
  readonly dim: number;
  /** Ratio of the largest to the smallest frequency. Default 10,000. */
  readonly maxPeriod?: number;
  /** What the time is multiplied with: the largest frequency, in radians per unit of time. Default 1. */
  readonly scale?: number;
}

/**
 * The sinusoidal embedding of a time t [..., 1] as [..., dim]:
 * cos(scale t w_i), then sin(scale t w_i), with w_i = maxPeriod^(-i / (dim/2)), i = 0 .. dim/2 - 1
 * (Vaswani et al. 2017, "Attention is all you need", section 3.5, in the order that diffusion models use).
 * It has no parameters and takes the dtype of its input. With times in [0, 1] a scale of 1,000 gives the classical
 * diffusion embedding; mean-flow models differentiate by t, so they want a smaller one.
 */
export function timestepEmbedding(options: TimestepEmbeddingOptions): Module<NoParams> {
  const where = "timestepEmbedding";
  checkOptions(where, options, ["dim", "maxPeriod", "scale"]);
  const dim = checkCount(where, "dim", options.dim, 2);
  if (dim % 2 !== 0) throw new ValueError(`${where}: dim must be even, got ${dim}`);
  const maxPeriod = checkNumber(where, "maxPeriod", options.maxPeriod ?? 10_000, { above: 0 });
  const scale = checkNumber(where, "scale", options.scale ?? 1);
  const half = dim / 2;
  return {
    init: () => ({}),
    apply(_params: NoParams, t: Tensor) {
      checkLastAxis(where, t, 1);
      checkFloat(where, t);
      const index = arange(0, half, 1, { dtype: t.dtype });
      const frequencies = mul(exp(mul(index, -Math.log(maxPeriod) / half)), scale);
      const angles = mul(t, frequencies);
      return concat([cos(angles), sin(angles)], -1);
    },
  };
}
