export { type LossCurvesOptions, lossCurves } from "./curves.js";
export type { Figure } from "./figure.js";
export { type ImageGridOptions, imageGrid } from "./images.js";
export type { Points } from "./points.js";
export {
  type QualityCurvesOptions,
  type QualityPanel,
  type QualityPoint,
  qualityCurves,
} from "./quality.js";
export { type ScatterGridOptions, type ScatterOptions, scatter, scatterGrid } from "./scatter.js";
