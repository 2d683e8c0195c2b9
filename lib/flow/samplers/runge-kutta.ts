import { add, mul, sub } from "../../ops/index.js";
import type { Tensor } from "../../tensor/tensor.js";
import { columnOf } from "../orientation.js";

/**
 * An explicit Runge-Kutta method of s stages, as its Butcher tableau. A step of length h from time t has the slopes
 * k_i = v(z + h sum_{j < i} a_ij k_j, t + c_i h) and ends in z + h sum_i b_i k_i.
 *
 * Source: Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, section II.1.
 */
export interface Tableau {
  /** c_i, s numbers, the first 0: when the slopes are taken, as shares of the step. */
  readonly nodes: readonly number[];
  /** a_ij, s rows: the first is empty, and each has one number more than the one before. */
  readonly stages: readonly (readonly number[])[];
  /** b_i, s numbers. */
  readonly weights: readonly number[];
}

/**
 * A Runge-Kutta method with an estimate of its own error, h (sum_i e_i k_i + e_{s+1} v(z_new, t + h)): the difference
 * of its result and that of a method of lower order. The slope at the new state is the next step's first one.
 */
export interface EmbeddedPair {
  /** The method that goes on. */
  readonly tableau: Tableau;
  /** e_i, s + 1 numbers. */
  readonly error: readonly number[];
  /** The lower order q of the two: the estimate goes as h^(q + 1). */
  readonly errorOrder: number;
}

/** The state at time `to` (times [batch, 1]), and the slopes on the way, the first of which may be known. */
export function rungeKutta(
  { nodes, stages, weights }: Tableau,
  velocity: (z: Tensor, t: Tensor) => Tensor,
  z: Tensor,
  from: Tensor,
  to: Tensor,
  first: Tensor = velocity(z, from),
): { next: Tensor; slopes: Tensor[] } {
  const length = sub(to, from);
  const h = columnOf(length, z.rank);
  // At the end of the step the time is `to` itself, which from + (to - from) may miss by a rounding.
  const timeAt = (node: number) => (node === 1 ? to : add(from, mul(length, node)));
  const slopes = [first];
  for (let i = 1; i < nodes.length; i++) {
    const state = add(z, mul(h, weightedSum(stages[i]!, slopes)));
    slopes.push(velocity(state, timeAt(nodes[i]!)));
  }
  return { next: add(z, mul(h, weightedSum(weights, slopes))), slopes };
}

/** sum_i w_i k_i, without the terms of weight 0. */
export function weightedSum(weights: readonly number[], slopes: readonly Tensor[]): Tensor {
  return slopes
    .map((k, i) => ({ k, weight: weights[i]! }))
    .filter(({ weight }) => weight !== 0)
    .map(({ k, weight }) => mul(k, weight))
    .reduce((a, b) => add(a, b));
}
