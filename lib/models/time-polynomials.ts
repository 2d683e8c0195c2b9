import { concat, mul, ones, sub } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";

/** A basis of the polynomials in some times up to a total degree. */
export interface TimePolynomials {
  /** Number of polynomials: (degree + times choose times). */
  readonly size: number;
  /** Columns [batch, 1] of the times as [batch, size]. */
  apply(times: readonly Tensor[]): Tensor;
}

/**
 * The Legendre polynomials P_j(2t - 1) of one time for j = 0 .. degree, or of two the products P_i(2r - 1) P_j(2t - 1)
 * with i + j <= degree, in the order of the total degree and then of j: 1, r, t, ... They span the same polynomials as
 * the monomials r^i t^j, and are learned much faster, since on [0, 1] they are orthogonal and monomials nearly parallel.
 */
export function timePolynomials(times: 1 | 2, degree: number): TimePolynomials {
  const powers = Array.from({ length: degree + 1 }, (_, total) =>
    Array.from({ length: total + 1 }, (_, j) => [total - j, j] as const),
  ).flat();
  return {
    size: times === 1 ? degree + 1 : powers.length,
    apply(columns) {
      const [first, second] = columns.map((t) => legendre(sub(mul(t, 2), 1), degree));
      return concat(times === 1 ? first! : powers.map(([i, j]) => mul(first![i]!, second![j]!)), 1);
    },
  };
}

/** P_0(x) .. P_degree(x), by (k + 1) P_(k+1) = (2k + 1) x P_k - k P_(k-1). */
function legendre(x: Tensor, degree: number): Tensor[] {
  const list = [ones(x.shape, { dtype: x.dtype })];
  if (degree > 0) list.push(x);
  for (let k = 1; k < degree; k++)
    list.push(sub(mul(mul(x, list[k]!), (2 * k + 1) / (k + 1)), mul(list[k - 1]!, k / (k + 1))));
  return list;
}
