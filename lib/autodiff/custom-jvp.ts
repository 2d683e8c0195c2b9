import { ValueError } from "../errors.js";
import type { Batch, Callee, Dual } from "../graph/callee.js";
import type { Graph } from "../graph/graph.js";
import { emitSeveral } from "../graph/trace.js";
import * as raw from "../ops/raw.js";
import type { Tangent } from "../ops/rules.js";
import { isFloat } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import { unflatten } from "../tensor/tree.js";
import { batchedOutputs } from "./batch.js";
import { replayed, specsOf, traceClosed } from "./closed.js";
import { checkCaptured, customFunction } from "./custom.js";
import { divide } from "./differentiate.js";
import { checkFits, needFunction, needResult } from "./function.js";

/**
 * f with a derivative rule of its own: every transform that differentiates it uses the rule, inside of jit, vmap and
 * each other too. Reverse mode transposes what the rule does with the tangents, which must be linear then.
 *
 *     const safeSqrt = customJvp(
 *       (x) => sqrt(x),
 *       ([x], [dx]) => [sqrt(x), where(greater(x, 0), div(dx, mul(2, sqrt(x))), 0)],
 *     );
 *
 * @param rule takes the arguments and their tangents, two arrays of one structure (the tangents of arguments that are
 *   not differentiated are zeros), and gives [the value, its tangent]; the value must not depend on the tangents. Higher
 *   derivatives differentiate the rule, its value too. It may call the function itself
 * @throws ValueError where the rule does not give what f does, and, when it is differentiated, where f closes over a
 *   tensor by which the derivative is taken: the rule knows arguments only
 */
export function customJvp<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  rule: (primals: [...A], tangents: [...A]) => readonly [R, R],
): (...args: A) => R {
  needFunction("customJvp", "first", f);
  needFunction("customJvp", "second", rule);
  return customFunction("customJvp", f, ({ structure, inputs, body, result, own }) => {
    const derivative = traceClosed(
      (symbols) => {
        const half = inputs.length;
        const given = own.run(() =>
          rule(unflatten(structure, symbols.slice(0, half)), unflatten(structure, symbols.slice(half))),
        );
        needResult("customJvp", given);
        if (!Array.isArray(given) || given.length !== 2)
          throw new ValueError("customJvp: the rule must give [value, tangent]");
        return ["value", "tangent"].flatMap((what, i) =>
          checkFits(
            "customJvp",
            `the rule's ${what}`,
            given[i],
            "the value of the function",
            specsOf(body.graph),
            result,
          ),
        );
      },
      [...inputs, ...inputs],
      true,
    );
    checkSplit(derivative.graph, inputs.length);
    const callee = new CustomJvp(body.graph, derivative.graph, inputs.length, body.captured.length);
    return callOf(callee, [...inputs, ...body.captured, ...derivative.captured]);
  });
}

function checkSplit(rule: Graph, count: number): void {
  const linear = new Set(divide(rule, rule.inputs.slice(count, 2 * count)).linearNodes);
  const values = rule.outputs.slice(0, rule.outputs.length / 2);
  if (
    values.some(
      (node) =>
        linear.has(node) || (rule.inputs.indexOf(node) >= count && rule.inputs.indexOf(node) < 2 * count),
    )
  )
    throw new ValueError("customJvp: the value that the rule gives depends on the tangents");
}

const callOf = (callee: CustomJvp, inputs: readonly Tensor[]): Tensor[] =>
  emitSeveral("call", inputs, { callee, results: specsOf(callee.body) });

/** Inputs: arguments, what the function captured, what the rule captured. */
class CustomJvp implements Callee {
  readonly name = "customJvp";
  readonly body: Graph;
  readonly #rule: Graph;
  readonly #count: number;
  readonly #captured: number;

  constructor(body: Graph, rule: Graph, count: number, captured: number) {
    this.body = body;
    this.#rule = rule;
    this.#count = count;
    this.#captured = captured;
  }

  expand(inputs: readonly Tensor[]): Tensor[] {
    return replayed(this.body, inputs.slice(0, this.#count + this.#captured));
  }

  jvp(inputs: readonly Tensor[], tangents: readonly Tangent[]): Dual {
    checkCaptured("customJvp", tangents.slice(this.#count));
    const primals = inputs.slice(0, this.#count);
    const dx = primals.map((x, i) => tangents[i] ?? raw.constantLike(x, 0));
    const outputs = replayed(this.#rule, [...primals, ...dx, ...inputs.slice(this.#count + this.#captured)]);
    const half = outputs.length / 2;
    return {
      values: outputs.slice(0, half),
      tangents: outputs.slice(half).map((d) => (isFloat(d.dtype) ? d : undefined)),
    };
  }

  batch(inputs: readonly Tensor[], batched: readonly boolean[], size: number): Batch {
    const end = this.#count + this.#captured;
    const whole = (graph: Graph, given: readonly Tensor[], flags: readonly boolean[]) =>
      traceClosed((symbols) => batchedOutputs(graph, symbols, flags, size), given).graph;
    const primals = inputs.slice(0, this.#count);
    const flags = batched.slice(0, this.#count);
    const callee = new CustomJvp(
      whole(this.body, inputs.slice(0, end), batched.slice(0, end)),
      whole(
        this.#rule,
        [...primals, ...primals, ...inputs.slice(end)],
        [...flags, ...flags, ...batched.slice(end)],
      ),
      this.#count,
      this.#captured,
    );
    return { values: callOf(callee, inputs), batched: this.body.outputs.map(() => true) };
  }
}
