import { add, div, matmul, mul, neg, sqrt, square, sum, transpose } from "../ops/index.js";
import { checkCount, checkFlag, checkNumber, checkOptions } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import * as tree from "../tensor/tree.js";
import { type AdamOptions, type AdamState, adamw } from "./adam.js";
import { type Optimizer, zerosLike } from "./optimizer.js";
import { checkLearningRate, rateAt } from "./schedules.js";

export interface MuonOptions extends AdamOptions {
  /** Decay mu of the matrices' momentum. Default 0.95. */
  readonly momentum?: number;
  /** Nesterov's form: looks ahead along the momentum. Default true. */
  readonly nesterov?: boolean;
  /** Newton-Schulz iterations. Default 5. */
  readonly iterations?: number;
  /** Matrices with a shorter side than this are left to Adam. Default 16. */
  readonly smallestSide?: number;
  /** Share of each parameter taken off per unit of learning rate. Default 0. */
  readonly weightDecay?: number;
}

export interface MuonState {
  /** The momentum of each matrix, in the order of the parameters' leaves. */
  momentum: Tensor[];
  /** Adam's state of the other leaves, in their order; its step is that of all. */
  adam: AdamState;
}

const names = [
  "learningRate",
  "momentum",
  "nesterov",
  "iterations",
  "smallestSide",
  "weightDecay",
  "beta1",
  "beta2",
  "epsilon",
];

/** Coefficients of the iteration, which trade exactness at 1 for a steep rise of small singular values. */
const [a, b, c] = [3.4445, -4.775, 2.0315];

/**
 * Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"): a matrix W [m, n] is moved along
 * the orthogonal matrix nearest to its momentum, so that all singular directions of the gradient count alike:
 *
 *     M <- mu M + G;   D = G + mu M (Nesterov) or M;   W <- W - lr (0.2 sqrt(max(m, n)) O(D) + weightDecay W)
 *
 * O(D) = U V^T for D = U S V^T, approximately: `iterations` times X <- a X + (b A + c A^2) X with A = X X^T, from
 * X = D / |D|, which takes the singular values near 1 (within about 0.7 to 1.2). The factor 0.2 sqrt(max(m, n)) gives
 * the step the size of one of Adam's (Liu et al. 2025, "Muon is scalable for LLM training"), so one learning rate
 * serves both.
 *
 * Vectors, and matrices thinner than `smallestSide` (the first and last layers of small networks), are Adam's, with
 * `beta1`, `beta2`, `epsilon` as in `adamw`.
 */
export function muon(options: MuonOptions): Optimizer<MuonState> {
  const where = "muon";
  checkOptions(where, options, names);
  const { beta1, beta2, epsilon } = options;
  const learningRate = checkLearningRate(where, options.learningRate);
  const momentum = checkNumber(where, "momentum", options.momentum ?? 0.95, { min: 0, below: 1 });
  const nesterov = checkFlag(where, "nesterov", options.nesterov ?? true);
  const iterations = checkCount(where, "iterations", options.iterations ?? 5);
  const smallestSide = checkCount(where, "smallestSide", options.smallestSide ?? 16);
  const weightDecay = checkNumber(where, "weightDecay", options.weightDecay ?? 0, { min: 0 });
  const others = adamw({
    learningRate,
    weightDecay,
    ...(beta1 !== undefined && { beta1 }),
    ...(beta2 !== undefined && { beta2 }),
    ...(epsilon !== undefined && { epsilon }),
  });
  const isMatrix = ({ rank, shape }: Tensor) => rank === 2 && Math.min(...shape) >= smallestSide;
  return {
    init(params) {
      const leaves = tree.leaves(zerosLike(where, params));
      return {
        momentum: leaves.filter(isMatrix),
        adam: others.init(leaves.filter((x) => !isMatrix(x))),
      };
    },
    update(grads, state, params) {
      const rate = rateAt(learningRate, state.adam.step);
      const { leaves, structure } = tree.flatten(params as tree.Tree);
      const slopes = tree.leaves(grads as tree.Tree);
      const rest = (list: Tensor[]) => list.filter((_, i) => !isMatrix(leaves[i]!));
      const matrices = leaves.filter(isMatrix);
      const gradients = slopes.filter((_, i) => isMatrix(leaves[i]!));

      const momenta = gradients.map((g, i) => add(mul(state.momentum[i]!, momentum), g));
      const moved = matrices.map((w, i) => {
        const direction = nesterov ? add(gradients[i]!, mul(momenta[i]!, momentum)) : momenta[i]!;
        const step = mul(orthogonalized(direction, iterations), 0.2 * Math.sqrt(Math.max(...w.shape)));
        return neg(mul(weightDecay === 0 ? step : add(step, mul(w, weightDecay)), rate(w.dtype)));
      });
      const [kept, adam] = others.update(rest(slopes), state.adam, rest(leaves));

      const [next, other] = [moved.values(), kept.values()];
      const updates = leaves.map((w) => (isMatrix(w) ? next : other).next().value!);
      return [tree.unflatten(structure, updates) as typeof params, { momentum: momenta, adam }];
    },
  };
}

/** U V^T for x = U S V^T, approximately; x = 0 gives 0. */
function orthogonalized(x: Tensor, iterations: number): Tensor {
  const [rows, columns] = x.shape as [number, number];
  if (rows > columns) return transpose(orthogonalized(transpose(x), iterations));
  let y = div(x, add(sqrt(sum(square(x))), 1e-7));
  for (let k = 0; k < iterations; k++) {
    const gram = matmul(y, transpose(y));
    y = add(mul(y, a), matmul(add(mul(gram, b), mul(matmul(gram, gram), c)), y));
  }
  return y;
}
