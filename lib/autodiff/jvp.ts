import { ValueError } from "../errors.js";
import { evaluate } from "../graph/trace.js";
import * as raw from "../ops/raw.js";
import { flatten, unflatten } from "../tensor/tree.js";
import { pushForward } from "./differentiate.js";
import { checkFits, needDifferentiable, traceFunction } from "./function.js";

/**
 * Forward mode: the value of f at the primals and its derivative along the tangents.
 *
 * @param f a function of trees of tensors that gives a tree of tensors (with hasAux: [tree, aux])
 * @param primals an array of arguments
 * @param tangents the direction: the same structure, shapes and dtypes as the primals
 * @returns [y, dy], with hasAux [y, dy, aux]
 */
export function jvp<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  primals: readonly [...A],
  tangents: readonly [...A],
): [R, R];
export function jvp<A extends readonly unknown[], R, Aux>(
  f: (...args: A) => readonly [R, Aux],
  primals: readonly [...A],
  tangents: readonly [...A],
  options: { readonly hasAux: true },
): [R, R, Aux];
export function jvp(
  f: (...args: never[]) => unknown,
  primals: readonly unknown[],
  tangents: readonly unknown[],
  options: { readonly hasAux?: boolean } = {},
): unknown {
  if (!Array.isArray(primals) || !Array.isArray(tangents))
    throw new ValueError(
      "jvp: primals and tangents are arrays, one element for each argument of the function",
    );
  const hasAux = options.hasAux ?? false;
  const { leaves, structure } = flatten(primals);
  const dx = checkFits("jvp", "tangent", tangents, "its primal", leaves, structure);
  primals.forEach((primal, i) => {
    needDifferentiable("jvp", primal, `primal ${i}`);
  });
  let rebuild: ((outputs: readonly unknown[]) => unknown) | undefined;
  const outputs = evaluate([...leaves, ...dx], (inputs) => {
    const n = leaves.length;
    const { graph, result, aux } = traceFunction("jvp", f, structure, inputs.slice(0, n), hasAux);
    const out = pushForward(graph, [...inputs.slice(0, n), ...graph.captured], inputs.slice(n));
    const m = result.leaves;
    rebuild = (all) => {
      const y = unflatten(result, all.slice(0, m));
      const dy = unflatten(result, all.slice(m, 2 * m));
      return hasAux ? [y, dy, unflatten(aux, all.slice(2 * m))] : [y, dy];
    };
    const dy = out.values.slice(0, m).map((y, i) => out.tangents[i] ?? raw.constantLike(y, 0));
    return [...out.values.slice(0, m), ...dy, ...out.values.slice(m)];
  });
  return rebuild!(outputs);
}
