import { checkChoice, checkCount, checkOptions } from "../options.js";
import type { DType } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";

export interface SampleOptions {
  /** Default float32. */
  readonly dtype?: DType;
}

/** A source of data: independent draws, computed from a random key inside a compiled step. */
export interface Distribution {
  readonly name: string;
  /** Size of one draw: a number of features, or a shape. */
  readonly dim: number | readonly number[];
  /** n independent draws as [n, ...dim]. */
  sample(key: Tensor, n: number, options?: SampleOptions): Tensor;
}

/** A distribution of points in the plane (or in `dim` dimensions), from a sampler whose arguments are checked. */
export function pointDistribution(
  name: string,
  dim: number,
  draw: (key: Tensor, n: number, dtype: DType) => Tensor,
): Distribution & { readonly dim: number } {
  return {
    name,
    dim,
    sample(key, n, options = {}) {
      checkOptions(`${name}.sample`, options, ["dtype"]);
      const dtype = checkChoice(`${name}.sample`, "dtype", options.dtype ?? "float32", [
        "float32",
        "float64",
      ]);
      return draw(key, checkCount(`${name}.sample`, "n", n), dtype);
    },
  };
}
