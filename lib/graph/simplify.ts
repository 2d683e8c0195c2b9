import { isFloat } from "../tensor/dtype.js";
import { sameShape, sizeOf } from "../tensor/shape.js";
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
