import { abs, cast, max, maximum } from "../ops/index.js";
import { isFloat } from "../tensor/dtype.js";
import { show } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import * as tree from "../tensor/tree.js";

/**
 * A float scalar that is finite exactly when the loss and every float of the state are: the largest magnitude among
 * them, since a maximum keeps NaN. Tensors of one shape are compared element by element first, so that there is one
 * reduction for each shape.
 */
export function largestMagnitude(loss: Tensor, state: tree.Tree): Tensor {
  const byShape = new Map<string, Tensor>();
  for (const leaf of [loss, ...tree.leaves(state)]) {
    if (!isFloat(leaf.dtype) || leaf.size === 0) continue;
    const key = `${leaf.dtype}${show(leaf.shape)}`;
    const known = byShape.get(key);
    byShape.set(key, known === undefined ? abs(leaf) : maximum(known, abs(leaf)));
  }
  const parts = [...byShape.values()].map((x) => max(x));
  const widest = parts.find((x) => x.dtype === "float64")?.dtype ?? "float32";
  return parts.map((x) => cast(x, widest)).reduce((a, b) => maximum(a, b));
}
