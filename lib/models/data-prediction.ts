import { ValueError } from "../errors.js";
import { div, maximum, sub } from "../ops/index.js";
import { checkNumber, checkOptions, describe } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import type { AverageVelocityField, Field, VelocityField, WithVelocityHead } from "./field.js";
import { checkOrientation, columnOf, type Orientation } from "./orientation.js";

export interface DataPredictionOptions {
  /** The orientation in which the field is trained and sampled. Default "data-to-noise". */
  readonly orientation?: Orientation;
  /** The distance in time from the data below which the division goes by this instead, in (0, 1]. Default 0.05. */
  readonly smallestTime?: number;
}

/**
 * The field whose network predicts data x in place of a velocity (pixel mean flow, arXiv 2601.22158): the wrapped
 * field's output is read as x, its parameters are the wrapped field's.
 *
 * An average velocity u(z, r, t) leads along a straight line from its anchor to the state at the interval's other end.
 * x is where that line, prolonged, meets the time of the data. Data-to-noise, anchored at t, which is t away from the
 * data: x = z - t u, so
 *
 *     u(z, r, t) = (z - x(z, r, t)) / t.
 *
 * Noise-to-data, anchored at r, which is 1 - r away: x = z + (1 - r) u, so u(z, r, t) = (x(z, r, t) - z) / (1 - r).
 * An interval that ends at the data (r = 0, or t = 1 noise-to-data) is not prolonged: there x is the end of the flow, and from
 * noise, over the whole of [0, 1], exactly the sample of one step. A point (r = t) has the tangent as its line, and
 * x is the mean of the data given z; so it is for a velocity field, v(z, t) = (z - x(z, t)) / t, or
 * (x(z, t) - z) / (1 - t) noise-to-data.
 *
 * The divisor is clipped below at `smallestTime`, since an error of x would be divided by any small number. Nearer to
 * the data the network's output is no longer x, but the field is still any field that the network can learn. Its
 * derivative by time there is that of the network alone, and jumps at `smallestTime`.
 *
 * A velocity head is read as data, too. Errors: ValueError for what is no field, and for options.
 */
export function dataPrediction<P>(field: VelocityField<P>, options?: DataPredictionOptions): VelocityField<P>;
export function dataPrediction<P>(
  field: WithVelocityHead<AverageVelocityField<P>, true>,
  options?: DataPredictionOptions,
): WithVelocityHead<AverageVelocityField<P>, true>;
export function dataPrediction<P>(
  field: AverageVelocityField<P>,
  options?: DataPredictionOptions,
): AverageVelocityField<P>;
export function dataPrediction<P>(field: Field<P>, options: DataPredictionOptions = {}): Field<P> {
  const where = "dataPrediction";
  checkOptions(where, options, ["orientation", "smallestTime"]);
  if (field?.kind !== "velocity" && field?.kind !== "average-velocity")
    throw new ValueError(`${where}: needs a field { kind, init, apply }, got ${describe(field)}`);
  const toNoise = checkOrientation(where, options.orientation ?? "data-to-noise") === "data-to-noise";
  const smallest = checkNumber(where, "smallestTime", options.smallestTime ?? 0.05, { above: 0, max: 1 });

  /** The velocity by which the line from z at the anchor's time meets x at the data's. */
  const velocity = (z: Tensor, x: Tensor, anchor: Tensor): Tensor => {
    const distance = columnOf(maximum(toNoise ? anchor : sub(1, anchor), smallest), z.rank);
    return div(toNoise ? sub(z, x) : sub(x, z), distance);
  };
  const common = {
    ...(field.dim === undefined ? {} : { dim: field.dim }),
    init: (key: Tensor) => field.init(key),
  };
  if (field.kind === "velocity")
    return {
      ...common,
      kind: field.kind,
      apply: (params, z, t, condition) => velocity(z, field.apply(params, z, t, condition), t),
    };
  const anchored = (r: Tensor, t: Tensor) => (toNoise ? t : r);
  return {
    ...common,
    kind: field.kind,
    apply: (params, z, r, t, condition) =>
      velocity(z, field.apply(params, z, r, t, condition), anchored(r, t)),
    ...(field.applyWithVelocity && {
      applyWithVelocity(params, z, r, t, condition) {
        const { u, v } = field.applyWithVelocity!(params, z, r, t, condition);
        return { u: velocity(z, u, anchored(r, t)), v: velocity(z, v, anchored(r, t)) };
      },
    }),
  };
}
