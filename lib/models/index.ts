export type { AverageVelocityField, Dim, Field, FieldKind, VelocityField } from "./field.js";
export { averageVelocityMlp, type MlpFieldOptions, velocityMlp } from "./mlp-fields.js";
export type { TimeEmbedding } from "./time-features.js";
