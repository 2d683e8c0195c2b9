import { ValueError } from "../errors.js";
import type { AverageVelocityField, Condition, Field, FieldKind, VelocityField } from "../models/index.js";
import { add, maximum, minimum, mul, sub } from "../ops/index.js";
import { checkCount, checkNumber, checkOptions, describe } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import { columnOf } from "./orientation.js";

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

/** How samples are drawn with a field of this kind (or of either kind; plain `Sampler` is any sampler). */
export interface Sampler<Kind extends FieldKind = never> {
  readonly name: string;
  /** The kinds of field that it can step, for the check at run time. */
  readonly kinds: readonly FieldKind[];
  /** The times at which a step begins or ends, increasing from 0 to 1; the orientation says in which order they pass. */
  readonly times: readonly number[];
  readonly step: SamplerStep<Kind>;
}

/** z_to = z + (to - from) v(z, from), v(z, t) = u(z, t, t) for an average-velocity field. */
const eulerStep: SamplerStep<FieldKind> = (field: Field, params, z, from, to, condition) => {
  const v =
    field.kind === "velocity"
      ? field.apply(params, z, from, condition)
      : field.apply(params, z, from, from, condition);
  return add(z, mul(columnOf(sub(to, from), z.rank), v));
};

/**
 * z_to = z + (to - from) u(z, r, t) over the interval [r, t] of both times. Data-to-noise this is
 * z_r = z_t - (t - r) u(z_t, r, t), noise-to-data z_t = z_r + (t - r) u(z_r, r, t): z is always the state at the end
 * at which the field was anchored in training.
 */
const meanFlowStep: SamplerStep<"average-velocity"> = (field, params, z, from, to, condition) => {
  const u = field.apply(params, z, minimum(from, to), maximum(from, to), condition);
  return add(z, mul(columnOf(sub(to, from), z.rank), u));
};

export interface EulerOptions {
  /** Number of equal steps. */
  readonly steps: number;
}

/** Euler's method with equal steps, for both kinds of field (u(z, t, t) is an average-velocity field's velocity). */
export function euler(options: EulerOptions): Sampler<FieldKind> {
  checkOptions("euler", options, ["steps"]);
  const steps = checkCount("euler", "steps", options.steps);
  return { name: "euler", kinds: ["velocity", "average-velocity"], times: even(steps), step: eulerStep };
}

/** One mean-flow step over the whole of [0, 1]: x = e - u(e, 0, 1) (data-to-noise). One evaluation of the field. */
export function oneStep(): Sampler<"average-velocity"> {
  return meanFlowSteps({ steps: 1 });
}

export type MeanFlowStepsOptions =
  | {
      /** Number of equal steps. */
      readonly steps: number;
    }
  | {
      /** The times at which steps begin and end: from 0 to 1 or from 1 to 0, strictly monotone. */
      readonly times: readonly number[];
    };

/** Mean-flow steps with an average-velocity field, each exact for an exact field: equal ones, or over given times. */
export function meanFlowSteps(options: MeanFlowStepsOptions): Sampler<"average-velocity"> {
  checkOptions("meanFlowSteps", options, ["steps", "times"]);
  const given = options as { readonly steps?: number; readonly times?: readonly number[] };
  if ((given.steps === undefined) === (given.times === undefined))
    throw new ValueError("meanFlowSteps: give either steps or times");
  const times =
    given.times === undefined
      ? even(checkCount("meanFlowSteps", "steps", given.steps))
      : checkKnots(given.times);
  return { name: "mean flow", kinds: ["average-velocity"], times, step: meanFlowStep };
}

function even(steps: number): number[] {
  return Array.from({ length: steps + 1 }, (_, i) => i / steps);
}

function checkKnots(times: unknown): number[] {
  if (!Array.isArray(times) || times.length < 2)
    throw new ValueError(
      `meanFlowSteps: times must be an array of at least two numbers, got ${describe(times)}`,
    );
  const knots = times.map((t, i) => checkNumber("meanFlowSteps", `times[${i}]`, t, { min: 0, max: 1 }));
  if (knots[0]! > knots.at(-1)!) knots.reverse();
  if (knots[0] !== 0 || knots.at(-1) !== 1 || knots.some((t, i) => i > 0 && t <= knots[i - 1]!))
    throw new ValueError(
      `meanFlowSteps: times must go strictly from 0 to 1 or from 1 to 0, got [${times.slice(0, 12).join(", ")}${times.length > 12 ? ", ..." : ""}]`,
    );
  return knots;
}
