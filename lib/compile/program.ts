import { type Executable, IndexOutOfRange } from "../backend/backend.js";
import { type Backend, currentBackend } from "../backend/index.js";
import { BackendError } from "../errors.js";
import { type Graph, type Node, numberedNodes } from "../graph/graph.js";
import { graphKey } from "../graph/print.js";
import { setRunner } from "../graph/trace.js";
import type { Storage } from "../tensor/storage.js";
import { Tensor } from "../tensor/tensor.js";
import { expand } from "./expand.js";
import { lower } from "./lower.js";

/** What a program computes of a graph: each output once, and none that is an input. */
export function programGraph(graph: Graph): Graph {
  return { ...graph, outputs: [...new Set(graph.outputs)].filter((node) => node.op !== "input") };
}

/** A graph compiled for a backend. Outputs that are inputs are passed on and not copied: tensors are immutable. */
export class Program {
  readonly #graph: Graph;
  readonly #computed: readonly Node[];
  readonly #executable: Executable | undefined;

  constructor(traced: Graph, backend: Backend) {
    const graph = expand(traced);
    this.#graph = graph;
    const program = programGraph(graph);
    this.#computed = program.outputs;
    if (this.#computed.length > 0) this.#executable = backend.compile(lower(program));
  }

  /**
   * `graph`: what is computed now, when the program was made for an equal graph that other lines of the user's code
   * recorded. Errors name the lines of this one.
   */
  run(inputs: readonly Tensor[], graph = this.#graph): Tensor[] {
    try {
      return this.#wrap(inputs, this.#executable?.run(inputs.map(elements)) ?? []);
    } catch (error) {
      throw located(error, graph);
    }
  }

  async runAsync(inputs: readonly Tensor[]): Promise<Tensor[]> {
    try {
      return this.#wrap(inputs, (await this.#executable?.runAsync(inputs.map(elements))) ?? []);
    } catch (error) {
      throw located(error, this.#graph);
    }
  }

  #wrap(inputs: readonly Tensor[], arrays: readonly Storage[]): Tensor[] {
    const value = new Map<Node, Tensor>(this.#graph.inputs.map((node, i) => [node, inputs[i]!]));
    for (const [i, node] of this.#computed.entries())
      value.set(node, Tensor.fromData(arrays[i]!, node.shape, node.dtype));
    return this.#graph.outputs.map((node) => value.get(node)!);
  }
}

/**
 * What a run of the graph's program threw, of an index out of range with the place where the user's code asked for the
 * elements: graphs of equal keys number their nodes alike. Without such a place (an operation that was called by
 * itself) the error names the call under way, as all errors do.
 */
export function located(error: unknown, graph: Graph): unknown {
  if (!(error instanceof IndexOutOfRange) || error.site === undefined) return error;
  const location = numberedNodes(graph)[error.site]?.location;
  return location === undefined ? error : new BackendError(error.problem, { location });
}

/** The elements of a concrete tensor, whole, where they are. */
export function elements(x: Tensor): Storage {
  return x.storage("run");
}

/** What programs of a backend are kept apart by, besides what they compute. */
export function settingsOf(backend: Backend): string {
  return `${backend.name} ${backend.settings ?? ""}`;
}

/** A cache that forgets what was not used for longest. */
export class RecentlyUsed<V> {
  readonly #entries = new Map<string, V>();
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get(key: string, make: () => V): V {
    let value = this.#entries.get(key);
    if (value === undefined) {
      value = make();
      if (this.#entries.size >= this.#limit) this.#entries.delete(this.#entries.keys().next().value!);
    } else this.#entries.delete(key);
    this.#entries.set(key, value);
    return value;
  }
}

/** Programs of single operations and of transforms that are not jitted, by what they compute. */
const programs = new RecentlyUsed<Program>(1024);

setRunner((traced, inputs) => {
  const backend = currentBackend();
  const graph = expand(traced);
  return programs
    .get(`${settingsOf(backend)}\n${graphKey(graph)}`, () => new Program(graph, backend))
    .run(inputs, graph);
});
