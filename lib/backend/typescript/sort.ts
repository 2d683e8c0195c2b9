import type { SortStep } from "../../compile/plan.js";
import type { TypedArray } from "../../tensor/dtype.js";
import type { PreparedStep } from "./steps.js";

/** Runs of this length are sorted by insertion before they are merged. */
const runLength = 8;

/** The stable ascending argsort of each row: a merge sort of the indices, bottom up. NaN comes last. */
export function prepareSort({ rows, size, input, output }: SortStep): PreparedStep {
  const spare = new Int32Array(size);
  const keys = new Float64Array(size);
  return (buffers) => {
    const source = buffers[input]!;
    for (let row = 0; row < rows; row++) {
      const order = (buffers[output] as Int32Array).subarray(row * size, (row + 1) * size);
      for (let i = 0; i < size; i++) keys[i] = source[row * size + i]!; // exact for every dtype
      argsort(keys, order, spare);
    }
  };
}

function argsort(keys: Float64Array, order: Int32Array, spare: Int32Array): void {
  const numbers = numbersFirst(keys, order);
  for (let start = 0; start < numbers; start += runLength)
    insertionSort(keys, order, start, Math.min(start + runLength, numbers));
  let from = order;
  let to = spare;
  for (let width = runLength; width < numbers; width *= 2) {
    for (let start = 0; start < numbers; start += 2 * width)
      merge(keys, from, to, start, Math.min(start + width, numbers), Math.min(start + 2 * width, numbers));
    [from, to] = [to, from];
  }
  if (from !== order) order.set(from.subarray(0, numbers));
}

/** Fills `order` with the indices of the numbers and then those of the NaNs; gives the count of the former. */
function numbersFirst(keys: TypedArray, order: Int32Array): number {
  let numbers = 0;
  for (let i = 0; i < keys.length; i++) if (!Number.isNaN(keys[i]!)) order[numbers++] = i;
  let at = numbers;
  for (let i = 0; at < keys.length; i++) if (Number.isNaN(keys[i]!)) order[at++] = i;
  return numbers;
}

function insertionSort(keys: Float64Array, order: Int32Array, start: number, end: number): void {
  for (let i = start + 1; i < end; i++) {
    const index = order[i]!;
    const key = keys[index]!;
    let j = i;
    for (; j > start && keys[order[j - 1]!]! > key; j--) order[j] = order[j - 1]!;
    order[j] = index;
  }
}

/** Merges the runs [start, middle) and [middle, end); of equal keys the left one goes first. */
function merge(
  keys: Float64Array,
  from: Int32Array,
  to: Int32Array,
  start: number,
  middle: number,
  end: number,
): void {
  let left = start;
  let right = middle;
  for (let at = start; at < end; at++) {
    const takeLeft = left < middle && (right >= end || keys[from[left]!]! <= keys[from[right]!]!);
    to[at] = takeLeft ? from[left++]! : from[right++]!;
  }
}
