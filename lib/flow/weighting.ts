import { add, pow } from "../ops/index.js";
import { checkNumber, checkOptions } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";

/** Weights of the samples of a batch. The objective treats them as constants. */
export interface Weighting {
  readonly name: string;
  /** From the squared errors [n] (each summed over its dimensions) to weights [n]. */
  weights(squaredErrors: Tensor): Tensor;
}

export interface AdaptiveWeightingOptions {
  /** Default 1. */
  readonly power?: number;
  /** Above 0. Default 1e-3. */
  readonly offset?: number;
}

/**
 * w_i = 1 / (L_i + offset)^power (Geng et al. 2025, "Mean flows for one-step generative modeling", section 4.3).
 * With power 1 the weighted loss is nearly constant: watch the raw one.
 */
export function adaptiveWeighting(options: AdaptiveWeightingOptions = {}): Weighting {
  checkOptions("adaptiveWeighting", options, ["power", "offset"]);
  const power = checkNumber("adaptiveWeighting", "power", options.power ?? 1, { min: 0 });
  const offset = checkNumber("adaptiveWeighting", "offset", options.offset ?? 1e-3, { above: 0 });
  return { name: "adaptive", weights: (errors) => pow(add(errors, offset), -power) };
}
