import { byteSize } from "../tensor/dtype.js";
import type { BufferSpec, Expression, Plan, Step, StripStep } from "./plan.js";

const align = (bytes: number): number => Math.ceil(bytes / 64) * 64;

const written = ({ outputs }: Expression): number[] => outputs.map(({ view }) => view.buffer);
const read = ({ instructions }: Expression): number[] =>
  instructions.flatMap((i) => (i.op === "load" ? [i.view.buffer] : []));

/** The buffers that a step writes. */
export function writtenBy(step: Step | StripStep): number[] {
  switch (step.kind) {
    case "map":
    case "reduce":
    case "matmul":
      return written(step.expression);
    case "gather":
    case "scatter":
    case "sort":
    case "cumsum":
      return [step.output];
    case "loop":
      return [...step.carries, ...step.ys];
    case "attention":
      return step.outputs.filter((output) => output !== undefined);
    case "strip":
      return step.parts.flatMap((part) => writtenBy(part.step));
  }
}

/** Of steps that were asked about: the search for strips asks again and again. */
const known = new WeakMap<Step | StripStep, readonly number[]>();

/** The buffers that a step reads or writes, as often as it does. */
export function buffersOf(step: Step | StripStep): readonly number[] {
  let buffers = known.get(step);
  if (buffers === undefined) known.set(step, (buffers = touched(step)));
  return buffers;
}

function touched(step: Step | StripStep): readonly number[] {
  switch (step.kind) {
    case "map":
    case "reduce":
      return [...read(step.expression), ...writtenBy(step)];
    case "matmul":
      return [step.a.buffer, step.b.buffer, ...read(step.expression), ...writtenBy(step)];
    case "gather":
    case "scatter":
      return [step.input, step.indices, step.output];
    case "sort":
    case "cumsum":
      return [step.input, step.output];
    case "loop":
      return [...step.consts, ...step.inits, ...step.xs, ...writtenBy(step)];
    case "attention": {
      const { q, k, v, mask, o, l, directions } = step;
      const views = [q, k, v, mask, o, l, ...directions].filter((view) => view !== undefined);
      return [...views.map(({ buffer }) => buffer), ...writtenBy(step)];
    }
    case "strip":
      return step.parts.flatMap((part) => buffersOf(part.step));
  }
}

/**
 * Places for buffers in one piece of memory: each lives from the first to the last time it is touched, and takes
 * the lowest gap that is free for that time, larger buffers first. `touched` has the buffers for each point in time.
 */
export function placeBuffers(
  ids: readonly number[],
  touched: readonly (readonly number[])[],
  size: (id: number) => number,
): { offsets: Map<number, number>; bytes: number } {
  const first = new Map<number, number>();
  const last = new Map<number, number>();
  touched.forEach((buffers, i) => {
    for (const id of buffers) {
      if (!first.has(id)) first.set(id, i);
      last.set(id, i);
    }
  });
  interface Placed {
    from: number;
    to: number;
    offset: number;
    end: number;
  }
  const placed: Placed[] = [];
  const offsets = new Map<number, number>();
  const sizes = new Map(ids.map((id) => [id, align(size(id))]));
  const order = ids.filter((id) => first.has(id)).sort((a, b) => sizes.get(b)! - sizes.get(a)! || a - b);
  for (const id of order) {
    const from = first.get(id)!;
    const to = last.get(id)!;
    const rivals = placed.filter((p) => p.from <= to && from <= p.to).sort((a, b) => a.offset - b.offset);
    let offset = 0;
    for (const rival of rivals) {
      if (offset + sizes.get(id)! <= rival.offset) break;
      offset = Math.max(offset, rival.end);
    }
    placed.push({ from, to, offset, end: offset + sizes.get(id)! });
    offsets.set(id, offset);
  }
  return { offsets, bytes: placed.reduce((end, p) => Math.max(end, p.end), 0) };
}

/** Gives temporaries places in one arena by their lifetimes. Steps of one group run in any order, or at the same time. */
export function planMemory(
  buffers: readonly BufferSpec[],
  steps: readonly (Step | StripStep)[],
  groups: readonly (readonly number[])[] = steps.map((_, step) => [step]),
): Pick<Plan, "buffers" | "arenaBytes"> {
  const temporaries = buffers.map((_, id) => id).filter((id) => buffers[id]!.kind === "temporary");
  const { offsets, bytes } = placeBuffers(
    temporaries,
    groups.map((group) => group.flatMap((step) => buffersOf(steps[step]!))),
    (id) => buffers[id]!.size * byteSize(buffers[id]!.dtype),
  );
  return {
    buffers: buffers.map((buffer, id) =>
      buffer.kind === "temporary" ? { ...buffer, offset: offsets.get(id) ?? 0 } : buffer,
    ),
    arenaBytes: bytes,
  };
}
