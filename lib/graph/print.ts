import { show } from "../tensor/shape.js";
import { type Graph, liveNodes, type Node } from "./graph.js";
import { describe } from "./trace.js";

/** The nodes that matter, numbered in order, and each one's number. */
function numbered(graph: Graph): { nodes: Node[]; number: Map<Node, number> } {
  const nodes = liveNodes(graph.nodes, graph.outputs);
  return { nodes, number: new Map(nodes.map((node, i) => [node, i])) };
}

/**
 * A graph as text, one line a value:
 *
 *     input  %0: float32[4, 2]
 *     %1: float32[4, 2] = sin %0
 *     output %1
 */
export function printGraph(graph: Graph): string {
  const { nodes, number } = numbered(graph);
  const name = (node: Node) => `%${number.get(node)}`;
  const typed = (node: Node) => `${name(node)}: ${node.dtype}${show(node.shape)}`;
  const firstCaptured = graph.inputs.length - graph.captured.length;
  const lines = nodes.map((node) => {
    if (node.op === "input")
      return `${graph.inputs.indexOf(node) < firstCaptured ? "input  " : "capture"} ${typed(node)}`;
    const { shape: _, dtype: __, ...attrs } = node.attrs as { shape?: unknown; dtype?: unknown };
    return `${typed(node)} = ${[describe(node.op, attrs), ...node.inputs.map(name)].join(" ")}`;
  });
  return [...lines, `output  ${graph.outputs.map(name).join(" ")}`].join("\n");
}

/** A text that is equal for graphs that compute the same by the same steps: the key of the compile cache. */
export function graphKey(graph: Graph): string {
  const { nodes, number } = numbered(graph);
  const lines = nodes.map((node) =>
    node.op === "input"
      ? `${node.dtype}${node.shape}`
      : `${describe(node.op, node.attrs)} ${node.inputs.map((i) => number.get(i)).join(" ")}`,
  );
  return `${lines.join("\n")}\n${graph.outputs.map((node) => number.get(node)).join(" ")}`;
}
