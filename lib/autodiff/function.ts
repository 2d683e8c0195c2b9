import { DTypeError, ShapeError, ValueError } from "../errors.js";
import type { Graph, Spec } from "../graph/graph.js";
import { traceGraph } from "../graph/trace.js";
import { isFloat } from "../tensor/dtype.js";
import { sameShape, show } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkSameStructure, flatten, type Structure, unflatten } from "../tensor/tree.js";

/** Checks that what was given at this place of a call is a function. */
export function needFunction(where: string, place: string, f: unknown): void {
  if (typeof f !== "function")
    throw new ValueError(`${where}: expected a function ${place}, got ${f === null ? "null" : typeof f}`);
}

/** Checks that a traced function gave its result and not a promise of one. */
export function needResult(where: string, y: unknown): void {
  if (!(y instanceof Promise)) return;
  // What it still does with dead symbols is of no interest.
  y.catch(() => undefined);
  throw new ValueError(`${where}: the function is async; a traced function gives its result at once`);
}

/** A function of trees, traced: its graph, whose outputs are the leaves of the result and then of the aux value. */
export interface TracedFunction {
  readonly graph: Graph;
  readonly result: Structure;
  readonly aux: Structure;
}

/** Traces f on arguments of this structure. With hasAux, f gives [result, aux], and aux is not differentiated. */
export function traceFunction(
  where: string,
  f: (...args: never[]) => unknown,
  args: Structure,
  specs: readonly Spec[],
  hasAux: boolean,
): TracedFunction {
  needFunction(where, "first", f);
  let result: Structure | undefined;
  let aux: Structure | undefined;
  const graph = traceGraph(
    (symbols) => {
      const y = (f as (...args: unknown[]) => unknown)(...unflatten(args, symbols));
      needResult(where, y);
      if (hasAux && !(Array.isArray(y) && y.length === 2))
        throw new ValueError(`${where}: with hasAux the function must give [result, aux]`);
      const main = flatten(hasAux ? (y as unknown[])[0] : y);
      const rest = flatten(hasAux ? (y as unknown[])[1] : []);
      result = main.structure;
      aux = rest.structure;
      return [...main.leaves, ...rest.leaves];
    },
    specs,
    true,
  );
  return { graph, result: result!, aux: aux! };
}

/** Checks that tangents (or cotangents) fit values: same structure, shapes and dtypes. */
export function checkFits(
  where: string,
  what: string,
  given: unknown,
  of: string,
  specs: readonly { shape: readonly number[]; dtype: string }[],
  structure: Structure,
): Tensor[] {
  const other = flatten(given);
  checkSameStructure(where, structure, other.structure, what, of);
  other.leaves.forEach((leaf, i) => {
    const spec = specs[i]!;
    if (!sameShape(leaf.shape, spec.shape))
      throw new ShapeError(
        `${where}: ${what} ${i} has shape ${show(leaf.shape)}, ${of} has ${show(spec.shape)}`,
      );
    if (leaf.dtype !== spec.dtype)
      throw new DTypeError(`${where}: ${what} ${i} has dtype ${leaf.dtype}, ${of} has ${spec.dtype}`);
  });
  return other.leaves;
}

/** Checks that every leaf of an argument can be differentiated. */
export function needDifferentiable(where: string, argument: unknown, name: string): void {
  const { leaves } = flatten(argument);
  if (leaves.length === 0)
    throw new ValueError(
      `${where}: ${name} holds no tensor to differentiate by${typeof argument === "number" ? "; wrap the number in tensor()" : ""}`,
    );
  for (const leaf of leaves)
    if (!isFloat(leaf.dtype))
      throw new DTypeError(
        `${where}: ${name} has a leaf of dtype ${leaf.dtype}; only float32 and float64 have derivatives`,
      );
}
