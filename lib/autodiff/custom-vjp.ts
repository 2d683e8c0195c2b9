import { ValueError } from "../errors.js";
import type { Batch, Callee, Dual } from "../graph/callee.js";
import type { Graph, Spec } from "../graph/graph.js";
import { emitSeveral } from "../graph/trace.js";
import { repeated } from "../ops/batching.js";
import * as raw from "../ops/raw.js";
import type { Tangent } from "../ops/rules.js";
import { isFloat } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import { flatten, type Structure, unflatten } from "../tensor/tree.js";
import { batchedOutputs, batchGraph } from "./batch.js";
import { replayed, specsOf, traceClosed } from "./closed.js";
import { checkCaptured, customFunction } from "./custom.js";
import { pushForward, transposeGraph } from "./differentiate.js";
import { checkFits, needFunction, needResult } from "./function.js";

/**
 * f with a reverse-mode rule of its own: every transform that differentiates it uses the rule, inside of jit, vmap and
 * each other too. Forward mode transposes `backward`, which must be linear in the cotangent then.
 *
 *     const clipped = customVjp(
 *       (x) => x,
 *       (x) => [x, []],
 *       (_, ct) => [clip(ct, -1, 1)],
 *     );
 *
 * @param forward takes the arguments and gives [the value, a tree of residuals]
 * @param backward takes the residuals and a cotangent of the value, and gives an array with the cotangent of each
 *   argument, in its structure; undefined is zero. Both may call the function itself
 * @throws ValueError where forward and backward do not fit f, and, when it is differentiated, where f closes over a
 *   tensor by which the derivative is taken: the rule knows arguments only
 */
export function customVjp<A extends readonly unknown[], R, S>(
  f: (...args: A) => R,
  forward: (...args: A) => readonly [R, S],
  backward: (residuals: S, cotangent: R) => { readonly [K in keyof A]: A[K] | undefined },
): (...args: A) => R {
  needFunction("customVjp", "first", f);
  needFunction("customVjp", "second (forward)", forward);
  needFunction("customVjp", "third (backward)", backward);
  return customFunction("customVjp", f, ({ args, structure, inputs, body, result, own }) => {
    let kept: Structure | undefined;
    const first = traceClosed(
      (symbols) => {
        const given = own.run(() => forward(...(unflatten(structure, symbols) as [...A])));
        needResult("customVjp", given);
        if (!Array.isArray(given) || given.length !== 2)
          throw new ValueError("customVjp: forward must give [value, residuals]");
        const residuals = flatten(given[1]);
        kept = residuals.structure;
        const value = checkFits(
          "customVjp",
          "forward's value",
          given[0],
          "the value of the function",
          specsOf(body.graph),
          result,
        );
        return [...value, ...residuals.leaves];
      },
      inputs,
      true,
    );
    const residuals = specsOf(first.graph).slice(result.leaves);
    const second = traceClosed(
      (symbols) => {
        const n = residuals.length;
        const cts = own.run(() =>
          backward(unflatten(kept!, symbols.slice(0, n)) as S, unflatten(result, symbols.slice(n)) as R),
        );
        needResult("customVjp", cts);
        return cotangentLeaves(cts, args, inputs);
      },
      [...residuals, ...specsOf(body.graph)],
      true,
    );
    const callee = new CustomVjp({
      body: body.graph,
      forward: first.graph,
      backward: second.graph,
      args: inputs.length,
      captured: [body.captured.length, first.captured.length],
    });
    return callOf(callee, specsOf(body.graph), [
      ...inputs,
      ...body.captured,
      ...first.captured,
      ...second.captured,
    ]);
  });
}

/** The leaves of the cotangents that backward gave, zeros where it gave none. */
function cotangentLeaves(given: unknown, args: readonly unknown[], inputs: readonly Tensor[]): Tensor[] {
  if (!Array.isArray(given) || given.length !== args.length)
    throw new ValueError(
      `customVjp: backward must give an array of ${args.length} cotangents, one for each argument`,
    );
  let first = 0;
  return args.flatMap((arg, i) => {
    const { leaves, structure } = flatten(arg);
    const own = inputs.slice(first, (first += leaves.length));
    const ct = given[i];
    return ct === undefined || ct === null || leaves.length === 0
      ? own.map((x) => raw.constantLike(x, 0))
      : checkFits("customVjp", `cotangent of argument ${i}, leaf`, ct, "the argument", own, structure);
  });
}

const callOf = (callee: Callee, results: readonly Spec[], inputs: readonly Tensor[]): Tensor[] =>
  emitSeveral("call", inputs, { callee, results });

interface Parts {
  readonly body: Graph;
  /** From arguments to [...value, ...residuals]. */
  readonly forward: Graph;
  /** From [...residuals, ...cotangents] to the cotangents of the arguments. */
  readonly backward: Graph;
  readonly args: number;
  /** Numbers of tensors that the function and forward captured; backward's come last. */
  readonly captured: readonly [number, number];
}

/** Inputs: arguments, and what the three functions captured. */
class CustomVjp implements Callee {
  readonly name = "customVjp";
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** The inputs, or what is listed like them, for each of the three graphs. */
  #divided<T>(list: readonly T[]): { args: T[]; own: T[]; forward: T[]; backward: T[] } {
    const { args, captured } = this.#parts;
    const at = args + captured[0];
    return {
      args: list.slice(0, args),
      own: list.slice(args, at),
      forward: list.slice(at, at + captured[1]),
      backward: list.slice(at + captured[1]),
    };
  }

  expand(inputs: readonly Tensor[]): Tensor[] {
    const { args, own } = this.#divided(inputs);
    return replayed(this.#parts.body, [...args, ...own]);
  }

  jvp(inputs: readonly Tensor[], tangents: readonly Tangent[]): Dual {
    const { args, forward, backward } = this.#divided(inputs);
    checkCaptured("customVjp", tangents.slice(args.length));
    const all = replayed(this.#parts.forward, [...args, ...forward]);
    const count = this.#parts.body.outputs.length;
    const values = all.slice(0, count);
    const active = args.map((_, i) => i).filter((i) => tangents[i] !== undefined);
    const known = [...all.slice(count), ...backward];
    const callee = new Transposed(this.#parts.backward, all.length - count, count, active);
    const found = callOf(callee, callee.results, [...known, ...active.map((i) => tangents[i]!)]);
    return { values, tangents: values.map((y) => (isFloat(y.dtype) ? found.shift() : undefined)) };
  }

  batch(inputs: readonly Tensor[], batched: readonly boolean[], size: number): Batch {
    const { body, forward, backward, args, captured } = this.#parts;
    const given = this.#divided(inputs);
    const flags = this.#divided(batched);
    const count = body.outputs.length;
    let kept: readonly boolean[] = [];
    // Every value gets the batch axis: what backward makes of a cotangent may differ where values do not.
    const newBody = traceClosed(
      (symbols) => batchedOutputs(body, symbols, [...flags.args, ...flags.own], size),
      [...given.args, ...given.own],
    ).graph;
    const newForward = traceClosed(
      (symbols) => {
        const done = batchGraph(forward, symbols, [...flags.args, ...flags.forward], size);
        kept = done.batched.slice(count);
        return done.values.map((y, i) => (i < count && !done.batched[i] ? repeated(y, size) : y));
      },
      [...given.args, ...given.forward],
    ).graph;
    const residuals = specsOf(newForward).slice(count);
    const newBackward = traceClosed(
      (symbols) => {
        const which = [...kept, ...newBody.outputs.map(() => true), ...flags.backward];
        // An argument that all instances share gets the sum of their cotangents.
        return batchedOutputs(backward, symbols, which, size).map((ct, i) =>
          flags.args[i] || !isFloat(ct.dtype) ? ct : raw.reduceSum(ct, [0]),
        );
      },
      [...residuals, ...specsOf(newBody), ...given.backward],
    ).graph;
    const callee = new CustomVjp({
      body: newBody,
      forward: newForward,
      backward: newBackward,
      args,
      captured,
    });
    return { values: callOf(callee, specsOf(newBody), inputs), batched: body.outputs.map(() => true) };
  }
}

/**
 * The linear map whose transpose is a given one: from the tangents of arguments to those of the value, by `backward`,
 * which takes [...residuals, ...cotangents of the value, ...captured] to cotangents of the arguments.
 * Inputs: residuals, captured, and the tangents of the arguments in `active`.
 */
class Transposed implements Callee {
  readonly name = "customVjp tangents";
  readonly #backward: Graph;
  readonly #residuals: number;
  readonly #values: number;
  readonly #active: readonly number[];
  readonly results: readonly Spec[];

  constructor(backward: Graph, residuals: number, values: number, active: readonly number[]) {
    this.#backward = backward;
    this.#residuals = residuals;
    this.#values = values;
    this.#active = active;
    this.results = this.#cotangentNodes()
      .filter(({ dtype }) => isFloat(dtype))
      .map(({ shape, dtype }) => ({ shape, dtype }));
  }

  #cotangentNodes() {
    return this.#backward.inputs.slice(this.#residuals, this.#residuals + this.#values);
  }

  /** The inputs of backward, with these cotangents of the value; those that are not floats are zeros. */
  #inputs(known: readonly Tangent[], cotangents: readonly Tangent[]): Tensor[] {
    const given = [...cotangents];
    const cts = this.#cotangentNodes().map(({ shape, dtype }) => {
      const ct = isFloat(dtype) ? given.shift() : undefined;
      return ct ?? raw.constant(0, shape, dtype);
    });
    const all = known as readonly Tensor[];
    return [...all.slice(0, this.#residuals), ...cts, ...all.slice(this.#residuals)];
  }

  transpose(cotangents: readonly Tangent[], inputs: readonly Tangent[]): Tangent[] {
    const known = inputs.slice(0, inputs.length - this.#active.length);
    const found = replayed(this.#backward, this.#inputs(known, cotangents));
    return [...known.map(() => undefined), ...this.#active.map((i) => found[i])];
  }

  expand(inputs: readonly Tensor[]): Tensor[] {
    const known = inputs.slice(0, inputs.length - this.#active.length);
    const graph = this.#backward;
    const nodes = this.#cotangentNodes();
    const given: Tangent[] = this.#inputs(known, []);
    nodes.forEach(({ dtype }, i) => {
      if (isFloat(dtype)) given[this.#residuals + i] = undefined;
    });
    const dx = graph.outputs.map((): Tangent => undefined);
    this.#active.forEach((argument, i) => {
      dx[argument] = inputs[known.length + i];
    });
    const found = transposeGraph(graph, given, dx).slice(this.#residuals);
    return nodes.flatMap(({ shape, dtype }, i) =>
      isFloat(dtype) ? [found[i] ?? raw.constant(0, shape, dtype)] : [],
    );
  }

  jvp(inputs: readonly Tensor[], tangents: readonly Tangent[], split: boolean): Dual {
    const { graph } = traceClosed((symbols) => this.expand(symbols), inputs);
    return pushForward(graph, inputs, tangents, split);
  }

  batch(inputs: readonly Tensor[], batched: readonly boolean[], size: number): Batch {
    const one = inputs.map(({ shape, dtype }, i) => ({ shape: batched[i] ? shape.slice(1) : shape, dtype }));
    const { graph } = traceClosed((symbols) => this.expand(symbols), one);
    return batchGraph(graph, inputs, batched, size);
  }
}
