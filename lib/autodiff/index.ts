export { type CheckGradsOptions, checkGrads } from "./check-grads.js";
export { jvp } from "./jvp.js";
export { type Argnums, type Gradient, type GradOptions, grad, linearize, valueAndGrad, vjp } from "./vjp.js";
