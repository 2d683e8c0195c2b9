import { ValueError } from "../errors.js";
import { gelu, relu, sigmoid, silu, softplus, tanh } from "../ops/index.js";
import { describe } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";

const activations = {
  /** Exact, by erf. */
  gelu: (x: Tensor): Tensor => gelu(x),
  silu: (x: Tensor): Tensor => silu(x),
  relu: (x: Tensor): Tensor => relu(x),
  tanh: (x: Tensor): Tensor => tanh(x),
  sigmoid: (x: Tensor): Tensor => sigmoid(x),
  softplus: (x: Tensor): Tensor => softplus(x),
  identity: (x: Tensor): Tensor => x,
};

/** The activations that have a name. */
export type ActivationName = keyof typeof activations;

/** A named activation, or any elementwise function. A mean-flow network needs one with a derivative: prefer smooth ones. */
export type Activation = ActivationName | ((x: Tensor) => Tensor);

/**
 * The function of an activation: `"gelu"` (exact, by erf), `"silu"`, `"relu"`, `"tanh"`, `"sigmoid"`, `"softplus"`,
 * `"identity"`, or a function, which is given back as it is. Throws ValueError for an unknown name.
 */
export function activation(name: Activation): (x: Tensor) => Tensor {
  if (typeof name === "function") return name;
  if (typeof name === "string" && Object.hasOwn(activations, name)) return activations[name];
  throw new ValueError(
    `activation: unknown activation ${describe(name)}; use one of ${Object.keys(activations).join(", ")}, or a function`,
  );
}

/**
 * The largest absolute derivative of each activation, which is its Lipschitz constant, rounded up: gelu' is largest at
 * sqrt(2), silu' at about 2.4.
 */
const steepest: Record<ActivationName, number> = {
  gelu: 1.128905,
  silu: 1.09984,
  relu: 1,
  tanh: 1,
  sigmoid: 0.25,
  softplus: 1,
  identity: 1,
};

/** The Lipschitz constant of a named activation, rounded up. Throws ValueError for any other. */
export function activationLipschitz(name: Activation): number {
  if (typeof name === "string" && Object.hasOwn(steepest, name)) return steepest[name];
  throw new ValueError(
    `activationLipschitz: needs one of ${Object.keys(steepest).join(", ")}, whose slope is known, got ${describe(name)}`,
  );
}
