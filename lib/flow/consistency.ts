import { jvp } from "../autodiff/index.js";
import { ValueError } from "../errors.js";
import { add, cast, div, full, minimum, mul, ones, sqrt, square, sub, sum, zeros } from "../ops/index.js";
import { checkCount, checkNumber } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import { anchoredInterval } from "./anchored-interval.js";
import { checkScalar } from "./checks.js";
import {
  checkIntervalOptions,
  type Evaluation,
  type IntervalOptions,
  intervalObjective,
} from "./interval-objective.js";
import { intervalsOf } from "./intervals.js";
import {
  type AverageVelocityObjective,
  checkTimes,
  type IntervalPoints,
  squaredErrors,
} from "./objective.js";
import { columnOf, type Orientation } from "./orientation.js";
import { type TimeDistribution, uniformTimes } from "./times.js";

export interface ConsistencyOptions extends Omit<IntervalOptions, "equalTimeFraction"> {
  /** Distribution of the one time that is drawn: t data-to-noise, r noise-to-data. Default uniform in [0, 1). */
  readonly times?: TimeDistribution;
  /** c in g / (|g| + c), above 0; default 0.1. false: the tangent is taken as it is. */
  readonly tangentNormalization?: number | false;
  /**
   * Number of training steps in which rho grows from 0 to 1, a whole number. Default 0: rho = 1 always. sCM takes 10,000.
   */
  readonly tangentWarmup?: number;
}

/** What the loss of a consistency model is computed from: intervals that end where the data are. */
export interface ConsistencyPoints extends IntervalPoints {
  /** A scalar in [0, 1]: how much of the unstable part of the tangent counts. */
  readonly rho: Tensor;
}

/**
 * The continuous-time consistency objective with normalised tangents (Lu & Song 2024, "Simplifying, stabilizing and
 * scaling continuous-time consistency models", sCM) on straight paths, for an average-velocity field
 * u(z, r, t) of which only r = 0 is learned: f(z, t) = z - t u(z, 0, t) gives the data at once, from any t. Along the path
 * it should not change, and it changes by df/dt = v - u - t du/dt, du/dt being one JVP along (v, 0, 1). The error of a
 * sample is
 *
 *     |u - sg(u + g / (|g| + c))|^2,  g = (v - u) - rho t du/dt,
 *
 * where |g| is the Euclidean norm over a sample's dimensions, as in sCM, so that no sample's error exceeds 1. The loss is
 * its mean over batch and dimensions: it measures the tangents, and need not fall. Without normalisation, and with
 * rho = 1, it is mean flow's on the intervals [0, t]. Noise-to-data, anchored at the earlier time:
 * f(z, r) = z + (1 - r) u(z, r, 1), g = (v - u) + rho (1 - r) du/dr along (v, 1, 0).
 *
 * sCM has the paths cos(a) x + sin(a) e, "TrigFlow". A straight path is the same curve up to a factor that depends on
 * time alone: with a = atan(t / (1 - t)) and N = sqrt(t^2 + (1 - t)^2), z_t = N (cos(a) x + sin(a) e), so f is one
 * function in other coordinates, and no information is lost. sCM's network F, f = cos(a) z_t / N - sin(a) F, is
 * u = F / N + (2t - 1) z_t / N^2; its tangent cos(a) df/da is (1 - t) N df/dt, a factor that the normalisation takes
 * away but for c. While rho < 1, the unstable part is that of straight paths. Left out of sCM: the learned weighting over
 * times, and its distribution of times.
 *
 * `sampleTimes` draws rho = min(1, step / tangentWarmup) with the times: `loss(field, params, { data, noise, r, t, rho,
 * equalCount?, condition? })`. The errors are those of `meanFlow`, and ValueError for intervals that do not end where the
 * data are.
 */
export function consistency(options: ConsistencyOptions = {}): AverageVelocityObjective<ConsistencyPoints> {
  const where = "consistency";
  const checked = checkIntervalOptions(where, options, ["tangentNormalization", "tangentWarmup"], null);
  const { orientation } = checked;
  const time = checkTimes(where, options.times ?? uniformTimes());
  const c = checkNormalization(where, options.tangentNormalization ?? 0.1);
  const warmup = checkCount(where, "tangentWarmup", options.tangentWarmup ?? 0, 0);
  const errorsOf = <P>(evaluation: Evaluation<P>, points: ConsistencyPoints) => errors(evaluation, points, c);
  const times = intervalsOf("to the data", time, ([key], n, dtype) => {
    const from = time.sample(key, n, dtype);
    return orientation === "data-to-noise"
      ? { r: zeros([n, 1], { dtype }), t: from }
      : { r: from, t: ones([n, 1], { dtype }) };
  });
  return intervalObjective<ConsistencyPoints>(
    { ...checked, times },
    {
      name: "consistency",
      errors: errorsOf,
      pointErrors: errorsOf,
      check: (_, points) => checkPoints(where, points, orientation),
      draw: (_, { r: { dtype } }, { step = zeros([], { dtype: "int32" }) }) => ({
        rho: warmup === 0 ? full([], 1, { dtype }) : minimum(div(cast(step, dtype), warmup), 1),
      }),
    },
  );
}

function errors<P>(evaluation: Evaluation<P>, points: ConsistencyPoints, c: number | false): Tensor {
  const { from, to, z, v, u } = anchoredInterval(evaluation, points);
  // The end of the path is closed over: its tangent is zero.
  const [prediction, derivative] = jvp(
    (at: Tensor, moving: Tensor) => u(at, moving, to),
    [z, from],
    [v, ones(from.shape, { dtype: from.dtype })],
  );
  const unstable = mul(columnOf(mul(sub(to, from), points.rho), z.rank), derivative);
  const tangent = add(sub(v, prediction), unstable);
  return squaredErrors(prediction, add(prediction, c === false ? tangent : normalized(tangent, c)));
}

/** g / (|g| + c) for each sample g. */
function normalized(g: Tensor, c: number): Tensor {
  const axes = g.shape.map((_, i) => i).slice(1);
  return div(g, add(sqrt(sum(square(g), axes, { keepDims: true })), c));
}

function checkNormalization(where: string, c: number | false): number | false {
  return c === false ? false : checkNumber(where, "tangentNormalization", c, { above: 0 });
}

function checkPoints(where: string, points: ConsistencyPoints, orientation: Orientation): void {
  checkScalar(where, "rho", points.rho, points.data, { min: 0, max: 1 });
  const [name, end, time] =
    orientation === "data-to-noise" ? (["r", 0, points.r] as const) : (["t", 1, points.t] as const);
  if (time.isSymbolic) return;
  const values = time.toTypedArray();
  const row = values.findIndex((x: number) => x !== end);
  if (row !== -1)
    throw new ValueError(
      `${where}: ${name} must be ${end}, where the data are, got ${values[row]} in row ${row}`,
    );
}
