import "./methods.js";

export { type AttentionOptions, attention } from "./attention.js";
export {
  arange,
  type DTypeOption,
  eye,
  full,
  linspace,
  ones,
  type TensorData,
  type TensorOptions,
  tensor,
  zeros,
} from "./creation.js";
export * from "./cumulative.js";
export { einsum } from "./einsum.js";
export * from "./elementwise.js";
export * from "./indexing.js";
export * from "./matmul.js";
export { type LayerNormOptions, layerNorm, type RmsNormOptions, rmsNorm } from "./normalization.js";
export type { TensorLike } from "./operation.js";
export * from "./reduction.js";
export * from "./shaping.js";
