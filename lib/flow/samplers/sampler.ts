import { ValueError } from "../../errors.js";
import type { AverageVelocityField, Condition, FieldKind, VelocityField } from "../../models/index.js";
import { checkCount, checkNumber, describe } from "../../options.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { EmbeddedPair } from "./runge-kutta.js";

interface FieldOfKind {
  velocity: VelocityField;
  "average-velocity": AverageVelocityField;
}

/**
 * The step of a sampler: the state at time `to` from z, the state at time `from` (both times [batch, 1]). It does
 * not depend on the orientation: `to` is below `from` when data stands at time 0, and above it otherwise.
 * A step function is compiled once for each field, so it must be pure.
 */
export type SamplerStep<Kind extends FieldKind> = (
  field: FieldOfKind[Kind],
  params: unknown,
  z: Tensor,
  from: Tensor,
  to: Tensor,
  condition: Condition | undefined,
) => Tensor;

/** A sampler whose steps are known beforehand, for fields of this kind: all of them are one compiled program. */
export interface FixedSampler<Kind extends FieldKind = never> {
  readonly type: "fixed";
  readonly name: string;
  /** The kinds of field that it can step, for the check at run time. */
  readonly kinds: readonly FieldKind[];
  /** The times at which a step begins or ends, increasing from 0 to 1; the orientation says in which order they pass. */
  readonly times: readonly number[];
  readonly step: SamplerStep<Kind>;
  /** How many times one draw evaluates the field. */
  readonly evaluations: number;
}

/** How far the error of each step may go, and how many steps there may be. */
export interface StepControl {
  /** >= 0. */
  readonly relativeTolerance: number;
  /** > 0, in the units of the state. */
  readonly absoluteTolerance: number;
  /** The most steps that one draw tries, accepted or rejected. */
  readonly maxSteps: number;
}

/** A sampler that chooses its steps as it goes, by an estimate of the error of each: for fields of both kinds. */
export interface AdaptiveSampler extends StepControl {
  readonly type: "adaptive";
  readonly name: string;
  /** The kinds of field that it can step, for the check at run time. */
  readonly kinds: readonly FieldKind[];
  readonly pair: EmbeddedPair;
}

/** How samples are drawn with a field of this kind (or of either kind; plain `Sampler` is any sampler). */
export type Sampler<Kind extends FieldKind = never> = FixedSampler<Kind> | AdaptiveSampler;

/** Throws ValueError unless it is a sampler that a draw can go by. */
export function checkSampler(where: string, sampler: Sampler): void {
  if (sampler?.type === "adaptive") {
    checkStepControl(`${where} (${sampler.name})`, sampler);
    return;
  }
  if (sampler?.type !== "fixed" || typeof sampler.step !== "function" || !Array.isArray(sampler.times))
    throw new ValueError(
      `${where}: needs a sampler, such as euler({ steps: 100 }), got ${describe(sampler)}`,
    );
}

/** The control, if it has a positive tolerance and a number of steps; else ValueError. */
export function checkStepControl(where: string, control: StepControl): StepControl {
  const { relativeTolerance, absoluteTolerance, maxSteps } = control;
  return {
    relativeTolerance: checkNumber(where, "relativeTolerance", relativeTolerance, { min: 0 }),
    absoluteTolerance: checkNumber(where, "absoluteTolerance", absoluteTolerance, { above: 0 }),
    maxSteps: checkCount(where, "maxSteps", maxSteps),
  };
}
