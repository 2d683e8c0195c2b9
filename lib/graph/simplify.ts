import { isFloat } from "../tensor/dtype.js";
import { type Shape, sameShape, sizeOf } from "../tensor/shape.js";
import type { Node } from "./graph.js";
import type { Attributes, PrimitiveName } from "./primitives.js";

type Record = (op: PrimitiveName, inputs: readonly Node[], attrs: Attributes[PrimitiveName]) => Node;

const constantOf = (node: Node | undefined): number | undefined =>
  node?.op === "constant" ? (node.attrs as Attributes["constant"]).value : undefined;

const identity = (perm: readonly number[]) => perm.every((axis, i) => axis === i);

/** Exact folds of two constants, in the precision of the dtype. */
const folds: { readonly [P in PrimitiveName]?: (a: number, b: number) => number } = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
};

/**
 * The node that a primitive applied to these nodes equals, when that is simpler; undefined when it is not.
 * Every rule keeps the bits of the result, NaN and signed zeros included, except that x + 0 may keep a -0.
 */
export function simplify(
  op: PrimitiveName,
  inputs: readonly Node[],
  attributes: Attributes[PrimitiveName],
  record: Record,
): Node | undefined {
  const lifted = lift(op, inputs, attributes, record);
  if (lifted !== undefined) return lifted;
  const [x, y] = inputs;
  const a = constantOf(x);
  const b = constantOf(y);
  switch (op) {
    case "add":
      if (b === 0) return x;
      if (a === 0) return y;
      if (x!.op === "pad" && y!.op === "pad") return joined(x as Node<"pad">, y as Node<"pad">, record);
      break;
    case "sub":
      if (b === 0) return x;
      break;
    case "mul":
      if (b === 1) return x;
      if (a === 1) return y;
      if (b === -1) return record("neg", [x!], {});
      if (a === -1) return record("neg", [y!], {});
      break;
    case "div":
      if (b === 1) return x;
      break;
    case "neg":
      if (x!.op === "neg") return x!.inputs[0];
      if (a !== undefined && isFloat(x!.dtype)) return constant(x!, -a, record);
      break;
    case "cast":
      if (x!.dtype === (attributes as Attributes["cast"]).dtype) return x;
      break;
    case "reshape": {
      const { shape } = attributes as Attributes["reshape"];
      if (sameShape(x!.shape, shape)) return x;
      if (x!.op === "reshape") return record("reshape", [x!.inputs[0]!], attributes);
      if (a !== undefined) return record("constant", [], { value: a, shape, dtype: x!.dtype });
      break;
    }
    case "broadcast": {
      const { shape, axes } = attributes as Attributes["broadcast"];
      if (sameShape(x!.shape, shape) && identity(axes)) return x;
      if (a !== undefined) return record("constant", [], { value: a, shape, dtype: x!.dtype });
      if (x!.op === "broadcast") {
        const inner = x!.attrs as Attributes["broadcast"];
        return record("broadcast", [x!.inputs[0]!], { shape, axes: inner.axes.map((axis) => axes[axis]!) });
      }
      break;
    }
    case "transpose": {
      const { perm } = attributes as Attributes["transpose"];
      if (identity(perm)) return x;
      if (x!.op === "transpose") {
        const inner = x!.attrs as Attributes["transpose"];
        return record("transpose", [x!.inputs[0]!], { perm: perm.map((axis) => inner.perm[axis]!) });
      }
      if (a !== undefined)
        return record("constant", [], { value: a, shape: perm.map((i) => x!.shape[i]!), dtype: x!.dtype });
      break;
    }
    case "slice": {
      const { size } = attributes as Attributes["slice"];
      if (sameShape(x!.shape, size)) return x;
      if (a !== undefined) return record("constant", [], { value: a, shape: size, dtype: x!.dtype });
      break;
    }
    case "pad": {
      const { before, after } = attributes as Attributes["pad"];
      if ([...before, ...after].every((n) => n === 0)) return x;
      break;
    }
    case "flip":
      if ((attributes as Attributes["flip"]).axes.length === 0 || a !== undefined) return x;
      break;
    case "concat": {
      if (inputs.length === 1) return x;
      const { axis } = attributes as Attributes["concat"];
      const inner = (node: Node) =>
        node.op === "concat" && (node.attrs as Attributes["concat"]).axis === axis ? node.inputs : [node];
      const flat = inputs.flatMap(inner);
      if (flat.length > inputs.length) return record("concat", flat, attributes);
      break;
    }
    case "reduceSum": {
      const { axes } = attributes as Attributes["reduceSum"];
      if (axes.length === 0) return x;
      const shape = x!.shape.filter((_, i) => !axes.includes(i));
      if (sizeOf(axes.map((axis) => x!.shape[axis]!)) === 1) return record("reshape", [x!], { shape });
      break;
    }
    case "reduceMax":
    case "reduceMin": {
      const { axes } = attributes as Attributes["reduceMax"];
      if (axes.length === 0) return x;
      break;
    }
    default:
      return undefined;
  }
  const fold = folds[op];
  if (fold !== undefined && a !== undefined && b !== undefined && isFloat(x!.dtype))
    return constant(x!, fold(a, b), record);
  return undefined;
}

/** Nodes in which a product's result, as it was computed, goes on. */
const fromProduct = new WeakSet<Node>();

/** Primitives that are computed element by element from inputs of one shape. */
const elementwise: ReadonlySet<PrimitiveName> = new Set<PrimitiveName>([
  ...(["neg", "abs", "sign", "sqrt", "rsqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tanh"] as const),
  ...(["erf", "sigmoid", "softplus", "gelu", "floor", "round", "cast", "add", "sub", "mul", "div"] as const),
  ...(["pow", "maximum", "minimum", "where", "greater", "less", "equal"] as const),
]);

/**
 * What is computed element by element from a reshaped product, computed before the reshape: a product over [rows, k] of
 * something with more axes has two, and only what has its shape can be computed with it. Undefined where another
 * operand cannot be had in that shape.
 */
function lift(
  op: PrimitiveName,
  inputs: readonly Node[],
  attributes: Attributes[PrimitiveName],
  record: Record,
): Node | undefined {
  if (!elementwise.has(op)) return undefined;
  const reshaped = inputs.find(
    (node) => node.op === "reshape" && (node.inputs[0]!.op === "matmul" || fromProduct.has(node.inputs[0]!)),
  );
  if (reshaped === undefined) return undefined;
  const from = reshaped.inputs[0]!.shape;
  const to = reshaped.shape;
  const before = inputs.map((node) => unreshaped(node, from, to, record));
  if (!before.every((node) => node !== undefined)) return undefined;
  const result = record(op, before as Node[], attributes);
  fromProduct.add(result);
  return record("reshape", [result], { shape: to });
}

/** A node of the shape `to` as one of the shape `from`, at no cost; undefined where that cannot be. */
function unreshaped(node: Node, from: Shape, to: Shape, record: Record): Node | undefined {
  if (node.op === "reshape" && sameShape(node.inputs[0]!.shape, from)) return node.inputs[0];
  if (node.op === "constant") return record("reshape", [node], { shape: from });
  if (node.op !== "broadcast") return undefined;
  // The axes that both shapes end with stay what they are.
  let same = 0;
  while (same < Math.min(from.length, to.length) && from.at(-1 - same) === to.at(-1 - same)) same++;
  const { axes } = node.attrs as Attributes["broadcast"];
  if (axes.some((axis) => axis < to.length - same)) return undefined;
  const shift = from.length - to.length;
  return record("broadcast", node.inputs, { shape: from, axes: axes.map((axis) => axis + shift) });
}

/**
 * The sum of two padded arrays that lie one behind the other along an axis, as what a slice and its neighbour get back
 * in reverse mode: joined, then padded. Undefined where they do not lie so.
 */
function joined(x: Node<"pad">, y: Node<"pad">, record: Record): Node | undefined {
  const size = (node: Node, axis: number) => node.inputs[0]!.shape[axis]!;
  const differ = x.shape
    .map((_, axis) => axis)
    .filter((axis) => x.attrs.before[axis] !== y.attrs.before[axis] || size(x, axis) !== size(y, axis));
  const [axis] = differ;
  if (differ.length !== 1 || axis === undefined) return undefined;
  const [first, second] = x.attrs.before[axis]! < y.attrs.before[axis]! ? [x, y] : [y, x];
  if (first.attrs.before[axis]! + size(first, axis) !== second.attrs.before[axis]) return undefined;
  const both = record("concat", [first.inputs[0]!, second.inputs[0]!], { axis });
  const after = second.attrs.after.map((n, i) => (i === axis ? n : first.attrs.after[i]!));
  return record("pad", [both], { before: first.attrs.before, after });
}

function constant(like: Node, value: number, record: Record): Node {
  const exact = like.dtype === "float32" ? Math.fround(value) : value;
  return record("constant", [], { value: exact, shape: like.shape, dtype: like.dtype });
}
