import { ValueError } from "../errors.js";
import { add, cast, cos, div, floor, full, less, minimum, mul, pow, sub, where } from "../ops/index.js";
import { checkCount, checkFlag, checkNumber, checkOptions, describe } from "../options.js";
import type { DType } from "../tensor/dtype.js";
import { Tensor } from "../tensor/tensor.js";

/**
 * A learning rate as a function of the number of updates done before (0 at the first update; an int32 scalar
 * tensor). The result is a scalar tensor. The schedules here compute in float64.
 */
export type Schedule = (step: Tensor) => Tensor;

/** A learning rate: one number, or a schedule. */
export type LearningRate = number | Schedule;

/** The learning rate, checked: a finite number >= 0 or a function. */
export function checkLearningRate(where: string, rate: unknown): LearningRate {
  if (typeof rate === "function") return rate as Schedule;
  if (typeof rate === "number") return checkNumber(where, "learningRate", rate, { min: 0 });
  throw new ValueError(`${where}: learningRate must be a number >= 0 or a schedule, got ${describe(rate)}`);
}

/** The rate at this step, in the dtype of the parameters it multiplies. */
export function rateAt(rate: LearningRate, step: Tensor): (dtype: DType) => Tensor | number {
  if (typeof rate === "number") return () => rate;
  const value: unknown = rate(step);
  if (!(value instanceof Tensor) || value.size !== 1)
    throw new ValueError(
      `learningRate: a schedule must give a tensor of one element, got ${describe(value)}`,
    );
  const scalar = value.rank === 0 ? value : value.reshape([]);
  return (dtype) => (scalar.dtype === dtype ? scalar : cast(scalar, dtype));
}

const real = (step: Tensor): Tensor => cast(step, "float64");

/** min(step / steps, 1). */
const progress = (step: Tensor, steps: number): Tensor => minimum(div(step, Math.max(steps, 1)), 1);

/** From `from` at progress 0 to `to` at progress 1 along half a cosine. */
const halfCosine = (s: Tensor, from: number, to: number): Tensor =>
  add(mul(add(cos(mul(s, Math.PI)), 1), (from - to) / 2), to);

/** The same learning rate at every step. */
export function constant(value: number): Schedule {
  const rate = checkNumber("constant", "value", value, { min: 0 });
  return () => full([], rate, { dtype: "float64" });
}

export interface CosineOptions {
  /** The rate at step 0. */
  readonly from: number;
  /** The rate from step `steps` on. Default 0. */
  readonly to?: number;
  /** Number of steps of the decay. */
  readonly steps: number;
}

/** to + (from - to) (1 + cos(pi min(step / steps, 1))) / 2 (Loshchilov & Hutter 2017, "SGDR", eq. 5, one period). */
export function cosine(options: CosineOptions): Schedule {
  checkOptions("cosine", options, ["from", "to", "steps"]);
  const from = checkNumber("cosine", "from", options.from, { min: 0 });
  const to = checkNumber("cosine", "to", options.to ?? 0, { min: 0 });
  const steps = checkCount("cosine", "steps", options.steps);
  return (step) => halfCosine(progress(real(step), steps), from, to);
}

export interface WarmupCosineOptions {
  /** The rate at the end of the warm-up. */
  readonly peak: number;
  /** Steps of the warm-up. */
  readonly warmupSteps: number;
  /** Steps in all, the warm-up included. */
  readonly steps: number;
  /** The rate at step 0. Default 0. */
  readonly from?: number;
  /** The rate from step `steps` on. Default 0. */
  readonly to?: number;
}

/** A straight line from `from` to `peak` over the warm-up, then half a cosine down to `to` at step `steps`. */
export function warmupCosine(options: WarmupCosineOptions): Schedule {
  const name = "warmupCosine";
  checkOptions(name, options, ["peak", "warmupSteps", "steps", "from", "to"]);
  const peak = checkNumber(name, "peak", options.peak, { min: 0 });
  const from = checkNumber(name, "from", options.from ?? 0, { min: 0 });
  const to = checkNumber(name, "to", options.to ?? 0, { min: 0 });
  const warmup = checkCount(name, "warmupSteps", options.warmupSteps, 0);
  const steps = checkCount(name, "steps", options.steps);
  if (warmup >= steps)
    throw new ValueError(`${name}: warmupSteps (${warmup}) must be below steps (${steps})`);
  return (step) => {
    const s = real(step);
    const rising = add(mul(progress(s, warmup), peak - from), from);
    const falling = halfCosine(progress(sub(s, warmup), steps - warmup), peak, to);
    return where(less(s, warmup), rising, falling);
  };
}

export interface ExponentialDecayOptions {
  /** The rate at step 0. */
  readonly from: number;
  /** What the rate is multiplied with every `steps` steps. */
  readonly rate: number;
  readonly steps: number;
  /** Whether the rate falls in jumps (at multiples of `steps`) rather than smoothly. Default false. */
  readonly staircase?: boolean;
}

/** from * rate^(step / steps), the exponent rounded down with `staircase`. */
export function exponentialDecay(options: ExponentialDecayOptions): Schedule {
  const name = "exponentialDecay";
  checkOptions(name, options, ["from", "rate", "steps", "staircase"]);
  const from = checkNumber(name, "from", options.from, { min: 0 });
  const rate = checkNumber(name, "rate", options.rate, { above: 0 });
  const steps = checkCount(name, "steps", options.steps);
  const staircase = checkFlag(name, "staircase", options.staircase ?? false);
  return (step) => {
    const exponent = div(real(step), steps);
    return mul(pow(rate64(rate), staircase ? floor(exponent) : exponent), from);
  };
}

const rate64 = (value: number): Tensor => full([], value, { dtype: "float64" });
