import { byteSize, type DType } from "../tensor/dtype.js";
import { buffersOf, placeBuffers, planMemory, writtenBy } from "./memory.js";
import type {
  BufferSpec,
  Expression,
  Plan,
  ReduceStep,
  Step,
  StripPart,
  StrippedPlan,
  StripStep,
  View,
} from "./plan.js";

/**
 * Strip mining. The steps of a training step mostly run over the same rows, the samples of a batch: layer after
 * layer, forwards and backwards. Step by step, every activation goes out to memory and comes back. In a strip they
 * run one after another for a block of rows that fits the cache, and then for the next block:
 *
 * - a step by rows computes the rows of its output from the same rows of what the strip computed before;
 * - a step that sums over the rows (a weight's gradient, a loss) adds the block to its partial sum; the partial sums
 *   are added, in order, when all rows are done.
 *
 * A temporary that only the strip touches is then as long as a block, not as the batch.
 */
export function stripMine(plan: Plan, profile: StripProfile = cpuStrips): StrippedPlan {
  const buffers = [...plan.buffers];
  const inner = plan.steps.map((step) =>
    step.kind === "loop" ? { ...step, plan: stripMine(step.plan as Plan, profile) } : step,
  );
  const steps = stripSteps(inner, buffers, [], profile);
  return { ...plan, ...planMemory(buffers, steps), steps };
}

/** What a device wants of strips. Bits depend on it: shapes and constants of the device alone decide. */
export interface StripProfile {
  /** Fewer rows than this are not worth a strip. */
  readonly fewestRows: number;
  /** A product joins a strip up to so many columns and so long a row: each block of rows reads the other factor anew. */
  readonly widest: number;
  /** What a block's temporaries may take. */
  readonly blockBytes: number;
  /** Sizes of a block, in rows, the best first; the first one whose temporaries fit is taken, else there is no strip. */
  blocks(rows: number): readonly number[];
  /** What a row of a temporary of so many elements takes in a block's memory. */
  rowBytes(elements: number, dtype: DType): number;
  /** Rows of each chunk. `sumBytes`: what a partial sum of all that the strip sums over the rows takes. */
  chunks(rows: number, block: number, sumBytes: number): number[];
  /** Most partial sums of what sums over the rows. */
  readonly sums: number;
}

/**
 * How many threads can work on a strip at once. There are so many partial sums, and a chunk is this part of the rows
 * that are left: at the end they are short, and all threads end together.
 */
const sharers = 8;
const largestBlock = 128;
const smallestBlock = 16;

/** Strips for the C++ addon. */
export const cpuStrips: StripProfile = {
  widest: Number.POSITIVE_INFINITY,
  fewestRows: 256,
  // The temporaries of layers 128 wide lie in a core's second cache, beside the weights; those of wider ones come from
  // the third, as each of their elements goes into more multiply-adds.
  blockBytes: 2048 * 1024,
  blocks(rows) {
    let block = largestBlock;
    while (block > smallestBlock && rows / block < sharers) block /= 2;
    const sizes = [block];
    while (block > smallestBlock) sizes.push((block /= 2));
    return sizes;
  },
  rowBytes: (elements, dtype) => elements * byteSize(dtype),
  /** Long chunks first, short ones last. */
  chunks(rows, block) {
    const chunks: number[] = [];
    for (let left = rows; left > 0; left -= chunks.at(-1)!)
      chunks.push(Math.min(left, Math.ceil(left / sharers / block) * block));
    return chunks;
  },
  sums: sharers,
};

/**
 * Finds strips, those with most work first; what comes before and after one is searched again. `others` are the
 * plan's other steps: what they touch must be in memory, whole.
 */
function stripSteps(
  steps: readonly Step[],
  buffers: BufferSpec[],
  others: readonly Step[],
  profile: StripProfile,
): (Step | StripStep)[] {
  let rest: { earlier: readonly Step[]; after: readonly Step[] } | undefined;
  for (const rows of candidates(steps, profile.fewestRows)) {
    const { before, inside, after } = divide(steps, rows, buffers, profile.widest);
    const strip = makeStrip(rows, inside, [...others, ...before, ...after], buffers, profile);
    const within = inside.map(({ step }) => step);
    if (strip === undefined) {
      if (before.length + within.length > 0) rest ??= { earlier: [...before, ...within], after };
      continue;
    }
    return [
      ...stripSteps(before, buffers, [...others, ...within, ...after], profile),
      strip,
      ...stripSteps(after, buffers, [...others, ...before, ...within], profile),
    ];
  }
  // What needs all rows of the first steps may still make a strip.
  if (rest === undefined || rest.after.length === 0) return [...steps];
  return [...rest.earlier, ...stripSteps(rest.after, buffers, [...others, ...rest.earlier], profile)];
}

/** Numbers of rows, those with the most arithmetic first. */
function candidates(steps: readonly Step[], fewestRows: number): number[] {
  const work = new Map<number, number>();
  for (const step of steps) {
    if (step.kind !== "matmul" || step.batch.length > 0) continue;
    for (const rows of new Set([step.m, step.k]))
      work.set(rows, (work.get(rows) ?? 0) + step.m * step.n * step.k);
  }
  return [...work.entries()]
    .filter(([rows]) => rows >= fewestRows)
    .sort((a, b) => b[1] - a[1] || b[0] - a[0])
    .map(([rows]) => rows);
}

/** The step as a part of a strip of so many rows, when it has them where a part must. */
function partOf(step: Step, rows: number, widest: number): StripPart | undefined {
  if ("shape" in step && step.shape.includes(0)) return undefined;
  switch (step.kind) {
    case "map":
      return step.shape[0] === rows ? { role: "rows", step } : undefined;
    case "matmul":
      if (step.batch.length > 0 || step.m * step.n * step.k === 0) return undefined;
      if (step.m === rows) return Math.max(step.n, step.k) <= widest ? { role: "rows", step } : undefined;
      return step.k === rows && Math.max(step.m, step.n) <= widest ? { role: "sum", step } : undefined;
    case "reduce": {
      const kept = keptShape(step);
      if (kept[0] === rows) return { role: "rows", step };
      const vector = kept.filter((n) => n !== 1).length <= 1;
      const sums = step.reducer !== "argmax" && step.reducer !== "argmin" && vector;
      return sums && step.shape[kept.length] === rows ? { role: "sum", step } : undefined;
    }
    default:
      return undefined;
  }
}

const keptShape = ({ shape, reducedRank }: ReduceStep) => shape.slice(0, shape.length - reducedRank);

/** What a step reads or writes through a view: with the axis of the rows in it, or none where each row may need all. */
interface Reference {
  readonly view: View;
  readonly shape: readonly number[];
  readonly axis: number | undefined;
}

function references({ step, role }: StripPart): { reads: Reference[]; writes: Reference[] } {
  if (step.kind === "matmul") {
    const shape = [step.m, step.n];
    const sum = role === "sum";
    return {
      reads: [
        { view: step.a, shape: [step.m, step.k], axis: sum ? 1 : 0 },
        { view: step.b, shape: [step.k, step.n], axis: sum ? 0 : undefined },
        // The expression of a sum runs when it is complete, and the rows are gone.
        ...loadsOf(step.expression).map((view) => ({ view, shape, axis: sum ? undefined : 0 })),
      ],
      writes: step.expression.outputs.map(({ view }) => ({ view, shape, axis: sum ? undefined : 0 })),
    };
  }
  const { shape, expression } = step;
  const kept = step.kind === "reduce" ? keptShape(step) : shape;
  const axis = role === "sum" ? kept.length : 0;
  return {
    reads: loadsOf(expression).map((view) => ({ view, shape, axis })),
    writes: expression.outputs.map(({ view }) => ({
      view,
      shape: kept,
      axis: role === "sum" ? undefined : 0,
    })),
  };
}

function loadsOf({ instructions }: Expression): View[] {
  return instructions.flatMap((i) => (i.op === "load" ? [i.view] : []));
}

/** Whether row r of a reference lies in row r of its buffer, a dense array of `rows` rows. */
function staysInRow({ view, shape, axis }: Reference, size: number, rows: number): boolean {
  if (axis === undefined || size % rows !== 0 || view.strides[axis] !== size / rows) return false;
  let [low, high] = [view.offset, view.offset];
  shape.forEach((n, i) => {
    if (i === axis) return;
    const reach = (n - 1) * view.strides[i]!;
    if (reach < 0) low += reach;
    else high += reach;
  });
  return low >= 0 && high < size / rows;
}

interface Division {
  readonly before: Step[];
  readonly inside: StripPart[];
  readonly after: Step[];
}

/** Divides steps, in order, into those inside of a strip, those that need it, and those that go before it. */
function divide(
  steps: readonly Step[],
  rows: number,
  buffers: readonly BufferSpec[],
  widest: number,
): Division {
  const division: Division = { before: [], inside: [], after: [] };
  /** Buffers written row by row inside. */
  const ready = new Set<number>();
  /** Buffers that are complete only after the strip. */
  const late = new Set<number>();

  const fits = (part: StripPart): boolean => {
    const { reads, writes } = references(part);
    const stays = (r: Reference) => staysInRow(r, buffers[r.view.buffer]!.size, rows);
    return (
      reads.every((r) => !ready.has(r.view.buffer) || stays(r)) &&
      (part.role === "sum" || writes.every(stays))
    );
  };
  for (const step of steps) {
    const touched = buffersOf(step);
    const part = partOf(step, rows, widest);
    let written = late;
    if (touched.some((buffer) => late.has(buffer))) division.after.push(step);
    else if (part !== undefined && fits(part)) {
      division.inside.push(part);
      if (part.role === "rows") written = ready;
    } else if (touched.some((buffer) => ready.has(buffer))) division.after.push(step);
    else {
      division.before.push(step);
      continue;
    }
    for (const buffer of writtenBy(step)) written.add(buffer);
  }
  return { ...division, inside: sumsFirst(division.inside) };
}

/** The parts with each sum as early as it can be: what it reads is still hot then, and its memory free the sooner. */
function sumsFirst(parts: readonly StripPart[]): StripPart[] {
  const rows = parts.filter(({ role }) => role === "rows");
  const made = new Set(rows.flatMap(({ step }) => writtenBy(step)));
  const waiting = parts
    .filter(({ role }) => role === "sum")
    .map((part) => ({ part, needs: new Set(buffersOf(part.step).filter((buffer) => made.has(buffer))) }));
  const result: StripPart[] = [];
  const add = (part: StripPart) => {
    result.push(part);
    for (const buffer of writtenBy(part.step)) for (const { needs } of waiting) needs.delete(buffer);
    for (const ready of waiting.filter(({ needs }) => needs.size === 0)) {
      waiting.splice(waiting.indexOf(ready), 1);
      result.push(ready.part);
    }
  };
  for (const part of rows) add(part);
  return [...result, ...waiting.map(({ part }) => part)];
}

/** The strip of these steps; undefined where it would gain nothing. Makes its temporaries local in `buffers`. */
function makeStrip(
  rows: number,
  inside: readonly StripPart[],
  others: readonly Step[],
  buffers: BufferSpec[],
  profile: StripProfile,
): StripStep | undefined {
  if (inside.length < 2 || !inside.some(({ step }) => step.kind === "matmul")) return undefined;
  const outside = new Set(others.flatMap(buffersOf));
  const steps = inside.map(({ step }) => step);
  const sums = inside.filter(({ role }) => role === "sum").map(({ step }) => step);
  const whole = new Set(sums.flatMap(writtenBy));
  const local = [...new Set(steps.flatMap(buffersOf))].filter(
    (id) => buffers[id]!.kind === "temporary" && !outside.has(id) && !whole.has(id),
  );
  if (local.length === 0) return undefined;
  const rowBytes = (id: number) => profile.rowBytes(buffers[id]!.size / rows, buffers[id]!.dtype);
  const place = (block: number) => ({
    block,
    ...placeBuffers(local, steps.map(buffersOf), (id) => rowBytes(id) * block),
  });
  const fitting = profile
    .blocks(rows)
    .map(place)
    .find(({ bytes }) => bytes <= profile.blockBytes);
  if (fitting === undefined) return undefined;

  const { block, offsets, bytes } = fitting;
  const sumBytes = sums.reduce((total, step) => total + partialBytes(step, buffers), 0);
  const chunks = profile.chunks(rows, block, sumBytes);
  for (const id of local) buffers[id] = { ...buffers[id]!, kind: "local", offset: offsets.get(id)! };
  return {
    kind: "strip",
    rows,
    block,
    chunks,
    sums: Math.min(profile.sums, chunks.length),
    localBytes: bytes,
    parts: inside,
  };
}

/** What one partial sum of the step takes. */
function partialBytes(step: StripPart["step"], buffers: readonly BufferSpec[]): number {
  const size =
    step.kind === "matmul" ? step.m * step.n : keptShape(step as ReduceStep).reduce((n, m) => n * m, 1);
  return size * byteSize(buffers[step.expression.outputs[0]!.view.buffer]!.dtype);
}
