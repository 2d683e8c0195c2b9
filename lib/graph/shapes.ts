import type { Shape } from "../tensor/shape.js";
import type { Spec } from "./graph.js";
import type { Attributes, PrimitiveName } from "./primitives.js";

/** What is known of a node without its values. */
interface Inferred extends Spec {
  readonly results?: readonly Spec[];
}

type ShapeRule<P extends PrimitiveName> = (inputs: readonly Inferred[], attrs: Attributes[P]) => Inferred;

const several = (results: readonly Spec[]): Inferred => ({ shape: [], dtype: "float32", results });

const same = ([x]: readonly Spec[]): Spec => ({ shape: x!.shape, dtype: x!.dtype });
const asBool = ([x]: readonly Spec[]): Spec => ({ shape: x!.shape, dtype: "bool" });
const without = (shape: Shape, axes: readonly number[]) => shape.filter((_, i) => !axes.includes(i));
const reduced = ([x]: readonly Spec[], { axes }: { readonly axes: readonly number[] }): Spec => ({
  shape: without(x!.shape, axes),
  dtype: x!.dtype,
});
const position = ([x]: readonly Spec[], { axis }: { readonly axis: number }): Spec => ({
  shape: without(x!.shape, [axis]),
  dtype: "int32",
});
const resized = (shape: Shape, axis: number, size: number) => shape.map((n, i) => (i === axis ? size : n));

/** The shape and dtype of each primitive's result. The operands were checked where users call. */
const rules: { readonly [P in PrimitiveName]: ShapeRule<P> } = {
  input: () => {
    throw new Error("internal: inputs are not inferred");
  },
  constant: (_, { shape, dtype }) => ({ shape, dtype }),
  iota: (_, { shape, dtype }) => ({ shape, dtype }),
  neg: same,
  abs: same,
  sign: same,
  sqrt: same,
  rsqrt: same,
  exp: same,
  expm1: same,
  log: same,
  log1p: same,
  sin: same,
  cos: same,
  tanh: same,
  erf: same,
  sigmoid: same,
  softplus: same,
  gelu: same,
  floor: same,
  round: same,
  stopGradient: same,
  add: same,
  sub: same,
  mul: same,
  div: same,
  pow: same,
  maximum: same,
  minimum: same,
  remainder: same,
  shiftRight: same,
  threefry: same,
  logicalNot: asBool,
  equal: asBool,
  notEqual: asBool,
  greater: asBool,
  greaterEqual: asBool,
  less: asBool,
  lessEqual: asBool,
  logicalAnd: asBool,
  logicalOr: asBool,
  where: ([, x]) => ({ shape: x!.shape, dtype: x!.dtype }),
  cast: ([x], { dtype }) => ({ shape: x!.shape, dtype }),
  broadcast: ([x], { shape }) => ({ shape, dtype: x!.dtype }),
  reshape: ([x], { shape }) => ({ shape, dtype: x!.dtype }),
  transpose: ([x], { perm }) => ({ shape: perm.map((axis) => x!.shape[axis]!), dtype: x!.dtype }),
  slice: ([x], { size }) => ({ shape: size, dtype: x!.dtype }),
  pad: ([x], { before, after }) => ({
    shape: x!.shape.map((n, i) => before[i]! + n + after[i]!),
    dtype: x!.dtype,
  }),
  concat: (list, { axis }) => {
    const total = list.reduce((sum, x) => sum + x.shape[axis]!, 0);
    return { shape: resized(list[0]!.shape, axis, total), dtype: list[0]!.dtype };
  },
  flip: same,
  reduceSum: reduced,
  reduceMax: reduced,
  reduceMin: reduced,
  argmax: position,
  argmin: position,
  matmul: ([a, b]) => ({
    shape: [...a!.shape.slice(0, -1), b!.shape[b!.shape.length - 1]!],
    dtype: a!.dtype,
  }),
  gather: ([x, indices], { axis }) => ({
    shape: resized(x!.shape, axis, indices!.shape[0]!),
    dtype: x!.dtype,
  }),
  scatter: ([x], { axis, size }) => ({ shape: resized(x!.shape, axis, size), dtype: x!.dtype }),
  argsort: ([x]) => ({ shape: x!.shape, dtype: "int32" }),
  barrier: same,
  pick: ([x], { index }) => x!.results![index]!,
  call: (_, { results }) => several(results),
  attention: ([q, k, v], { part }) => {
    if (part === "cotangent") return several([q!, k!, v!].map(({ shape, dtype }) => ({ shape, dtype })));
    const rows = q!.shape.slice(0, -1);
    const { dtype } = q!;
    return several([
      { shape: [...rows, v!.shape[v!.shape.length - 1]!], dtype },
      { shape: rows, dtype },
    ]);
  },
  scan: (_, { body, length, carries }) =>
    several(
      body.outputs.map(({ shape, dtype }, i) => ({ shape: i < carries ? shape : [length, ...shape], dtype })),
    ),
  cumsum: same,
};

export function inferShape<P extends PrimitiveName>(
  op: P,
  inputs: readonly Inferred[],
  attrs: Attributes[P],
): Inferred {
  return (rules[op] as ShapeRule<P>)(inputs, attrs);
}
