import { ShapeError, ValueError } from "../errors.js";
import {
  type AttentionOptions,
  attention,
  ones,
  reshape,
  rmsNorm,
  split as sections,
  transpose,
} from "../ops/index.js";
import { checkCount, checkFlag, checkOptions } from "../options.js";
import { split } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import { show } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkLastAxis } from "./checks.js";
import { type LinearParams, linear } from "./linear.js";
import type { Module } from "./module.js";
import { type RotaryEmbeddingOptions, rotaryEmbedding } from "./rotary-embedding.js";

export interface SelfAttentionOptions {
  /** Features of input and output. */
  readonly dim: number;
  /** Number of heads, a divisor of dim. */
  readonly heads: number;
  /** Whether queries and keys are normalised by their root mean square, with a learned scale. Default true. */
  readonly queryKeyNorm?: boolean;
  /** Dtype of the parameters. Default float32. */
  readonly dtype?: DType;
}

export interface SelfAttentionParams {
  /** To queries, keys and values, [dim, 3 dim], without a bias. */
  qkv: LinearParams;
  /** [dim, dim], without a bias. */
  out: LinearParams;
  /** [dim / heads], ones at first; there with queryKeyNorm. */
  queryScale?: Tensor;
  keyScale?: Tensor;
}

export interface SelfAttentionInputs extends AttentionOptions {
  /** Positions for rotary embedding of queries and keys, and how: see `rotaryEmbedding`. Default: none is applied. */
  readonly rotary?: Pick<RotaryEmbeddingOptions, "positions" | "base" | "coordinates" | "layout">;
}

/** A module that also takes positions, a mask and so on. */
export interface SelfAttention extends Module<SelfAttentionParams> {
  apply(params: SelfAttentionParams, x: Tensor, inputs?: SelfAttentionInputs): Tensor;
}

/**
 * Multi-head self-attention of [..., n, dim] (Vaswani et al. 2017, "Attention is all you need", section 3.2.2), with
 * normalised queries and keys (Henry et al. 2020) by default.
 */
export function selfAttention(options: SelfAttentionOptions): SelfAttention {
  const where = "selfAttention";
  checkOptions(where, options, ["dim", "heads", "queryKeyNorm", "dtype"]);
  const dim = checkCount(where, "dim", options.dim);
  const heads = checkCount(where, "heads", options.heads);
  if (dim % heads !== 0) throw new ValueError(`${where}: ${heads} heads do not divide ${dim} features`);
  const normed = checkFlag(where, "queryKeyNorm", options.queryKeyNorm ?? true);
  const dtype = options.dtype ?? "float32";
  const qkv = linear({ in: dim, out: 3 * dim, bias: false, dtype });
  const out = linear({ in: dim, out: dim, bias: false, dtype });
  const size = dim / heads;
  return {
    init(key) {
      const [first, second] = split(key, 2);
      const params = { qkv: qkv.init(first!), out: out.init(second!) };
      const scale = () => ones([size], { dtype });
      return normed ? { ...params, queryScale: scale(), keyScale: scale() } : params;
    },
    apply(params, x, { rotary, ...how } = {}) {
      checkLastAxis(where, x, dim);
      if (x.rank < 2) throw new ShapeError(`${where}: needs [..., n, ${dim}], got ${show(x.shape)}`);
      const [queries, keys, values] = sections(qkv.apply(params.qkv, x), 3, -1).map((own) =>
        reshape(own, [...x.shape.slice(0, -1), heads, size]),
      ) as [Tensor, Tensor, Tensor];
      /** Queries or keys [..., n, heads, size], normalised and turned. */
      const turned = (y: Tensor, scale: Tensor | undefined): Tensor => {
        const scaled = scale === undefined ? y : rmsNorm(y, { scale });
        return rotary === undefined ? scaled : rotaryEmbedding(scaled, { ...rotary, axis: -3 });
      };
      /** The axes of sequence and heads exchanged. */
      const exchanged = (y: Tensor): Tensor => {
        const perm = y.shape.map((_, i) => i);
        perm.splice(-3, 2, y.rank - 2, y.rank - 3);
        return transpose(y, perm);
      };
      const [q, k, v] = [turned(queries, params.queryScale), turned(keys, params.keyScale), values].map(
        exchanged,
      );
      return out.apply(params.out, reshape(exchanged(attention(q!, k!, v!, how)), x.shape));
    },
  };
}
