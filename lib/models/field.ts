import type { Tensor } from "../tensor/tensor.js";

/** Size of one sample: a number of features, or a shape such as [height, width, channels]. */
export type Dim = number | readonly number[];

/** What a field may be told besides state and time, one row for each sample: a tensor, or several by name. */
export type Condition = Tensor | { readonly [name: string]: Tensor };

/** What a field gives: the velocity at one time, or the average velocity over an interval of time. */
export type FieldKind = "velocity" | "average-velocity";

/**
 * A velocity field v(z, t): the network of flow matching. Any object of this shape is one.
 * z is [batch, ...dim], t [batch, 1] in [0, 1]; the result has the shape of z.
 */
export interface VelocityField<Params = unknown> {
  readonly kind: "velocity";
  /** Size of a sample; when given, losses and samplers hold their inputs against it. */
  readonly dim?: Dim;
  init(key: Tensor): Params;
  apply(params: Params, z: Tensor, t: Tensor, condition?: Condition): Tensor;
}

/**
 * An average-velocity field u(z, r, t) over the interval [r, t]: the network of mean flow. Any object of this shape
 * is one. z is [batch, ...dim], r and t are [batch, 1] with 0 <= r <= t <= 1; the result has the shape of z.
 * With orientation data-to-noise z is the state at the later time t, with noise-to-data at the earlier time r.
 */
export interface AverageVelocityField<Params = unknown> {
  readonly kind: "average-velocity";
  /** Size of a sample; when given, losses and samplers hold their inputs against it. */
  readonly dim?: Dim;
  init(key: Tensor): Params;
  apply(params: Params, z: Tensor, r: Tensor, t: Tensor, condition?: Condition): Tensor;
  /**
   * u(z, r, t) as of `apply`, and v [batch, ...dim]: a second head's estimate of the instantaneous velocity at the end
   * of the interval at which the field is anchored, from the same trunk (Geng et al. 2025, "Improved mean flows").
   * Fields without such a head do not have it. `apply` gives u alone, and never computes the head.
   */
  applyWithVelocity?(
    params: Params,
    z: Tensor,
    r: Tensor,
    t: Tensor,
    condition?: Condition,
  ): { u: Tensor; v: Tensor };
}

/** The parameters of a field that has none: it is known exactly, or closes over what it needs. */
export type NoParams = Readonly<Record<string, never>>;

/** A field that has a head for the velocity where `Head` is true. */
export type WithVelocityHead<F extends AverageVelocityField, Head extends boolean> = Head extends true
  ? F & Required<Pick<F, "applyWithVelocity">>
  : F;

export type Field<Params = unknown> = VelocityField<Params> | AverageVelocityField<Params>;

/** The shape of one sample. */
export function sampleShape(dim: Dim): readonly number[] {
  return typeof dim === "number" ? [dim] : dim;
}
