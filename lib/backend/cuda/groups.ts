import { buffersOf, writtenBy } from "../../compile/memory.js";
import type { BufferSpec, Step, StripStep, View } from "../../compile/plan.js";
import { byteSize } from "../../tensor/dtype.js";
import { sizeOf } from "../../tensor/shape.js";

/** Maps of one launch: their code stands in one kernel, whose registers are those of the hungriest. */
const mostMaps = 32;
/** A kernel takes about 4000 bytes of arguments. */
const mostBuffers = 256;
/** How many launches back a map looks for company. */
const lookBack = 16;

/**
 * What can be launched together: groups of step numbers, in an order that may take the place of the plan's. A group of
 * several is of maps that are independent of each other. A map joins an earlier group of maps where all that lies between, and the
 * group, neither write what it reads or writes, nor read what it writes. Buffers whose lives do not overlap may share memory,
 * and a life says nothing once the order is another one: so places in memory are what is compared.
 */
export function groupSteps(
  steps: readonly (Step | StripStep)[],
  buffers: readonly BufferSpec[],
): readonly (readonly number[])[] {
  interface Group {
    readonly numbers: number[];
    readonly maps: boolean;
    readonly touched: Set<number>;
    readonly accesses: Access[];
  }
  const groups: Group[] = [];
  steps.forEach((step, number) => {
    const accesses = accessesOf(step, buffers);
    const touched = buffersOf(step);
    if (step.kind === "map") {
      let company: Group | undefined;
      for (let i = groups.length - 1; i >= Math.max(0, groups.length - lookBack); i--) {
        const group = groups[i]!;
        if (conflict(group.accesses, accesses)) break;
        const together = new Set([...group.touched, ...touched]);
        if (group.maps && group.numbers.length < mostMaps && together.size <= mostBuffers) company = group;
      }
      if (company) {
        company.numbers.push(number);
        company.accesses.push(...accesses);
        for (const buffer of touched) company.touched.add(buffer);
        return;
      }
    }
    groups.push({
      numbers: [number],
      maps: step.kind === "map",
      touched: new Set(touched),
      accesses: [...accesses],
    });
  });
  return groups.map(({ numbers }) => numbers);
}

/** What a step reads or writes: bytes `from` to `to` (excluded) of a memory, of a map by the views. */
interface Access {
  readonly writes: boolean;
  /** -1 is the arena, others are the buffers that have memory of their own. */
  readonly memory: number;
  readonly from: number;
  readonly to: number;
  readonly view?: View;
  readonly shape?: readonly number[];
}

function accessesOf(step: Step | StripStep, buffers: readonly BufferSpec[]): Access[] {
  const place = (number: number, first: number, end: number) => {
    const { kind, dtype, offset } = buffers[number]!;
    const bytes = byteSize(dtype);
    const base = kind === "temporary" ? offset : 0;
    return { memory: kind === "temporary" ? -1 : number, from: base + first * bytes, to: base + end * bytes };
  };
  if (step.kind === "map") {
    const { shape, expression } = step;
    if (sizeOf(shape) === 0) return [];
    const access = (view: View, writes: boolean): Access => {
      const { low, high } = range(view.strides, shape);
      return { writes, ...place(view.buffer, view.offset + low, view.offset + high + 1), view, shape };
    };
    return [
      ...expression.instructions.flatMap((i) => (i.op === "load" ? [access(i.view, false)] : [])),
      ...expression.outputs.map(({ view }) => access(view, true)),
    ];
  }
  const written = new Set(writtenBy(step));
  return [...new Set(buffersOf(step))]
    .filter((number) => buffers[number]!.kind !== "local")
    .map((number) => ({ writes: written.has(number), ...place(number, 0, buffers[number]!.size) }));
}

function conflict(a: readonly Access[], b: readonly Access[]): boolean {
  return a.some((x) => b.some((y) => (x.writes || y.writes) && overlap(x, y)));
}

function overlap(a: Access, b: Access): boolean {
  if (a.memory !== b.memory || a.to <= b.from || b.to <= a.from) return false;
  if (!a.view || !b.view || a.view.buffer !== b.view.buffer) return true;
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
