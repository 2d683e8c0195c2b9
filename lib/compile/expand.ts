import { type Graph, liveNodes, type Node, neededNodes, picked } from "../graph/graph.js";
import type { Attributes } from "../graph/primitives.js";
import { emit, replayNode, traceGraph } from "../graph/trace.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * The graph as the compiler wants it: calls have given way to what they call, and loops, whose bodies are prepared
 * likewise, compute only what is read of them.
 */
export function expand(graph: Graph): Graph {
  let result = graph;
  while (liveNodes(result.nodes, result.outputs).some(({ op }) => op === "call" || op === "scan")) {
    const next = expandOnce(result);
    if (next === undefined) break;
    result = next;
  }
  return result;
}

/** The graph with one layer of calls expanded and its loops prepared; undefined where all was done. */
function expandOnce(graph: Graph): Graph | undefined {
  const nodes = liveNodes(graph.nodes, graph.outputs);
  let changed = false;
  const next = traceGraph((inputs) => {
    const value = new Map<Node, Tensor>(graph.inputs.map((node, i) => [node, inputs[i]!]));
    const results = new Map<Node, Map<number, Tensor>>();
    for (const node of nodes) {
      if (node.op === "input") continue;
      const x = node.inputs.map((i) => value.get(i)!);
      if (node.op === "call") {
        const { callee } = node.attrs as Attributes["call"];
        results.set(node, new Map(callee.expand(x).entries()));
        changed = true;
      } else if (node.op === "scan") {
        const picks = nodes.filter((pick) => pick.op === "pick" && pick.inputs[0] === node);
        const used = picks.map((pick) => picked(pick)[1]);
        const pruned = pruneScan(node as Node<"scan">, used);
        changed ||= pruned.changed;
        const tuple = emit(
          "scan",
          pruned.inputs.map((i) => x[i]!),
          pruned.attrs,
        );
        results.set(
          node,
          new Map(pruned.results.map((index, i) => [index, emit("pick", [tuple], { index: i })])),
        );
      } else if (node.op === "pick") {
        const [source, index] = picked(node);
        value.set(node, results.get(source)?.get(index) ?? emit("pick", x, { index }));
      } else value.set(node, replayNode(node, value));
    }
    return graph.outputs.map((node) => value.get(node)!);
  }, graph.inputs);
  return changed ? { ...next, captured: graph.captured } : undefined;
}

/** A scan without the carries, ys and inputs that the results in use do not need. */
function pruneScan(node: Node<"scan">, used: readonly number[]) {
  const { attrs } = node;
  const body = expand(attrs.body);
  const kept = new Set(used);
  const carryNode = (i: number) => body.inputs[attrs.consts + i]!;
  let needed = new Set<Node>();
  for (let more = true; more; ) {
    more = false;
    needed = neededNodes(
      body.nodes,
      [...kept].map((i) => body.outputs[i]!),
    );
    for (let i = 0; i < attrs.carries; i++)
      if (!kept.has(i) && needed.has(carryNode(i))) more = !!kept.add(i);
  }
  const isCarry = (i: number) => i >= attrs.consts && i < attrs.consts + attrs.carries;
  const inputs = body.inputs
    .map((_, i) => i)
    .filter((i) => (isCarry(i) ? kept.has(i - attrs.consts) : needed.has(body.inputs[i]!)));
  const results = [...kept].sort((a, b) => a - b);
  const changed =
    body !== attrs.body || inputs.length < body.inputs.length || results.length < body.outputs.length;
  const newInputs = inputs.map((i) => body.inputs[i]!);
  const nodes = body.nodes.filter((member) => needed.has(member) || newInputs.includes(member));
  return {
    changed,
    inputs,
    results,
    attrs: {
      ...attrs,
      body: changed
        ? { ...body, nodes, inputs: newInputs, outputs: results.map((i) => body.outputs[i]!) }
        : attrs.body,
      consts: inputs.filter((i) => i < attrs.consts).length,
      carries: results.filter((i) => i < attrs.carries).length,
    },
  };
}
