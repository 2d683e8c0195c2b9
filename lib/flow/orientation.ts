import { columnOf, type Orientation } from "../models/orientation.js";
import { add, mul, sub } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";

export { checkOrientation, columnOf, type Orientation } from "../models/orientation.js";

/** The end `from` of the interval [r, t] at which an average velocity is anchored, and the end `to` to which it leads. */
export function endsOf(orientation: Orientation, r: Tensor, t: Tensor): { from: Tensor; to: Tensor } {
  return orientation === "data-to-noise" ? { from: t, to: r } : { from: r, to: t };
}

/** The interval between the end at which an average velocity is anchored and the other one. */
export function intervalBetween(
  orientation: Orientation,
  from: Tensor,
  to: Tensor,
): { r: Tensor; t: Tensor } {
  return orientation === "data-to-noise" ? { r: to, t: from } : { r: from, t: to };
}

/** The point z of the straight path at this time [n, 1], and the conditional velocity dz/dt, both like the data. */
export function pathAt(
  orientation: Orientation,
  data: Tensor,
  noise: Tensor,
  time: Tensor,
): { z: Tensor; v: Tensor } {
  const [start, end] = orientation === "data-to-noise" ? [data, noise] : [noise, data];
  const s = columnOf(time, data.rank);
  return { z: add(mul(start, sub(1, s)), mul(end, s)), v: sub(end, start) };
}
