import type { NdArray } from "ndarray";
import type { DType, TypedArray } from "../tensor/dtype.js";
import { toNdArray } from "../tensor/ndarray.js";
import type { Shape } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import type { CumsumOptions } from "./cumulative.js";
import * as cumulative from "./cumulative.js";
import * as elementwise from "./elementwise.js";
import * as indexing from "./indexing.js";
import * as products from "./matmul.js";
import type { TensorLike } from "./operation.js";
import type { Axis, ReductionOptions } from "./reduction.js";
import * as reduction from "./reduction.js";
import * as shaping from "./shaping.js";

// The interfaces are written out, not derived from the functions: a class cannot be declared in terms of
// functions that take and give it.

type UnaryName =
  | "neg"
  | "abs"
  | "sign"
  | "square"
  | "sqrt"
  | "rsqrt"
  | "exp"
  | "expm1"
  | "log"
  | "log1p"
  | "sin"
  | "cos"
  | "tanh"
  | "erf"
  | "sigmoid"
  | "relu"
  | "gelu"
  | "silu"
  | "softplus"
  | "floor"
  | "round"
  | "logicalNot"
  | "isFinite"
  | "stopGradient"
  | "argsort";

type BinaryName =
  | "add"
  | "sub"
  | "mul"
  | "div"
  | "pow"
  | "remainder"
  | "maximum"
  | "minimum"
  | "equal"
  | "notEqual"
  | "greater"
  | "greaterEqual"
  | "less"
  | "lessEqual"
  | "logicalAnd"
  | "logicalOr";

type ReductionName = "sum" | "mean" | "variance" | "max" | "min" | "prod" | "logsumexp";

type UnaryMethods = { [K in UnaryName]: () => Tensor };
type BinaryMethods = { [K in BinaryName]: (other: TensorLike) => Tensor };
type ReductionMethods = { [K in ReductionName]: (axis?: Axis, options?: ReductionOptions) => Tensor };

interface OtherMethods {
  /** a where this condition holds, else b. */
  where(a: TensorLike, b: TensorLike): Tensor;
  clip(low?: TensorLike, high?: TensorLike): Tensor;
  cast(dtype: DType): Tensor;
  softmax(axis?: number): Tensor;
  logSoftmax(axis?: number): Tensor;
  argmax(axis?: number, options?: ReductionOptions): Tensor;
  argmin(axis?: number, options?: ReductionOptions): Tensor;
  cumsum(axis?: number, options?: CumsumOptions): Tensor;
  matmul(other: Tensor): Tensor;
  transpose(perm?: readonly number[]): Tensor;
  reshape(shape: Shape): Tensor;
  broadcastTo(shape: Shape): Tensor;
  expandDims(axis: number): Tensor;
  squeeze(axis?: number | readonly number[]): Tensor;
  split(sections: number | readonly number[], axis?: number): Tensor[];
  slice(start: readonly number[], size: readonly number[]): Tensor;
  pad(widths: readonly (readonly [number, number])[]): Tensor;
  flip(axis?: number | readonly number[]): Tensor;
  take(indices: Tensor, axis?: number): Tensor;
  oneHot(depth: number, options?: { readonly dtype?: DType }): Tensor;
  /** An ndarray over the tensor's own elements, without a copy: for reading, since tensors are immutable. */
  toNdarray(): NdArray<TypedArray>;
}

declare module "../tensor/tensor.js" {
  interface Tensor extends UnaryMethods, BinaryMethods, ReductionMethods, OtherMethods {}
}

const { concat: _concat, stack: _stack, ...shapes } = shaping;
const methods = {
  ...elementwise,
  ...shapes,
  ...reduction,
  ...cumulative,
  ...indexing,
  ...products,
  toNdarray: toNdArray,
};

for (const [name, f] of Object.entries(methods)) {
  Object.defineProperty(Tensor.prototype, name, {
    value(this: Tensor, ...rest: unknown[]) {
      return (f as (...args: unknown[]) => unknown)(this, ...rest);
    },
    configurable: true,
    writable: true,
  });
}
