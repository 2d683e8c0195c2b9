export { type Activation, type ActivationName, activation, activationLipschitz } from "./activation.js";
export { type EmbeddingOptions, type EmbeddingParams, embedding } from "./embedding.js";
export { type FourierFeaturesOptions, fourierFeatures } from "./fourier-features.js";
export { type LinearOptions, type LinearParams, linear } from "./linear.js";
export { type MlpOptions, type MlpParams, type MlpSizes, type MlpWidths, mlp } from "./mlp.js";
export type { Module, NoParams } from "./module.js";
export {
  type LayerNormParams,
  layerNorm,
  type NormalizationOptions,
  type RmsNormParams,
  rmsNorm,
} from "./normalization.js";
export { type RotaryEmbeddingOptions, rotaryEmbedding } from "./rotary-embedding.js";
export {
  type SelfAttention,
  type SelfAttentionInputs,
  type SelfAttentionOptions,
  type SelfAttentionParams,
  selfAttention,
} from "./self-attention.js";
export { type SequentialParams, sequential } from "./sequential.js";
export { type SwigluOptions, type SwigluParams, swiglu } from "./swiglu.js";
export { type TimestepEmbeddingOptions, timestepEmbedding } from "./timestep-embedding.js";
