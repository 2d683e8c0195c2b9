import type { Batch, Callee, Dual, LinearProgram } from "../graph/callee.js";
import type { Graph } from "../graph/graph.js";
import { emitSeveral, evaluate } from "../graph/trace.js";
import * as raw from "../ops/raw.js";
import type { Tangent } from "../ops/rules.js";
import type { Tensor } from "../tensor/tensor.js";
import { flatten, type Structure, unflatten } from "../tensor/tree.js";
import { batchGraph } from "./batch.js";
import { closed, replayed, specsOf, traceClosed } from "./closed.js";
import { linearizeGraph, primalValues, pushForward } from "./differentiate.js";
import { traceFunction } from "./function.js";

/**
 * f, such that reverse mode keeps of it only the arguments: what the backward pass needs of the values inside of f it
 * computes again when it comes there. Values and gradients are the same, bit for bit (but where f computes what is
 * computed outside of it too: without a checkpoint that is one value). The memory of a deep network falls from all
 * activations to those between the checkpoints, for one more forward pass (Chen et al. 2016, "Training deep nets with
 * sublinear memory cost").
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
      return called(graph, [...inputs, ...captured], (own) => new Checkpointed(own));
    });
    return unflatten(result!, outputs) as R;
  };
}

/**
 * The outputs of a closed graph by a call. Inputs among them are passed by, and each value comes out once: whatever reads
 * it then contributes to its cotangent by itself, as without the call.
 */
function called(graph: Graph, inputs: readonly Tensor[], calleeOf: (own: Graph) => Callee): Tensor[] {
  const outputs = [...new Set(graph.outputs)].filter((node) => node.op !== "input");
  const own = { ...graph, outputs };
  const results =
    outputs.length === 0 ? [] : emitSeveral("call", inputs, { callee: calleeOf(own), results: specsOf(own) });
  return graph.outputs.map((node) =>
    node.op === "input" ? inputs[graph.inputs.indexOf(node)]! : results[outputs.indexOf(node)]!,
  );
}

/** A closed graph of which transforms keep the inputs only. */
class Checkpointed implements Callee {
  readonly name: string = "checkpoint";
  readonly #graph: Graph;

  constructor(graph: Graph) {
    this.#graph = graph;
  }

  expand(inputs: readonly Tensor[]): Tensor[] {
    return replayed(this.#graph, inputs);
  }

  jvp(inputs: readonly Tensor[], tangents: readonly Tangent[]): Dual {
    const active = inputs.map((_, i) => i).filter((i) => tangents[i] !== undefined);
    const { graph, places } = tangentsOf(this.#graph, active);
    const found = called(
      graph,
      [...inputs, ...active.map((i) => tangents[i]!)],
      (own) =>
        new CheckpointedTangents(
          own,
          this.#graph,
          active,
          own.outputs.map((node) => places[graph.outputs.indexOf(node)]!),
        ),
    );
    return {
      values: called(this.#graph, inputs, () => this),
      tangents: this.#graph.outputs.map((_, i) => found[places.indexOf(i)]),
    };
  }

  batch(inputs: readonly Tensor[], batched: readonly boolean[], size: number): Batch {
    let done: readonly boolean[] = [];
    const { graph } = traceClosed((symbols) => {
      const batch = batchGraph(this.#graph, symbols, batched, size);
      done = batch.batched;
      return batch.values;
    }, inputs);
    return { values: called(graph, inputs, (own) => new Checkpointed(own)), batched: done };
  }
}

/**
 * The graph of the tangents of a closed graph's outputs, from its inputs and the tangents of those in `active`.
 * `places`: which output of the primal graph each of its outputs belongs to; others have no tangent.
 */
function tangentsOf(primal: Graph, active: readonly number[]): { graph: Graph; places: number[] } {
  const n = primal.inputs.length;
  let places: number[] = [];
  const { graph } = traceClosed(
    (symbols) => {
      const tangents: Tangent[] = primal.inputs.map(() => undefined);
      active.forEach((input, i) => {
        tangents[input] = symbols[n + i];
      });
      const dual = pushForward(primal, symbols.slice(0, n), tangents);
      places = dual.tangents.map((_, i) => i).filter((i) => dual.tangents[i] !== undefined);
      return places.map((i) => dual.tangents[i]!);
    },
    [...primal.inputs, ...active.map((i) => primal.inputs[i]!)],
  );
  return { graph, places };
}

/** Tangents of outputs of a graph, those in `places`, linear in the tangents of the inputs in `active`. */
class CheckpointedTangents extends Checkpointed {
  override readonly name = "checkpoint tangents";
  readonly #primal: Graph;
  readonly #active: readonly number[];
  readonly #places: readonly number[];

  constructor(tangents: Graph, primal: Graph, active: readonly number[], places: readonly number[]) {
    super(tangents);
    this.#primal = primal;
    this.#active = active;
    this.#places = places;
  }

  /** The backward pass: the values once more, from inputs that the compiler takes for new ones. */
  linearProgram(inputs: readonly Tangent[]): LinearProgram {
    const again = inputs.slice(0, this.#primal.inputs.length).map((x) => raw.barrier(x!));
    const lin = linearizeGraph(this.#primal, this.#active);
    return {
      tangentInputs: lin.tangentInputs,
      linearNodes: lin.linearNodes,
      tangents: this.#places.map((i) => lin.tangents[i]!),
      values: primalValues(lin, again),
    };
  }
}
