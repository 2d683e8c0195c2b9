export {
  type AlphaFlowOptions,
  type AlphaFlowPoints,
  type AlphaSchedule,
  alphaFlow,
  type SigmoidAlphaOptions,
  sigmoidAlpha,
} from "./alpha-flow.js";
export { type ConsistencyOptions, type ConsistencyPoints, consistency } from "./consistency.js";
export {
  type ExactAverageVelocityField,
  type ExactVelocityField,
  type MixtureAverageVelocityOptions,
  type MixtureParameters,
  type MixtureVelocityOptions,
  mixtureAverageVelocity,
  mixtureVelocity,
} from "./exact-mixture.js";
export { type FlowMatchingOptions, flowMatching } from "./flow-matching.js";
export type { FlexibleGuidance, GuidanceDraws, GuidedPoints, MeanFlowGuidance } from "./guidance.js";
export type { IntervalOptions } from "./interval-objective.js";
export {
  type IntervalDistribution,
  type IntervalRequest,
  type IntervalTimesOptions,
  intervalTimes,
} from "./intervals.js";
export {
  type LagrangianSelfDistillationOptions,
  lagrangianSelfDistillation,
} from "./lagrangian-self-distillation.js";
export {
  type ImprovedMeanFlowOptions,
  improvedMeanFlow,
  type MeanFlowOptions,
  meanFlow,
} from "./mean-flow.js";
export type {
  AverageVelocityObjective,
  Draws,
  IntervalPoints,
  LossAndRaw,
  Objective,
  Pairs,
  SampleTimesOptions,
  VelocityObjective,
  VelocityPoints,
} from "./objective.js";
export type { Orientation } from "./orientation.js";
/**
 * Settings that belong together, for data in few dimensions: each gives the options of a `Trainer` but data and seed, to
 * be spread into them, and changed where one likes:
 *
 *     const steps = 5001;
 *     const trainer = new Trainer({ ...flow.recipes.best({ dim: 2, steps }), data: data.checkerboard(), seed: 0 });
 *     await trainer.fit({ steps });
 *     await trainer.sample(10_000, { sampler: flow.oneStep() });
 */
export * as recipes from "./recipes.js";
export { type Sampled, type SampleOptions, sample, sampleAsync, type Trajectory } from "./sample.js";
export {
  type AdaptiveSampler,
  type DormandPrinceOptions,
  dormandPrince,
  type EmbeddedPair,
  euler,
  type FixedSampler,
  type FixedStepOptions,
  heun,
  meanFlowSteps,
  midpoint,
  oneStep,
  rungeKutta4,
  type Sampler,
  type SamplerStep,
  type StepControl,
  type Tableau,
} from "./samplers/index.js";
export { type ShortcutOptions, shortcut } from "./shortcut.js";
export { type SplitMeanFlowOptions, type SplitMeanFlowPoints, splitMeanFlow } from "./split-mean-flow.js";
export { type StableTargetOptions, stableTarget, type VelocityEstimate } from "./stable-target.js";
export {
  type AtomOptions,
  type LogitNormalOptions,
  logitNormalTimes,
  type TimeDistribution,
  uniformTimes,
  withAtom,
} from "./times.js";
export type { TangentSource } from "./velocity-head.js";
export { type AdaptiveWeightingOptions, adaptiveWeighting, type Weighting } from "./weighting.js";
