export { type AdamOptions, type AdamState, type AdamWOptions, adam, adamw } from "./adam.js";
export { chain } from "./chain.js";
export { clipByGlobalNorm, globalNorm } from "./clip.js";
export { type Ema, ema } from "./ema.js";
export { type MuonOptions, type MuonState, muon } from "./muon.js";
export { applyUpdates, type Optimizer } from "./optimizer.js";
export {
  type CosineOptions,
  constant,
  cosine,
  type ExponentialDecayOptions,
  exponentialDecay,
  type LearningRate,
  type Schedule,
  type WarmupCosineOptions,
  warmupCosine,
} from "./schedules.js";
export { type SgdOptions, type SgdState, sgd } from "./sgd.js";
