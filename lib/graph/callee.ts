import type { Tensor } from "../tensor/tensor.js";
import type { Node } from "./graph.js";

/**
 * A function as one node of a graph, with rules of its own. All methods record operations in the current trace. Until
 * a program is compiled, transforms see the node and use its rules; then `expand` takes its place.
 */
export interface Callee {
  /** For prints. */
  readonly name: string;
  /** The results. */
  expand(inputs: readonly Tensor[]): Tensor[];
  /**
   * Results and their tangents, linear in the tangents of the inputs. With `split`, no node that a value depends on may
   * depend on a tangent.
   */
  jvp(inputs: readonly Tensor[], tangents: readonly (Tensor | undefined)[], split: boolean): Dual;
  /**
   * Where the results are linear in the inputs that are undefined here: the cotangents of these inputs, from those of
   * the results. Without it, what the function expands to is transposed.
   */
  transpose?(
    cotangents: readonly (Tensor | undefined)[],
    inputs: readonly (Tensor | undefined)[],
  ): (Tensor | undefined)[];
  /**
   * In place of `transpose`: the linear program itself. Its nodes are transposed as if they stood where the call stands,
   * so that contributions to a value add up in the order that they have without a call.
   */
  linearProgram?(inputs: readonly (Tensor | undefined)[]): LinearProgram;
  /** The results for a batch of inputs: those with a true here have `size` instances along a new first axis. */
  batch(inputs: readonly Tensor[], batched: readonly boolean[], size: number): Batch;
}

/** Nodes that are linear in `tangentInputs`, and the values that they read. */
export interface LinearProgram {
  /** The linear inputs, in order. */
  readonly tangentInputs: readonly Node[];
  readonly linearNodes: readonly Node[];
  /** The results. */
  readonly tangents: readonly Node[];
  readonly values: ReadonlyMap<Node, Tensor>;
}

/** Values and their tangents; undefined is zero. */
export interface Dual {
  readonly values: readonly Tensor[];
  readonly tangents: readonly (Tensor | undefined)[];
}

/** Values, and whether each has a batch axis, its first. */
export interface Batch {
  readonly values: readonly Tensor[];
  readonly batched: readonly boolean[];
}
