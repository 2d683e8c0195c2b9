import type { DType } from "../tensor/dtype.js";
import type { Shape } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Attributes, PrimitiveName, SeveralResults } from "./primitives.js";

/** Shape and dtype of a value. */
export interface Spec {
  readonly shape: Shape;
  readonly dtype: DType;
}

/**
 * A value of a graph: one primitive applied to earlier values. Input nodes have the primitive "input". A node with
 * several results is only read by `pick` nodes, which are its results; its own shape and dtype mean nothing.
 */
export interface Node<P extends PrimitiveName = PrimitiveName> {
  readonly id: number;
  readonly op: P;
  readonly inputs: readonly Node[];
  readonly attrs: Attributes[P];
  readonly shape: Shape;
  readonly dtype: DType;
  readonly results?: readonly Spec[];
  /** Of a gather or scatter, which may fail when it runs: where in the user's code it was called for, when known. */
  readonly location?: string;
}

/**
 * A program as data: nodes in an order in which every node comes after its inputs.
 * `captured` are tensors of outer traces, or concrete ones, that the traced function closed over: each is an
 * input too. They follow the arguments: inputs = [...arguments, ...captured].
 */
export interface Graph {
  readonly inputs: readonly Node[];
  readonly captured: readonly Tensor[];
  readonly nodes: readonly Node[];
  readonly outputs: readonly Node[];
}

/** Whether a node has several results, to be picked. */
export function hasSeveral(node: Node): node is Node<SeveralResults> {
  return node.results !== undefined;
}

/** Which result of which node a pick is. */
export function picked(pick: Node): readonly [Node, number] {
  return [pick.inputs[0]!, (pick as Node<"pick">).attrs.index];
}

/** The nodes, inputs among them, that the outputs need. */
export function neededNodes(nodes: readonly Node[], outputs: readonly Node[]): Set<Node> {
  const needed = new Set<Node>(outputs);
  for (let i = nodes.length - 1; i >= 0; i--) {
    const node = nodes[i]!;
    if (needed.has(node)) for (const input of node.inputs) needed.add(input);
  }
  return needed;
}

/** The nodes that the outputs need, in order: dead-code elimination. Inputs stay. */
export function liveNodes(nodes: readonly Node[], outputs: readonly Node[]): Node[] {
  const needed = neededNodes(nodes, outputs);
  return nodes.filter((node) => needed.has(node) || node.op === "input");
}

/** The live nodes, each loop followed by those of its body: by their numbers in this list errors of a run name them. */
export function numberedNodes({ nodes, outputs }: Graph): Node[] {
  return liveNodes(nodes, outputs).flatMap((node) =>
    node.op === "scan" ? [node, ...numberedNodes((node as Node<"scan">).attrs.body)] : [node],
  );
}
