import { ValueError } from "../errors.js";
import { checkField, checkLike, checkOutput } from "../flow/checks.js";
import type { Condition, Field, NoParams, VelocityField } from "../models/index.js";
import { sub } from "../ops/index.js";
import { checkOptions } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkStates } from "./checks.js";
import { rootMeanSquare } from "./root-mean-square.js";

/** Where a velocity is compared, and with what: with an exact field, or with its values. */
export type VelocityErrorPoints = {
  /** [n, ...dim]: the states. */
  readonly z: Tensor;
  /** [n, 1], in [0, 1]. */
  readonly t: Tensor;
  /** Given to both fields. */
  readonly condition?: Condition | undefined;
} & (
  | {
      /** The exact velocity, in the orientation of the field: `flow.mixtureVelocity`, or any field without parameters. */
      readonly exact: VelocityField<NoParams>;
    }
  | {
      /** The exact velocity at these states and times, like z. */
      readonly target: Tensor;
    }
);

/**
 * The error of a velocity, [n, ...dim]: v(z, t) - v*(z, t), with v* the exact velocity. For an average-velocity field
 * v(z, t) = u(z, t, t), and this is the boundary residual: the mean-flow identity at r = t. Pure and differentiable.
 *
 * Errors: ValueError for fields of another kind, times outside [0, 1], both or neither of exact and target;
 * ShapeError and DTypeError for tensors that do not fit. Values are checked on concrete tensors only.
 */
export function velocityResidual<P>(field: Field<P>, params: P, points: VelocityErrorPoints): Tensor {
  const where = "velocityError";
  checkOptions(where, points, ["z", "t", "exact", "target", "condition"]);
  const { z, t, condition } = points;
  checkField(where, field, ["velocity", "average-velocity"]);
  checkStates(where, field, z, { t }, condition);
  const velocity =
    field.kind === "velocity"
      ? field.apply(params, z, t, condition)
      : field.apply(params, z, t, t, condition);
  return sub(checkOutput(where, velocity, z), exactVelocity(where, points));
}

/** The root mean square of `velocityResidual` over batch and dimensions, in units of the data. Concrete tensors only. */
export function velocityError<P>(field: Field<P>, params: P, points: VelocityErrorPoints): number {
  return rootMeanSquare(velocityResidual(field, params, points));
}

function exactVelocity(where: string, points: VelocityErrorPoints): Tensor {
  const { z, t, condition } = points;
  const { exact, target } = points as { exact?: VelocityField<NoParams>; target?: Tensor };
  if ((exact === undefined) === (target === undefined))
    throw new ValueError(`${where}: give either exact, a field, or target, its values`);
  if (exact === undefined) {
    checkLike(where, "target", target!, z, "z");
    return target!;
  }
  checkField(`${where}, exact`, exact, ["velocity"]);
  return checkOutput(`${where}, exact`, exact.apply({}, z, t, condition), z);
}
