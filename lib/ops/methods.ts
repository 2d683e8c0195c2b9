import type { NdArray } from "ndarray";
import type { TypedArray } from "../tensor/dtype.js";
import { toNdArray } from "../tensor/ndarray.js";
import { Tensor } from "../tensor/tensor.js";
import * as elementwise from "./elementwise.js";
import * as indexing from "./indexing.js";
import * as products from "./matmul.js";
import * as reduction from "./reduction.js";
import * as shaping from "./shaping.js";

const { where, stopGradient, ...pointwise } = elementwise;
const { concat: _concat, stack: _stack, ...shapes } = shaping;
const { argsort, ...reductions } = reduction;
const methods = { ...pointwise, stopGradient, ...shapes, ...reductions, argsort, ...indexing, ...products };

// biome-ignore lint/suspicious/noExplicitAny: any arguments after the first.
type Method<F> = F extends (x: any, ...rest: infer R) => infer T ? (...rest: R) => T : never;

type Methods = { [K in keyof typeof methods]: Method<(typeof methods)[K]> };

declare module "../tensor/tensor.js" {
  // biome-ignore lint/correctness/noUnusedVariables: merged into the class.
  interface Tensor extends Methods {
    /** A where this condition holds, else b. */
    where: Method<typeof where>;
    /** An ndarray over the tensor's own elements, without a copy: for reading, since tensors are immutable. */
    toNdarray(): NdArray<TypedArray>;
  }
}

for (const [name, f] of Object.entries({ ...methods, where })) {
  Object.defineProperty(Tensor.prototype, name, {
    value(this: Tensor, ...rest: unknown[]) {
      return (f as (...args: unknown[]) => unknown)(this, ...rest);
    },
    configurable: true,
    writable: true,
  });
}

Object.defineProperty(Tensor.prototype, "toNdarray", {
  value(this: Tensor) {
    return toNdArray(this);
  },
  configurable: true,
  writable: true,
});
