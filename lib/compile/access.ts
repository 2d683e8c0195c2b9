import type { Node } from "../graph/graph.js";
import type { Attributes } from "../graph/primitives.js";
import { rowMajor, type Shape } from "../tensor/shape.js";

/**
 * How a value is read without a kernel of its own: at index i it is element offset + sum of i * strides of a
 * source: the buffer of a node, an arithmetic progression (iota), or a constant.
 */
export interface Access {
  readonly source: Node;
  readonly offset: number;
  readonly strides: readonly number[];
}

/** The access to a value that has a dense buffer of its own. */
export function dense(node: Node): Access {
  return { source: node, offset: 0, strides: rowMajor(node.shape) };
}

/** The access to a leaf that is computed from the index alone; undefined for other nodes. */
export function leafAccess(node: Node): Access | undefined {
  if (node.op === "constant") return { source: node, offset: 0, strides: node.shape.map(() => 0) };
  if (node.op === "iota") {
    const { axis } = node.attrs as Attributes["iota"];
    return { source: node, offset: 0, strides: node.shape.map((_, i) => (i === axis ? 1 : 0)) };
  }
  return undefined;
}

/** The access to a view's result from the access to its input; undefined where the strides cannot express it. */
export function viewAccess(node: Node, input: Access): Access | undefined {
  const from = node.inputs[0]!.shape;
  const { source, offset, strides } = input;
  // No element, no place: the start of an empty slice may lie outside of the buffer.
  if (node.shape.includes(0)) return { source, offset: 0, strides: node.shape.map(() => 0) };
  switch (node.op) {
    case "broadcast": {
      const { shape, axes } = node.attrs as Attributes["broadcast"];
      const wide = shape.map((n, i) => {
        const axis = axes.indexOf(i);
        return axis === -1 || from[axis] !== n ? 0 : strides[axis]!;
      });
      return { source, offset, strides: wide };
    }
    case "transpose": {
      const { perm } = node.attrs as Attributes["transpose"];
      return { source, offset, strides: perm.map((axis) => strides[axis]!) };
    }
    case "slice": {
      const { start } = node.attrs as Attributes["slice"];
      return { source, offset: start.reduce((at, s, i) => at + s * strides[i]!, offset), strides };
    }
    case "flip": {
      const { axes } = node.attrs as Attributes["flip"];
      const last = axes.reduce((at, i) => at + Math.max(0, from[i]! - 1) * strides[i]!, offset);
      return { source, offset: last, strides: strides.map((s, i) => (axes.includes(i) ? -s : s)) };
    }
    case "reshape": {
      const regrouped = reshapeStrides(from, strides, node.shape);
      return regrouped && { source, offset, strides: regrouped };
    }
    case "stopGradient":
    case "barrier":
      return input;
    default:
      return undefined;
  }
}

/**
 * Strides of the same elements in another shape. Sizes are grouped so that each group of old axes has as many
 * elements as its group of new ones; that works when the old axes of a group lie evenly behind each other.
 */
function reshapeStrides(from: Shape, strides: readonly number[], to: Shape): number[] | undefined {
  if (from.some((n) => n === 0)) return to.map(() => 0);
  const old = from.map((n, i) => ({ n, s: strides[i]! })).filter(({ n }) => n !== 1);
  const result = new Array<number>(to.length).fill(0);
  let i = 0;
  let j = 0;
  while (i < old.length || j < to.length) {
    if (j < to.length && to[j] === 1) {
      j++;
      continue;
    }
    let oldSize = old[i]!.n;
    let newSize = to[j]!;
    const firstOld = i;
    const firstNew = j;
    while (oldSize !== newSize) {
      if (oldSize < newSize) oldSize *= old[++i]!.n;
      else newSize *= to[++j]!;
    }
    for (let k = firstOld; k < i; k++) if (old[k]!.s !== old[k + 1]!.n * old[k + 1]!.s) return undefined;
    let stride = old[i]!.s;
    for (let k = j; k >= firstNew; k--) {
      result[k] = stride;
      stride *= to[k]!;
    }
    i++;
    j++;
  }
  return result;
}

export const viewOps: ReadonlySet<string> = new Set([
  "broadcast",
  "transpose",
  "slice",
  "flip",
  "reshape",
  "stopGradient",
  "barrier",
]);
