import type { Batch } from "../graph/callee.js";
import { type Graph, hasSeveral, liveNodes, type Node, picked } from "../graph/graph.js";
import type { SeveralResults, SingleResult } from "../graph/primitives.js";
import { atLocationOf, emitSeveral, replayNode } from "../graph/trace.js";
import { batchRules, repeated } from "../ops/batching.js";
import type { Tensor } from "../tensor/tensor.js";
import { type SeveralRule, severalRules } from "./several.js";

type BatchRule = (typeof batchRules)[SingleResult];
type AnyRule = (x: readonly Tensor[], attrs: object, batched: readonly boolean[], size: number) => Tensor;

/**
 * Records the graph anew in the current trace, for `size` instances of its inputs at once: those with a true in
 * `batched` have the instances along their first axis, the others are the same for all. What does not depend on a
 * batched input is computed once.
 */
export function batchGraph(
  graph: Graph,
  inputs: readonly Tensor[],
  batched: readonly boolean[],
  size: number,
): Batch {
  const value = new Map<Node, Tensor>(graph.inputs.map((node, i) => [node, inputs[i]!]));
  const many = new Set<Node>(graph.inputs.filter((_, i) => batched[i]));
  const several = new Map<Node, Batch>();
  for (const node of liveNodes(graph.nodes, graph.outputs)) {
    if (node.op === "input") continue;
    if (node.op === "pick") {
      const [source, index] = picked(node);
      const { values, batched: which } = several.get(source)!;
      value.set(node, values[index]!);
      if (which[index]) many.add(node);
      continue;
    }
    const x = node.inputs.map((i) => value.get(i)!);
    const which = node.inputs.map((i) => many.has(i));
    const shared = which.every((b) => !b);
    if (hasSeveral(node)) {
      const { op, attrs } = node;
      const rule = severalRules[op] as SeveralRule<SeveralResults>;
      several.set(
        node,
        shared ? { values: emitSeveral(op, x, attrs), batched: [] } : rule.batch(x, attrs, which, size),
      );
    } else if (shared) value.set(node, replayNode(node, value));
    else {
      const rule = batchRules[node.op as SingleResult] as BatchRule as AnyRule;
      value.set(
        node,
        atLocationOf(node, () => rule(x, node.attrs, which, size)),
      );
      many.add(node);
    }
  }
  return {
    values: graph.outputs.map((node) => value.get(node)!),
    batched: graph.outputs.map((node) => many.has(node)),
  };
}

/** The outputs for a batch of inputs, all with the batch axis. */
export function batchedOutputs(
  graph: Graph,
  inputs: readonly Tensor[],
  batched: readonly boolean[],
  size: number,
): Tensor[] {
  const done = batchGraph(graph, inputs, batched, size);
  return done.values.map((y, i) => (done.batched[i] ? y : repeated(y, size)));
}
