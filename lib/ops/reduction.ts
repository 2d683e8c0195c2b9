import { ShapeError } from "../errors.js";
import { normalizeAxes, normalizeAxis, show, sizeOf } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkTensor, needFloat, needNumber, operation } from "./operation.js";
import * as raw from "./raw.js";

/** keepDims: reduced axes stay, with size 1 (default false). */
export interface ReductionOptions {
  readonly keepDims?: boolean;
}

export type Axis = number | readonly number[];
type Reduction = (x: Tensor, axis?: Axis, options?: ReductionOptions) => Tensor;

/** A reduction over one axis, some axes, or all of them (undefined). */
function reduction(name: string, f: (x: Tensor, axes: readonly number[]) => Tensor): Reduction {
  return operation((x: Tensor, axis?: Axis, options: ReductionOptions = {}): Tensor => {
    const axes = normalizeAxes(name, axis, checkTensor(name, x).rank);
    const y = f(x, axes);
    return options.keepDims ? raw.reshape(y, kept(x, axes)) : y;
  });
}

const kept = (x: Tensor, axes: readonly number[]) => x.shape.map((n, i) => (axes.includes(i) ? 1 : n));
const extent = (x: Tensor, axes: readonly number[]) => sizeOf(axes.map((axis) => x.shape[axis]!));
const scale = (x: Tensor, by: number) => raw.mul(x, raw.constantLike(x, by));

function needElements(where: string, x: Tensor, axes: readonly number[]): void {
  if (extent(x, axes) === 0)
    throw new ShapeError(`${where}: nothing to reduce in ${show(x.shape)} over axes ${show(axes)}`);
}

function meanOf(where: string, x: Tensor, axes: readonly number[]): Tensor {
  needElements(where, needFloat(where, x), axes);
  return scale(raw.reduceSum(x, axes), 1 / extent(x, axes));
}

/** The sum; bool counts as int32. */
export const sum = reduction("sum", (x, axes) =>
  raw.reduceSum(x.dtype === "bool" ? raw.cast(x, "int32") : x, axes),
);

/** The arithmetic mean (floats). */
export const mean = reduction("mean", (x, axes) => meanOf("mean", x, axes));

/** The variance: the mean squared distance from the mean (division by n, as in NumPy). */
export const variance = reduction("variance", (x, axes) => {
  const centred = raw.sub(x, raw.spread(meanOf("variance", x, axes), x.shape, axes));
  return meanOf("variance", raw.mul(centred, centred), axes);
});

/** The largest element; NaN wins; the gradient is shared equally among ties. */
export const max = reduction("max", (x, axes) => {
  needElements("max", x, axes);
  return raw.reduceMax(x, axes);
});

/** The smallest element; NaN wins; the gradient is shared equally among ties. */
export const min = reduction("min", (x, axes) => {
  needElements("min", x, axes);
  return raw.reduceMin(x, axes);
});

/** The product. Halves are multiplied pairwise, so that derivatives of every order hold with zeros too. */
export const prod = reduction("prod", (x, axes) => {
  needNumber("prod", x);
  const others = x.shape.map((_, i) => i).filter((i) => !axes.includes(i));
  const rest = others.map((i) => x.shape[i]!);
  let y = raw.reshape(raw.transpose(x, [...others, ...axes]), [...rest, extent(x, axes)]);
  const last = rest.length;
  const piece = (start: number, size: number) => raw.slice(y, [...rest.map(() => 0), start], [...rest, size]);
  while (y.shape[last]! > 1) {
    const n = y.shape[last]!;
    const half = n >> 1;
    const product = raw.mul(piece(0, half), piece(half, half));
    y = n % 2 === 0 ? product : raw.concat([product, piece(n - 1, 1)], last);
  }
  return y.shape[last] === 0 ? raw.constant(1, rest, x.dtype) : raw.reshape(y, rest);
});

/** log(sum(exp(x))), without overflow (floats). */
export const logsumexp = reduction("logsumexp", (x, axes) => {
  needElements("logsumexp", needFloat("logsumexp", x), axes);
  const top = safeMax(x, axes);
  const total = raw.reduceSum(raw.exp(raw.sub(x, raw.spread(top, x.shape, axes))), axes);
  return raw.add(raw.log(total), top);
});

/** The maximum as a constant; 0 where it is infinite, so that x - max is never inf - inf. */
function safeMax(x: Tensor, axes: readonly number[]): Tensor {
  const top = raw.stopGradient(raw.reduceMax(x, axes));
  const infinite = raw.equal(raw.abs(top), raw.constantLike(top, Number.POSITIVE_INFINITY));
  return raw.where(infinite, raw.constantLike(top, 0), top);
}

/** exp(x) / sum(exp(x)) along an axis (default: the last). */
export const softmax = operation((x: Tensor, axis = -1): Tensor => {
  const axes = [normalizeAxis("softmax", axis, needFloat("softmax", checkTensor("softmax", x)).rank)];
  needElements("softmax", x, axes);
  const e = raw.exp(raw.sub(x, raw.spread(safeMax(x, axes), x.shape, axes)));
  return raw.div(e, raw.spread(raw.reduceSum(e, axes), x.shape, axes));
});

/** x - logsumexp(x) along an axis (default: the last). */
export const logSoftmax = operation((x: Tensor, axis = -1): Tensor => {
  const axes = [
    normalizeAxis("logSoftmax", axis, needFloat("logSoftmax", checkTensor("logSoftmax", x)).rank),
  ];
  needElements("logSoftmax", x, axes);
  const shifted = raw.sub(x, raw.spread(safeMax(x, axes), x.shape, axes));
  return raw.sub(shifted, raw.spread(raw.log(raw.reduceSum(raw.exp(shifted), axes)), x.shape, axes));
});

type ArgReduction = (x: Tensor, axis?: number, options?: ReductionOptions) => Tensor;

function argReduction(name: string, f: (x: Tensor, axis: number) => Tensor): ArgReduction {
  return operation((x: Tensor, axis?: number, options: ReductionOptions = {}): Tensor => {
    const flat = axis === undefined ? raw.reshape(checkTensor(name, x), [x.size]) : x;
    const at = axis === undefined ? 0 : normalizeAxis(name, axis, checkTensor(name, x).rank);
    needElements(name, flat, [at]);
    const y = f(flat, at);
    return options.keepDims ? raw.reshape(y, axis === undefined ? x.shape.map(() => 1) : kept(x, [at])) : y;
  });
}

/** The index (int32) of the first largest element along an axis, or in the flattened tensor; the first NaN if any. */
export const argmax = argReduction("argmax", raw.argmax);
/** The index (int32) of the first smallest element along an axis, or in the flattened tensor; the first NaN if any. */
export const argmin = argReduction("argmin", raw.argmin);

/** The indices (int32) that sort x along its last axis, ascending and stable; NaN comes last. */
export const argsort = operation((x: Tensor): Tensor => {
  if (checkTensor("argsort", x).rank === 0)
    throw new ShapeError("argsort: needs at least one axis, got a scalar");
  return raw.argsort(x);
});
