import { layerNorm as layerNormalized, ones, rmsNorm as rmsNormalized, zeros } from "../ops/index.js";
import { checkCount, checkNumber, checkOptions } from "../options.js";
import type { DType } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkFloatDType, checkLastAxis } from "./checks.js";
import type { Module } from "./module.js";

export interface NormalizationOptions {
  /** Size of the last axis. */
  readonly dim: number;
  /** Added to the mean square before the root. Default 1e-5 (layerNorm) or 1e-6 (rmsNorm). */
  readonly epsilon?: number;
  /** Dtype of the parameters. Default float32. */
  readonly dtype?: DType;
}

export interface LayerNormParams {
  /** [dim], ones at first. */
  scale: Tensor;
  /** [dim], zeros at first. */
  offset: Tensor;
}

export interface RmsNormParams {
  /** [dim], ones at first. */
  scale: Tensor;
}

function checked(where: string, options: NormalizationOptions, epsilon: number) {
  checkOptions(where, options, ["dim", "epsilon", "dtype"]);
  return {
    dim: checkCount(where, "dim", options.dim),
    epsilon: checkNumber(where, "epsilon", options.epsilon ?? epsilon, { min: 0 }),
    dtype: checkFloatDType(where, options.dtype ?? "float32"),
  };
}

/**
 * (x - mean) / sqrt(variance + epsilon) * scale + offset over the last axis of [..., dim]
 * (Ba et al. 2016, "Layer normalization").
 */
export function layerNorm(options: NormalizationOptions): Module<LayerNormParams> {
  const { dim, epsilon, dtype } = checked("layerNorm", options, 1e-5);
  return {
    init: () => ({ scale: ones([dim], { dtype }), offset: zeros([dim], { dtype }) }),
    apply({ scale, offset }, x) {
      checkLastAxis("layerNorm", x, dim);
      return layerNormalized(x, { scale, offset, epsilon });
    },
  };
}

/** x / sqrt(mean(x^2) + epsilon) * scale over the last axis of [..., dim] (Zhang & Sennrich 2019, "RMSNorm"). */
export function rmsNorm(options: NormalizationOptions): Module<RmsNormParams> {
  const { dim, epsilon, dtype } = checked("rmsNorm", options, 1e-6);
  return {
    init: () => ({ scale: ones([dim], { dtype }) }),
    apply({ scale }, x) {
      checkLastAxis("rmsNorm", x, dim);
      return rmsNormalized(x, { scale, epsilon });
    },
  };
}
