import type { Tensor } from "../tensor/tensor.js";

/**
 * A layer or network without state of its own: `init` draws parameters (a tree of tensors) from a random key, and
 * `apply` is a pure function of parameters and input.
 */
export interface Module<Params> {
  /** Parameters of type Params, drawn from the random key. */
  init(key: Tensor): Params;
  apply(params: Params, x: Tensor): Tensor;
}

/** The parameters of a module that has none. */
export type NoParams = Record<string, never>;
