import { ValueError } from "../errors.js";
import { checkCount, checkOptions, describe } from "../options.js";
import { split } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import { type Activation, activation } from "./activation.js";
import { type LinearParams, linear } from "./linear.js";
import type { Module } from "./module.js";

interface CommonMlpOptions {
  /** Between the linear layers, not after the last one. Default "gelu". */
  readonly activation?: Activation;
  /** A bound on the largest singular value of each linear layer's weight, and how it is held: see `linear`. */
  readonly spectralNorm?: number;
  readonly powerIterations?: number;
  /** Dtype of the parameters. Default float32. */
  readonly dtype?: DType;
}

/** The widths from input to output, as in `[2, 128, 128, 2]`. */
export interface MlpSizes extends CommonMlpOptions {
  readonly sizes: readonly number[];
}

/** `layers` hidden layers of width `hidden`, so layers + 1 linear maps. */
export interface MlpWidths extends CommonMlpOptions {
  readonly in: number;
  readonly hidden: number;
  readonly layers: number;
  readonly out: number;
}

export type MlpOptions = MlpSizes | MlpWidths;

/** The parameters of the linear layers, from input to output. */
export type MlpParams = LinearParams[];

const optionNames = [
  "sizes",
  "in",
  "hidden",
  "layers",
  "out",
  "activation",
  "spectralNorm",
  "powerIterations",
  "dtype",
];

/**
 * A multilayer perceptron on [..., in], with an activation after every linear layer but the last.
 * Options: `{ sizes }`, or `{ in, hidden, layers, out }` with `layers` hidden layers; `activation` (default "gelu"),
 * `spectralNorm` and `powerIterations` (see `linear`), `dtype` (default float32). Parameters are initialised as in
 * `linear`.
 *
 * Errors: ValueError for unknown options, fewer than two sizes, or a size below 1.
 */
export function mlp(options: MlpOptions): Module<MlpParams> {
  checkOptions("mlp", options, optionNames);
  const sizes = sizesOf(options);
  const { spectralNorm, powerIterations, dtype = "float32" } = options;
  const common = {
    ...(spectralNorm !== undefined && { spectralNorm }),
    ...(powerIterations !== undefined && { powerIterations }),
    dtype,
  };
  const act = activation(options.activation ?? "gelu");
  const layers = sizes.slice(1).map((out, i) => linear({ in: sizes[i]!, out, ...common }));
  return {
    init(key) {
      const keys = split(key, layers.length);
      return layers.map((layer, i) => layer.init(keys[i]!));
    },
    apply(params, x) {
      if (params.length !== layers.length)
        throw new ValueError(`mlp: has ${layers.length} linear layers, got parameters for ${params.length}`);
      return layers.reduce((h, layer, i) => layer.apply(params[i]!, i === 0 ? h : act(h)), x);
    },
  };
}

function sizesOf(options: MlpOptions): number[] {
  if ("sizes" in options) {
    for (const name of ["in", "hidden", "layers", "out"])
      if (name in options)
        throw new ValueError(`mlp: give either sizes or in, hidden, layers and out; got sizes and ${name}`);
    const { sizes } = options;
    if (!Array.isArray(sizes) || sizes.length < 2)
      throw new ValueError(
        `mlp: sizes must be an array of at least the input's and the output's size, got ${describe(sizes)}`,
      );
    return sizes.map((n, i) => checkCount("mlp", `sizes[${i}]`, n));
  }
  const layers = checkCount("mlp", "layers", options.layers, 0);
  const hidden = Array<number>(layers).fill(checkCount("mlp", "hidden", options.hidden));
  return [checkCount("mlp", "in", options.in), ...hidden, checkCount("mlp", "out", options.out)];
}
