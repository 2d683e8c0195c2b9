import { ValueError } from "../errors.js";
import type { Batch, Callee, Dual } from "../graph/callee.js";
import type { Graph } from "../graph/graph.js";
import { emitSeveral, evaluate } from "../graph/trace.js";
import type { Tangent } from "../ops/rules.js";
import type { Tensor } from "../tensor/tensor.js";
import { flatten, type Structure, unflatten } from "../tensor/tree.js";
import { batchedOutputs } from "./batch.js";
import { type Closed, closed, replayed, specsOf, traceClosed } from "./closed.js";
import { pushForward } from "./differentiate.js";
import { traceFunction } from "./function.js";

/**
 * The rules of a custom function may call the function itself: `(x) => [f(x), x]`. They are traced when it is called, and
 * so would be without end. Inside of its own rules a call is therefore only the function, until somebody asks for its
 * derivative: then the function is called once more, outside of the rules.
 */
export class OwnRules {
  readonly #where: string;
  #depth = 0;

  constructor(where: string) {
    this.#where = where;
  }

  /** Whether a rule is being traced. */
  get inside(): boolean {
    return this.#depth > 0;
  }

  /** Runs what a rule does. */
  run<R>(rule: () => R): R {
    this.#depth++;
    try {
      return rule();
    } finally {
      this.#depth--;
    }
  }

  /**
   * A call from inside of a rule, recorded in the current trace: f on arguments of this structure, whose derivative is
   * that of `custom`, the function with its rules.
   */
  call(
    f: (...args: never[]) => unknown,
    custom: (...args: never[]) => unknown,
    args: Structure,
    inputs: readonly Tensor[],
  ): { outputs: Tensor[]; result: Structure } {
    const traced = traceFunction(this.#where, f, args, inputs, false);
    const { graph, captured } = closed(traced.graph);
    const again = (symbols: readonly Tensor[]) => {
      if (this.inside)
        throw new ValueError(
          `${this.#where}: the rule takes the derivative of the function that it is the rule of, without end`,
        );
      return flatten((custom as (...all: unknown[]) => unknown)(...unflatten(args, symbols))).leaves;
    };
    const callee = new Again(`${this.#where} in its rule`, graph, inputs.length, again);
    const results = specsOf(graph);
    return {
      outputs: emitSeveral("call", [...inputs, ...captured], { callee, results }),
      result: traced.result,
    };
  }
}

/** A call of a custom function, from outside of its rules, as it is recorded. */
export interface CustomCall {
  readonly args: readonly unknown[];
  readonly structure: Structure;
  readonly inputs: readonly Tensor[];
  /** The function's graph, closed, and the structure of its result. */
  readonly body: Closed;
  readonly result: Structure;
  readonly own: OwnRules;
}

/** f as a function whose calls are recorded by `record`, with its rules. */
export function customFunction<A extends readonly unknown[], R>(
  where: string,
  f: (...args: A) => R,
  record: (call: CustomCall) => Tensor[],
): (...args: A) => R {
  const own = new OwnRules(where);
  const plain = f as (...args: never[]) => unknown;
  const custom = (...args: A): R => {
    const { leaves, structure } = flatten(args);
    let result: Structure | undefined;
    const outputs = evaluate(leaves, (inputs) => {
      if (own.inside) {
        const called = own.call(plain, custom as never, structure, inputs);
        result = called.result;
        return called.outputs;
      }
      const traced = traceFunction(where, plain, structure, inputs, false);
      result = traced.result;
      return record({ args, structure, inputs, body: closed(traced.graph), result, own });
    });
    return unflatten(result!, outputs) as R;
  };
  return custom;
}

/** Inputs: arguments, what the function captured. */
class Again implements Callee {
  readonly name: string;
  readonly #body: Graph;
  readonly #count: number;
  readonly #again: (inputs: readonly Tensor[]) => Tensor[];

  constructor(name: string, body: Graph, count: number, again: (inputs: readonly Tensor[]) => Tensor[]) {
    this.name = name;
    this.#body = body;
    this.#count = count;
    this.#again = again;
  }

  expand(inputs: readonly Tensor[]): Tensor[] {
    return replayed(this.#body, inputs);
  }

  jvp(inputs: readonly Tensor[], tangents: readonly Tangent[], split: boolean): Dual {
    checkCaptured(this.name, tangents.slice(this.#count));
    const args = inputs.slice(0, this.#count);
    const { graph, captured } = traceClosed(this.#again, args);
    return pushForward(graph, [...args, ...captured], tangents.slice(0, this.#count), split);
  }

  batch(inputs: readonly Tensor[], batched: readonly boolean[], size: number): Batch {
    const args = inputs.slice(0, this.#count);
    const one = args.map(({ shape, dtype }, i) => ({ shape: batched[i] ? shape.slice(1) : shape, dtype }));
    const body = traceClosed((symbols) => batchedOutputs(this.#body, symbols, batched, size), inputs).graph;
    // Batched when it is asked for: the rule has a call of this kind in turn.
    const again = (symbols: readonly Tensor[]) => {
      const { graph, captured } = traceClosed(this.#again, one);
      const flags = [...batched.slice(0, this.#count), ...captured.map(() => false)];
      return batchedOutputs(graph, [...symbols, ...captured], flags, size);
    };
    const callee = new Again(this.name, body, this.#count, again);
    const values = emitSeveral("call", inputs, { callee, results: specsOf(body) });
    return { values, batched: values.map(() => true) };
  }
}

/** A custom rule has no derivative by what its function closes over. */
export function checkCaptured(where: string, tangents: readonly Tangent[]): void {
  if (tangents.some((d) => d !== undefined))
    throw new ValueError(
      `${where}: the derivative is taken by a tensor that the function closes over; make it an argument, so that the rule knows it`,
    );
}
