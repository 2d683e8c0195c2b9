import { add, cast, div, expm1, mul, neg, sqrt, square } from "../ops/index.js";
import { checkNumber, checkOptions } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import * as tree from "../tensor/tree.js";
import { firstStep, type Optimizer, zerosLike } from "./optimizer.js";
import { checkLearningRate, type LearningRate, rateAt } from "./schedules.js";

export interface AdamOptions {
  readonly learningRate: LearningRate;
  /** Decay of the mean of the gradients. Default 0.9. */
  readonly beta1?: number;
  /** Decay of the mean of their squares. Default 0.999. */
  readonly beta2?: number;
  /** Added to the root of the mean square. Default 1e-8. */
  readonly epsilon?: number;
}

export interface AdamWOptions extends AdamOptions {
  /** Share of each parameter taken off per unit of learning rate. Default 0.01. */
  readonly weightDecay?: number;
}

export interface AdamState {
  /** Updates done: int32 scalar. */
  step: Tensor;
  /** Decaying means of the gradients, like the parameters. */
  mean: tree.Tree;
  /** Decaying means of their squares, like the parameters. */
  square: tree.Tree;
}

const names = ["learningRate", "beta1", "beta2", "epsilon"];

/**
 * Adam (Kingma & Ba 2015, algorithm 1), step for step as PyTorch's: m <- b1 m + (1 - b1) g, s <- b2 s + (1 - b2) g^2,
 * p <- p - lr m' / (sqrt(s') + epsilon), with m' = m / (1 - b1^k) and s' = s / (1 - b2^k) at the k-th update.
 * Everything is computed in the dtype of the parameters.
 */
export function adam(options: AdamOptions): Optimizer<AdamState> {
  checkOptions("adam", options, names);
  return adamWith("adam", options, 0);
}

/**
 * Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), as PyTorch's AdamW:
 * p <- p - lr (m' / (sqrt(s') + epsilon) + weightDecay p).
 */
export function adamw(options: AdamWOptions): Optimizer<AdamState> {
  checkOptions("adamw", options, [...names, "weightDecay"]);
  return adamWith(
    "adamw",
    options,
    checkNumber("adamw", "weightDecay", options.weightDecay ?? 0.01, { min: 0 }),
  );
}

function adamWith(where: string, options: AdamOptions, weightDecay: number): Optimizer<AdamState> {
  const learningRate = checkLearningRate(where, options.learningRate);
  const beta1 = checkNumber(where, "beta1", options.beta1 ?? 0.9, { min: 0, below: 1 });
  const beta2 = checkNumber(where, "beta2", options.beta2 ?? 0.999, { min: 0, below: 1 });
  const epsilon = checkNumber(where, "epsilon", options.epsilon ?? 1e-8, { min: 0 });
  return {
    init: (params) => ({
      step: firstStep(),
      mean: zerosLike(where, params),
      square: zerosLike(where, params),
    }),
    update(grads, state, params) {
      const rate = rateAt(learningRate, state.step);
      const step = add(state.step, 1);
      const mean = tree.map((m, g) => add(mul(m, beta1), mul(g, 1 - beta1)), state.mean, grads);
      const squares = tree.map((s, g) => add(mul(s, beta2), mul(square(g), 1 - beta2)), state.square, grads);
      const updates = tree.map(
        (p, m, s) => {
          const k = cast(step, p.dtype);
          const direction = div(
            div(m, correction(beta1, k)),
            add(sqrt(div(s, correction(beta2, k))), epsilon),
          );
          const decayed = weightDecay === 0 ? direction : add(direction, mul(p, weightDecay));
          return neg(mul(decayed, rate(p.dtype)));
        },
        params,
        mean,
        squares,
      );
      return [updates, { step, mean, square: squares }];
    },
  };
}

/** 1 - beta^k, as -expm1(k log beta): no cancellation in the first steps, where beta^k is close to 1. */
function correction(beta: number, k: Tensor): Tensor | number {
  return beta === 0 ? 1 : neg(expm1(mul(k, Math.log(beta))));
}
