import { ValueError } from "../errors.js";
import { add, less, mul, where as select, sigmoid } from "../ops/index.js";
import { checkNumber, checkOptions, describe } from "../options.js";
import { normal, split, uniform } from "../random/index.js";
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

export interface AtomOptions {
  /** The time, from 0 to 1. */
  readonly at: number;
  /** Its probability, from 0 to 1. */
  readonly probability: number;
}

/**
 * `at` with this probability, else a draw of `times`. With `intervalTimes({ r: withAtom(uniformTimes(), { at: 0, probability:
 * 0.5 }) })` half of the intervals reach the data, data to noise: the ones that samples in one step go by.
 */
export function withAtom(times: TimeDistribution, options: AtomOptions): TimeDistribution {
  const where = "withAtom";
  if (typeof times?.sample !== "function")
    throw new ValueError(`${where}: needs a distribution of times { name, sample }, got ${describe(times)}`);
  checkOptions(where, options, ["at", "probability"]);
  const at = checkNumber(where, "at", options.at, { min: 0, max: 1 });
  const probability = checkNumber(where, "probability", options.probability, { min: 0, max: 1 });
  return {
    name: `${times.name} with an atom`,
    sample(key, n, dtype) {
      const [choice, rest] = split(key, 2) as [Tensor, Tensor];
      const atom = less(uniform(choice, [n, 1], { dtype }), probability);
      return select(atom, at, times.sample(rest, n, dtype));
    },
  };
}
