import { ValueError } from "../errors.js";
import type { Dual } from "../graph/callee.js";
import { type Graph, hasSeveral, liveNodes, type Node, picked } from "../graph/graph.js";
import type { Attributes, SeveralResults, SingleResult } from "../graph/primitives.js";
import { atLocationOf, emitSeveral, replay, replayNode, traceGraph } from "../graph/trace.js";
import * as raw from "../ops/raw.js";
import { type Rule, rules, type Tangent } from "../ops/rules.js";
import { isFloat } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import { type SeveralRule, severalRules } from "./several.js";

/**
 * Forward mode: records the graph anew in the current trace, with the tangents of its values beside them.
 * `inputs` are the arguments and the captured tensors; an input without a tangent is a constant. With `split`, no value
 * is computed together with tangents.
 */
export function pushForward(
  graph: Graph,
  inputs: readonly Tensor[],
  tangents: readonly Tangent[],
  split = false,
): Dual {
  const value = new Map<Node, Tensor>(graph.inputs.map((node, i) => [node, inputs[i]!]));
  const tangent = new Map<Node, Tangent>(graph.inputs.map((node, i) => [node, tangents[i]]));
  const several = new Map<Node, Dual>();
  for (const node of liveNodes(graph.nodes, graph.outputs)) {
    if (node.op === "input") continue;
    if (node.op === "pick") {
      const [source, index] = picked(node);
      value.set(node, several.get(source)!.values[index]!);
      tangent.set(node, several.get(source)!.tangents[index]);
      continue;
    }
    const x = node.inputs.map((i) => value.get(i)!);
    const dx = node.inputs.map((i) => tangent.get(i));
    const constant = dx.every((d) => d === undefined);
    if (hasSeveral(node)) {
      const rule = severalRules[node.op] as SeveralRule<SeveralResults>;
      several.set(
        node,
        constant
          ? { values: emitSeveral(node.op, x, node.attrs), tangents: [] }
          : rule.jvp(x, dx, node.attrs, split),
      );
      continue;
    }
    const y = replayNode(node, value);
    value.set(node, y);
    if (constant) continue;
    const rule = rules[node.op as SingleResult] as Rule<SingleResult>;
    const application = { x, y, attrs: node.attrs as Attributes[SingleResult] };
    tangent.set(
      node,
      atLocationOf(node, () => rule.jvp(dx, application)),
    );
  }
  return {
    values: graph.outputs.map((node) => value.get(node)!),
    tangents: graph.outputs.map((node) => tangent.get(node)),
  };
}

/** A graph that computes values and, linear in further inputs, their tangents. */
export interface Linearization {
  readonly graph: Graph;
  /** Outputs of the function: their nodes; then the nodes of their tangents (undefined: zero). */
  readonly values: readonly Node[];
  readonly tangents: readonly (Node | undefined)[];
  /** The inputs that stand for the tangents. */
  readonly tangentInputs: readonly Node[];
  /** Nodes that do not depend on tangents, and the linear ones that do, in order. */
  readonly primalNodes: readonly Node[];
  readonly linearNodes: readonly Node[];
  /** The values that the linear nodes need. */
  readonly residuals: readonly Node[];
}

/** Differentiates a graph by the arguments in `active`: values and linear tangent program in one graph. */
export function linearizeGraph(graph: Graph, active: readonly number[]): Linearization {
  const arguments_ = graph.inputs.length - graph.captured.length;
  const present: boolean[] = [];
  const specs = [...graph.inputs.slice(0, arguments_), ...active.map((i) => graph.inputs[i]!)];
  const joint = traceGraph((inputs) => {
    const tangents: Tangent[] = graph.inputs.map(() => undefined);
    active.forEach((argument, i) => {
      tangents[argument] = inputs[arguments_ + i];
    });
    const out = pushForward(graph, [...inputs.slice(0, arguments_), ...graph.captured], tangents, true);
    present.push(...out.tangents.map((t) => t !== undefined));
    return [...out.values, ...out.tangents.filter((t) => t !== undefined)];
  }, specs);

  const values = joint.outputs.slice(0, present.length);
  let next = present.length;
  const tangents = present.map((there) => (there ? joint.outputs[next++] : undefined));
  const tangentInputs = joint.inputs.slice(arguments_, arguments_ + active.length);

  return { graph: joint, values, tangents, tangentInputs, ...divide(joint, tangentInputs) };
}

/** The nodes that do not depend on these inputs, those that do, and what the latter read of the former. */
export function divide(
  graph: Graph,
  inputs: readonly Node[],
): Pick<Linearization, "primalNodes" | "linearNodes" | "residuals"> {
  const linear = new Set<Node>(inputs);
  const primalNodes: Node[] = [];
  const linearNodes: Node[] = [];
  const residuals = new Set<Node>();
  for (const node of liveNodes(graph.nodes, graph.outputs)) {
    if (linear.has(node)) continue;
    if (!node.inputs.some((i) => linear.has(i))) {
      primalNodes.push(node);
      continue;
    }
    linear.add(node);
    linearNodes.push(node);
    for (const input of node.inputs) if (!linear.has(input)) residuals.add(input);
  }
  return { primalNodes, linearNodes, residuals: [...residuals] };
}

/** The values of the primal nodes, recorded in the current trace. */
export function primalValues(lin: Linearization, primals: readonly Tensor[]): Map<Node, Tensor> {
  const inputs = [
    ...primals,
    ...lin.tangentInputs.map(() => undefined as unknown as Tensor),
    ...lin.graph.captured,
  ];
  return replay(lin.graph, lin.primalNodes, inputs);
}

/** The tangents of the outputs for these tangents of the inputs, recorded in the current trace. */
export function applyLinear(
  lin: Linearization,
  residuals: ReadonlyMap<Node, Tensor>,
  dx: readonly Tensor[],
): Tangent[] {
  const value = new Map(residuals);
  for (const [i, node] of lin.tangentInputs.entries()) value.set(node, dx[i]!);
  for (const node of lin.linearNodes) value.set(node, replayNode(node, value));
  return lin.tangents.map((node) => node && value.get(node));
}

/** Sums of contributions to the cotangents of values. */
class Cotangents {
  readonly #sums = new Map<Node, Tensor>();
  /** Of nodes with several results: one for each. */
  readonly #results = new Map<Node, Tangent[]>();
  /** Nodes that stand for others: the inputs of a program inside of a program. */
  readonly #standIns = new Map<Node, Node>();

  add(node: Node, more: Tangent): void {
    if (more === undefined) return;
    let own = node;
    for (let next = this.#standIns.get(own); next; next = this.#standIns.get(own)) own = next;
    const sum = this.#sums.get(own);
    this.#sums.set(own, sum === undefined ? more : raw.add(sum, more));
  }

  of(node: Node): Tangent {
    return this.#sums.get(node);
  }

  /** A pick passes its cotangent on to the node that it picks from. */
  passOn(pick: Node, ct: Tensor): void {
    const [source, index] = picked(pick);
    const cts = this.#results.get(source) ?? source.results!.map(() => undefined);
    cts[index] = ct;
    this.#results.set(source, cts);
  }

  ofResults(node: Node): readonly Tangent[] | undefined {
    return this.#results.get(node);
  }

  standIn(node: Node, forNode: Node): void {
    this.#standIns.set(node, forNode);
  }
}

/**
 * Reverse mode: the transpose of the linear nodes, from the cotangents of the outputs back to those of the
 * inputs, recorded in the current trace. Contributions to one value add up.
 */
export function pullBack(
  lin: Pick<Linearization, "tangents" | "tangentInputs" | "linearNodes">,
  residuals: ReadonlyMap<Node, Tensor>,
  cotangents: readonly Tangent[],
): Tangent[] {
  const cts = new Cotangents();
  lin.tangents.forEach((node, i) => {
    if (node !== undefined) cts.add(node, cotangents[i]);
  });
  pullThrough(lin, residuals, cts);
  return lin.tangentInputs.map((node) => cts.of(node));
}

/** Takes cotangents back through linear nodes, the last one first. */
function pullThrough(
  { tangentInputs, linearNodes }: Pick<Linearization, "tangentInputs" | "linearNodes">,
  values: ReadonlyMap<Node, Tensor>,
  cts: Cotangents,
): void {
  const linear = new Set<Node>([...tangentInputs, ...linearNodes]);
  for (let k = linearNodes.length - 1; k >= 0; k--) {
    const node = linearNodes[k]!;
    const x = node.inputs.map((i) => (linear.has(i) ? undefined : values.get(i)));
    const found = hasSeveral(node) ? pullSeveral(node, x, cts) : pullSingle(node, x, cts);
    found.forEach((more, i) => {
      if (linear.has(node.inputs[i]!)) cts.add(node.inputs[i]!, more);
    });
  }
}

/** The contributions of a node to the cotangents of its inputs. */
function pullSingle(node: Node, x: readonly Tangent[], cts: Cotangents): readonly Tangent[] {
  const y = cts.of(node);
  if (y === undefined) return [];
  if (node.op === "pick") {
    cts.passOn(node, y);
    return [];
  }
  const { transpose } = rules[node.op as SingleResult] as Rule<SingleResult>;
  if (transpose === undefined || !isLinear(node, x)) throw notLinear(node.op);
  const shapes = node.inputs.map((i) => i.shape);
  const application = { x, shapes, attrs: node.attrs as Attributes[SingleResult] };
  return atLocationOf(node, () => transpose(y, application));
}

/** The same for a node with several results; a linear program that stands in it is gone through in its place. */
function pullSeveral(node: Node<SeveralResults>, x: readonly Tangent[], cts: Cotangents): readonly Tangent[] {
  const ofResults = cts.ofResults(node);
  if (ofResults === undefined) return [];
  const callee = node.op === "call" ? (node.attrs as Attributes["call"]).callee : undefined;
  const program = callee?.linearProgram?.(x);
  if (program === undefined) {
    const rule = severalRules[node.op] as SeveralRule<SeveralResults>;
    return rule.transpose(ofResults, x, node.attrs, node.inputs);
  }
  const linearInputs = node.inputs.filter((_, i) => x[i] === undefined);
  for (const [i, inner] of program.tangentInputs.entries()) cts.standIn(inner, linearInputs[i]!);
  for (const [i, inner] of program.tangents.entries()) cts.add(inner, ofResults[i]);
  pullThrough(program, program.values, cts);
  return [];
}

/**
 * The transpose of a graph that is linear in the inputs that are undefined here: their cotangents, in their places, from
 * those of the outputs, recorded in the current trace.
 */
export function transposeGraph(
  graph: Graph,
  inputs: readonly Tangent[],
  cotangents: readonly Tangent[],
): Tangent[] {
  const tangentInputs = graph.inputs.filter((_, i) => inputs[i] === undefined);
  const division = divide(graph, tangentInputs);
  const linear = new Set<Node>([...tangentInputs, ...division.linearNodes]);
  const tangents = graph.outputs.map((node) => (linear.has(node) ? node : undefined));
  const residuals = replay(graph, division.primalNodes, inputs as readonly Tensor[]);
  const found = pullBack({ ...division, tangentInputs, tangents }, residuals, cotangents);
  return inputs.map((x) => (x === undefined ? found.shift() : undefined));
}

/** Whether an application is linear in the inputs that are undefined, all of them together. */
function isLinear({ op, inputs, dtype }: Node, x: readonly Tangent[]): boolean {
  switch (op) {
    case "mul":
    case "matmul":
      return x.some((value) => value !== undefined);
    case "div":
    case "gather":
    case "scatter":
      return x[1] !== undefined;
    case "where":
      return x[0] !== undefined && inputs.every((node, i) => i === 0 || x[i] === undefined || isZero(node));
    // With something added it is affine.
    case "add":
    case "sub":
    case "concat":
      return inputs.every((node, i) => x[i] === undefined || isZero(node));
    case "cast":
      return isFloat(inputs[0]!.dtype) && isFloat(dtype);
    default:
      return true;
  }
}

const isZero = ({ op, attrs }: Node): boolean =>
  op === "constant" && (attrs as Attributes["constant"]).value === 0;

/** Derivative rules of the library are linear; those of users should be. */
const notLinear = (op: string): ValueError =>
  new ValueError(
    `a custom rule is not linear in the tangents (of customJvp) or the cotangent (of customVjp), to which it applies ${op}: ` +
      "it serves forward mode (customJvp) or reverse mode (customVjp) only",
  );
