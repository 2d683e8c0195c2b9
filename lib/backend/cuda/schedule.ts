import { buffersOf, planMemory, writtenBy } from "../../compile/memory.js";
import type { Plan, Step, StrippedPlan, StripStep, View } from "../../compile/plan.js";
import { sizeOf } from "../../tensor/shape.js";

/** Maps of one launch: their code stands in one kernel, whose registers are those of the hungriest. */
const mostMaps = 32;
/** A kernel takes about 4000 bytes of arguments. */
const mostBuffers = 256;
/** How many launches back a map looks for company. */
const lookBack = 16;

export interface Schedule extends Pick<Plan, "buffers" | "arenaBytes"> {
  /** Numbers of the steps that are launched together, in the order of the launches; several are independent maps. */
  readonly groups: readonly (readonly number[])[];
}

/**
 * An order of the plan's steps with few launches. A map joins an earlier group of maps where the group, and all that lies
 * between, neither writes what it reads or writes, nor reads what it writes. Temporaries get new places: lives that
 * did not overlap in the plan's order may do so now.
 */
export function schedule({ steps, buffers }: Plan | StrippedPlan): Schedule {
  interface Group {
    readonly numbers: number[];
    readonly maps: boolean;
    readonly touched: Set<number>;
    readonly accesses: Access[];
  }
  const groups: Group[] = [];
  steps.forEach((step, number) => {
    const accesses = accessesOf(step);
    const touched = buffersOf(step);
    const maps = step.kind === "map";
    let company: Group | undefined;
    for (let i = groups.length - 1; maps && i >= Math.max(0, groups.length - lookBack); i--) {
      const group = groups[i]!;
      if (conflict(group.accesses, accesses)) break;
      const together = new Set([...group.touched, ...touched]);
      if (group.maps && group.numbers.length < mostMaps && together.size <= mostBuffers) company = group;
    }
    if (company) {
      company.numbers.push(number);
      company.accesses.push(...accesses);
      for (const buffer of touched) company.touched.add(buffer);
    } else groups.push({ numbers: [number], maps, touched: new Set(touched), accesses });
  });
  const order = groups.map(({ numbers }) => numbers);
  return { groups: order, ...planMemory(buffers, steps, order) };
}

/** What a step reads or writes of a buffer: elements `low` to `high` of it, of a map by a view, else all. */
interface Access {
  readonly writes: boolean;
  readonly buffer: number;
  readonly low: number;
  readonly high: number;
  readonly view?: View;
  readonly shape?: readonly number[];
}

function accessesOf(step: Step | StripStep): Access[] {
  if (step.kind !== "map") {
    const written = new Set(writtenBy(step));
    return [...new Set(buffersOf(step))].map((buffer) => ({
      writes: written.has(buffer),
      buffer,
      low: 0,
      high: Infinity,
    }));
  }
  const { shape, expression } = step;
  if (sizeOf(shape) === 0) return [];
  const access = (view: View, writes: boolean): Access => {
    const { low, high } = range(view.strides, shape);
    return { writes, buffer: view.buffer, low: view.offset + low, high: view.offset + high, view, shape };
  };
  return [
    ...expression.instructions.flatMap((i) => (i.op === "load" ? [access(i.view, false)] : [])),
    ...expression.outputs.map(({ view }) => access(view, true)),
  ];
}

function conflict(a: readonly Access[], b: readonly Access[]): boolean {
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
