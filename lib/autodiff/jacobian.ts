import { DTypeError, ValueError } from "../errors.js";
import type { Graph } from "../graph/graph.js";
import { evaluate, traceGraph } from "../graph/trace.js";
import * as raw from "../ops/raw.js";
import { isFloat } from "../tensor/dtype.js";
import { sizeOf } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { type Structure, unflatten } from "../tensor/tree.js";
import { type Argnums, select } from "./argnums.js";
import { batchedOutputs } from "./batch.js";
import { linearizeGraph, primalValues, pullBack, pushForward } from "./differentiate.js";
import { traceFunction } from "./function.js";
import { jvp } from "./jvp.js";
import { type Gradient, grad } from "./vjp.js";

export interface JacobianOptions {
  /** Which arguments to differentiate by: a number (default 0), or an array, which gives an array. */
  readonly argnums?: Argnums;
}

/** The tree R with each of its tensors replaced by J. */
export type Outer<R, J> = R extends Tensor ? J : { -readonly [K in keyof R]: Outer<R[K], J> };

/** The derivatives of each output by each active input, [...shape of the output, ...shape of the input]. */
type Rows = (graph: Graph, inputs: readonly Tensor[], active: readonly number[]) => Tensor[][];

/**
 * The Jacobian of f in forward mode: one tangent for each element of the inputs, all in one program. Best where f has
 * few inputs and many outputs.
 *
 * @returns a function of the same arguments that gives the tree of f's result with, in place of each tensor y, the
 *   tree of the argument with tensors d y / d x of shape [...y.shape, ...x.shape] and y's dtype
 * @throws DTypeError when an argument to differentiate by, or a result, is not a float
 */
export function jacfwd<
  A extends readonly unknown[],
  R,
  const O extends JacobianOptions = Record<never, never>,
>(f: (...args: A) => R, options?: O): (...args: A) => Outer<R, Gradient<A, O>> {
  return jacobian("jacfwd", f, options, (graph, inputs, active) => {
    const byInput = active.map((leaf) => {
      const x = inputs[leaf]!;
      const push = traceGraph(
        ([dx]) => {
          const all = [...inputs, ...graph.captured];
          const tangents = all.map((_, i) => (i === leaf ? dx : undefined));
          const dual = pushForward(graph, all, tangents);
          return dual.tangents.map((d, i) => d ?? raw.constantLike(dual.values[i]!, 0));
        },
        [x],
      );
      // [elements of x, ...y]: the elements go behind the axes of y.
      return instances(push, basis(x)).map((dy) =>
        raw.reshape(raw.moveAxis(dy, 0, dy.rank - 1), [...dy.shape.slice(1), ...x.shape]),
      );
    });
    return graph.outputs.map((_, i) => byInput.map((list) => list[i]!));
  });
}

/**
 * The Jacobian of f in reverse mode: one cotangent for each element of the results, all in one program. Best where f
 * has many inputs and few outputs. Arguments and result as of jacfwd.
 */
export function jacrev<
  A extends readonly unknown[],
  R,
  const O extends JacobianOptions = Record<never, never>,
>(f: (...args: A) => R, options?: O): (...args: A) => Outer<R, Gradient<A, O>> {
  return jacobian("jacrev", f, options, (graph, inputs, active) => {
    const lin = linearizeGraph(graph, active);
    const residuals = primalValues(lin, inputs);
    return lin.values.map((y, i) => {
      const pull = traceGraph(
        ([ct]) => {
          const cts = lin.values.map((_, k) => (k === i ? ct : undefined));
          const found = pullBack(lin, residuals, cts);
          return found.map((d, j) => d ?? raw.constantLike(inputs[active[j]!]!, 0));
        },
        [y],
      );
      return instances(pull, basis(y)).map((dx) =>
        raw.cast(raw.reshape(dx, [...y.shape, ...dx.shape.slice(1)]), y.dtype),
      );
    });
  });
}

/**
 * The second derivatives of f, forward over reverse: jacfwd(jacrev(f)). For a scalar f of one tensor x it is
 * [...x.shape, ...x.shape]; for trees, the tree of the argument with, in place of each tensor, the tree again.
 */
export function hessian<
  A extends readonly unknown[],
  R,
  const O extends JacobianOptions = Record<never, never>,
>(f: (...args: A) => R, options?: O): (...args: A) => Outer<Outer<R, Gradient<A, O>>, Gradient<A, O>> {
  return jacfwd(jacrev(f, options), options);
}

/**
 * The product of the Hessian of a scalar function with a vector, without the Hessian: forward over reverse, at the
 * cost of a few gradients.
 *
 * @param primals an array of arguments
 * @param tangents the vector: the same structure, shapes and dtypes
 * @returns an array, like the primals
 */
export function hvp<A extends readonly unknown[]>(
  f: (...args: A) => Tensor,
  primals: readonly [...A],
  tangents: readonly [...A],
): [...A] {
  if (!Array.isArray(primals))
    throw new ValueError("hvp: primals is an array, one element for each argument");
  const gradient = grad(f, { argnums: primals.map((_, i) => i) }) as (...args: A) => unknown;
  return jvp(gradient, primals, tangents)[1] as [...A];
}

function jacobian<A extends readonly unknown[], R, O extends JacobianOptions>(
  where: string,
  f: (...args: A) => R,
  options: O | undefined,
  rows: Rows,
): (...args: A) => Outer<R, Gradient<A, O>> {
  return (...args: A) => {
    const { leaves, structure, active, build } = select(where, options?.argnums ?? 0, args);
    let result: Structure | undefined;
    const outputs = evaluate(leaves, (inputs) => {
      const traced = traceFunction(where, f as (...args: never[]) => unknown, structure, inputs, false);
      for (const { dtype } of traced.graph.outputs)
        if (!isFloat(dtype))
          throw new DTypeError(
            `${where}: the function gives a tensor of dtype ${dtype}; only floats have derivatives`,
          );
      result = traced.result;
      return rows(traced.graph, inputs, active).flat();
    });
    // For each output leaf, the derivatives by the active leaves, in the structure of the arguments.
    const trees = Array.from({ length: result!.leaves }, (_, i) =>
      build(outputs.slice(i * active.length, (i + 1) * active.length)),
    );
    return unflatten(result!, trees) as Outer<R, Gradient<A, O>>;
  };
}

/** The unit vectors of a tensor's space: [size, ...shape]. */
function basis(like: { readonly shape: readonly number[]; readonly dtype: Tensor["dtype"] }): Tensor {
  const size = sizeOf(like.shape);
  const index = (axis: number) => raw.iota([size, size], axis, "int32");
  return raw.reshape(raw.cast(raw.equal(index(0), index(1)), like.dtype), [size, ...like.shape]);
}

/** The results of a linear program of one input for each unit vector of it, along a new first axis. */
function instances(graph: Graph, vectors: Tensor): Tensor[] {
  const batched = [true, ...graph.captured.map(() => false)];
  return batchedOutputs(graph, [vectors, ...graph.captured], batched, vectors.shape[0]!);
}
