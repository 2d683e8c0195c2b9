import { add, mul, sigmoid } from "../ops/index.js";
import { checkNumber, checkOptions } from "../options.js";
import { normal, uniform } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";

/** A distribution of times in [0, 1]. */
export interface TimeDistribution {
  readonly name: string;
  /** n independent times as [n, 1]; runs inside a compiled step. */
  sample(key: Tensor, n: number, dtype: DType): Tensor;
}

/** Times uniform in [0, 1). */
export function uniformTimes(): TimeDistribution {
  return { name: "uniform", sample: (key, n, dtype) => uniform(key, [n, 1], { dtype }) };
}

export interface LogitNormalOptions {
  /** Mean of the logit of t. Default -0.4, as in the mean flow paper. */
  readonly mean?: number;
  /** Standard deviation of the logit. Default 1. */
  readonly std?: number;
}

/** t = sigmoid(mean + std n), n ~ N(0, 1) (Esser et al. 2024, "Scaling rectified flow transformers", eq. 19). */
export function logitNormalTimes(options: LogitNormalOptions = {}): TimeDistribution {
  checkOptions("logitNormalTimes", options, ["mean", "std"]);
  const mean = checkNumber("logitNormalTimes", "mean", options.mean ?? -0.4);
  const std = checkNumber("logitNormalTimes", "std", options.std ?? 1, { min: 0 });
  return {
    name: "logit-normal",
    sample: (key, n, dtype) => sigmoid(add(mul(normal(key, [n, 1], { dtype }), std), mean)),
  };
}
