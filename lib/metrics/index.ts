export {
  checkerboardValidity,
  type TileTotalVariationOptions,
  tileTotalVariation,
} from "./checkerboard-metrics.js";
export { energyDistance } from "./energy-distance.js";
export {
  type IntervalConsistencyPoints,
  intervalConsistency,
  intervalResidual,
} from "./interval-consistency.js";
export { type MaximumMeanDiscrepancyOptions, maximumMeanDiscrepancy } from "./maximum-mean-discrepancy.js";
export { type SlicedWassersteinOptions, slicedWasserstein } from "./sliced-wasserstein.js";
