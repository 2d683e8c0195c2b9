import type { CumsumStep } from "../../compile/plan.js";
import type { PreparedStep } from "./steps.js";

/** Columns whose sums run side by side; they stay in the cache. */
const columns = 512;

/**
 * output[o, j, i] = sum over l <= j (or l >= j) of input[o, l, i]. A double holds the sums of every dtype: those of
 * integers wrap where the typed array stores them, and are taken up again from there, so that they stay exact.
 */
export function prepareCumsum({ outer, size, inner, reverse, input, output }: CumsumStep): PreparedStep {
  const sums = new Float64Array(Math.min(columns, inner));
  const [first, step] = reverse ? [size - 1, -1] : [0, 1];
  return (buffers) => {
    const source = buffers[input]!;
    const target = buffers[output]!;
    const whole = target instanceof Int32Array || target instanceof Uint32Array;
    for (let o = 0; o < outer; o++) {
      for (let start = 0; start < inner; start += columns) {
        const count = Math.min(columns, inner - start);
        sums.fill(0);
        let at = (o * size + first) * inner + start;
        for (let j = 0; j < size; j++, at += step * inner) {
          for (let i = 0; i < count; i++) {
            const sum = sums[i]! + source[at + i]!;
            target[at + i] = sum;
            sums[i] = whole ? target[at + i]! : sum;
          }
        }
      }
    }
  };
}
