import { add, equal, mul, sub, where } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import { type Evaluation, evaluate } from "./interval-objective.js";
import { type IntervalPoints, pathOf } from "./objective.js";
import { columnOf, endsOf, intervalBetween } from "./orientation.js";

/**
 * An interval as an average velocity sees it, which leads from the end where it is anchored to the other one:
 * z_to = z_from + (to - from) u(z_from, r, t). Data-to-noise, from = t and to = r; noise-to-data, from = r and to = t.
 * In these terms an equation has the same form in both orientations.
 */
export interface AnchoredInterval {
  /** [n, 1]. */
  readonly from: Tensor;
  /** [n, 1]. */
  readonly to: Tensor;
  /** The point of the path at `from`. */
  readonly z: Tensor;
  /** The conditional velocity. */
  readonly v: Tensor;
  /** The average velocity over the interval between two times, at the state at the first of them. */
  u(at: Tensor, from: Tensor, to: Tensor): Tensor;
  /** at + (to - from) velocity. */
  move(at: Tensor, from: Tensor, to: Tensor, velocity: Tensor): Tensor;
  /** The target where r < t, and v where r = t, where an average velocity is the velocity. */
  vAtPoints(target: Tensor): Tensor;
}

export function anchoredInterval<P>(evaluation: Evaluation<P>, points: IntervalPoints): AnchoredInterval {
  const { orientation } = evaluation;
  const { r, t, condition } = points;
  const { from, to } = endsOf(orientation, r, t);
  const { z, v } = pathOf(orientation, points, from);
  return {
    from,
    to,
    z,
    v,
    u(at, start, end) {
      const interval = intervalBetween(orientation, start, end);
      return evaluate(evaluation, at, interval.r, interval.t, condition);
    },
    move: (at, a, b, velocity) => add(at, mul(columnOf(sub(b, a), at.rank), velocity)),
    vAtPoints: (target) => where(columnOf(equal(r, t), v.rank), v, target),
  };
}
