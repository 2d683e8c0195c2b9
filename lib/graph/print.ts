import { show } from "../tensor/shape.js";
import type { Callee } from "./callee.js";
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
  const type = ({ results, ...self }: Node) =>
    (results ?? [self]).map(({ dtype, shape }) => `${dtype}${show(shape)}`).join(", ");
  const typed = (node: Node) => `${name(node)}: ${node.results ? `(${type(node)})` : type(node)}`;
  const firstCaptured = graph.inputs.length - graph.captured.length;
  const lines = nodes.map((node) => {
    if (node.op === "input")
      return `${graph.inputs.indexOf(node) < firstCaptured ? "input  " : "capture"} ${typed(node)}`;
    const { shape: _, dtype: __, results: ___, ...attrs } = node.attrs as Record<string, unknown>;
    const text = describe(node.op, attrs, (program) => ("nodes" in program ? "..." : program.name));
    const line = `${typed(node)} = ${[text, ...node.inputs.map(name)].join(" ")}`;
    const body = attrs.body as Graph | undefined;
    return body === undefined ? line : `${line}\n${printGraph(body).replace(/^/gm, "    ")}`;
  });
  return [...lines, `output  ${graph.outputs.map(name).join(" ")}`].join("\n");
}

/** The names that the printed graph gives to its values. */
export function valueNames(graph: Graph): Map<Node, string> {
  return new Map(numbered(graph).nodes.map((node, i) => [node, `%${i}`]));
}

/**
 * A text that is equal for graphs that compute the same by the same steps: the key of the compile cache. The graph's
 * calls must have been expanded.
 */
export function graphKey(graph: Graph): string {
  const { nodes, number } = numbered(graph);
  const place = new Map(graph.inputs.map((node, i) => [node, i]));
  const lines = nodes.map((node) =>
    node.op === "input"
      ? `${place.get(node)} ${node.dtype}${node.shape}`
      : `${describe(node.op, node.attrs, bodyKey)} ${node.inputs.map((i) => number.get(i)).join(" ")}`,
  );
  return `${lines.join("\n")}\n${graph.outputs.map((node) => number.get(node)).join(" ")}`;
}

function bodyKey(program: Graph | Callee): string {
  if (!("nodes" in program)) throw new Error(`internal: a call of ${program.name} was not expanded`);
  return `(${graphKey(program)})`;
}
