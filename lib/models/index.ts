export {
  type AffineFieldOptions,
  type AffineFieldParams,
  averageVelocityAffine,
  averageVelocityLowRank,
  type LowRankFieldOptions,
  type LowRankFieldParams,
  velocityAffine,
  velocityLowRank,
} from "./affine-fields.js";
export { type DataPredictionOptions, dataPrediction } from "./data-prediction.js";
export {
  type AverageVelocityDitOptions,
  averageVelocityDit,
  type DitBlockParams,
  type DitOptions,
  type DitParams,
  velocityDit,
} from "./dit.js";
export type {
  AverageVelocityField,
  Condition,
  Dim,
  Field,
  FieldKind,
  NoParams,
  VelocityField,
  WithVelocityHead,
} from "./field.js";
export {
  type AverageVelocityMlpOptions,
  averageVelocityMlp,
  type MlpFieldOptions,
  type MlpFieldParams,
  type MlpFieldParts,
  velocityMlp,
} from "./mlp-fields.js";
export {
  averageVelocityMonotone,
  type MonotoneFieldOptions,
  type MonotoneFieldParams,
} from "./monotone-field.js";
export type { TimeEmbedding } from "./time-features.js";
export { averageParamsFromVelocity } from "./warm-start.js";
