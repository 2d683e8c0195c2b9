export { type CheckerboardOptions, checkerboard } from "./checkerboard.js";
export {
  type RingsOptions,
  rings,
  type SpiralOptions,
  spiral,
  type TwoMoonsOptions,
  twoMoons,
} from "./curves.js";
export {
  type Distribution,
  isLabelled,
  type LabelledDistribution,
  type LabelledSample,
  type LabelledSampleOptions,
  type SampleOptions,
} from "./distribution.js";
export { type FromTensorOptions, fromTensor } from "./from-tensor.js";
export { type GaussianMixture, type GaussianMixtureOptions, gaussianMixture } from "./gaussian-mixture.js";
export { type GlyphsOptions, glyphs } from "./glyphs.js";
export { type ShapeName, type ShapesOptions, shapes } from "./shapes.js";
