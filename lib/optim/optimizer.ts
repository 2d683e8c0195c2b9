import { DTypeError } from "../errors.js";
import { add, zeros } from "../ops/index.js";
import { isFloat } from "../tensor/dtype.js";
import { show } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import * as tree from "../tensor/tree.js";

/**
 * A gradient transformation: a pair of pure functions, which run inside a compiled step.
 * Parameters, gradients and updates are trees of float tensors of one structure.
 */
export interface Optimizer<State = tree.Tree> {
  /** The state before the first step. */
  init(params: tree.Tree): State;
  /** What is to be added to the parameters (see `applyUpdates`), and the next state. */
  update<P>(grads: P, state: State, params: P): [updates: P, state: State];
}

/** params + updates, leaf by leaf. Throws ValueError when the trees differ in structure. */
export function applyUpdates<P>(params: P, updates: P): P {
  return tree.map((p, u) => add(p, u), params, updates);
}

/** Zeros like every parameter; throws DTypeError for a parameter that is not a float tensor. */
export function zerosLike(where: string, params: tree.Tree): tree.Tree {
  return tree.map((p) => {
    if (!isFloat(p.dtype))
      throw new DTypeError(`${where}: parameters must be float32 or float64, got ${p.dtype}${show(p.shape)}`);
    return zeros(p.shape, { dtype: p.dtype });
  }, params);
}

/** The counter of the steps done so far: an int32 scalar. */
export const firstStep = (): Tensor => zeros([], { dtype: "int32" });
