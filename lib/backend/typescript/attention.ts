import type { AttentionStep, View } from "../../compile/plan.js";
import type { TypedArray } from "../../tensor/dtype.js";
import { sizeOf } from "../../tensor/shape.js";
import type { PreparedStep } from "./steps.js";

/**
 * Attention and its derivatives, query by query: of the n x m matrices there is one row at a time. Everything is
 * computed in double; only results round.
 */
export function prepareAttention(step: AttentionStep): PreparedStep {
  const run = { value, tangent, cotangent }[step.part];
  const entries = sizeOf(step.batch);
  return (buffers) => {
    if (!step.outputs.some((buffer) => buffer !== undefined && buffers[buffer]!.length > 0)) return;
    for (let number = 0; number < entries; number++) run(step, new Entry(step, buffers, number));
  };
}

/** One index of the batch: its arrays, as doubles. A matrix is row-major. */
class Entry {
  readonly #index: number[] = [];

  constructor(
    readonly step: AttentionStep,
    readonly buffers: readonly TypedArray[],
    readonly number: number,
  ) {
    let rest = number;
    for (const size of step.batch.toReversed()) {
      this.#index.unshift(rest % size);
      rest = Math.floor(rest / size);
    }
  }

  offset({ offset, strides }: View): number {
    return this.#index.reduce((at, i, axis) => at + i * strides[axis]!, offset);
  }

  /** What a view over [...batch, rows, columns] (or, without columns, over [...batch, rows]) holds. */
  read(view: View, rows: number, columns?: number): Float64Array {
    const source = this.buffers[view.buffer]!;
    const start = this.offset(view);
    const [rowStride, columnStride] = view.strides.slice(this.step.batch.length);
    const width = columns ?? 1;
    const result = new Float64Array(rows * width);
    for (let r = 0, at = 0; r < rows; r++)
      for (let c = 0; c < width; c++)
        result[at++] = source[start + r * rowStride! + c * (columnStride ?? 0)]!;
    return result;
  }

  /** Where result number `output` of this entry goes; undefined where it is not wanted. */
  result(output: number, size: number): TypedArray | undefined {
    const buffer = this.step.outputs[output];
    if (buffer === undefined) return undefined;
    return this.buffers[buffer]!.subarray(this.number * size, (this.number + 1) * size);
  }

  /** A function that computes row i of the scores S, -Infinity where a key is hidden. */
  scores(): (i: number, row: Float64Array) => void {
    const { n, m, d, q, k, mask, causal, scale } = this.step;
    const [queries, keys] = [this.read(q, n, d), this.read(k, m, d)];
    const [maskRow, maskColumn] = mask?.strides.slice(-2) ?? [0, 0];
    const shown = mask && this.buffers[mask.buffer]!;
    const maskStart = mask ? this.offset(mask) : 0;
    return (i, row) => {
      for (let j = 0; j < m; j++) {
        const hidden =
          (causal && j > i) || (shown && shown[maskStart + i * maskRow! + j * maskColumn!] === 0);
        row[j] = hidden ? -Infinity : scale * dot(queries, i, keys, j, d);
      }
    };
  }
}

function value(step: AttentionStep, entry: Entry): void {
  const { n, m, e } = step;
  const scores = entry.scores();
  const values = entry.read(step.v, m, e);
  const [o, l] = [entry.result(0, n * e), entry.result(1, n)];
  const row = new Float64Array(m);
  const sum = new Float64Array(e);
  for (let i = 0; i < n; i++) {
    scores(i, row);
    const logSum = logSumExp(row);
    if (l) l[i] = logSum;
    if (!o) continue;
    sum.fill(0);
    for (let j = 0; j < m; j++) {
      const p = Math.exp(row[j]! - logSum);
      if (p !== 0) addTo(sum, 0, p, values, j, e);
    }
    o.set(sum, i * e);
  }
}

/** log sum exp of a row; +Infinity where all of it is -Infinity. */
function logSumExp(row: Float64Array): number {
  let max = -Infinity;
  for (const x of row) max = Math.max(max, x);
  if (max === -Infinity) return Infinity;
  let sum = 0;
  for (const x of row) sum += Math.exp(x - max);
  return max + Math.log(sum);
}

function tangent(step: AttentionStep, entry: Entry): void {
  const { n, m, d, e, scale } = step;
  const [dq, dk, dv] = step.directions;
  const scores = entry.scores();
  const [queries, keys, values] = [
    entry.read(step.q, n, d),
    entry.read(step.k, m, d),
    entry.read(step.v, m, e),
  ];
  const [results, logSums] = [entry.read(step.o!, n, e), entry.read(step.l!, n)];
  const [dQueries, dKeys, dValues] = [
    dq && entry.read(dq, n, d),
    dk && entry.read(dk, m, d),
    dv && entry.read(dv, m, e),
  ];
  const [dO, dL] = [entry.result(0, n * e), entry.result(1, n)];
  const row = new Float64Array(m);
  const sum = new Float64Array(e);
  for (let i = 0; i < n; i++) {
    scores(i, row);
    sum.fill(0);
    let total = 0;
    for (let j = 0; j < m; j++) {
      const p = Math.exp(row[j]! - logSums[i]!);
      if (p === 0) continue;
      let ds = 0;
      if (dQueries) ds += dot(dQueries, i, keys, j, d);
      if (dKeys) ds += dot(queries, i, dKeys, j, d);
      const a = p * scale * ds;
      total += a;
      addTo(sum, 0, a, values, j, e);
      if (dValues) addTo(sum, 0, p, dValues, j, e);
    }
    addTo(sum, 0, -total, results, i, e);
    dO?.set(sum, i * e);
    if (dL) dL[i] = total;
  }
}

function cotangent(step: AttentionStep, entry: Entry): void {
  const { n, m, d, e, scale } = step;
  const [cO, cL] = step.directions;
  const scores = entry.scores();
  const [queries, keys, values] = [
    entry.read(step.q, n, d),
    entry.read(step.k, m, d),
    entry.read(step.v, m, e),
  ];
  const [results, logSums] = [entry.read(step.o!, n, e), entry.read(step.l!, n)];
  const [ofResults, ofLogSums] = [cO && entry.read(cO, n, e), cL && entry.read(cL, n)];
  const [cQ, cK, cV] = [new Float64Array(n * d), new Float64Array(m * d), new Float64Array(m * e)];
  const row = new Float64Array(m);
  for (let i = 0; i < n; i++) {
    scores(i, row);
    const shift = (ofLogSums?.[i] ?? 0) - (ofResults ? dot(ofResults, i, results, i, e) : 0);
    for (let j = 0; j < m; j++) {
      const p = Math.exp(row[j]! - logSums[i]!);
      if (p === 0) continue;
      const g = scale * p * ((ofResults ? dot(ofResults, i, values, j, e) : 0) + shift);
      addTo(cQ, i, g, keys, j, d);
      addTo(cK, j, g, queries, i, d);
      if (ofResults) addTo(cV, j, p, ofResults, i, e);
    }
  }
  entry.result(0, n * d)?.set(cQ);
  entry.result(1, m * d)?.set(cK);
  entry.result(2, m * e)?.set(cV);
}

/** The product of row i of a and row j of b, both `size` wide. */
function dot(a: Float64Array, i: number, b: Float64Array, j: number, size: number): number {
  let sum = 0;
  for (let c = 0; c < size; c++) sum += a[i * size + c]! * b[j * size + c]!;
  return sum;
}

/** Row i of `sum` += factor times row j of `a`, both `size` wide. */
function addTo(sum: Float64Array, i: number, factor: number, a: Float64Array, j: number, size: number): void {
  for (let c = 0; c < size; c++) sum[i * size + c]! += factor * a[j * size + c]!;
}
