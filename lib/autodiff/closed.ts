import type { Graph, Spec } from "../graph/graph.js";
import { replay, traceGraph } from "../graph/trace.js";
import type { Tensor } from "../tensor/tensor.js";

/** A graph without captured tensors: those that its function captured are its last inputs. */
export interface Closed {
  readonly graph: Graph;
  /** The captured tensors, to be given for the last inputs. */
  readonly captured: readonly Tensor[];
}

export function closed(graph: Graph): Closed {
  return { graph: { ...graph, captured: [] }, captured: graph.captured };
}

/** `ofUser`: f calls a function of the user's, see traceGraph. */
export function traceClosed(
  f: (inputs: Tensor[]) => readonly Tensor[],
  specs: readonly Spec[],
  ofUser = false,
): Closed {
  return closed(traceGraph(f, specs, ofUser));
}

/** The outputs of a closed graph, recorded in the current trace. */
export function replayed(graph: Graph, inputs: readonly Tensor[]): Tensor[] {
  const values = replay(graph, graph.nodes, inputs);
  return graph.outputs.map((node) => values.get(node)!);
}

export const specsOf = (graph: Graph): Spec[] => graph.outputs.map(({ shape, dtype }) => ({ shape, dtype }));
