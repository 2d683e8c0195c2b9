export { type CheckGradsOptions, checkGrads } from "./check-grads.js";
export { checkpoint } from "./checkpoint.js";
export { customJvp } from "./custom-jvp.js";
export { customVjp } from "./custom-vjp.js";
export { hessian, hvp, type JacobianOptions, jacfwd, jacrev, type Outer } from "./jacobian.js";
export { jvp } from "./jvp.js";
export { forLoop, type ScanOptions, scan } from "./scan.js";
export { type Argnums, type Gradient, type GradOptions, grad, linearize, valueAndGrad, vjp } from "./vjp.js";
export { type BatchAxes, vmap } from "./vmap.js";
