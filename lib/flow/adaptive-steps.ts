import { jit } from "../compile/jit.js";
import { NonFiniteError, ValueError } from "../errors.js";
import type { Condition } from "../models/index.js";
import {
  abs,
  add,
  broadcastTo,
  div,
  less,
  maximum,
  mean,
  mul,
  sqrt,
  square,
  stack,
  sub,
  tensor,
  where,
} from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import { type Calls, call } from "./calls.js";
import type { Draw, Drawn } from "./draw.js";
import { perField } from "./per-field.js";
import type { AdaptiveSampler } from "./samplers/index.js";
import { type EmbeddedPair, rungeKutta, weightedSum } from "./samplers/runge-kutta.js";
import { velocityAt } from "./samplers/velocity.js";
import { firstLength, lengthFactor, trialLength } from "./step-control.js";

/**
 * Draws by steps whose lengths follow from their estimated errors. The loop runs here, each of its turns one call of a
 * compiled program, since the number of turns depends on the values.
 */
export function* drawAdaptive(sampler: AdaptiveSampler, draw: Draw): Calls<Drawn> {
  const { params, noise, condition, keep } = draw;
  const { name, pair, maxSteps } = sampler;
  const { dtype } = noise;
  if (dtype === "float32" && sampler.absoluteTolerance < 2 ** -126)
    throw new ValueError(
      `sample (${name}): absoluteTolerance ${sampler.absoluteTolerance} is zero in the noise's dtype, float32`,
    );
  const at = (time: number) => tensor(time, { dtype });
  // Times are numbers of the state's dtype, so that the lengths that programs see add up.
  const rounded = dtype === "float32" ? Math.fround : (time: number) => time;
  const shortest = 10 * (dtype === "float32" ? 2 ** -23 : 2 ** -52);
  const [begin, end] = draw.orientation === "data-to-noise" ? [1, 0] : [0, 1];
  const towards = (time: number, length: number) => rounded(begin === 1 ? time - length : time + length);
  const tolerances = { absolute: at(sampler.absoluteTolerance), relative: at(sampler.relativeTolerance) };
  const programs = programsOf(draw.field, pair);

  const start = yield* call(programs.start, params, noise, at(begin), tolerances, condition);
  const speeds = numbers(start.speeds);
  if (!speeds.every(Number.isFinite)) throw notFinite(name, begin, speeds);
  const trial = Math.max(shortest, trialLength(numbers(start.sizes), speeds));
  const reached = at(towards(begin, trial));
  const accelerations = numbers(
    yield* call(programs.probe, params, noise, start.slope, at(begin), reached, tolerances, condition),
  );
  let length = Math.max(shortest, firstLength(trial, speeds, accelerations, pair.errorOrder));

  let [time, z, slope] = [begin, noise, start.slope];
  const [times, states] = [[time], [z]];
  let evaluations = 2;
  let errors: number[] = [];
  let retried = false;
  for (let tried = 0; time !== end; tried++) {
    if (tried === maxSteps) throw tooMany(name, maxSteps, time, end);
    const left = Math.abs(end - time);
    if (length < Math.min(shortest, left)) throw tooShort(name, time, errors, dtype);
    // A step that nearly gets there goes there: what it would leave is too short to be worth a step.
    const to = 1.01 * length >= left ? end : towards(time, length);
    const made = yield* call(programs.step, params, z, slope, at(time), at(to), tolerances, condition);
    evaluations += pair.tableau.nodes.length;
    errors = numbers(made.errors);
    const error = errors.reduce((a, b) => Math.max(a, b));
    const accepted = error <= 1;
    const factor = lengthFactor(error, pair.errorOrder);
    // Just after a rejected step, the estimate that made it longer again would mostly be wrong again.
    length = Math.abs(to - time) * (accepted && retried ? Math.min(1, factor) : factor);
    retried = !accepted;
    if (!accepted) continue;
    [time, z, slope] = [to, made.next, made.slope];
    if (!keep) continue;
    times.push(time);
    states.push(z);
  }
  return { final: z, trajectory: keep ? stack(states) : undefined, times, evaluations };
}

/** How large the error may be, as scalars. */
interface Tolerances {
  readonly absolute: Tensor;
  readonly relative: Tensor;
}

/** The programs of a field; times are scalars, and measures are by sample, [n]. */
const programsOf = perField((field, pair: EmbeddedPair) => {
  const velocity = (params: unknown, z: Tensor, t: Tensor, condition: Condition | undefined) =>
    velocityAt(field, params, z, t, condition);
  const column = (time: Tensor, z: Tensor) => broadcastTo(time, [z.shape[0]!, 1]);

  /** The first slope, and in units of the tolerance the size of the state and of the slope. */
  const start = jit(
    (params: unknown, z: Tensor, from: Tensor, tolerances: Tolerances, condition: Condition | undefined) => {
      const slope = velocity(params, z, column(from, z), condition);
      const unit = tolerated(tolerances, abs(z));
      return { slope, sizes: measure(z, unit), speeds: measure(slope, unit) };
    },
  );

  /** How fast the slope changes along an Euler step. */
  const probe = jit(
    (
      params: unknown,
      z: Tensor,
      slope: Tensor,
      from: Tensor,
      to: Tensor,
      tolerances: Tolerances,
      condition: Condition | undefined,
    ) => {
      const length = sub(to, from);
      const reached = add(z, mul(length, slope));
      const change = sub(velocity(params, reached, column(to, z), condition), slope);
      return measure(div(change, length), tolerated(tolerances, abs(z)));
    },
  );

  /** The next state, the slope there, and the estimated errors in units of the tolerance. */
  const step = jit(
    (
      params: unknown,
      z: Tensor,
      slope: Tensor,
      from: Tensor,
      to: Tensor,
      tolerances: Tolerances,
      condition: Condition | undefined,
    ) => {
      const [begin, end] = [column(from, z), column(to, z)];
      const v = (state: Tensor, t: Tensor) => velocity(params, state, t, condition);
      const { next, slopes } = rungeKutta(pair.tableau, v, z, begin, end, slope);
      const last = v(next, end);
      const error = mul(sub(to, from), weightedSum(pair.error, [...slopes, last]));
      const unit = tolerated(tolerances, maximum(abs(z), abs(next)));
      return { next, slope: last, errors: measure(error, unit) };
    },
  );

  return { start, probe, step };
});

/** The error that a state of this magnitude may have. */
function tolerated({ absolute, relative }: Tolerances, magnitude: Tensor): Tensor {
  return add(absolute, mul(relative, magnitude));
}

/** The root of the mean square of x over the dimensions of each sample, in this unit: [n]. An infinite unit gives NaN. */
function measure(x: Tensor, unit: Tensor): Tensor {
  const ratio = where(less(unit, Number.POSITIVE_INFINITY), div(x, unit), Number.NaN);
  return sqrt(mean(square(ratio), x.shape.map((_, i) => i).slice(1)));
}

function numbers(x: Tensor): number[] {
  return Array.from(x.toTypedArray());
}

function notFinite(name: string, time: number, measures: readonly number[]): NonFiniteError {
  const row = measures.findIndex((x) => !Number.isFinite(x));
  return new NonFiniteError(
    `sample (${name}): the state and its velocity do not stay finite at time ${time}, first in row ${row}: ` +
      "the field gives NaN or grows without bound there",
  );
}

function tooMany(name: string, maxSteps: number, time: number, end: number): ValueError {
  return new ValueError(
    `sample (${name}): maxSteps = ${maxSteps} steps are used up at time ${time}, before time ${end}; ` +
      "allow more steps, or larger errors by relativeTolerance and absoluteTolerance",
  );
}

/** Why no step is short enough. */
function tooShort(name: string, time: number, errors: readonly number[], dtype: string): Error {
  if (!errors.every(Number.isFinite)) return notFinite(name, time, errors);
  const row = errors.indexOf(errors.reduce((a, b) => Math.max(a, b)));
  return new ValueError(
    `sample (${name}): at time ${time} no step that ${dtype} resolves is short enough for the tolerances in row ${row}: ` +
      "the field jumps or grows without bound there, or relativeTolerance and absoluteTolerance are too small for the dtype",
  );
}
