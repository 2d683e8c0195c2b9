import { ShapeError, ValueError } from "../errors.js";
import { evaluate } from "../graph/trace.js";
import { repeated } from "../ops/batching.js";
import * as raw from "../ops/raw.js";
import { show } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import { flatten, unflatten } from "../tensor/tree.js";
import { batchGraph } from "./batch.js";
import { traceFunction } from "./function.js";

/**
 * Where the instances lie: an axis (negative: from the end) of every tensor there; null: shared by all instances; or
 * an array or object of these for the parts of a tree.
 */
export type BatchAxes = number | null | readonly BatchAxes[] | { readonly [name: string]: BatchAxes };

/**
 * f for many instances at once: written for one instance, run for the whole batch as one program.
 *
 *     const distances = vmap((a, b) => norm(sub(a, b)), [0, null])(points, centre);
 *
 * Inside of f tensors have the shape of one instance. It composes with itself and with every other transform, in
 * any order. What f draws from a random key that is shared is the same for all instances.
 *
 * @param inAxes the batch axis of the arguments: one for all (default 0), or an array with one for each argument
 * @param outAxes where the batch axis of the results comes to lie; default 0. null needs a result that is the same for
 *   all instances
 * @returns a function of batched arguments
 * @throws ValueError when no argument has a batch axis, or the axes do not fit the arguments; ShapeError when the batch
 *   sizes differ or an axis is out of range
 */
export function vmap<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  inAxes: number | readonly BatchAxes[] = 0,
  outAxes: BatchAxes = 0,
): (...args: A) => R {
  return (...args: A): R => {
    if (Array.isArray(inAxes) && inAxes.length !== args.length)
      throw new ValueError(`vmap: inAxes has ${inAxes.length} elements for ${args.length} arguments`);
    const { leaves, structure } = flatten(args);
    const axes = axesOf("inAxes", typeof inAxes === "number" ? args.map(() => inAxes) : inAxes, args);
    const places = leaves.map((x, i) => place("vmap", axes[i]!, x.rank));
    const size = batchSize(leaves, places);
    const specs = leaves.map((x, i) => {
      const at = places[i]!;
      return { shape: at === null ? x.shape : x.shape.filter((_, k) => k !== at), dtype: x.dtype };
    });
    let rebuild: ((outputs: readonly Tensor[]) => R) | undefined;
    const outputs = evaluate(leaves, (inputs) => {
      const { graph, result } = traceFunction(
        "vmap",
        f as (...args: never[]) => unknown,
        structure,
        specs,
        false,
      );
      const front = inputs.map((x, i) => (places[i] == null ? x : raw.moveAxis(x, places[i]!, 0)));
      const { values, batched } = batchGraph(
        graph,
        [...front, ...graph.captured],
        [...places.map((at) => at !== null), ...graph.captured.map(() => false)],
        size,
      );
      rebuild = (all) => unflatten(result, all) as R;
      const outs = axesOf("outAxes", outAxes, unflatten(result, values));
      return values.map((y, i) => placed(y, batched[i]!, outs[i]!, size));
    });
    return rebuild!(outputs);
  };
}

/** The axis of each tensor of a tree, from axes for the tree or its parts. */
function axesOf(name: string, axes: unknown, tree: unknown): (number | null)[] {
  if (axes === null || typeof axes === "number") return flatten(tree).leaves.map(() => axes);
  const misfit = () =>
    new ValueError(
      `vmap: ${name} must be axes, null, or arrays or objects of them like the tree they are for, got ${JSON.stringify(axes)}`,
    );
  if (tree instanceof Tensor || typeof axes !== "object" || typeof tree !== "object" || tree === null)
    throw misfit();
  if (Array.isArray(axes) !== Array.isArray(tree)) throw misfit();
  const names = Object.keys(tree).sort();
  if (Array.isArray(axes) ? axes.length !== names.length : Object.keys(axes).some((k) => !names.includes(k)))
    throw misfit();
  // Arrays in order, objects by sorted key, as trees are flattened.
  const keys = Array.isArray(tree) ? tree.map((_, i) => i) : names;
  return keys.flatMap((key) => {
    const part = (tree as Record<PropertyKey, unknown>)[key];
    if (!(key in axes)) throw misfit();
    return axesOf(name, (axes as Record<PropertyKey, unknown>)[key], part);
  });
}

function place(where: string, axis: number | null, rank: number): number | null {
  if (axis === null) return null;
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank)
    throw new ShapeError(`${where}: axis ${axis} is out of range for a tensor of rank ${rank}`);
  return axis < 0 ? axis + rank : axis;
}

function batchSize(leaves: readonly Tensor[], places: readonly (number | null)[]): number {
  let size: number | undefined;
  leaves.forEach((x, i) => {
    const at = places[i];
    if (at == null) return;
    const n = x.shape[at]!;
    if (size !== undefined && n !== size)
      throw new ShapeError(
        `vmap: the batch has ${size} instances, but axis ${at} of a tensor of shape ${show(x.shape)} has ${n}`,
      );
    size = n;
  });
  if (size === undefined) throw new ValueError("vmap: no argument has a batch axis");
  return size;
}

/** A result with its batch axis where it is wanted. */
function placed(y: Tensor, batched: boolean, axis: number | null, size: number): Tensor {
  if (axis === null) {
    if (batched)
      throw new ValueError(
        "vmap: outAxes is null for a result that differs between the instances of the batch",
      );
    return y;
  }
  const all = batched ? y : repeated(y, size);
  return raw.moveAxis(all, 0, place("vmap: outAxes", axis, all.rank)!);
}
