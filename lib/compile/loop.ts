import { traceFunction } from "../autodiff/function.js";
import { type Backend, currentBackend, type Loop } from "../backend/index.js";
import { DTypeError, ShapeError, ValueError } from "../errors.js";
import type { TypedArray } from "../tensor/dtype.js";
import { sameShape, show } from "../tensor/shape.js";
import { onHost } from "../tensor/storage.js";
import { Tensor } from "../tensor/tensor.js";
import { checkSameStructure, flatten, type Structure, unflatten } from "../tensor/tree.js";
import { lower } from "./lower.js";
import { elements, located } from "./program.js";

/** One step of a loop: the next state, of the same structure, shapes and dtypes, and what is observed of it. */
export interface LoopStep<S> {
  readonly state: S;
  /** Tensors; the last one is the guard, a float scalar: a step whose guard is not finite is not committed. */
  readonly observed: readonly Tensor[];
}

/** A compiled loop whose state stays with the backend. */
export interface CompiledLoop<S> {
  /** As Loop.run: up to `steps` steps off the main thread, one call at a time. */
  run(steps: number): Promise<{ completed: number; observed: TypedArray[] }>;
  /** A copy of the state. */
  read(): S;
  /** Replaces the state (copied). Throws when structure, shapes or dtypes differ. */
  write(state: S): void;
  /** Frees the state. */
  dispose(): void;
}

/** Traces and compiles `step` once, and starts a loop from this state. */
export function compileLoop<S>(
  step: (state: S) => LoopStep<S>,
  state: S,
  options: { readonly backend?: Backend } = {},
): CompiledLoop<S> {
  const { leaves, structure } = flatten(state);
  const args = flatten([state]).structure;
  const traced = traceFunction(
    "compileLoop",
    (s: never) => {
      const { state: next, observed } = step(s);
      const after = flatten(next);
      checkState("compileLoop", structure, leaves, after.structure, after.leaves);
      if (observed.length === 0)
        throw new ValueError("compileLoop: needs at least one observation, the guard");
      return [after.leaves, observed];
    },
    args,
    leaves,
    false,
  );
  const loop: Loop = (options.backend ?? currentBackend())
    .compile(lower(traced.graph))
    .loop([...leaves, ...traced.graph.captured].map(elements), leaves.length);
  return {
    run: async (steps) => {
      try {
        return await loop.run(steps);
      } catch (error) {
        throw located(error, traced.graph);
      }
    },
    read: () =>
      unflatten(
        structure,
        leaves.map((x, i) => Tensor.fromData(loop.read(i), x.shape, x.dtype)),
      ) as S,
    write: (next) => {
      const after = flatten(next);
      checkState("write", structure, leaves, after.structure, after.leaves);
      const arrays = after.leaves.map((x) => onHost(elements(x)));
      arrays.forEach((array, i) => {
        loop.write(i, array);
      });
    },
    dispose: () => loop.dispose(),
  };
}

function checkState(
  where: string,
  structure: Structure,
  leaves: readonly Tensor[],
  other: Structure,
  next: readonly Tensor[],
): void {
  checkSameStructure(where, structure, other, "the next state", "the state");
  next.forEach((x, i) => {
    const was = leaves[i]!;
    if (!sameShape(x.shape, was.shape))
      throw new ShapeError(
        `${where}: leaf ${i} of the state has shape ${show(was.shape)}, then ${show(x.shape)}`,
      );
    if (x.dtype !== was.dtype)
      throw new DTypeError(`${where}: leaf ${i} of the state has dtype ${was.dtype}, then ${x.dtype}`);
  });
}
