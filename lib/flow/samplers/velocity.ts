import type { Condition, Field } from "../../models/index.js";
import type { Tensor } from "../../tensor/tensor.js";
import { checkOutput } from "../checks.js";

/** The velocity at state z and time t [batch, 1]: v(z, t), or u(z, t, t) for an average-velocity field. */
export function velocityAt(
  field: Field,
  params: unknown,
  z: Tensor,
  t: Tensor,
  condition: Condition | undefined,
): Tensor {
  const v =
    field.kind === "velocity"
      ? field.apply(params, z, t, condition)
      : field.apply(params, z, t, t, condition);
  return checkOutput("sample", v, z);
}
