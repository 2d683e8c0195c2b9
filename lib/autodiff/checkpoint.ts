import type { Batch, Callee, Dual } from "../graph/callee.js";
import type { Graph } from "../graph/graph.js";
import { emitSeveral, evaluate } from "../graph/trace.js";
import * as raw from "../ops/raw.js";
import type { Tangent } from "../ops/rules.js";
import type { Tensor } from "../tensor/tensor.js";
import { flatten, type Structure, unflatten } from "../tensor/tree.js";
import { batchGraph } from "./batch.js";
import { closed, replayed, specsOf, traceClosed } from "./closed.js";
import { linearizeGraph, primalValues, pullBack, pushForward } from "./differentiate.js";
import { traceFunction } from "./function.js";

/**
 * f, such that reverse mode keeps of it only the arguments: what the backward pass needs of the values inside of f it
 * computes again when it comes there. Values are the same, bit for bit; so are gradients, but that what is read both inside
 * of f and outside gets the contributions of f as one sum. The memory of a deep network falls from all activations to
 * those between the checkpoints, for one more forward pass (Chen et al. 2016, "Training deep nets with sublinear memory
 * cost").
 */
export function checkpoint<A extends readonly unknown[], R>(f: (...args: A) => R): (...args: A) => R {
  return (...args: A): R => {
    const { leaves, structure } = flatten(args);
    let result: Structure | undefined;
    const outputs = evaluate(leaves, (inputs) => {
      const traced = traceFunction(
        "checkpoint",
        f as (...args: never[]) => unknown,
        structure,
        inputs,
        false,
      );
      result = traced.result;
      const { graph, captured } = closed(traced.graph);
      return callOf(new Checkpointed(graph), [...inputs, ...captured]);
    });
    return unflatten(result!, outputs) as R;
  };
}

const callOf = (callee: Checkpointed, inputs: readonly Tensor[]): Tensor[] =>
  emitSeveral("call", inputs, { callee, results: specsOf(callee.graph) });

/** A closed graph of which transforms keep the inputs only. */
class Checkpointed implements Callee {
  readonly name: string = "checkpoint";
  readonly graph: Graph;

  constructor(graph: Graph) {
    this.graph = graph;
  }

  expand(inputs: readonly Tensor[]): Tensor[] {
    return replayed(this.graph, inputs);
  }

  jvp(inputs: readonly Tensor[], tangents: readonly Tangent[]): Dual {
    const active = inputs.map((_, i) => i).filter((i) => tangents[i] !== undefined);
    const derivative = CheckpointedTangents.of(this.graph, active);
    const found = callOf(derivative, [...inputs, ...active.map((i) => tangents[i]!)]);
    return {
      values: callOf(this, inputs),
      tangents: derivative.present.map((there) => (there ? found.shift() : undefined)),
    };
  }

  batch(inputs: readonly Tensor[], batched: readonly boolean[], size: number): Batch {
    let done: readonly boolean[] = [];
    const { graph } = traceClosed((symbols) => {
      const batch = batchGraph(this.graph, symbols, batched, size);
      done = batch.batched;
      return batch.values;
    }, inputs);
    return { values: callOf(new Checkpointed(graph), inputs), batched: done };
  }
}

/** The tangents of a graph's outputs, from its inputs and, linear, the tangents of those in `active`. */
class CheckpointedTangents extends Checkpointed {
  override readonly name = "checkpoint tangents";
  readonly #primal: Graph;
  readonly #active: readonly number[];
  /** Which outputs have a tangent. */
  readonly present: readonly boolean[];

  private constructor(joint: Graph, primal: Graph, active: readonly number[], present: readonly boolean[]) {
    super(joint);
    this.#primal = primal;
    this.#active = active;
    this.present = present;
  }

  static of(primal: Graph, active: readonly number[]): CheckpointedTangents {
    const n = primal.inputs.length;
    let present: boolean[] = [];
    const { graph } = traceClosed(
      (symbols) => {
        const tangents: Tangent[] = primal.inputs.map(() => undefined);
        active.forEach((input, i) => {
          tangents[input] = symbols[n + i];
        });
        const dual = pushForward(primal, symbols.slice(0, n), tangents);
        present = dual.tangents.map((d) => d !== undefined);
        return dual.tangents.filter((d) => d !== undefined);
      },
      [...primal.inputs, ...active.map((i) => primal.inputs[i]!)],
    );
    return new CheckpointedTangents(graph, primal, active, present);
  }

  /** The backward pass: the values once more, from inputs that the compiler takes for new ones. */
  transpose(cotangents: readonly Tangent[], inputs: readonly Tangent[]): Tangent[] {
    const n = this.#primal.inputs.length;
    const again = inputs.slice(0, n).map((x) => raw.barrier(x!));
    const lin = linearizeGraph(this.#primal, this.#active);
    const given = [...cotangents];
    const cts = this.present.map((there) => (there ? given.shift() : undefined));
    const found = pullBack(lin, primalValues(lin, again), cts);
    return [...again.map(() => undefined), ...found];
  }
}
