import type { Node } from "../graph/graph.js";
import { sameShape } from "../tensor/shape.js";
import { viewOps } from "./access.js";

const leaves: ReadonlySet<string> = new Set(["input", "constant", "iota"]);
const kernels: ReadonlySet<string> = new Set([
  "reduceSum",
  "reduceMax",
  "reduceMin",
  "argmax",
  "argmin",
  "matmul",
  "gather",
  "scatter",
  "argsort",
  "cumsum",
  "concat",
  "pad",
  "scan",
  "attention",
]);
const reductions: ReadonlySet<string> = new Set(["reduceSum", "reduceMax", "reduceMin", "argmax", "argmin"]);

export const isLeaf = (node: Node): boolean => leaves.has(node.op);
/** Nodes without a kernel of their own. A pick is computed by the node that it picks from. */
export const isView = (node: Node): boolean => viewOps.has(node.op) || node.op === "pick";
export const isReduction = (node: Node): boolean => reductions.has(node.op);
/** Computed element by element from inputs of the same shape. */
export const isElementwise = (node: Node): boolean => !isLeaf(node) && !isView(node) && !kernels.has(node.op);

/** Nodes that one kernel computes: elementwise ones, with a matmul or reduction, or some other kernel, as root. */
export interface Group {
  /** The node that decides the kernel; undefined for a Map. */
  readonly root: Node | undefined;
  /** Elementwise nodes, all of one shape, in order: computed before a reduction, after a matmul. */
  readonly nodes: Node[];
}

/** More than this many nodes in a kernel would only spill registers. */
const largestGroup = 256;

/** The values that a node reads from elsewhere, seen through views; `direct` when at the same index. */
function reads(node: Node): { node: Node; direct: boolean }[] {
  return node.inputs.map((input) => {
    let source = input;
    while (isView(source)) source = source.inputs[0]!;
    return {
      node: source,
      direct: source === input && isElementwise(node) && sameShape(input.shape, node.shape),
    };
  });
}

/**
 * Fuses nodes into groups. Two groups of one shape merge when one reads the other at the same index, at most one
 * has a root, and the merged group would not need anything that needs itself; so do groups that read the same value. What a reduction alone needs is
 * computed inside it. Gives the groups in an order in which they can run.
 */
export function fuse(nodes: readonly Node[], outputs: readonly Node[]): Group[] {
  const readers = new Map<Node, Node[]>();
  for (const node of nodes) for (const input of new Set(node.inputs)) push(readers, input, node);
  const absorbed = absorbIntoReductions(nodes, outputs, readers);
  const insideOf = new Map<Node, Node[]>();
  for (const node of nodes) {
    const root = absorbed.get(node);
    if (root !== undefined) push(insideOf, root, node);
  }
  const groups = new Map<Node, Mutable>();
  const order: Mutable[] = [];

  const addReads = (group: Mutable, node: Node) => {
    for (const read of reads(node)) {
      const other = groups.get(read.node);
      if (other === undefined || other === group) continue;
      group.needs.set(other, (group.needs.get(other) ?? true) && read.direct);
      other.readers.add(group);
    }
  };

  for (const node of nodes) {
    if (isLeaf(node) || isView(node) || absorbed.has(node)) continue;
    const group: Mutable = {
      root: isElementwise(node) ? undefined : node,
      nodes: [],
      needs: new Map(),
      readers: new Set(),
      level: 0,
      shape: node.shape,
      alive: true,
    };
    if (isElementwise(node)) group.nodes.push(node);
    const inside = insideOf.get(node) ?? [];
    group.nodes.push(...inside);
    for (const inner of inside) groups.set(inner, group);
    groups.set(node, group);
    for (const member of [...inside, node]) addReads(group, member);
    group.level = levelAbove(group.needs.keys());
    order.push(group);
    if (group.root !== undefined) continue;
    // A product of which this node is the first to read the result, which its kernel then may finish itself; otherwise
    // the latest producers first: they have most to share with this node.
    const isProduct = ([{ root }]: [Mutable, boolean]) => root !== undefined && node.inputs.includes(root);
    const producers = [...group.needs].reverse();
    for (const [other, direct] of [...producers.filter(isProduct), ...producers]) {
      if (!direct || !other.alive || !mergeable(group, other)) continue;
      merge(group, other, groups);
    }
    // Then groups that read the same values: they share the loads, and what both compute of them.
    for (const input of node.inputs) {
      if (isLeaf(input) && input.op !== "input") continue;
      for (const reader of readers.get(input) ?? []) {
        const other = groups.get(reader);
        if (other === undefined || other === group || !isElementwise(reader) || absorbed.has(reader))
          continue;
        if (mergeable(group, other)) merge(group, other, groups);
      }
    }
  }
  return sorted(order.filter((group) => group.alive)).map(({ root, nodes: members }) => ({
    root,
    nodes: members.sort((a, b) => a.id - b.id),
  }));
}

interface Mutable {
  root: Node | undefined;
  nodes: Node[];
  /** Groups that this one reads, and whether only at the same index. */
  needs: Map<Mutable, boolean>;
  /** Groups that need this one. */
  readers: Set<Mutable>;
  /** Above the levels of all groups that this one needs: what it needs, in any number of steps, lies below. */
  level: number;
  shape: readonly number[];
  alive: boolean;
}

function mergeable(group: Mutable, other: Mutable): boolean {
  if (!sameShape(group.shape, other.shape)) return false;
  if (group.root !== undefined && other.root !== undefined) return false;
  if (other.root !== undefined && other.root.op !== "matmul") return false;
  if (group.root !== undefined && group.root.op !== "matmul") return false;
  if (group.nodes.length + other.nodes.length > largestGroup) return false;
  // No way from one to the other except the direct reads that the merge makes internal.
  return !reachesAround(group, other) && !reachesAround(other, group);
}

/** Whether `from` needs `to` in any way but by reading it at the same index. */
function reachesAround(from: Mutable, to: Mutable): boolean {
  if (from.needs.get(to) === false) return true;
  const seen = new Set<Mutable>([from]);
  const queue = [...from.needs.keys()].filter((group) => group !== to);
  for (let group = queue.pop(); group !== undefined; group = queue.pop()) {
    if (group === to) return true;
    if (group.level <= to.level || seen.has(group)) continue;
    seen.add(group);
    queue.push(...group.needs.keys());
  }
  return false;
}

/** Moves `other` into `group`. */
function merge(group: Mutable, other: Mutable, groups: Map<Node, Mutable>): void {
  group.root ??= other.root;
  group.nodes.push(...other.nodes);
  for (const node of other.nodes) groups.set(node, group);
  if (other.root !== undefined) groups.set(other.root, group);
  const need = (reader: Mutable, needed: Mutable, direct: boolean) => {
    if (reader === needed) return;
    reader.needs.set(needed, (reader.needs.get(needed) ?? true) && direct);
    needed.readers.add(reader);
  };
  for (const [needed, direct] of other.needs) {
    needed.readers.delete(other);
    need(group, needed, direct);
  }
  for (const reader of other.readers) {
    const direct = reader.needs.get(other)!;
    reader.needs.delete(other);
    need(reader, group, direct);
  }
  other.alive = false;
  group.level = levelAbove(group.needs.keys());
  raiseReaders(group);
}

function levelAbove(groups: Iterable<Mutable>): number {
  let level = 0;
  for (const group of groups) level = Math.max(level, group.level + 1);
  return level;
}

/** Raises what needs a group above it, and what needs that in turn. */
function raiseReaders(group: Mutable): void {
  const queue = [group];
  for (let below = queue.pop(); below !== undefined; below = queue.pop()) {
    for (const reader of below.readers) {
      if (reader.level > below.level) continue;
      reader.level = below.level + 1;
      queue.push(reader);
    }
  }
}

function push<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}

/** Elementwise nodes that only one reduction needs, directly, and the reduction. */
function absorbIntoReductions(
  nodes: readonly Node[],
  outputs: readonly Node[],
  readers: ReadonlyMap<Node, readonly Node[]>,
): Map<Node, Node> {
  const kept = new Set(outputs);
  const absorbed = new Map<Node, Node>();
  for (let i = nodes.length - 1; i >= 0; i--) {
    const node = nodes[i]!;
    if (!isElementwise(node) || kept.has(node)) continue;
    const owners = new Set(
      (readers.get(node) ?? []).map(
        (reader) => absorbed.get(reader) ?? (isReduction(reader) ? reader : undefined),
      ),
    );
    const [owner] = owners;
    if (owners.size === 1 && owner !== undefined) absorbed.set(node, owner);
  }
  return absorbed;
}

/** Groups in an order in which each comes after those that it needs; otherwise as early as they were made. */
function sorted(groups: readonly Mutable[]): Mutable[] {
  const done = new Set<Mutable>();
  const result: Mutable[] = [];
  for (const first of groups) {
    const stack: { group: Mutable; rest: Mutable[] }[] = [];
    if (!done.has(first)) stack.push({ group: first, rest: [...first.needs.keys()] });
    while (stack.length > 0) {
      const top = stack[stack.length - 1]!;
      const next = top.rest.pop();
      if (next !== undefined) {
        if (!done.has(next)) stack.push({ group: next, rest: [...next.needs.keys()] });
        continue;
      }
      stack.pop();
      if (done.has(top.group)) continue;
      done.add(top.group);
      result.push(top.group);
    }
  }
  return result;
}
