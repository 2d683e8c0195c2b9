import { DTypeError, ShapeError } from "../errors.js";
import { checkNumber, checkOptions } from "../options.js";
import { normalizeAxes, sameShape, show } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { add, mul, rsqrt, square, sub } from "./elementwise.js";
import { checkTensor, needFloat, operation } from "./operation.js";
import * as raw from "./raw.js";
import { type Axis, mean } from "./reduction.js";

export interface RmsNormOptions {
  /** The axis or axes that are normalised together. Default -1, the last one. */
  readonly axis?: Axis;
  /** Multiplies the result: of the shape of the normalised axes, in the order of x. */
  readonly scale?: Tensor | undefined;
  /** Added to the mean square before the root. Default 1e-6 (rmsNorm) or 1e-5 (layerNorm). */
  readonly epsilon?: number;
}

export interface LayerNormOptions extends RmsNormOptions {
  /** Added to the scaled result: of the shape of the normalised axes, in the order of x. */
  readonly offset?: Tensor | undefined;
}

/**
 * (x - mean) / sqrt(variance + epsilon) * scale + offset over one or several axes, the variance by division by n
 * (Ba et al. 2016, "Layer normalization"). Without `scale` or `offset` that step is left out. Derivatives of every
 * order go through mean and variance.
 *
 * Errors: DTypeError unless x is a float tensor, and scale and offset are of its dtype; ShapeError for an axis that x
 * lacks or that is empty, and for a scale or an offset of another shape.
 */
export const layerNorm = operation((x: Tensor, options: LayerNormOptions = {}): Tensor => {
  const where = "layerNorm";
  checkOptions(where, options, ["axis", "scale", "offset", "epsilon"]);
  const { axes, epsilon } = checked(where, x, options, 1e-5);
  const { scale, offset } = options;
  const centred = sub(x, mean(x, axes, { keepDims: true }));
  let y = overRootMeanSquare(centred, axes, epsilon);
  if (scale !== undefined) y = mul(y, parameter(where, "scale", scale, x, axes));
  return offset === undefined ? y : add(y, parameter(where, "offset", offset, x, axes));
});

/**
 * x / sqrt(mean(x^2) + epsilon) * scale over one or several axes (Zhang & Sennrich 2019, "Root mean square layer
 * normalization"). Without `scale` that step is left out. Errors as in layerNorm.
 */
export const rmsNorm = operation((x: Tensor, options: RmsNormOptions = {}): Tensor => {
  const where = "rmsNorm";
  checkOptions(where, options, ["axis", "scale", "epsilon"]);
  const { axes, epsilon } = checked(where, x, options, 1e-6);
  const y = overRootMeanSquare(x, axes, epsilon);
  return options.scale === undefined ? y : mul(y, parameter(where, "scale", options.scale, x, axes));
});

function checked(where: string, x: Tensor, options: RmsNormOptions, epsilon: number) {
  needFloat(where, checkTensor(where, x));
  const axes = normalizeAxes(where, options.axis ?? -1, x.rank);
  if (axes.some((axis) => x.shape[axis] === 0))
    throw new ShapeError(`${where}: nothing to normalise in ${show(x.shape)} over axes ${show(axes)}`);
  return { axes, epsilon: checkNumber(where, "epsilon", options.epsilon ?? epsilon, { min: 0 }) };
}

const overRootMeanSquare = (x: Tensor, axes: readonly number[], epsilon: number): Tensor =>
  mul(x, rsqrt(add(mean(square(x), axes, { keepDims: true }), epsilon)));

/** A parameter of the shape of some axes of x, repeated to the shape of x. */
function parameter(where: string, name: string, value: Tensor, x: Tensor, axes: readonly number[]): Tensor {
  checkTensor(`${where}: ${name}`, value);
  const shape = axes.map((axis) => x.shape[axis]!);
  if (value.dtype !== x.dtype)
    throw new DTypeError(`${where}: ${name} is ${value.dtype}, x is ${x.dtype}; use cast(x, dtype) on one`);
  if (!sameShape(value.shape, shape))
    throw new ShapeError(
      `${where}: ${name} has the shape ${show(value.shape)}, axes ${show(axes)} of ${show(x.shape)} need ${show(shape)}`,
    );
  return raw.broadcast(value, x.shape, axes);
}
