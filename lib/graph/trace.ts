import { TraceError } from "../errors.js";
import { userLocation } from "../location.js";
import type { DType } from "../tensor/dtype.js";
import { type Shape, show } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import type { Callee } from "./callee.js";
import type { Graph, Node, Spec } from "./graph.js";
import type { Attributes, PrimitiveName, SeveralResults } from "./primitives.js";
import { inferShape } from "./shapes.js";
import { simplify } from "./simplify.js";

/** A function that is being recorded. Traces nest as the calls of transforms do; the last one is current. */
interface Trace {
  readonly inputs: Node[];
  readonly nodes: Node[];
  readonly captured: Tensor[];
  readonly capturedNodes: Map<Tensor, Node>;
  /** Nodes by what they compute: an expression that was recorded before is not recorded again. */
  readonly known: Map<string, Node>;
  /** Whether it is a function of the user's that is recorded, and not one of the library's own. */
  readonly ofUser: boolean;
  open: boolean;
}

interface TraceSymbol {
  readonly trace: Trace;
  readonly node: Node;
}

const stack: Trace[] = [];
let nextId = 0;
/** The location of the node that is being recorded anew, or differentiated. */
let replayed: string | undefined;

/** Whether a function is being traced now. */
export function isTracing(): boolean {
  return stack.length > 0;
}

function current(): Trace {
  const trace = stack[stack.length - 1];
  if (trace === undefined) throw new TraceError("internal: a primitive was recorded outside of a trace");
  return trace;
}

function input(trace: Trace, shape: Shape, dtype: DType): Node {
  const node: Node<"input"> = {
    id: nextId++,
    op: "input",
    inputs: [],
    attrs: { index: trace.inputs.length },
    shape,
    dtype,
  };
  trace.inputs.push(node);
  trace.nodes.push(node);
  return node;
}

/** The node of a tensor in the current trace; a tensor from outside becomes a captured input. */
function nodeOf(tensor: Tensor): Node {
  const trace = current();
  const symbol = tensor.symbol as TraceSymbol | undefined;
  if (symbol?.trace === trace) return symbol.node;
  if (symbol !== undefined && !symbol.trace.open)
    throw new TraceError(
      `a symbolic tensor (${tensor.dtype}${show(tensor.shape)}) was used after the function that made it had been traced: ` +
        "return it from the function instead of storing it",
    );
  let node = trace.capturedNodes.get(tensor);
  if (node === undefined) {
    node = input(trace, tensor.shape, tensor.dtype);
    trace.captured.push(tensor);
    trace.capturedNodes.set(tensor, node);
  }
  return node;
}

function tensorOf(trace: Trace, node: Node): Tensor {
  const symbol: TraceSymbol = { trace, node };
  return Tensor.fromSymbol(symbol, node.shape, node.dtype);
}

const identities = new WeakMap<object, number>();
let nextIdentity = 0;

/** A text for an object that only the object itself has. */
function identity(value: object): string {
  let id = identities.get(value);
  if (id === undefined) identities.set(value, (id = nextIdentity++));
  return `#${id}`;
}

/**
 * What a node computes, as text. JSON would lose NaN, infinities and -0. `text` stands for attributes that are
 * programs: graphs and callees.
 */
export function describe(
  op: PrimitiveName,
  attrs: object,
  text: (program: Graph | Callee) => string,
): string {
  const entries = Object.entries(attrs).map(([name, value]) => {
    if (typeof value === "number") return `${name}=${Object.is(value, -0) ? "-0" : value}`;
    return `${name}=${name === "body" || name === "callee" ? text(value) : JSON.stringify(value)}`;
  });
  return entries.length === 0 ? op : `${op}{${entries.join(" ")}}`;
}

function record(
  trace: Trace,
  op: PrimitiveName,
  inputs: readonly Node[],
  attrs: Attributes[PrimitiveName],
): Node {
  const simpler = simplify(op, inputs, attrs, (o, i, a) => record(trace, o, i, a));
  if (simpler !== undefined) return simpler;
  const key = `${describe(op, attrs, identity)} ${inputs.map((node) => node.id).join(" ")}`;
  let node = trace.known.get(key);
  if (node === undefined) {
    node = { id: nextId++, op, inputs, attrs, ...inferShape(op, inputs, attrs), ...locationOf(trace, op) };
    trace.nodes.push(node);
    trace.known.set(key, node);
  }
  return node;
}

/**
 * The place in the user's code, for those primitives only whose runs can fail: to look for it takes long. An operation
 * of the library's own that runs at once needs none, as its errors show the call under way.
 */
function locationOf(trace: Trace, op: PrimitiveName): { location?: string } {
  if (op !== "gather" && op !== "scatter") return {};
  const location = replayed ?? (trace.ofUser ? userLocation() : undefined);
  return location === undefined ? {} : { location };
}

/** Runs `record`, which records a node anew or what its derivative needs: that all stands where the node stood. */
export function atLocationOf<T>(node: Node, record: () => T): T {
  if (node.location === undefined) return record();
  const outer = replayed;
  replayed = node.location;
  try {
    return record();
  } finally {
    replayed = outer;
  }
}

/** Records one primitive in the current trace. Shapes and dtypes were checked by the caller. */
export function emit<P extends PrimitiveName>(
  op: P,
  inputs: readonly Tensor[],
  attrs: Attributes[P],
): Tensor {
  const trace = current();
  return tensorOf(trace, record(trace, op, inputs.map(nodeOf), attrs));
}

/** Records a primitive with several results; gives them. */
export function emitSeveral<P extends SeveralResults>(
  op: P,
  inputs: readonly Tensor[],
  attrs: Attributes[P],
): Tensor[] {
  const trace = current();
  const node = record(trace, op, inputs.map(nodeOf), attrs);
  return node.results!.map((_, index) => tensorOf(trace, record(trace, "pick", [node], { index })));
}

/**
 * Runs f once on symbolic tensors of these shapes and dtypes and gives what it computed, as a graph. `ofUser`: f calls
 * a function of the user's, so that places in the user's code tell what failed.
 */
export function traceGraph(
  f: (inputs: Tensor[]) => readonly Tensor[],
  specs: readonly Spec[],
  ofUser = false,
): Graph {
  const trace: Trace = {
    inputs: [],
    nodes: [],
    captured: [],
    capturedNodes: new Map(),
    known: new Map(),
    ofUser,
    open: true,
  };
  stack.push(trace);
  const depth = stack.length;
  try {
    const symbols = specs.map((spec) => tensorOf(trace, input(trace, spec.shape, spec.dtype)));
    const outputs = f(symbols).map(nodeOf);
    return { inputs: trace.inputs, captured: trace.captured, nodes: trace.nodes, outputs };
  } finally {
    trace.open = false;
    stack.length = depth - 1;
  }
}

/** Records the nodes of a graph anew in the current trace, on these tensors for its inputs. */
export function replay(graph: Graph, nodes: readonly Node[], inputs: readonly Tensor[]): Map<Node, Tensor> {
  const values = new Map<Node, Tensor>(graph.inputs.map((node, i) => [node, inputs[i]!]));
  for (const node of nodes) if (node.op !== "input") values.set(node, replayNode(node, values));
  return values;
}

/** Records a node anew in the current trace, on these values of its inputs. */
export function replayNode(node: Node, values: ReadonlyMap<Node, Tensor>): Tensor {
  const inputs = node.inputs.map((i) => values.get(i)!);
  return atLocationOf(node, () => emit(node.op, inputs, node.attrs));
}

type Runner = (graph: Graph, inputs: readonly Tensor[]) => Tensor[];
let runner: Runner | undefined;

/** Internal: the compiler says here how graphs run, so that nothing below it depends on it. */
export function setRunner(run: Runner): void {
  runner = run;
}

/**
 * Computes build(inputs): recorded into the current trace when there is one, else traced, compiled and run at once.
 */
export function evaluate(
  inputs: readonly Tensor[],
  build: (inputs: readonly Tensor[]) => readonly Tensor[],
): Tensor[] {
  if (isTracing()) return [...build(inputs)];
  for (const tensor of inputs) checkConcrete(tensor);
  const graph = traceGraph(build, inputs);
  for (const tensor of graph.captured) checkConcrete(tensor);
  return runner!(graph, [...inputs, ...graph.captured]);
}

function checkConcrete(tensor: Tensor): void {
  if (tensor.isSymbolic)
    throw new TraceError(
      `a symbolic tensor (${tensor.dtype}${show(tensor.shape)}) was used outside of the function that is traced: ` +
        "return it from the function instead of storing it",
    );
}
