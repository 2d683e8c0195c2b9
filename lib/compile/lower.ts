import { type Graph, liveNodes, type Node, numberedNodes, picked, type Spec } from "../graph/graph.js";
import type { Attributes } from "../graph/primitives.js";
import { rowMajor, sizeOf } from "../tensor/shape.js";
import { type Access, dense, leafAccess, viewAccess } from "./access.js";
import { expand } from "./expand.js";
import { ExpressionBuilder } from "./expression.js";
import { fuse, type Group, isLeaf, isReduction, isView } from "./fusion.js";
import { planMemory } from "./memory.js";
import type { BufferSpec, Plan, Reducer, Step, View } from "./plan.js";

const reducers: { readonly [op: string]: Reducer } = {
  reduceSum: "sum",
  reduceMax: "max",
  reduceMin: "min",
  argmax: "argmax",
  argmin: "argmin",
};

/** Lowers a graph to a plan. The plan's inputs and outputs are the graph's, in order. */
export function lower(graph: Graph): Plan {
  return new Lowering(expand(graph), 0).plan();
}

/** As lower, with the node whose value each buffer holds, or, of a copy, holds again. */
export function lowerNamed(graph: Graph): { readonly plan: Plan; readonly nodes: readonly Node[] } {
  const lowering = new Lowering(expand(graph), 0);
  return { plan: lowering.plan(), nodes: lowering.nodes };
}

/** The value that a node only reshapes. */
function reshapedFrom(node: Node): Node {
  let source = node;
  while (source.op === "reshape" || source.op === "stopGradient" || source.op === "barrier")
    source = source.inputs[0]!;
  return source;
}

class Lowering {
  readonly #graph: Graph;
  readonly #buffers: BufferSpec[] = [];
  /** The nodes that the buffers were made for. */
  readonly nodes: Node[] = [];
  readonly #bufferOf = new Map<Node, number>();
  readonly #accesses = new Map<Node, Access>();
  readonly #steps: Step[] = [];
  /** The picks of nodes with several results. */
  readonly #picks = new Map<Node, Map<number, Node>>();
  /** Output buffers of nodes that are outputs of the graph. */
  readonly #outputOf = new Map<Node, number>();
  readonly #live: readonly Node[];
  readonly #numbers = new Map<Node, number>();

  /** `firstNumber`: that of the graph's first node among those of the whole program. */
  constructor(graph: Graph, firstNumber: number) {
    this.#graph = graph;
    this.#live = liveNodes(graph.nodes, graph.outputs);
    numberedNodes(graph).forEach((node, i) => {
      if (!this.#numbers.has(node)) this.#numbers.set(node, firstNumber + i);
    });
  }

  plan(): Plan {
    const { inputs, outputs } = this.#graph;
    const nodes = this.#live;
    for (const node of nodes) {
      if (node.op !== "pick") continue;
      const [source, index] = picked(node);
      if (!this.#picks.has(source)) this.#picks.set(source, new Map());
      this.#picks.get(source)!.set(index, node);
    }
    const inputBuffers = inputs.map((node) => {
      const buffer = this.#addBuffer(node, "input");
      this.#bufferOf.set(node, buffer);
      return buffer;
    });
    // The first place of a node among the outputs is where it is computed; other places are copies.
    const outputBuffers = outputs.map((node) => this.#addBuffer(node, "output"));
    const placeIn = (node: Node, i: number) => {
      if (!this.#outputOf.has(node)) this.#outputOf.set(node, outputBuffers[i]!);
    };
    outputs.forEach(placeIn);
    // What is only reshaped is computed in place.
    outputs.forEach((node, i) => {
      const source = reshapedFrom(node);
      if (!isLeaf(source) && (!isView(source) || source.op === "pick")) placeIn(source, i);
    });

    const groups = fuse(nodes, outputs);
    const members = groups.map(
      (group) => new Set<Node>(group.root === undefined ? group.nodes : [...group.nodes, group.root]),
    );
    const needed = this.#neededOutside(nodes, groups, members);
    groups.forEach((group) => {
      this.#lowerGroup(group, needed);
    });

    outputs.forEach((node, i) => {
      const buffer = outputBuffers[i]!;
      const access = this.#access(node); // may write the value into its output buffer
      if (this.#bufferOf.get(node) === buffer || this.#isWhole(access, node.shape, buffer)) return;
      this.#copy(access, node.shape, dense(node).strides, 0, buffer);
    });
    return {
      ...planMemory(this.#buffers, this.#steps),
      steps: this.#steps,
      inputs: inputBuffers,
      outputs: outputBuffers,
    };
  }

  /** Whether an access reads all of a buffer, in order. */
  #isWhole({ source, offset, strides }: Access, shape: readonly number[], buffer: number): boolean {
    return (
      this.#bufferOf.get(source) === buffer &&
      offset === 0 &&
      this.#buffers[buffer]!.size === sizeOf(shape) &&
      rowMajor(shape).every((stride, i) => stride === strides[i] || shape[i] === 1)
    );
  }

  #addBuffer(node: Node, kind: BufferSpec["kind"], spec: Spec = node): number {
    this.nodes.push(node);
    return this.#buffers.push({ kind, dtype: spec.dtype, size: sizeOf(spec.shape), offset: 0 }) - 1;
  }

  /** The buffer that holds a node's value, made when it is first asked for. */
  #bufferFor(node: Node): number {
    let buffer = this.#bufferOf.get(node);
    if (buffer === undefined) {
      buffer = this.#outputOf.get(node) ?? this.#addBuffer(node, "temporary");
      this.#bufferOf.set(node, buffer);
    }
    return buffer;
  }

  /** Values that something outside of their own group reads, or through a view, or that are outputs. */
  #neededOutside(nodes: readonly Node[], groups: readonly Group[], members: readonly Set<Node>[]): Set<Node> {
    const groupOf = new Map<Node, number>();
    groups.forEach((_, i) => {
      for (const node of members[i]!) groupOf.set(node, i);
    });
    const needed = new Set<Node>(this.#graph.outputs);
    for (const node of nodes) {
      for (const input of node.inputs) {
        const own = groupOf.get(input);
        if (own === undefined || own !== groupOf.get(node)) needed.add(input);
      }
    }
    return needed;
  }

  /** How a value is read. A view that strides cannot express is computed into a buffer of its own. */
  #access(node: Node): Access {
    let access = this.#accesses.get(node);
    if (access !== undefined) return access;
    access = leafAccess(node);
    if (access === undefined && isView(node) && node.op !== "pick") {
      const input = this.#access(node.inputs[0]!);
      access = viewAccess(node, input);
      if (access === undefined) {
        // A reshape of strided elements: the dense buffer of the result, written in the input's order.
        const from = node.inputs[0]!.shape;
        this.#copy(input, from, rowMajor(from), 0, this.#bufferFor(node));
      }
    }
    access ??= dense(node);
    this.#accesses.set(node, access);
    return access;
  }

  /** A step that writes what an access reads, over a shape, to a strided place in a buffer. */
  #copy(
    access: Access,
    shape: readonly number[],
    strides: readonly number[],
    offset: number,
    buffer: number,
  ): void {
    const builder = this.#builder();
    const value = builder.read(access);
    this.#steps.push({
      kind: "map",
      shape,
      expression: builder.finish([{ value, view: { buffer, offset, strides } }]),
    });
  }

  #builder(): ExpressionBuilder {
    return new ExpressionBuilder((node) => this.#bufferFor(node));
  }

  #view(node: Node): View {
    const { source, offset, strides } = this.#access(node);
    if (source.op !== "constant" && source.op !== "iota")
      return { buffer: this.#bufferFor(source), offset, strides };
    // A kernel that needs memory reads a leaf or a view of one: write it out once.
    const buffer = this.#bufferFor(node);
    this.#copy({ source, offset, strides }, node.shape, rowMajor(node.shape), 0, buffer);
    this.#accesses.set(node, dense(node));
    return { buffer, offset: 0, strides: rowMajor(node.shape) };
  }

  /** The buffer of a node's value, dense from its beginning, as gather, scatter, sort and cumsum need it. */
  #denseBuffer(node: Node): number {
    const { buffer, offset, strides } = this.#view(node);
    if (this.#isWhole({ source: this.#access(node).source, offset, strides }, node.shape, buffer))
      return buffer;
    const copy = this.#addBuffer(node, "temporary");
    this.#copy(this.#access(node), node.shape, rowMajor(node.shape), 0, copy);
    return copy;
  }

  #lowerGroup(group: Group, needed: ReadonlySet<Node>): void {
    const { root, nodes } = group;
    if (root === undefined || root.op === "matmul") this.#lowerMap(group, needed);
    else if (isReduction(root)) this.#lowerReduction(root, nodes);
    else if (root.op === "concat") this.#lowerConcat(root);
    else if (root.op === "pad") this.#lowerPad(root);
    else if (root.op === "scan") this.#lowerScan(root as Node<"scan">);
    else if (root.op === "attention") this.#lowerAttention(root as Node<"attention">);
    else this.#lowerIndexing(root);
  }

  #lowerMap({ root, nodes }: Group, needed: ReadonlySet<Node>): void {
    // Views that must be written out first are steps of their own: ask for every operand before this step is made.
    const product = root && this.#productOperands(root);
    const inside = new Set<Node>(nodes);
    if (root !== undefined) inside.add(root);
    for (const node of nodes) for (const input of node.inputs) if (!inside.has(input)) this.#access(input);

    const builder = this.#builder();
    if (root !== undefined) builder.accumulator(root);
    for (const node of nodes) builder.compute(node, (input) => this.#access(input));
    const all = root === undefined ? nodes : [root, ...nodes];
    const outputs = all
      .filter((node) => needed.has(node))
      .map((node) => ({
        value: builder.valueOf(node),
        view: { buffer: this.#bufferFor(node), offset: 0, strides: rowMajor(node.shape) },
      }));
    const expression = builder.finish(outputs);
    if (product === undefined) this.#steps.push({ kind: "map", shape: nodes[0]!.shape, expression });
    else this.#steps.push({ kind: "matmul", ...product, expression });
  }

  #productOperands(root: Node) {
    const [a, b] = root.inputs as [Node, Node];
    const [m, n] = root.shape.slice(-2) as [number, number];
    return {
      dtype: root.dtype,
      batch: root.shape.slice(0, -2),
      m,
      n,
      k: a.shape[a.shape.length - 1]!,
      a: this.#view(a),
      b: this.#view(b),
    };
  }

  #lowerReduction(root: Node, nodes: readonly Node[]): void {
    const input = root.inputs[0]!;
    const axes =
      root.op === "argmax" || root.op === "argmin"
        ? [(root.attrs as Attributes["argmax"]).axis]
        : (root.attrs as Attributes["reduceSum"]).axes;
    // Kept axes first, reduced ones last.
    const order = [...input.shape.map((_, i) => i).filter((i) => !axes.includes(i)), ...axes];
    const inside = new Set<Node>(nodes);
    const permuted = (access: Access): Access => ({
      ...access,
      strides: order.map((i) => access.strides[i]!),
    });
    for (const node of nodes)
      for (const operand of node.inputs) if (!inside.has(operand)) this.#access(operand);
    const direct = inside.has(input) ? undefined : this.#access(input);

    const builder = this.#builder();
    for (const node of nodes) builder.compute(node, (operand) => permuted(this.#access(operand)));
    const value = direct === undefined ? builder.valueOf(input) : builder.read(permuted(direct));
    const view = { buffer: this.#bufferFor(root), offset: 0, strides: rowMajor(root.shape) };
    this.#steps.push({
      kind: "reduce",
      shape: order.map((i) => input.shape[i]!),
      reducedRank: axes.length,
      reducer: reducers[root.op]!,
      expression: builder.finish([{ value, view }]),
    });
  }

  #lowerConcat(root: Node): void {
    const { axis } = root.attrs as Attributes["concat"];
    const strides = rowMajor(root.shape);
    let offset = 0;
    for (const input of root.inputs) {
      const access = this.#access(input);
      this.#copy(access, input.shape, strides, offset, this.#bufferFor(root));
      offset += input.shape[axis]! * strides[axis]!;
    }
  }

  #lowerPad(root: Node): void {
    const { before, after } = root.attrs as Attributes["pad"];
    const input = root.inputs[0]!;
    const strides = rowMajor(root.shape);
    const access = this.#access(input);
    const buffer = this.#bufferFor(root);
    const zero = { op: "constant", dtype: root.dtype, value: 0 } as const;
    // Zeros only where the input does not lie: axis by axis, the slabs before and after it.
    const start = root.shape.map(() => 0);
    const size = [...root.shape];
    const fill = (axis: number, from: number, count: number) => {
      if (count === 0) return;
      const at = start.map((s, i) => (i === axis ? from : s));
      const offset = at.reduce((sum, s, i) => sum + s * strides[i]!, 0);
      const shape = size.map((n, i) => (i === axis ? count : n));
      const expression = { instructions: [zero], outputs: [{ value: 0, view: { buffer, offset, strides } }] };
      this.#steps.push({ kind: "map", shape, expression });
    };
    root.shape.forEach((n, axis) => {
      fill(axis, 0, before[axis]!);
      fill(axis, n - after[axis]!, after[axis]!);
      start[axis] = before[axis]!;
      size[axis] = input.shape[axis]!;
    });
    this.#copy(
      access,
      input.shape,
      strides,
      before.reduce((sum, s, i) => sum + s * strides[i]!, 0),
      buffer,
    );
  }

  #lowerScan(root: Node<"scan">): void {
    const { body, length, reverse, consts, carries } = root.attrs;
    const buffers = root.inputs.map((input) => this.#denseBuffer(input));
    const results = root.results!.map((spec, index) => this.#resultBuffer(root, index, spec));
    this.#steps.push({
      kind: "loop",
      plan: new Lowering(body, this.#numbers.get(root)! + 1).plan(),
      length,
      reverse,
      consts: buffers.slice(0, consts),
      inits: buffers.slice(consts, consts + carries),
      xs: buffers.slice(consts + carries),
      carries: results.slice(0, carries),
      ys: results.slice(carries),
    });
  }

  #lowerAttention(root: Node<"attention">): void {
    const { part, scale, causal, masked, directions } = root.attrs;
    const [q, , v] = root.inputs as [Node, Node, Node];
    const batch = q.shape.slice(0, -2);
    const [n, d] = q.shape.slice(-2) as [number, number];
    const [m, e] = v.shape.slice(-2) as [number, number];
    const views = root.inputs.map((input) => this.#view(input));
    const mask = masked ? views[3]! : undefined;
    const wide = [...batch, n, m];
    const maskStrides = mask?.strides.map((s, i) => (root.inputs[3]!.shape[i] === wide[i] ? s : 0));
    const [o, l, ...given] = views.slice(masked ? 4 : 3);
    this.#steps.push({
      kind: "attention",
      part,
      dtype: q.dtype,
      batch,
      n,
      m,
      d,
      e,
      scale,
      causal,
      q: views[0]!,
      k: views[1]!,
      v: views[2]!,
      mask: mask && { ...mask, strides: maskStrides! },
      o,
      l,
      directions: directions.map((there) => (there ? given.shift() : undefined)),
      outputs: root.results!.map((_, i) => {
        const pick = this.#picks.get(root)?.get(i);
        return pick && this.#bufferFor(pick);
      }),
    });
  }

  /** The buffer of a result of a node with several: that of its pick, or one that nothing reads. */
  #resultBuffer(root: Node, index: number, spec: Spec): number {
    const pick = this.#picks.get(root)?.get(index);
    return pick === undefined ? this.#addBuffer(root, "temporary", spec) : this.#bufferFor(pick);
  }

  #lowerIndexing(root: Node): void {
    const [x, second] = root.inputs as [Node, Node];
    if (root.op === "argsort") {
      const size = x.shape[x.shape.length - 1]!;
      const input = this.#denseBuffer(x);
      const rows = sizeOf(x.shape.slice(0, -1));
      this.#steps.push({ kind: "sort", rows, size, input, output: this.#bufferFor(root) });
      return;
    }
    if (root.op === "cumsum") {
      const { axis, reverse } = root.attrs as Attributes["cumsum"];
      const input = this.#denseBuffer(x);
      this.#steps.push({
        kind: "cumsum",
        outer: sizeOf(x.shape.slice(0, axis)),
        size: x.shape[axis]!,
        inner: sizeOf(x.shape.slice(axis + 1)),
        reverse,
        input,
        output: this.#bufferFor(root),
      });
      return;
    }
    const { axis } = root.attrs as Attributes["gather"];
    const kind = root.op as "gather" | "scatter";
    const size = kind === "gather" ? x.shape[axis]! : (root.attrs as Attributes["scatter"]).size;
    const outer = sizeOf(x.shape.slice(0, axis));
    const inner = sizeOf(x.shape.slice(axis + 1));
    const input = this.#denseBuffer(x);
    const indices = this.#denseBuffer(second);
    this.#steps.push({
      kind,
      outer,
      size,
      inner,
      count: second.shape[0]!,
      input,
      indices,
      output: this.#bufferFor(root),
      site: this.#numbers.get(root)!,
    });
  }
}
