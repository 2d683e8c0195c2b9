import { take } from "../ops/index.js";
import { checkCount, checkOptions } from "../options.js";
import { normal } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkFloatDType } from "./checks.js";
import type { Module } from "./module.js";

export interface EmbeddingOptions {
  /** Number of rows of the table. */
  readonly count: number;
  /** Features of a row. */
  readonly dim: number;
  /** Dtype of the table. Default float32. */
  readonly dtype?: DType;
}

export interface EmbeddingParams {
  /** [count, dim]. */
  table: Tensor;
}

/** A table of learned rows, N(0, 1) at first: indices (int32 or uint32) of any shape [...] give [..., dim]. */
export function embedding(options: EmbeddingOptions): Module<EmbeddingParams> {
  checkOptions("embedding", options, ["count", "dim", "dtype"]);
  const count = checkCount("embedding", "count", options.count);
  const dim = checkCount("embedding", "dim", options.dim);
  const dtype = checkFloatDType("embedding", options.dtype ?? "float32");
  return {
    init: (key) => ({ table: normal(key, [count, dim], { dtype }) }),
    apply: ({ table }, indices) => take(table, indices, 0),
  };
}
