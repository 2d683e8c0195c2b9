export {
  averageVelocityError,
  averageVelocityResidual,
  type IntervalStates,
} from "./average-velocity-error.js";
export {
  checkerboardValidity,
  type TileTotalVariationOptions,
  tileTotalVariation,
} from "./checkerboard-metrics.js";
export { energyDistance } from "./energy-distance.js";
export { type IdentityPoints, identityDefect, identityResidual } from "./identity-residual.js";
export {
  type IntervalConsistencyPoints,
  intervalConsistency,
  intervalResidual,
} from "./interval-consistency.js";
export { type MaximumMeanDiscrepancyOptions, maximumMeanDiscrepancy } from "./maximum-mean-discrepancy.js";
export { type SlicedWassersteinOptions, slicedWasserstein } from "./sliced-wasserstein.js";
export {
  type TargetPoints,
  type TargetVariance,
  targetDeparture,
  targetVariance,
} from "./target-variance.js";
export { type VelocityErrorPoints, velocityError, velocityResidual } from "./velocity-error.js";
