export { type DormandPrinceOptions, dormandPrince } from "./dormand-prince.js";
export { euler, heun, midpoint, rungeKutta4 } from "./fixed.js";
export type { FixedStepOptions } from "./grid.js";
export { meanFlowSteps, oneStep } from "./mean-flow-steps.js";
export type { EmbeddedPair, Tableau } from "./runge-kutta.js";
export {
  type AdaptiveSampler,
  checkSampler,
  type FixedSampler,
  type Sampler,
  type SamplerStep,
  type StepControl,
} from "./sampler.js";
