import { ShapeError, ValueError } from "../errors.js";
import type { Node } from "../graph/graph.js";
import { evaluate } from "../graph/trace.js";
import * as raw from "../ops/raw.js";
import { isFloat } from "../tensor/dtype.js";
import { show } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { flatten, type Structure, unflatten } from "../tensor/tree.js";
import { type Argnums, select } from "./argnums.js";
import { applyLinear, type Linearization, linearizeGraph, primalValues, pullBack } from "./differentiate.js";
import { checkFits, needDifferentiable, traceFunction } from "./function.js";

/** A function linearized at a point: its value, and the tensors that the linear program needs. */
interface Linearized {
  readonly lin: Linearization;
  readonly args: Structure;
  readonly leaves: readonly Tensor[];
  /** Leaves that can be differentiated. */
  readonly active: readonly number[];
  readonly result: Structure;
  readonly values: readonly Tensor[];
  readonly residuals: readonly Tensor[];
  readonly residualNodes: readonly Node[];
}

function linearizeAt(
  where: string,
  f: (...args: never[]) => unknown,
  primals: readonly unknown[],
): Linearized {
  const { leaves, structure: args } = flatten(primals);
  const { graph, result } = traceFunction(where, f, args, leaves, false);
  const active = leaves.map((_, i) => i).filter((i) => isFloat(leaves[i]!.dtype));
  const lin = linearizeGraph(graph, active);
  // Constants cost nothing to record again; as residuals they would become arrays.
  const residualNodes = lin.residuals.filter((node) => node.op !== "constant");
  const all = evaluate(leaves, (inputs) => {
    const value = primalValues(lin, inputs);
    return [...lin.values, ...residualNodes].map((node) => value.get(node)!);
  });
  const values = all.slice(0, lin.values.length);
  return {
    lin,
    args,
    leaves,
    active,
    result,
    values,
    residuals: all.slice(lin.values.length),
    residualNodes,
  };
}

/** The residuals by node, inside of the trace that uses them. */
function residualMap({ lin, residualNodes }: Linearized, residuals: readonly Tensor[]): Map<Node, Tensor> {
  const map = new Map(residualNodes.map((node, i) => [node, residuals[i]!] as const));
  for (const node of lin.residuals)
    if (node.op === "constant")
      map.set(node, raw.constant((node.attrs as { value: number }).value, node.shape, node.dtype));
  return map;
}

/**
 * Reverse mode: the value of f and its pullback, which takes a cotangent of the value (the same structure, shapes
 * and dtypes) to an array with one cotangent for each primal. Leaves that are not floats get zeros.
 */
export function vjp<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  ...primals: A
): [R, (cotangent: R) => [...A]] {
  const at = linearizeAt("vjp", f as (...args: never[]) => unknown, primals);
  const pullback = (cotangent: R) => {
    const cts = checkFits("vjp", "cotangent", cotangent, "the value", at.values, at.result);
    const outputs = evaluate([...cts, ...at.residuals], (inputs) => {
      const residuals = residualMap(at, inputs.slice(cts.length));
      const found = pullBack(at.lin, residuals, inputs.slice(0, cts.length));
      const byLeaf = new Map(at.active.map((leaf, i) => [leaf, found[i]] as const));
      return at.leaves.map((x, i) => byLeaf.get(i) ?? raw.constantLike(x, 0));
    });
    return unflatten(at.args, outputs) as [...A];
  };
  return [unflatten(at.result, at.values) as R, pullback];
}

/**
 * The value of f and its derivative as a linear function of tangents, computed once for many directions: what jvp
 * gives, with the value's part of the work done. Tangents have the structure, shapes and dtypes of the primals.
 */
export function linearize<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  ...primals: A
): [R, (...tangents: A) => R] {
  primals.forEach((primal, i) => {
    needDifferentiable("linearize", primal, `primal ${i}`);
  });
  const at = linearizeAt("linearize", f as (...args: never[]) => unknown, primals);
  const apply = (...tangents: A) => {
    const dx = checkFits("linearize", "tangent", tangents, "its primal", at.leaves, at.args);
    const outputs = evaluate([...dx, ...at.residuals], (inputs) => {
      const dy = applyLinear(at.lin, residualMap(at, inputs.slice(dx.length)), inputs.slice(0, dx.length));
      return at.values.map((y, i) => dy[i] ?? raw.constantLike(y, 0));
    });
    return unflatten(at.result, outputs) as R;
  };
  return [unflatten(at.result, at.values) as R, apply];
}

export interface GradOptions {
  readonly argnums?: Argnums;
  /** The function gives [scalar, aux]: aux is passed on and not differentiated. */
  readonly hasAux?: boolean;
}

type NumberOf<O> = O extends { readonly argnums: infer N } ? N : 0;
type GradientFor<A extends readonly unknown[], N> = N extends number
  ? A[N]
  : N extends readonly number[]
    ? { -readonly [K in keyof N]: N[K] extends number ? A[N[K]] : never }
    : never;

export type Gradient<A extends readonly unknown[], O> = GradientFor<A, NumberOf<O>>;

function reverse(where: string, f: (...args: never[]) => unknown, options: GradOptions) {
  const { argnums = 0, hasAux = false } = options;
  return (args: readonly unknown[]): { value: Tensor; gradient: unknown; aux: unknown } => {
    const { leaves, structure, active, build } = select(where, argnums, args);
    let auxStructure: Structure | undefined;
    const outputs = evaluate(leaves, (inputs) => {
      const traced = traceFunction(where, f, structure, inputs, hasAux);
      checkScalar(where, traced.graph.outputs[0], traced.result);
      auxStructure = traced.aux;
      const lin = linearizeGraph(traced.graph, active);
      const value = primalValues(lin, inputs);
      const values = lin.values.map((node) => value.get(node)!);
      const ct = pullBack(lin, value, [raw.constantLike(values[0]!, 1)]);
      return [...values, ...active.map((leaf, i) => ct[i] ?? raw.constantLike(inputs[leaf]!, 0))];
    });
    const auxCount = auxStructure!.leaves;
    return {
      value: outputs[0]!,
      gradient: build(outputs.slice(1 + auxCount)),
      aux: unflatten(auxStructure!, outputs.slice(1, 1 + auxCount)),
    };
  };
}

function checkScalar(where: string, output: Node | undefined, result: Structure): void {
  if (result.leaves !== 1 || result.template.kind !== "leaf")
    throw new ValueError(
      `${where}: the function must give one scalar tensor; for several results and no gradient of them use hasAux`,
    );
  if (output!.shape.length !== 0)
    throw new ShapeError(
      `${where}: the function must give a scalar (shape []), got shape ${show(output!.shape)}; use sum() or mean(), or vjp`,
    );
  if (!isFloat(output!.dtype))
    throw new ValueError(`${where}: the function must give a float scalar, got ${output!.dtype}`);
}

/**
 * The gradient of a scalar function, as a function of the same arguments.
 *
 * @returns the gradient by argument `argnums`, in its structure (an array of argnums: an array); with hasAux
 *   [gradient, aux]
 * @throws ShapeError when f does not give a scalar; DTypeError when an argument to differentiate by is not a float
 */
export function grad<
  A extends readonly unknown[],
  const O extends GradOptions & { readonly hasAux: true },
  Aux,
>(f: (...args: A) => readonly [Tensor, Aux], options: O): (...args: A) => [Gradient<A, O>, Aux];
export function grad<A extends readonly unknown[], const O extends GradOptions = Record<never, never>>(
  f: (...args: A) => Tensor,
  options?: O,
): (...args: A) => Gradient<A, O>;
export function grad(
  f: (...args: never[]) => unknown,
  options: GradOptions = {},
): (...args: unknown[]) => unknown {
  const run = reverse("grad", f, options);
  return (...args) => {
    const { gradient, aux } = run(args);
    return options.hasAux ? [gradient, aux] : gradient;
  };
}

/** As grad, with the value: [value, gradient], with hasAux [[value, aux], gradient]. */
export function valueAndGrad<
  A extends readonly unknown[],
  const O extends GradOptions & { readonly hasAux: true },
  Aux,
>(f: (...args: A) => readonly [Tensor, Aux], options: O): (...args: A) => [[Tensor, Aux], Gradient<A, O>];
export function valueAndGrad<
  A extends readonly unknown[],
  const O extends GradOptions = Record<never, never>,
>(f: (...args: A) => Tensor, options?: O): (...args: A) => [Tensor, Gradient<A, O>];
export function valueAndGrad(
  f: (...args: never[]) => unknown,
  options: GradOptions = {},
): (...args: unknown[]) => unknown {
  const run = reverse("valueAndGrad", f, options);
  return (...args) => {
    const { value, gradient, aux } = run(args);
    return options.hasAux ? [[value, aux], gradient] : [value, gradient];
  };
}
