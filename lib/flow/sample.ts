import { ValueError } from "../errors.js";
import { isTracing } from "../graph/trace.js";
import type { AverageVelocityField, Condition, Field, FieldKind, VelocityField } from "../models/index.js";
import { checkFlag, checkOptions } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import { drawAdaptive } from "./adaptive-steps.js";
import { type Calls, run, runAsync } from "./calls.js";
import { checkBatch, checkCondition, checkField, checkFinite, checkFloatTensor } from "./checks.js";
import type { Drawn } from "./draw.js";
import { drawFixed } from "./fixed-steps.js";
import { checkOrientation, type Orientation } from "./orientation.js";
import { checkSampler, type Sampler } from "./samplers/index.js";

export interface SampleOptions {
  /** The orientation in which the field was trained. Default "data-to-noise". */
  readonly orientation?: Orientation | undefined;
  /** Given to the field as it is; the first axis of its tensors is the batch. */
  readonly condition?: Condition | undefined;
  /** Whether the states at all the times are wanted too. Default false. */
  readonly trajectory?: boolean | undefined;
}

/** Samples with the way they went. */
export interface Trajectory {
  /** The samples: [n, ...dim], the last state of the trajectory. */
  readonly final: Tensor;
  /** [steps + 1, n, ...dim], from the noise to the samples. */
  readonly trajectory: Tensor;
  /** The times of the states, in the order in which they were passed. */
  readonly times: readonly number[];
  /** How many times the field was evaluated (for the whole batch), steps that were rejected included. */
  readonly evaluations: number;
}

/** What `sample` gives with these options. */
export type Sampled<Options> = Options extends { readonly trajectory: true } ? Trajectory : Tensor;

/**
 * Draws samples: carries noise [n, ...dim] along the field, from the noise end of time to the data end, by the
 * sampler's steps. Fixed steps are all one program, a loop, compiled once for each field, kind of sampler and number of
 * steps. An adaptive sampler calls a compiled step as often as it must, so it works only outside of functions that are
 * traced (jit, grad, vmap).
 *
 * Gives the samples, like the noise; with `trajectory: true` a `Trajectory`.
 *
 * Errors: ValueError when the sampler cannot step this kind of field, for unknown options or noise that is not finite;
 * ShapeError for an empty batch or shapes that do not fit the field. With an adaptive sampler also ValueError inside of
 * another trace, when its steps are used up, and where no step is short enough for its tolerances, and NonFiniteError
 * where states and velocities do not stay finite; these name the time.
 */
export function sample<P, const O extends SampleOptions = SampleOptions>(
  field: VelocityField<P>,
  params: P,
  noise: Tensor,
  sampler: Sampler<"velocity">,
  options?: O,
): Sampled<O>;
export function sample<P, const O extends SampleOptions = SampleOptions>(
  field: AverageVelocityField<P>,
  params: P,
  noise: Tensor,
  sampler: Sampler<"average-velocity">,
  options?: O,
): Sampled<O>;
export function sample<P, const O extends SampleOptions = SampleOptions>(
  field: Field<P>,
  params: P,
  noise: Tensor,
  sampler: Sampler<FieldKind>,
  options?: O,
): Sampled<O>;
export function sample(
  field: Field,
  params: unknown,
  noise: Tensor,
  sampler: Sampler,
  options: SampleOptions = {},
): Tensor | Trajectory {
  return finished(run(checkedDraw("sample", field, params, noise, sampler, options)));
}

/** `sample`, computed off the main thread: the event loop stays free. The same arguments, results and errors. */
export function sampleAsync<P, const O extends SampleOptions = SampleOptions>(
  field: VelocityField<P>,
  params: P,
  noise: Tensor,
  sampler: Sampler<"velocity">,
  options?: O,
): Promise<Sampled<O>>;
export function sampleAsync<P, const O extends SampleOptions = SampleOptions>(
  field: AverageVelocityField<P>,
  params: P,
  noise: Tensor,
  sampler: Sampler<"average-velocity">,
  options?: O,
): Promise<Sampled<O>>;
export function sampleAsync<P, const O extends SampleOptions = SampleOptions>(
  field: Field<P>,
  params: P,
  noise: Tensor,
  sampler: Sampler<FieldKind>,
  options?: O,
): Promise<Sampled<O>>;
export async function sampleAsync(
  field: Field,
  params: unknown,
  noise: Tensor,
  sampler: Sampler,
  options: SampleOptions = {},
): Promise<Tensor | Trajectory> {
  return finished(await runAsync(checkedDraw("sampleAsync", field, params, noise, sampler, options)));
}

/** Checks everything, and gives the draw that is to be run. */
function checkedDraw(
  where: string,
  field: Field,
  params: unknown,
  noise: Tensor,
  sampler: Sampler,
  options: SampleOptions,
): Calls<Drawn> {
  checkOptions(where, options, ["orientation", "condition", "trajectory"]);
  const { condition } = options;
  const orientation = checkOrientation(where, options.orientation ?? "data-to-noise");
  const keep = checkFlag(where, "trajectory", options.trajectory ?? false);
  checkSampler(where, sampler);
  checkField(`${where} (${sampler.name})`, field, sampler.kinds);
  checkFloatTensor(where, "noise", noise);
  checkBatch(where, "noise", noise, field.dim);
  checkFinite(where, "noise", noise);
  checkCondition(where, condition, noise.shape[0]!);
  const draw = { field, params, noise, orientation, condition, keep };
  if (sampler.type === "fixed") return drawFixed(sampler, draw);
  if (isTracing())
    throw new ValueError(
      `${where} (${sampler.name}): steps are chosen by values, which are not known inside of a traced function ` +
        "(jit, grad, vmap); use a sampler of fixed steps there, such as rungeKutta4({ steps: 20 })",
    );
  return drawAdaptive(sampler, draw);
}

function finished({ final, trajectory, times, evaluations }: Drawn): Tensor | Trajectory {
  return trajectory === undefined ? final : { final, trajectory, times, evaluations };
}
