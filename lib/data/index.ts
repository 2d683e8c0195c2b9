export { type CheckerboardOptions, checkerboard } from "./checkerboard.js";
export {
  type RingsOptions,
  rings,
  type SpiralOptions,
  spiral,
  type TwoMoonsOptions,
  twoMoons,
} from "./curves.js";
export type { Distribution, SampleOptions } from "./distribution.js";
export { fromTensor } from "./from-tensor.js";
export { type GaussianMixtureOptions, gaussianMixture } from "./gaussian-mixture.js";
