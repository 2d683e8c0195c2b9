import type { DType } from "../tensor/dtype.js";
import type { Callee } from "./callee.js";
import type { Graph, Spec } from "./graph.js";

type None = Record<never, never>;

/** The attributes of each primitive: what is fixed when the program is traced. Axes are normalised, shapes full. */
export interface Attributes {
  input: { readonly index: number };
  /** One value at every index. */
  constant: { readonly value: number; readonly shape: readonly number[]; readonly dtype: DType };
  /** The index along the axis. */
  iota: { readonly axis: number; readonly shape: readonly number[]; readonly dtype: DType };

  neg: None;
  abs: None;
  sign: None;
  sqrt: None;
  rsqrt: None;
  exp: None;
  expm1: None;
  log: None;
  log1p: None;
  sin: None;
  cos: None;
  tanh: None;
  erf: None;
  sigmoid: None;
  softplus: None;
  /** The derivative of this order (0 or 1) of x Phi(x), Phi the standard normal distribution function. */
  gelu: { readonly order: 0 | 1 };
  floor: None;
  round: None;
  logicalNot: None;
  cast: { readonly dtype: DType };
  stopGradient: None;

  add: None;
  sub: None;
  mul: None;
  div: None;
  pow: None;
  maximum: None;
  minimum: None;
  remainder: None;
  equal: None;
  notEqual: None;
  greater: None;
  greaterEqual: None;
  less: None;
  lessEqual: None;
  logicalAnd: None;
  logicalOr: None;
  where: None;
  shiftRight: None;
  /** A word of Threefry-2x32-20 over (k0, k1, c0, c1), or the xor of both words. */
  threefry: { readonly word: 0 | 1 | "xor" };

  /** Axis i of the input becomes axis axes[i] of the output; the other axes are new (NumPy's rule after expandDims). */
  broadcast: { readonly shape: readonly number[]; readonly axes: readonly number[] };
  reshape: { readonly shape: readonly number[] };
  transpose: { readonly perm: readonly number[] };
  slice: { readonly start: readonly number[]; readonly size: readonly number[] };
  pad: { readonly before: readonly number[]; readonly after: readonly number[] };
  concat: { readonly axis: number };
  flip: { readonly axes: readonly number[] };

  reduceSum: { readonly axes: readonly number[] };
  reduceMax: { readonly axes: readonly number[] };
  reduceMin: { readonly axes: readonly number[] };
  argmax: { readonly axis: number };
  argmin: { readonly axis: number };
  /** [...batch, m, k] x [...batch, k, n], equal batches. */
  matmul: None;
  /** (x, indices): slices of x along the axis, indices of rank 1. */
  gather: { readonly axis: number };
  /** (updates, indices): the transpose of gather, into zeros of this size along the axis. */
  scatter: { readonly axis: number; readonly size: number };
  /** Along the last axis. */
  argsort: None;
  /** The identity; what is computed from its result is never taken for what is computed from its input. */
  barrier: None;

  /** Result number `index` of a node with several results. */
  pick: { readonly index: number };
  /** A function with rules of its own: see Callee. Its results are those of `expand`. */
  call: { readonly callee: Callee; readonly results: readonly Spec[] };
  /**
   * A loop. The inputs are [...consts, ...carries, ...xs], xs with `length` slices along the first axis. The body
   * takes [...consts, ...carries, ...slices] and gives [...carries, ...slices of ys]; the results are the last carries
   * and the ys. `reverse`: slices are taken, and put, from the last to the first.
   */
  scan: {
    readonly body: Graph;
    readonly length: number;
    readonly reverse: boolean;
    readonly consts: number;
    readonly carries: number;
  };
  /** The running sum along the axis: of the elements up to and with each one, or from each one on. */
  cumsum: { readonly axis: number; readonly reverse: boolean };
  /**
   * Scaled dot-product attention and its linear parts, whose matrices of scores never exist: see AttentionStep for the
   * mathematics. The inputs are [q, k, v, mask where `masked`] (its axes may have size 1: they broadcast), then, but for "value", [o, l] and the `directions` that
   * are there (tangents of q, k, v, or cotangents of o, l). The results are [o, l], their tangents, or the cotangents of
   * [q, k, v].
   */
  attention: {
    readonly part: "value" | "tangent" | "cotangent";
    readonly scale: number;
    readonly causal: boolean;
    readonly masked: boolean;
    readonly directions: readonly boolean[];
  };
}

export type PrimitiveName = keyof Attributes;

/** Primitives whose nodes have several results. */
export const severalResults = ["call", "scan", "attention"] as const;
export type SeveralResults = (typeof severalResults)[number];
/** Primitives whose nodes have one result. */
export type SingleResult = Exclude<PrimitiveName, SeveralResults | "pick">;
