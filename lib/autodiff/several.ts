import type { Batch, Dual } from "../graph/callee.js";
import type { Spec } from "../graph/graph.js";
import type { Attributes, SeveralResults } from "../graph/primitives.js";
import type { Tangent } from "../ops/rules.js";
import type { Tensor } from "../tensor/tensor.js";
import { attentionRule } from "./attention-rule.js";
import { traceClosed } from "./closed.js";
import { transposeGraph } from "./differentiate.js";
import { scanRule } from "./scan-rule.js";

/** The rules of a primitive with several results. */
export interface SeveralRule<P extends SeveralResults> {
  /**
   * The results and their tangents. With `split`, nothing on which a value depends may depend on a tangent: the
   * program is then divided into values and a linear part.
   */
  jvp(x: readonly Tensor[], dx: readonly Tangent[], attrs: Attributes[P], split: boolean): Dual;
  /**
   * Cotangents of the linear inputs, those that are undefined here, from the cotangents of the results. `specs` are those
   * of all inputs.
   */
  transpose(
    ct: readonly Tangent[],
    x: readonly Tangent[],
    attrs: Attributes[P],
    specs: readonly Spec[],
  ): Tangent[];
  /** The results for a batch of inputs, as in lib/ops/batching.ts. */
  batch(x: readonly Tensor[], attrs: Attributes[P], batched: readonly boolean[], size: number): Batch;
}

/** The rules of the primitives with several results, one row a primitive. */
export const severalRules: { readonly [P in SeveralResults]: SeveralRule<P> } = {
  call: {
    jvp: (x, dx, { callee }, split) => callee.jvp(x, dx, split),
    transpose: (ct, x, { callee }, specs) =>
      callee.transpose?.(ct, x) ??
      transposeGraph(traceClosed((inputs) => callee.expand(inputs), specs).graph, x, ct),
    batch: (x, { callee }, batched, size) => callee.batch(x, batched, size),
  },
  attention: attentionRule,
  scan: scanRule,
};
