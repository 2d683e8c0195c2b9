import type { GatherStep, ScatterStep } from "../../compile/plan.js";
import type { TypedArray } from "../../tensor/dtype.js";
import { IndexOutOfRange } from "../backend.js";
import type { PreparedStep } from "./steps.js";

/** From this many elements on, a row is copied by the engine rather than by a loop. */
const longRow = 32;

/** output[o, j, i] = input[o, indices[j], i]. */
export function prepareGather(step: GatherStep): PreparedStep {
  const { outer, size, inner, count, input, indices, output } = step;
  const rows = new Int32Array(count);
  return (buffers) => {
    resolve(buffers[indices]!, step, rows);
    const source = buffers[input]!;
    const target = buffers[output]!;
    let at = 0;
    for (let o = 0; o < outer; o++) {
      for (let j = 0; j < count; j++) {
        const from = (o * size + rows[j]!) * inner;
        if (inner >= longRow) target.set(source.subarray(from, from + inner), at);
        else for (let i = 0; i < inner; i++) target[at + i] = source[from + i]!;
        at += inner;
      }
    }
  };
}

/** output[o, indices[j], i] += input[o, j, i], from 0, in the order of j. The typed array rounds or wraps each sum. */
export function prepareScatter(step: ScatterStep): PreparedStep {
  const { outer, size, inner, count, input, indices, output } = step;
  const rows = new Int32Array(count);
  return (buffers) => {
    resolve(buffers[indices]!, step, rows);
    const source = buffers[input]!;
    const target = buffers[output]!;
    target.fill(0);
    let from = 0;
    for (let o = 0; o < outer; o++) {
      for (let j = 0; j < count; j++) {
        const at = (o * size + rows[j]!) * inner;
        for (let i = 0; i < inner; i++) target[at + i]! += source[from + i]!;
        from += inner;
      }
    }
  };
}

/** Indices counted from the start, all of them checked before anything is written. */
function resolve(indices: TypedArray, { size, site }: GatherStep | ScatterStep, rows: Int32Array): void {
  for (let j = 0; j < rows.length; j++) {
    const index = indices[j]!;
    if (index < -size || index >= size)
      throw new IndexOutOfRange(`index ${index} is out of range for an axis of size ${size}`, site);
    rows[j] = index < 0 ? index + size : index;
  }
}
