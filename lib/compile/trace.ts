import { traceFunction } from "../autodiff/function.js";
import type { Graph } from "../graph/graph.js";
import { printGraph } from "../graph/print.js";
import { flatten } from "../tensor/tree.js";
import { lower } from "./lower.js";
import type { Plan } from "./plan.js";

/** A traced function: its graph as data and as text, and the plan that it becomes. */
export interface Traced {
  readonly graph: Graph;
  readonly plan: Plan;
  /** The graph, one line a value. */
  toString(): string;
}

/** Traces f on these arguments (of which only shapes and dtypes count), without running it: to look at it. */
export function trace<A extends readonly unknown[]>(f: (...args: A) => unknown, ...args: A): Traced {
  const { leaves, structure } = flatten(args);
  const { graph } = traceFunction("trace", f as (...args: never[]) => unknown, structure, leaves, false);
  return { graph, plan: lower(graph), toString: () => printGraph(graph) };
}
