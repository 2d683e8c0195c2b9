import { byteSize, type DType } from "../tensor/dtype.js";
import type { Shape } from "../tensor/shape.js";
import {
  bytesOf,
  elementwiseWork,
  noWork,
  type Region,
  regionOf,
  sumOfWork,
  type Work,
  wholeRegion,
} from "./cost.js";
import type { Expression, ReduceStep, StrippedPlan } from "./plan.js";
import { biasOf, expressionWords, movementWord, sizes } from "./wording.js";

type AnyStep = StrippedPlan["steps"][number];
type StepOf<K extends AnyStep["kind"]> = Extract<AnyStep, { readonly kind: K }>;

/** What one kernel of a plan computes, and what that takes: each count for one run. */
export interface Kernel extends Work {
  readonly kind: AnyStep["kind"];
  /** In words, such as "matmul 4096x128x128 + bias, gelu, geluSlope" (m x n x k). */
  readonly description: string;
  /** What it writes; a strip's blocks that only its own parts read are left out. */
  readonly outputs: readonly KernelOutput[];
  /** Of a gather or scatter: where in the user's code it was asked for, when known. */
  readonly location?: string;
  /**
   * Bytes that it must read and write when each element that it touches is touched once. Of a part of a strip: those
   * that stay in the cache too.
   */
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Bytes, in the arena, of the temporaries among what it writes. */
  readonly temporaryBytes: number;
  /** Of a strip: the memory for one block of rows, which each thread has. Of a loop: that of its body. */
  readonly localBytes: number;
  /** Of a strip: what runs for each block of rows. Of a loop: what runs in each turn, counted for one turn. */
  readonly parts: readonly Kernel[];
}

export interface KernelOutput {
  readonly dtype: DType;
  readonly shape: Shape;
  /** The graph's value that it is, as the printed graph names it ("%12"), when there is one. */
  readonly value?: string;
}

/** The value of the graph that a buffer holds. */
export interface NamedValue {
  readonly name: string;
  readonly shape: Shape;
  readonly location?: string | undefined;
}

interface Traffic {
  readonly reads: readonly Region[];
  readonly writes: readonly Region[];
}

/** How a kind of step is described and counted. */
interface Row<S> {
  describe(step: S): string;
  work(step: S): Work;
  traffic(step: S): Traffic;
  /** Of a kind that is made of others: these, each with what the whole says of it, and the memory that they share. */
  inside?(step: S): Inside;
}

interface Inside {
  readonly parts: readonly { readonly step: AnyStep; readonly note: string }[];
  readonly localBytes: number;
}

const alone: Inside = { parts: [], localBytes: 0 };

const loads = ({ instructions }: Expression, shape: Shape): Region[] =>
  instructions.flatMap((i) => (i.op === "load" ? [regionOf(i.view, shape)] : []));
const stores = ({ outputs }: Expression, shape: Shape): Region[] =>
  outputs.map(({ view }) => regionOf(view, shape));
const kept = ({ shape, reducedRank }: ReduceStep): Shape => shape.slice(0, shape.length - reducedRank);
const suffix = (lead: string, words: string): string => (words === "" ? "" : `${lead}${words}`);

const rows: { readonly [K in AnyStep["kind"]]: Row<StepOf<K>> } = {
  map: {
    describe: ({ shape, expression }) =>
      `map ${sizes(shape)}: ${expressionWords(expression) || movementWord(expression)}`,
    work: ({ shape, expression }) => elementwiseWork(expression, shape),
    traffic: ({ shape, expression }) => ({
      reads: loads(expression, shape),
      writes: stores(expression, shape),
    }),
  },
  reduce: {
    describe: (step) =>
      `reduce ${step.reducer} ${sizes(step.shape)} -> ${sizes(kept(step))}${suffix(": ", expressionWords(step.expression))}`,
    work: ({ shape, expression }) => elementwiseWork(expression, shape, 1),
    traffic: (step) => ({
      reads: loads(step.expression, step.shape),
      writes: stores(step.expression, kept(step)),
    }),
  },
  matmul: {
    describe: (step) =>
      `matmul ${sizes([...step.batch, step.m, step.n, step.k])}${suffix(" + ", expressionWords(step.expression, biasOf(step)))}`,
    work: ({ batch, m, n, k, expression }) => {
      const product = { flops: [...batch, m, n, k].reduce((p, size) => p * size, 2), transcendentals: 0 };
      return sumOfWork([product, elementwiseWork(expression, [...batch, m, n])]);
    },
    traffic: ({ batch, m, n, k, a, b, expression }) => {
      const shape = [...batch, m, n];
      return {
        reads: [regionOf(a, [...batch, m, k]), regionOf(b, [...batch, k, n]), ...loads(expression, shape)],
        writes: stores(expression, shape),
      };
    },
  },
  gather: {
    describe: ({ outer, size, inner, count }) =>
      `gather ${count} of ${size}, ${outer} x ${inner} elements each`,
    work: () => noWork,
    // Which elements it reads is known when it runs; they are as many as it writes.
    traffic: ({ outer, inner, count, input, indices, output }) => ({
      reads: [wholeRegion(input, [outer, count, inner]), wholeRegion(indices, [count])],
      writes: [wholeRegion(output, [outer, count, inner])],
    }),
  },
  scatter: {
    describe: ({ outer, size, inner, count }) =>
      `scatter ${count} into ${size}, ${outer} x ${inner} elements each`,
    work: ({ outer, inner, count }) => ({ flops: outer * inner * count, transcendentals: 0 }),
    traffic: ({ outer, size, inner, count, input, indices, output }) => ({
      reads: [wholeRegion(input, [outer, count, inner]), wholeRegion(indices, [count])],
      writes: [wholeRegion(output, [outer, size, inner])],
    }),
  },
  sort: {
    describe: ({ rows, size }) => `sort ${rows} rows of ${size}`,
    work: () => noWork,
    traffic: ({ rows, size, input, output }) => ({
      reads: [wholeRegion(input, [rows, size])],
      writes: [wholeRegion(output, [rows, size])],
    }),
  },
  cumsum: {
    describe: ({ outer, size, inner }) => `running sum over ${size}, ${outer} x ${inner} elements each`,
    work: ({ outer, size, inner }) => ({ flops: outer * size * inner, transcendentals: 0 }),
    traffic: ({ outer, size, inner, input, output }) => ({
      reads: [wholeRegion(input, [outer, size, inner])],
      writes: [wholeRegion(output, [outer, size, inner])],
    }),
  },
  attention: {
    describe: (step) => {
      const { part, batch, n, m, d, e, causal, mask } = step;
      const hidden = `${causal ? ", causal" : ""}${mask ? ", masked" : ""}`;
      return `attention ${part}, ${sizes([...batch, n, m])} scores of ${d} and ${e} features${hidden}`;
    },
    // The products, and an exponential for each score that the causal order shows (a mask is data).
    work: ({ part, batch, n, m, d, e, causal, directions }) => {
      const seen = Math.min(n, m);
      const pairs = causal ? (seen * (seen + 1)) / 2 + (n - seen) * m : n * m;
      const scores = batch.reduce((p, size) => p * size, pairs);
      const [first, second, third] = directions;
      const products = {
        value: d + e,
        tangent: d + (first ? d : 0) + (second ? d : 0) + (first || second ? e : 0) + (third ? e : 0),
        cotangent: 3 * d + (first ? 2 * e : 0),
      }[part];
      return { flops: scores * (2 * products + 1), transcendentals: scores };
    },
    traffic: (step) => {
      const { part, batch, n, m, d, e, q, k, v, mask, o, l, directions, outputs } = step;
      const shapes = {
        q: [...batch, n, d],
        k: [...batch, m, d],
        v: [...batch, m, e],
        o: [...batch, n, e],
        l: [...batch, n],
      };
      const ofInputs = [shapes.q, shapes.k, shapes.v];
      const ofResults = [shapes.o, shapes.l];
      const given = part === "tangent" ? ofInputs : ofResults;
      const made = part === "cotangent" ? ofInputs : ofResults;
      const views = [q, k, v, mask, o, l, ...directions];
      const seen = [...ofInputs, [...batch, n, m], ...ofResults, ...given];
      return {
        reads: views.flatMap((view, i) => (view ? [regionOf(view, seen[i]!)] : [])),
        writes: outputs.flatMap((buffer, i) => (buffer === undefined ? [] : [wholeRegion(buffer, made[i]!)])),
      };
    },
  },
  loop: {
    describe: ({ length, reverse, plan }) =>
      `loop of ${length} turns${reverse ? ", backwards" : ""}: ${plan.steps.length} ${plan.steps.length === 1 ? "kernel" : "kernels"} each`,
    work: ({ length, plan }) => {
      const { flops, transcendentals } = sumOfWork(plan.steps.map((step) => rowOf(step).work(step)));
      return { flops: flops * length, transcendentals: transcendentals * length };
    },
    // Only what it writes is told by this; its traffic is that of its turns.
    traffic: ({ plan, length, carries, ys }) => ({
      reads: [],
      writes: [...carries, ...ys].map((buffer, i) => {
        const { size } = plan.buffers[plan.outputs[i]!]!;
        return wholeRegion(buffer, i < carries.length ? [size] : [length, size]);
      }),
    }),
  },
  strip: {
    describe: ({ rows, block, parts }) => `strip of ${rows} rows, ${block} at a time: ${parts.length} parts`,
    work: ({ parts }) => sumOfWork(parts.map(({ step }) => rowOf(step).work(step))),
    // What a part made is still in the cache when the next one reads it.
    traffic: ({ parts }) => {
      const all = parts.map(({ step }) => rowOf(step).traffic(step));
      const writes = all.flatMap((traffic) => traffic.writes);
      const made = new Set(writes.map(({ buffer }) => buffer));
      return { reads: all.flatMap(({ reads }) => reads).filter(({ buffer }) => !made.has(buffer)), writes };
    },
    inside: ({ parts, localBytes }) => ({
      parts: parts.map(({ step, role }) => ({ step, note: role === "sum" ? ", summed over the rows" : "" })),
      localBytes,
    }),
  },
};

const rowOf = (step: AnyStep) => rows[step.kind] as Row<AnyStep>;

/** The kernels of a plan, one for each step, in order; `valueOf` tells what a buffer holds. */
export function kernelsOf(
  { steps, buffers }: StrippedPlan,
  valueOf: (buffer: number) => NamedValue | undefined,
): Kernel[] {
  const kernel = (step: AnyStep, isPart: boolean, note: string): Kernel => {
    const row = rowOf(step);
    const { parts, localBytes } = row.inside?.(step) ?? alone;
    const { reads, writes } = row.traffic(step);
    const outside = (regions: readonly Region[]) =>
      isPart ? regions : regions.filter(({ buffer }) => buffers[buffer]!.kind !== "local");
    const written = outside(writes);
    const temporaries = new Set(
      written.map(({ buffer }) => buffer).filter((buffer) => buffers[buffer]!.kind === "temporary"),
    );
    const location = "site" in step ? valueOf(step.output)?.location : undefined;
    return {
      kind: step.kind,
      description: `${row.describe(step)}${note}`,
      outputs: written.map(({ buffer, shape, size }) => output(buffer, shape, size)),
      ...(location === undefined ? {} : { location }),
      ...row.work(step),
      bytesRead: bytesOf(outside(reads), buffers),
      bytesWritten: bytesOf(written, buffers),
      temporaryBytes: [...temporaries].reduce((sum, buffer) => sum + bufferBytes(buffers[buffer]!), 0),
      localBytes,
      parts: parts.map((part) => kernel(part.step, true, part.note)),
      ...(step.kind === "loop" ? turns(step) : {}),
    };
  };
  const output = (buffer: number, shape: Shape, size: number): KernelOutput => {
    const { dtype } = buffers[buffer]!;
    const value = valueOf(buffer);
    if (value === undefined) return { dtype, shape };
    // A kernel may see a value in another shape, or write a part of it.
    const whole = value.shape.reduce((product, n) => product * n, 1) === size;
    return { dtype, shape: whole ? value.shape : shape, value: value.name };
  };
  return steps.map((step) => kernel(step, false, ""));
}

/** Of a loop: the kernels of one turn, the traffic of all turns, and the memory of one. */
function turns({ plan, length }: StepOf<"loop">): Partial<Kernel> {
  const parts = kernelsOf(plan, () => undefined);
  const total = (of: "bytesRead" | "bytesWritten") =>
    length * parts.reduce((sum, kernel) => sum + kernel[of], 0);
  const inner = parts.reduce((most, kernel) => Math.max(most, kernel.localBytes), 0);
  return {
    parts,
    bytesRead: total("bytesRead"),
    bytesWritten: total("bytesWritten"),
    localBytes: plan.arenaBytes + inner,
  };
}

export function bufferBytes({ dtype, size }: { readonly dtype: DType; readonly size: number }): number {
  return size * byteSize(dtype);
}
