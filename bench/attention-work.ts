import * as fx from "fluxion";

/** Queries q [heads, n, d], keys k [heads, m, d], values v [heads, m, e]. */
export interface AttentionSize {
  readonly heads: number;
  readonly n: number;
  readonly m: number;
  readonly d: number;
  readonly e: number;
  /** Key j is visible to query i only where j <= i. */
  readonly causal: boolean;
}

/**
 * What is done with y = attention(q, k, v): the value; jvp: value and tangent along directions of q, k and v; vjp:
 * value and gradients of <w, y> with respect to q, k and v; hvp: these gradients and their tangents.
 */
export const attentionWorks = ["value", "jvp", "vjp", "hvp"] as const;
export type AttentionWork = (typeof attentionWorks)[number];

/**
 * Floating-point operations of the matrix products, for the pairs of a query and a key that it sees. With S = Q K^T, P =
 * softmax(S) and Y = P V the value has 2 products: Q K^T (d multiply-adds a pair) and P V (e). A tangent has S again, dQ
 * K^T, Q dK^T, dP V and P dV: 3 d + 2 e. A cotangent W has S again, W V^T, P^T W, and dS K and dS^T Q for queries and
 * keys: 3 d + 2 e. undefined for hvp, whose products depend on how it is derived.
 */
export function attentionFlops(work: AttentionWork, size: AttentionSize): number | undefined {
  const { heads, d, e } = size;
  const value = d + e;
  const derivative = 3 * d + 2 * e;
  const macs = { value, jvp: value + derivative, vjp: value + derivative, hvp: undefined }[work];
  return macs === undefined ? undefined : 2 * heads * visiblePairs(size) * macs;
}

/** Pairs of a query and a key that it sees, in one head. */
function visiblePairs({ n, m, causal }: AttentionSize): number {
  if (!causal) return n * m;
  const growing = Math.min(n, m); // query i sees i + 1 keys, until it sees all
  return (growing * (growing + 1)) / 2 + (n - growing) * m;
}

export type Attend = (q: fx.Tensor, k: fx.Tensor, v: fx.Tensor) => fx.Tensor;

/** The library's own operation. */
export function fusedAttention({ causal }: AttentionSize): Attend {
  return (q, k, v) => fx.attention(q, k, v, { causal });
}

/** The same as its formula says it, softmax(scale q k^T) v, with all scores at a time. */
export function plainAttention({ n, m, d, causal }: AttentionSize): Attend {
  return (q, k, v) => {
    const scores = fx.matmul(q, fx.transpose(k, [0, 2, 1])).mul(1 / Math.sqrt(d));
    if (!causal) return fx.matmul(fx.softmax(scores), v);
    const visible = fx.lessEqual(fx.arange(m), fx.expandDims(fx.arange(n), 1));
    return fx.matmul(fx.softmax(fx.where(visible, scores, Number.NEGATIVE_INFINITY)), v);
  };
}

type Triple = [q: fx.Tensor, k: fx.Tensor, v: fx.Tensor];

/** The program of a work: a function of q, k and v, their directions, and the cotangent of the value. */
export function attentionProgram(work: AttentionWork, attend: Attend) {
  const programs: Record<AttentionWork, (x: Triple, dx: Triple, w: fx.Tensor) => unknown> = {
    value: (x) => attend(...x),
    jvp: (x, dx) => fx.jvp(attend, x, dx),
    vjp(x, _, w) {
      const [y, pullback] = fx.vjp(attend, ...x);
      return [y, pullback(w)];
    },
    hvp: (x, dx, w) =>
      fx.jvp((q: fx.Tensor, k: fx.Tensor, v: fx.Tensor) => fx.vjp(attend, q, k, v)[1](w), x, dx),
  };
  return programs[work];
}

/** Standard normal q, k, v, directions and cotangent. */
export function attentionInputs({ heads, n, m, d, e }: AttentionSize): [Triple, Triple, fx.Tensor] {
  const keys = fx.random.split(fx.random.key(0), 7);
  const normal = (i: number, rows: number, columns: number) =>
    fx.random.normal(keys[i]!, [heads, rows, columns]);
  const triple = (i: number): Triple => [normal(i, n, d), normal(i + 1, m, d), normal(i + 2, m, e)];
  return [triple(0), triple(3), normal(6, n, e)];
}
