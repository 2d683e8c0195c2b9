import { mul, split as sections, silu } from "../ops/index.js";
import { checkCount, checkOptions } from "../options.js";
import { split } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import { type LinearParams, linear } from "./linear.js";
import type { Module } from "./module.js";

export interface SwigluOptions {
  /** Features of input and output. */
  readonly dim: number;
  /** Width of the hidden layer. Default 8/3 dim, rounded up to a multiple of 8: as many parameters as a layer 4 dim wide. */
  readonly hidden?: number;
  /** Dtype of the parameters. Default float32. */
  readonly dtype?: DType;
}

export interface SwigluParams {
  /** To gate and value, [dim, 2 hidden]. */
  in: LinearParams;
  /** [hidden, dim]. */
  out: LinearParams;
}

/**
 * The gated feed-forward layer (silu(x G) * (x V)) W of [..., dim], without biases (Shazeer 2020, "GLU variants improve
 * transformer", eq. 6).
 */
export function swiglu(options: SwigluOptions): Module<SwigluParams> {
  checkOptions("swiglu", options, ["dim", "hidden", "dtype"]);
  const dim = checkCount("swiglu", "dim", options.dim);
  const hidden = checkCount("swiglu", "hidden", options.hidden ?? Math.ceil(dim / 3) * 8);
  const dtype = options.dtype ?? "float32";
  const into = linear({ in: dim, out: 2 * hidden, bias: false, dtype });
  const out = linear({ in: hidden, out: dim, bias: false, dtype });
  return {
    init(key) {
      const [inKey, outKey] = split(key, 2);
      return { in: into.init(inKey!), out: out.init(outKey!) };
    },
    apply(params, x) {
      const [gate, value] = sections(into.apply(params.in, x), 2, -1);
      return out.apply(params.out, mul(silu(gate!), value!));
    },
  };
}
