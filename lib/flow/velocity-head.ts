import { ValueError } from "../errors.js";
import type { Condition } from "../models/index.js";
import { stopGradient } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkOutput } from "./checks.js";
import { type Evaluation, evaluate } from "./interval-objective.js";

/**
 * Where an objective takes the network's own velocity from: "boundary" is u(z, t, t), "velocity-head" a second output
 * of the field, see `AverageVelocityField.applyWithVelocity`.
 */
export type TangentSource = "boundary" | "velocity-head";

/** What a network gives at (z, r, t): u and, when its velocity head is asked, too, that one's v. */
export type Prediction = [u: Tensor, v: Tensor | undefined];

export function predict<P>(
  evaluation: Evaluation<P>,
  source: TangentSource,
  z: Tensor,
  r: Tensor,
  t: Tensor,
  condition: Condition | undefined,
): Prediction {
  if (source === "boundary") return [evaluate(evaluation, z, r, t, condition), undefined];
  const { where, field, params } = evaluation;
  if (typeof field.applyWithVelocity !== "function")
    throw new ValueError(
      `${where}: tangent "velocity-head" needs a field with a second head, applyWithVelocity(params, z, r, t, ` +
        "condition) giving { u, v }; this field has none",
    );
  const { u, v } = field.applyWithVelocity(params, z, r, t, condition);
  return [checkOutput(where, u, z), checkOutput(where, v, z)];
}

/** The network's own velocity at the time `at`, of which no gradient is taken. */
export function ownVelocity<P>(
  evaluation: Evaluation<P>,
  source: TangentSource,
  z: Tensor,
  at: Tensor,
  condition: Condition | undefined,
): Tensor {
  const [u, v] = predict(evaluation, source, z, at, at, condition);
  return stopGradient(v ?? u);
}
