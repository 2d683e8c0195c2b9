import { checkFlag, checkOptions } from "../options.js";
import { normalizeAxis } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkTensor, operation } from "./operation.js";
import * as raw from "./raw.js";

export interface CumsumOptions {
  /** Sums from each element to the end instead of from the beginning. Default false. */
  readonly reverse?: boolean;
}

/**
 * The running sum along an axis: y_j = x_0 + ... + x_j, or x_j + ... + x_(n-1) with `reverse`. It has the shape of x;
 * without an axis x is flattened first, as in NumPy. Integers wrap; bool counts as int32. Floats are added in float64.
 *
 * Errors: ShapeError for an axis that x lacks.
 */
export const cumsum = operation((x: Tensor, axis?: number, options: CumsumOptions = {}): Tensor => {
  checkTensor("cumsum", x);
  checkOptions("cumsum", options, ["reverse"]);
  const reverse = checkFlag("cumsum", "reverse", options.reverse ?? false);
  const numbers = x.dtype === "bool" ? raw.cast(x, "int32") : x;
  return axis === undefined
    ? raw.cumsum(raw.reshape(numbers, [x.size]), 0, reverse)
    : raw.cumsum(numbers, normalizeAxis("cumsum", axis, x.rank), reverse);
});
