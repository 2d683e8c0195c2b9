import { jvp } from "../autodiff/index.js";
import { add, mul, ones, sub } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import { columnOf } from "./orientation.js";

/** States [n, ...dim] at the times `from`, of intervals that lead to the times `to`, each [n, 1]. */
export interface Departure {
  readonly z: Tensor;
  readonly from: Tensor;
  readonly to: Tensor;
}

/**
 * Both sides of the mean-flow identity (Geng et al. 2025, eq. 6), from one JVP whose primal is the first: u(z, r, t),
 * and velocity + (to - from) Du. Data-to-noise that is v - (t - r) du/dt, with du/dt along (tangent, 0, 1);
 * noise-to-data v + (t - r) du/dr, along (tangent, 1, 0).
 *
 * @param u the average velocity of the state at `from` on the way to `to`, and what else the network gives there
 */
export function identitySides<Auxiliary>(
  u: (z: Tensor, from: Tensor, to: Tensor) => [Tensor, Auxiliary],
  { z, from, to }: Departure,
  { velocity, tangent }: { readonly velocity: Tensor; readonly tangent: Tensor },
): { prediction: Tensor; target: Tensor; auxiliary: Auxiliary } {
  // The other end of the interval is closed over: its tangent is zero.
  const [prediction, derivative, auxiliary] = jvp(
    (at: Tensor, moving: Tensor) => u(at, moving, to),
    [z, from],
    [tangent, ones(from.shape, { dtype: from.dtype })],
    { hasAux: true },
  );
  const target = add(velocity, mul(columnOf(sub(to, from), z.rank), derivative));
  return { prediction, target, auxiliary: auxiliary as Auxiliary };
}
