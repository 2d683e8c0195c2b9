import type { DType } from "../tensor/dtype.js";

/**
 * The plan is the contract between the compiler and the backends: an ordered list of kernel
 * calls over buffers, as plain data (it survives structuredClone; JSON would lose NaN and infinities).
 *
 * Semantics that every backend keeps:
 * - All buffers are dense arrays. Steps run in order; a step never reads a buffer region that it writes.
 * - float32 arithmetic rounds to float32 after every instruction. int32 and uint32 wrap modulo 2^32.
 * - Casts: float -> int32/uint32 truncates toward zero and saturates, NaN gives 0; anything -> bool is
 *   `x != 0`; int32 <-> uint32 keeps the bits.
 * - maximum, minimum and their reductions return NaN when an operand is NaN; argmax and argmin return the
 *   first NaN, else the first extreme element.
 * - remainder has the sign of the divisor (as in Python); an integer remainder by 0 is 0.
 * - pow is IEEE 754's: 1^y = x^0 = 1, also for NaN. round goes half to even. Comparisons with NaN are false, except notEqual.
 */
export interface Plan {
  readonly buffers: readonly BufferSpec[];
  readonly steps: readonly Step[];
  /** Buffer numbers of the inputs and outputs, in the order of the call. No buffer is both. */
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
  /** Size of the memory that holds the temporaries. */
  readonly arenaBytes: number;
}

export interface BufferSpec {
  /** "local": of a strip, holding one block of its rows at a time. */
  readonly kind: "input" | "output" | "temporary" | "local";
  readonly dtype: DType;
  /** Number of elements. */
  readonly size: number;
  /**
   * Of a temporary: its place in the arena, of a local: in the strip's block memory; in bytes, a multiple of 64.
   * Those whose lives do not overlap may share it.
   */
  readonly offset: number;
}

/** A strided window on a buffer; offset and strides in elements, one stride for each axis of the step. */
export interface View {
  readonly buffer: number;
  readonly offset: number;
  readonly strides: readonly number[];
}

/** An elementwise expression in SSA form: instruction k defines value k. */
export interface Expression {
  readonly instructions: readonly Instruction[];
  /** Values that are written, each through a view over the step's shape (for reduce: see there). */
  readonly outputs: readonly { readonly value: number; readonly view: View }[];
}

/** `dtype` is always the dtype of the result. */
export type Instruction =
  /** The element of a buffer at the current index. */
  | { readonly op: "load"; readonly dtype: DType; readonly view: View }
  | { readonly op: "constant"; readonly dtype: DType; readonly value: number }
  /** offset + sum of index * stride: an element of an arithmetic progression, computed from the current index. */
  | {
      readonly op: "index";
      readonly dtype: DType;
      readonly offset: number;
      readonly strides: readonly number[];
    }
  /** In the expression of a matmul only: the product's element at the current index. */
  | { readonly op: "accumulator"; readonly dtype: DType }
  /** Arguments are numbers of earlier instructions. */
  | { readonly op: ScalarOp; readonly dtype: DType; readonly args: readonly number[] };

/**
 * Scalar operations by family; arguments and result have one dtype unless said otherwise.
 * With the standard normal distribution function Phi and its density phi, gelu is x Phi(x) and geluSlope its
 * derivative Phi(x) + x phi(x); at infinities both are their limits.
 */
export const scalarOps = [
  // any number
  "neg",
  "abs",
  "sign",
  "add",
  "sub",
  "mul",
  "maximum",
  "minimum",
  "remainder",
  // floats
  "sqrt",
  "rsqrt",
  "exp",
  "expm1",
  "log",
  "log1p",
  "sin",
  "cos",
  "tanh",
  "erf",
  "sigmoid",
  "softplus",
  "gelu",
  "geluSlope",
  "floor",
  "round",
  "div",
  "pow",
  // two operands of one dtype (bool too) -> bool
  "equal",
  "notEqual",
  "greater",
  "greaterEqual",
  "less",
  "lessEqual",
  // bool
  "logicalNot",
  "logicalAnd",
  "logicalOr",
  // (bool, x, x) -> x, of any dtype
  "where",
  // any dtype -> dtype
  "cast",
  // uint32: x >>> n
  "shiftRight",
  // uint32 (k0, k1, c0, c1): Threefry-2x32-20 of counter (c0, c1) under key (k0, k1): first word, second word, their xor
  "threefry0",
  "threefry1",
  "threefryXor",
] as const;

export type ScalarOp = (typeof scalarOps)[number];

export type Reducer = "sum" | "max" | "min" | "argmax" | "argmin";

export type Step =
  | MapStep
  | ReduceStep
  | MatMulStep
  | GatherStep
  | ScatterStep
  | SortStep
  | CumsumStep
  | AttentionStep
  | LoopStep;

/** Evaluates the expression at every index of `shape`. */
export interface MapStep {
  readonly kind: "map";
  readonly shape: readonly number[];
  readonly expression: Expression;
}

/**
 * Evaluates the expression over `shape` and folds its one output value over the last `reducedRank` axes.
 * The output's view has the kept axes only (shape.length - reducedRank strides).
 * sum, max, min: the dtype of the value (never bool for sum). argmax, argmin: int32, the row-major index
 * within the reduced axes. Only sum meets an empty reduced extent (and gives 0).
 * The order of the additions depends on shapes alone.
 */
export interface ReduceStep {
  readonly kind: "reduce";
  readonly shape: readonly number[];
  readonly reducedRank: number;
  readonly reducer: Reducer;
  readonly expression: Expression;
}

/**
 * For every index of `batch`: C[m, n] = sum over k of A[m, k] B[k, n], then the expression over [...batch, m, n],
 * in which "accumulator" is C. `a` is a view over [...batch, m, k], `b` over [...batch, k, n].
 * dtype: float32, float64, int32 or uint32. With k = 0 the product is 0.
 */
export interface MatMulStep {
  readonly kind: "matmul";
  readonly dtype: DType;
  readonly batch: readonly number[];
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: View;
  readonly b: View;
  readonly expression: Expression;
}

/**
 * output[o, j, i] = input[o, indices[j], i], over dense row-major buffers [outer, count, inner] and
 * [outer, size, inner]. `indices` is an int32 buffer; -1 is the last element. An index outside
 * -size .. size - 1 makes the run fail with "index 7 is out of range for an axis of size 5", and the step's site.
 */
export interface GatherStep {
  readonly kind: "gather";
  readonly outer: number;
  readonly size: number;
  readonly inner: number;
  readonly count: number;
  readonly input: number;
  readonly indices: number;
  readonly output: number;
  /**
   * Which node of the graph the step computes: its number among the live ones. The plan itself holds no places in the
   * user's code, since it serves every graph that computes the same.
   */
  readonly site?: number;
}

/** The transpose of gather: output = 0, then output[o, indices[j], i] += input[o, j, i] in the order of j. Same errors. */
export interface ScatterStep extends Omit<GatherStep, "kind"> {
  readonly kind: "scatter";
}

/** The stable ascending argsort (int32) of each of `rows` rows of `size` elements; NaN comes last. Dense buffers. */
export interface SortStep {
  readonly kind: "sort";
  readonly rows: number;
  readonly size: number;
  readonly input: number;
  readonly output: number;
}

/**
 * Runs a plan `length` times. Its inputs are [...consts, ...carries, ...slices of xs], its outputs [...carries, ...slices
 * of ys]. The first turn reads `inits` as carries, each later one what the turn before gave; the last ones go to
 * `carries` (the inits, where there is no turn). Turn i takes slice i of each x, an equal part of its buffer, and puts
 * slice i of each y; with `reverse` the slices run from the last to the first. All buffers are dense.
 */
export interface LoopStep {
  readonly kind: "loop";
  readonly plan: Plan | StrippedPlan;
  readonly length: number;
  readonly reverse: boolean;
  readonly consts: readonly number[];
  readonly inits: readonly number[];
  readonly carries: readonly number[];
  readonly xs: readonly number[];
  readonly ys: readonly number[];
}

/**
 * Scaled dot-product attention and its derivatives; no n x m matrix is stored. For every index of `batch`, with the
 * rows of Q and K as queries and keys, S = scale Q K^T [n, m], and S_ij = -inf where the key j is hidden from the
 * query i (by `mask`, by `causal`):
 *
 * - value: L_i = log sum over j of exp S_ij, P_ij = exp(S_ij - L_i), O = P V.
 *   Where all of a row's S are -inf (every key is hidden, or there is none), L_i = +inf, and P and O are 0.
 * - tangent, P from L: dS = scale (dQ K^T + Q dK^T), A = P * dS, dL = rowsum A, dO = A V - dL O + P dV.
 * - cotangent, P from L, of O (cO) and L (cL): G = P * (cO V^T - rowsum(cO * O) + cL), cQ = scale G K,
 *   cK = scale G^T Q, cV = P^T cO.
 *
 * Sums are taken in the dtype or wider, in an order that depends on shapes alone. What a hidden key's score would be
 * does not matter, even if it is NaN. Its rows of k, v and their directions count 0 times in the sums above, or not at
 * all: where they are not finite, results may be NaN or not. A row of S with NaN or +infinity makes NaN of its results.
 */
export interface AttentionStep {
  readonly kind: "attention";
  readonly part: AttentionPart;
  /** float32 or float64: of all but the mask. */
  readonly dtype: DType;
  /** Leading axes, such as [samples, heads]; may be empty. */
  readonly batch: readonly number[];
  /** Numbers of queries and keys, of features of q and k, and of features of v. */
  readonly n: number;
  readonly m: number;
  readonly d: number;
  readonly e: number;
  readonly scale: number;
  /** Whether key j is visible to query i only where j <= i. */
  readonly causal: boolean;
  /** Over [...batch, n, d], [...batch, m, d], [...batch, m, e]. */
  readonly q: View;
  readonly k: View;
  readonly v: View;
  /** bool over [...batch, n, m]; false hides a key from a query. */
  readonly mask: View | undefined;
  /** Of tangent and cotangent: the results O, over [...batch, n, e], and L, over [...batch, n]. Undefined of value. */
  readonly o: View | undefined;
  readonly l: View | undefined;
  /**
   * value: none. tangent: tangents of q, k and v. cotangent: cotangents of O and L. Each over the axes of what it
   * belongs to; undefined is zero.
   */
  readonly directions: readonly (View | undefined)[];
  /**
   * Buffers of the results, dense, each of its own; undefined where not wanted.
   * value: [O, L]. tangent: [dO, dL]. cotangent: [cQ, cK, cV].
   */
  readonly outputs: readonly (number | undefined)[];
}

export type AttentionPart = "value" | "tangent" | "cotangent";

/**
 * output[o, j, i] = sum over l <= j (reverse: l >= j) of input[o, l, i], over dense row-major buffers
 * [outer, size, inner] of one dtype (never bool). Floats are added one after another in float64, from 0, and each
 * result is rounded to the dtype.
 */
export interface CumsumStep {
  readonly kind: "cumsum";
  readonly outer: number;
  readonly size: number;
  readonly inner: number;
  readonly reverse: boolean;
  readonly input: number;
  readonly output: number;
}

/** A plan whose steps run together in strips where that pays; `stripMine` makes it, for the backends that ask for it. */
export interface StrippedPlan extends Omit<Plan, "steps"> {
  readonly steps: readonly (Step | StripStep)[];
}

/**
 * Steps that run together, block after block of their common rows.
 *
 * A part by "rows" has them in the first axis of its shape (of a product: in m, and no batch axes), and computes
 * these rows of its outputs. A part by "sum" sums over them: they are the first reduced axis of a reduction to a
 * vector or scalar, or a product's k. Chunk i of the rows adds to partial sum i modulo `sums`, after the chunks before
 * it; when all rows are done the partial sums are added, in order, and the expression of a product runs on the whole.
 * What a part reads of another one are the same rows of a buffer whose first axis has `rows` rows. The local buffers
 * have such rows, too, but memory for one block of them.
 */
export interface StripStep {
  readonly kind: "strip";
  readonly rows: number;
  /** Rows computed at a time. */
  readonly block: number;
  /** Rows of each chunk, which a thread takes at a time, in order: whole blocks but for the last one, `rows` together. */
  readonly chunks: readonly number[];
  /** Number of partial sums of what sums over the rows; no more threads than this work at once. */
  readonly sums: number;
  /** Memory for the local buffers of a block. */
  readonly localBytes: number;
  readonly parts: readonly StripPart[];
}

export interface StripPart {
  readonly role: "rows" | "sum";
  readonly step: MapStep | ReduceStep | MatMulStep;
}
