import { type Jitted, jit } from "../compile/jit.js";
import { ValueError } from "../errors.js";
import { isTracing } from "../graph/trace.js";
import type { AverageVelocityField, Condition, Field, FieldKind, VelocityField } from "../models/index.js";
import { broadcastTo, full, stack } from "../ops/index.js";
import { checkFlag, checkOptions, describe } from "../options.js";
import type { DType } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import {
  checkBatch,
  checkCondition,
  checkField,
  checkFinite,
  checkFloatTensor,
  checkOutput,
} from "./checks.js";
import { checkOrientation, type Orientation } from "./orientation.js";
import type { Sampler, SamplerStep } from "./samplers.js";

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
}

/** What `sample` gives with these options. */
export type Sampled<Options> = Options extends { readonly trajectory: true } ? Trajectory : Tensor;

/**
 * Draws samples: carries noise [n, ...dim] along the field, from the noise end of time to the data end, by the
 * sampler's steps. The step is compiled once for each field and kind of sampler, with the times as its arguments.
 *
 * Gives the samples, like the noise; with `trajectory: true` a `Trajectory`.
 *
 * Errors: ValueError when the sampler cannot step this kind of field, for unknown options or noise that is not finite;
 * ShapeError for an empty batch or shapes that do not fit the field.
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
  const times = checkedTimes("sample", field, noise, sampler, options);
  const step = isTracing() ? stepOf(field, sampler.step) : compiledStep(field, sampler.step);
  const states = [noise];
  for (let i = 1; i < times.length; i++) {
    const [from, to] = scalars(noise.dtype, times[i - 1]!, times[i]!);
    states.push(step(params, states.at(-1)!, from, to, options.condition));
    if (options.trajectory !== true) states.shift();
  }
  return finished(states, times, options);
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
  const times = checkedTimes("sampleAsync", field, noise, sampler, options);
  const step = compiledStep(field, sampler.step);
  const states = [noise];
  for (let i = 1; i < times.length; i++) {
    const [from, to] = scalars(noise.dtype, times[i - 1]!, times[i]!);
    states.push(await step.async(params, states.at(-1)!, from, to, options.condition));
    if (options.trajectory !== true) states.shift();
  }
  return finished(states, times, options);
}

/** Checks everything, and gives the times in the order in which they are passed. */
function checkedTimes(
  where: string,
  field: Field,
  noise: Tensor,
  sampler: Sampler,
  options: SampleOptions,
): readonly number[] {
  checkOptions(where, options, ["orientation", "condition", "trajectory"]);
  const orientation = checkOrientation(where, options.orientation ?? "data-to-noise");
  checkFlag(where, "trajectory", options.trajectory ?? false);
  if (typeof sampler?.step !== "function" || !Array.isArray(sampler.times))
    throw new ValueError(
      `${where}: needs a sampler, such as euler({ steps: 100 }), got ${describe(sampler)}`,
    );
  checkField(`${where} (${sampler.name})`, field, sampler.kinds);
  checkFloatTensor(where, "noise", noise);
  checkBatch(where, "noise", noise, field.dim);
  checkFinite(where, "noise", noise);
  checkCondition(where, options.condition, noise.shape[0]!);
  return orientation === "data-to-noise" ? [...sampler.times].reverse() : sampler.times;
}

const scalars = (dtype: DType, from: number, to: number): [Tensor, Tensor] => [
  full([], from, { dtype }),
  full([], to, { dtype }),
];

function finished(
  states: readonly Tensor[],
  times: readonly number[],
  options: SampleOptions,
): Tensor | Trajectory {
  const final = states.at(-1)!;
  return options.trajectory === true ? { final, trajectory: stack(states, 0), times: [...times] } : final;
}

type Step = (
  params: unknown,
  z: Tensor,
  from: Tensor,
  to: Tensor,
  condition: Condition | undefined,
) => Tensor;

/** The step with the times as scalars. */
function stepOf(field: Field, step: SamplerStep<never>): Step {
  return (params, z, from, to, condition) => {
    const column = (time: Tensor) => broadcastTo(time, [z.shape[0]!, 1]);
    return checkOutput("sample", step(field as never, params, z, column(from), column(to), condition), z);
  };
}

const compiled = new WeakMap<Field, WeakMap<SamplerStep<never>, Jitted<Step>>>();

/** The step as a compiled program, kept for as long as the field lives. */
function compiledStep(field: Field, step: SamplerStep<never>): Jitted<Step> {
  let steps = compiled.get(field);
  if (steps === undefined) compiled.set(field, (steps = new WeakMap()));
  let program = steps.get(step);
  if (program === undefined) steps.set(step, (program = jit(stepOf(field, step))));
  return program;
}
