import { ValueError } from "../errors.js";
import { add, cast, div, greater, mul, sqrt, square, sum, where } from "../ops/index.js";
import { checkNumber } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import * as tree from "../tensor/tree.js";
import type { Optimizer } from "./optimizer.js";

/** The Euclidean norm of all the leaves of a tree together: a scalar (float64 when any leaf is, else float32). */
export function globalNorm(value: tree.Tree): Tensor {
  const leaves = tree.leaves(value);
  if (leaves.length === 0) throw new ValueError("globalNorm: the tree has no tensors");
  const dtype = leaves.some((x) => x.dtype === "float64") ? "float64" : "float32";
  return sqrt(leaves.map((x) => sum(square(cast(x, dtype)))).reduce((a, b) => add(a, b)));
}

/** Scales the gradients so that their global norm is at most maxNorm (> 0); smaller ones pass unchanged. */
export function clipByGlobalNorm(maxNorm: number): Optimizer<null> {
  const most = checkNumber("clipByGlobalNorm", "maxNorm", maxNorm, { above: 0 });
  return {
    init: () => null,
    update(grads, state) {
      const norm = globalNorm(grads);
      const scale = where(greater(norm, most), div(most, norm), 1);
      return [tree.map((g) => mul(g, cast(scale, g.dtype)), grads), state];
    },
  };
}
