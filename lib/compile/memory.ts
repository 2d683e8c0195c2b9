import { byteSize } from "../tensor/dtype.js";
import type { BufferSpec, Expression, Plan, Step } from "./plan.js";

const align = (bytes: number): number => Math.ceil(bytes / 64) * 64;

/** The buffers that a step reads and writes. */
export function buffersOf(step: Step): number[] {
  const ofExpression = ({ instructions, outputs }: Expression) => [
    ...instructions.flatMap((i) => (i.op === "load" ? [i.view.buffer] : [])),
    ...outputs.map((o) => o.view.buffer),
  ];
  switch (step.kind) {
    case "map":
    case "reduce":
      return ofExpression(step.expression);
    case "matmul":
      return [step.a.buffer, step.b.buffer, ...ofExpression(step.expression)];
    case "gather":
    case "scatter":
      return [step.input, step.indices, step.output];
    case "sort":
      return [step.input, step.output];
  }
}

/**
 * Gives temporaries places in one arena: each lives from the first to the last step that touches it, and takes the
 * lowest gap that is free for that time, larger buffers first.
 */
export function planMemory(
  buffers: readonly BufferSpec[],
  steps: readonly Step[],
): Pick<Plan, "buffers" | "arenaBytes"> {
  const first = new Map<number, number>();
  const last = new Map<number, number>();
  steps.forEach((step, i) => {
    for (const buffer of buffersOf(step)) {
      if (!first.has(buffer)) first.set(buffer, i);
      last.set(buffer, i);
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
  const bytes = (id: number) => align(buffers[id]!.size * byteSize(buffers[id]!.dtype));
  const temporaries = buffers
    .map((_, id) => id)
    .filter((id) => buffers[id]!.kind === "temporary" && first.has(id))
    .sort((a, b) => bytes(b) - bytes(a) || a - b);
  for (const id of temporaries) {
    const from = first.get(id)!;
    const to = last.get(id)!;
    const rivals = placed.filter((p) => p.from <= to && from <= p.to).sort((a, b) => a.offset - b.offset);
    let offset = 0;
    for (const rival of rivals) {
      if (offset + bytes(id) <= rival.offset) break;
      offset = Math.max(offset, rival.end);
    }
    placed.push({ from, to, offset, end: offset + bytes(id) });
    offsets.set(id, offset);
  }
  return {
    buffers: buffers.map((buffer, id) => ({ ...buffer, offset: offsets.get(id) ?? 0 })),
    arenaBytes: placed.reduce((end, p) => Math.max(end, p.end), 0),
  };
}
