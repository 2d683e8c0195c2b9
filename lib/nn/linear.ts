import { ValueError } from "../errors.js";
import { add, matmul } from "../ops/index.js";
import { checkCount, checkFlag, checkNumber, checkOptions } from "../options.js";
import { split, uniform } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkFloatDType, checkLastAxis } from "./checks.js";
import type { Module } from "./module.js";
import { boundedWeight } from "./spectral-norm.js";

export interface LinearOptions {
  /** Features of the input. */
  readonly in: number;
  /** Features of the output. */
  readonly out: number;
  /** Whether a bias is added. Default true. */
  readonly bias?: boolean;
  /**
   * A bound on the weight's largest singular value sigma: `apply` uses W min(1, bound / sigma), with sigma computed from
   * the weight alone, and never too small. Default: none, the weight as it is.
   */
  readonly spectralNorm?: number;
  /**
   * With spectralNorm: k, where sigma comes from the power 2^k of the weight's Gram matrix, by k squarings. It is too large
   * by a factor of at most min(in, out)^(1 / 2^(k + 1)). Default 8: 1 % for layers 128 wide.
   */
  readonly powerIterations?: number;
  /** Dtype of the parameters. Default float32. */
  readonly dtype?: DType;
}

export interface LinearParams {
  /** [in, out]. */
  weight: Tensor;
  /** [out]; absent with `bias: false`. */
  bias?: Tensor;
}

/**
 * The affine map x W + b of [..., in] to [..., out].
 *
 * `init` draws weight and bias uniformly from [-1/sqrt(in), 1/sqrt(in)), as PyTorch's nn.Linear does (Kaiming's
 * uniform bound with a = sqrt(5)).
 *
 * Errors: ValueError for an unknown option or a size below 1; `apply` throws ShapeError when the last axis is not `in`.
 */
export function linear(options: LinearOptions): Module<LinearParams> {
  checkOptions("linear", options, ["in", "out", "bias", "spectralNorm", "powerIterations", "dtype"]);
  const fanIn = checkCount("linear", "in", options.in);
  const fanOut = checkCount("linear", "out", options.out);
  const hasBias = checkFlag("linear", "bias", options.bias ?? true);
  const dtype = checkFloatDType("linear", options.dtype ?? "float32");
  const bounded = spectralBound("linear", options);
  const bound = 1 / Math.sqrt(fanIn);
  return {
    init(key) {
      const [weightKey, biasKey] = split(key, 2);
      const range = { min: -bound, max: bound, dtype };
      const weight = uniform(weightKey!, [fanIn, fanOut], range);
      return hasBias ? { weight, bias: uniform(biasKey!, [fanOut], range) } : { weight };
    },
    apply({ weight, bias }, x) {
      checkLastAxis("linear", x, fanIn);
      const y = matmul(x, bounded(weight));
      return bias === undefined ? y : add(y, bias);
    },
  };
}

/** What spectralNorm and powerIterations make of a weight. */
function spectralBound(where: string, options: LinearOptions): (weight: Tensor) => Tensor {
  const { spectralNorm, powerIterations } = options;
  if (spectralNorm === undefined) {
    if (powerIterations !== undefined) throw new ValueError(`${where}: powerIterations needs spectralNorm`);
    return (weight) => weight;
  }
  const largest = checkNumber(where, "spectralNorm", spectralNorm, { above: 0 });
  const iterations = checkCount(where, "powerIterations", powerIterations ?? 8);
  return (weight) => boundedWeight(weight, largest, iterations);
}
