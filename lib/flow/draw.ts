import type { Condition, Field } from "../models/index.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Orientation } from "./orientation.js";

/** What a draw starts from, after all checks. */
export interface Draw {
  readonly field: Field;
  readonly params: unknown;
  /** [n, ...dim]. */
  readonly noise: Tensor;
  readonly orientation: Orientation;
  readonly condition: Condition | undefined;
  /** Whether the states at all the times are wanted too. */
  readonly keep: boolean;
}

/** What a draw ends with. */
export interface Drawn {
  /** [n, ...dim]. */
  readonly final: Tensor;
  /** [steps + 1, n, ...dim], from the noise to the samples, if wanted. */
  readonly trajectory: Tensor | undefined;
  /** The times of these states, in the order in which they were passed. */
  readonly times: readonly number[];
  /** How many times the field was evaluated. */
  readonly evaluations: number;
}
