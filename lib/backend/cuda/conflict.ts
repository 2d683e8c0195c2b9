import { buffersOf, writtenBy } from "../../compile/memory.js";
import type { Step, StripStep, View } from "../../compile/plan.js";
import { sizeOf } from "../../tensor/shape.js";

/** What a step reads or writes of a buffer: elements `low` to `high` of it, by a view for maps and reductions, else all. */
export interface Access {
  readonly writes: boolean;
  readonly buffer: number;
  readonly low: number;
  readonly high: number;
  readonly view?: View;
  readonly shape?: readonly number[];
}

/** All that a step reads and writes. */
export function accessesOf(step: Step | StripStep): Access[] {
  if (step.kind !== "map" && step.kind !== "reduce") {
    const written = new Set(writtenBy(step));
    return [...new Set(buffersOf(step))].map((buffer) => ({
      writes: written.has(buffer),
      buffer,
      low: 0,
      high: Infinity,
    }));
  }
  const { shape, expression } = step;
  const outer = step.kind === "map" ? shape : shape.slice(0, shape.length - step.reducedRank);
  const access = (view: View, shape: readonly number[], writes: boolean): Access[] => {
    if (sizeOf(shape) === 0) return [];
    const { low, high } = range(view.strides, shape);
    return [{ writes, buffer: view.buffer, low: view.offset + low, high: view.offset + high, view, shape }];
  };
  return [
    ...expression.instructions.flatMap((i) => (i.op === "load" ? access(i.view, shape, false) : [])),
    ...expression.outputs.flatMap(({ view }) => access(view, outer, true)),
  ];
}

/** Whether the order of two steps matters: one writes what the other reads or writes. */
export function conflict(a: readonly Access[], b: readonly Access[]): boolean {
  return a.some((x) => b.some((y) => (x.writes || y.writes) && overlap(x, y)));
}

function overlap(a: Access, b: Access): boolean {
  if (a.buffer !== b.buffer || a.high < b.low || b.high < a.low) return false;
  if (!a.view || !b.view) return true;
  // Columns of one matrix, as the parts of a concatenation are: modulo the row, they lie in intervals of their own.
  const periods = new Set(
    [...a.view.strides, ...b.view.strides].map(Math.abs).filter((stride) => stride > 1),
  );
  for (const period of periods) {
    const [x, y] = [residues(a.view, a.shape!, period), residues(b.view, b.shape!, period)];
    if (x && y && (x.high < y.low || y.high < x.low)) return false;
  }
  return true;
}

/** The interval in which all elements of a view lie modulo a period; undefined where they reach over its end. */
function residues(
  { offset, strides }: View,
  shape: readonly number[],
  period: number,
): { low: number; high: number } | undefined {
  const { low, high } = range(
    strides.map((stride) => (stride % period === 0 ? 0 : stride)),
    shape,
  );
  const start = (((offset + low) % period) + period) % period;
  const end = start + high - low;
  return end < period ? { low: start, high: end } : undefined;
}

/** The least and largest sum of index * stride. */
function range(strides: readonly number[], shape: readonly number[]): { low: number; high: number } {
  const ends = strides.map((stride, axis) => stride * (shape[axis]! - 1));
  return {
    low: ends.reduce((sum, end) => sum + Math.min(0, end), 0),
    high: ends.reduce((sum, end) => sum + Math.max(0, end), 0),
  };
}
