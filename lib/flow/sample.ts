import { scan } from "../autodiff/index.js";
import { type Jitted, jit } from "../compile/jit.js";
import { ValueError } from "../errors.js";
import { isTracing } from "../graph/trace.js";
import type { AverageVelocityField, Condition, Field, FieldKind, VelocityField } from "../models/index.js";
import { broadcastTo, concat, expandDims, tensor } from "../ops/index.js";
import { checkFlag, checkOptions, describe } from "../options.js";
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
 * sampler's steps. All steps are one program, a loop, compiled once for each field, kind of sampler and number of steps.
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
  const way = isTracing() ? wayOf(field, sampler.step) : compiledWay(field, sampler.step);
  return finished(way(...inputs(params, noise, times, options)), noise, times);
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
  const way = compiledWay(field, sampler.step);
  return finished(await way.async(...inputs(params, noise, times, options)), noise, times);
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

/** From noise, times [steps] at which steps begin and end, and so on, to the last state and, if kept, all after the first. */
type Way = (
  params: unknown,
  noise: Tensor,
  ends: { readonly from: Tensor; readonly to: Tensor },
  condition: Condition | undefined,
  keep: boolean,
) => { final: Tensor; states: Tensor | undefined };

function inputs(
  params: unknown,
  noise: Tensor,
  times: readonly number[],
  { condition, trajectory = false }: SampleOptions,
): Parameters<Way> {
  const { dtype } = noise;
  const ends = { from: tensor(times.slice(0, -1), { dtype }), to: tensor(times.slice(1), { dtype }) };
  return [params, noise, ends, condition, trajectory];
}

function finished(
  { final, states }: ReturnType<Way>,
  noise: Tensor,
  times: readonly number[],
): Tensor | Trajectory {
  if (states === undefined) return final;
  return { final, trajectory: concat([expandDims(noise, 0), states], 0), times: [...times] };
}

/** All the steps as one loop. */
function wayOf(field: Field, step: SamplerStep<never>): Way {
  return (params, noise, ends, condition, keep) => {
    const [final, states] = scan(
      (z: Tensor, { from, to }: typeof ends) => {
        const column = (time: Tensor) => broadcastTo(time, [z.shape[0]!, 1]);
        const next = step(field as never, params, z, column(from), column(to), condition);
        checkOutput("sample", next, z);
        return [next, keep ? next : undefined] as const;
      },
      noise,
      ends,
    );
    return { final, states };
  };
}

const compiled = new WeakMap<Field, WeakMap<SamplerStep<never>, Jitted<Way>>>();

/** The way as a compiled program, kept for as long as the field lives. */
function compiledWay(field: Field, step: SamplerStep<never>): Jitted<Way> {
  let ways = compiled.get(field);
  if (ways === undefined) compiled.set(field, (ways = new WeakMap()));
  let program = ways.get(step);
  if (program === undefined) ways.set(step, (program = jit(wayOf(field, step))));
  return program;
}
