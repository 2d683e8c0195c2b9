import { traceFunction } from "../autodiff/function.js";
import { type BackendName, currentBackend } from "../backend/index.js";
import type { Graph } from "../graph/graph.js";
import { printGraph, valueNames } from "../graph/print.js";
import { checkFlag, checkOptions } from "../options.js";
import { flatten } from "../tensor/tree.js";
import { sumOfWork, type Work } from "./cost.js";
import { expand } from "./expand.js";
import { bufferBytes, type Kernel, kernelsOf } from "./kernels.js";
import { lowerNamed } from "./lower.js";
import type { BufferSpec, StrippedPlan } from "./plan.js";
import { programGraph } from "./program.js";
import { report } from "./report.js";

/** Memory of a run, in bytes. */
export interface MemoryUse {
  /** The arguments, and the tensors that the function closes over. */
  readonly inputs: number;
  readonly outputs: number;
  /** Temporaries; those that live at different times share their places. */
  readonly arena: number;
  /** What one thread needs for a block of rows of a strip, or a loop for a turn: the most of any; 0 without them. */
  readonly local: number;
}

/** What a function computes and what that takes, found without running it. All counts are for one call. */
export interface Inspection extends Work {
  /** The backend that was in use. */
  readonly backend: BackendName;
  /** The traced function, its custom rules and checkpoints written out; as a string it is one line a value. */
  readonly graph: Graph & { toString(): string };
  /** The plan that the backend runs. */
  readonly plan: StrippedPlan;
  /** The plan's steps, in order, with what each takes. */
  readonly kernels: readonly Kernel[];
  /** Bytes that the kernels read and write, each element that a kernel touches counted once for this kernel. */
  readonly bytes: number;
  readonly memory: MemoryUse;
  /**
   * The sum of `memory`: what a call holds at most, but for a backend's own scratch memory (packed operands of products,
   * partial sums, the blocks of further threads).
   */
  readonly peakBytes: number;
  /** A text for people: totals, the graph (the middle of a long one left out unless `full`), kernels, memory. */
  toString(options?: { readonly full?: boolean }): string;
}

/**
 * Looks at what f would compute on these arguments, of which only structure, shapes and dtypes count (and the values of
 * arguments that are not tensors), without running it: its graph, the kernels that the backend in use runs for it, and
 * their arithmetic, traffic and memory. Print the result to read it:
 *
 *     console.log(String(fx.inspect(fx.grad(loss), params, batch)));
 *
 * Arithmetic (`flops`) counts a multiply-add of a matrix product as two operations (2 m n k), an elementwise operation
 * as one an element, a reduction as one for each element folded; loads, constants and casts are free. Transcendental
 * functions count as one too, and `transcendentals` says how many of the flops are such.
 *
 * @throws what f throws when it is traced
 */
export function inspect<A extends readonly unknown[]>(f: (...args: A) => unknown, ...args: A): Inspection {
  const { leaves, structure } = flatten(args);
  const traced = traceFunction("inspect", f as (...args: never[]) => unknown, structure, leaves, false);
  const graph = expand(traced.graph);
  const backend = currentBackend();
  const lowered = lowerNamed(programGraph(graph));
  const plan: StrippedPlan = backend.optimize?.(lowered.plan) ?? lowered.plan;
  const names = valueNames(graph);
  const kernels = kernelsOf(plan, (buffer) => {
    const node = lowered.nodes[buffer];
    return node && { name: names.get(node)!, shape: node.shape, location: node.location };
  });

  const bytesIn = (kind: BufferSpec["kind"]) =>
    plan.buffers.filter((buffer) => buffer.kind === kind).reduce((sum, b) => sum + bufferBytes(b), 0);
  const memory: MemoryUse = {
    inputs: bytesIn("input"),
    outputs: bytesIn("output"),
    arena: plan.arenaBytes,
    local: kernels.reduce((most, { localBytes }) => Math.max(most, localBytes), 0),
  };
  const inspection: Inspection = {
    backend: backend.name,
    graph: { ...graph, toString: () => printGraph(graph) },
    plan,
    kernels,
    ...sumOfWork(kernels),
    bytes: kernels.reduce((sum, kernel) => sum + kernel.bytesRead + kernel.bytesWritten, 0),
    memory,
    peakBytes: memory.inputs + memory.outputs + memory.arena + memory.local,
    toString(options = {}) {
      checkOptions("Inspection.toString", options, ["full"]);
      return report(inspection, checkFlag("Inspection.toString", "full", options.full ?? false));
    },
  };
  // Consoles and notebooks show the text.
  Object.defineProperty(inspection, Symbol.for("nodejs.util.inspect.custom"), {
    value: () => inspection.toString(),
  });
  return inspection;
}
