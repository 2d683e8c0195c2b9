import { ValueError } from "../errors.js";
import type * as tree from "../tensor/tree.js";
import type { Optimizer } from "./optimizer.js";

/**
 * Gradient transformations one after another: each one's updates are the next one's gradients, as in
 * `chain(clipByGlobalNorm(1), adam({ learningRate: 1e-3 }))`. The state is an array of their states.
 */
export function chain(...parts: Optimizer[]): Optimizer<tree.Tree[]> {
  parts.forEach((part, i) => {
    if (typeof part?.init !== "function" || typeof part.update !== "function")
      throw new ValueError(`chain: argument ${i + 1} is not an optimizer { init, update }`);
  });
  return {
    init: (params) => parts.map((part) => part.init(params)),
    update(grads, state, params) {
      if (state.length !== parts.length)
        throw new ValueError(`chain: has ${parts.length} parts, got a state of ${state.length}`);
      let updates = grads;
      const next = parts.map((part, i) => {
        const [partUpdates, partState] = part.update(updates, state[i], params);
        updates = partUpdates;
        return partState;
      });
      return [updates, next];
    },
  };
}
