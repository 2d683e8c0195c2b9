import { jvp } from "../autodiff/index.js";
import { add, mul, ones, sub } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import { columnOf, endsOf, type Orientation } from "./orientation.js";

/** An average velocity as a function of (z, r, t). */
export type AverageVelocity = (z: Tensor, r: Tensor, t: Tensor) => Tensor;

/** States [n, ...dim] at the anchored end of the intervals [r, t], each [n, 1]. */
export interface Anchored {
  readonly z: Tensor;
  readonly r: Tensor;
  readonly t: Tensor;
}

/**
 * Both sides of the mean-flow identity (Geng et al. 2025, eq. 6), from one JVP whose primal is the first: u(z, r, t),
 * and velocity + (other - anchor) Du. Data-to-noise that is v - (t - r) du/dt, with du/dt along (tangent, 0, 1);
 * noise-to-data v + (t - r) du/dr, along (tangent, 1, 0).
 */
export function identitySides(
  orientation: Orientation,
  u: AverageVelocity,
  { z, r, t }: Anchored,
  { velocity, tangent }: { readonly velocity: Tensor; readonly tangent: Tensor },
): { prediction: Tensor; target: Tensor } {
  const { anchor, other } = endsOf(orientation, r, t);
  // The other end of the interval is closed over: its tangent is zero.
  const along = (at: Tensor, moving: Tensor) => {
    return orientation === "data-to-noise" ? u(at, other, moving) : u(at, moving, other);
  };
  const [prediction, derivative] = jvp(
    along,
    [z, anchor],
    [tangent, ones(anchor.shape, { dtype: anchor.dtype })],
  );
  return { prediction, target: add(velocity, mul(columnOf(sub(other, anchor), z.rank), derivative)) };
}
