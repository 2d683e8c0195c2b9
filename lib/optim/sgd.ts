import { ValueError } from "../errors.js";
import { add, mul, neg } from "../ops/index.js";
import { checkFlag, checkNumber, checkOptions } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import * as tree from "../tensor/tree.js";
import { firstStep, type Optimizer, zerosLike } from "./optimizer.js";
import { checkLearningRate, type LearningRate, rateAt } from "./schedules.js";

export interface SgdOptions {
  readonly learningRate: LearningRate;
  /** Decay mu of the velocity. Default 0: no velocity is kept. */
  readonly momentum?: number;
  /** Nesterov's form: looks ahead along the velocity. Default false; needs a momentum. */
  readonly nesterov?: boolean;
}

export interface SgdState {
  /** Updates done: int32 scalar. */
  step: Tensor;
  /** The velocity, like the parameters; null without momentum. */
  velocity: tree.Tree;
}

/**
 * Stochastic gradient descent as PyTorch's SGD without dampening: b <- mu b + g; p <- p - lr b, or with `nesterov`
 * p <- p - lr (g + mu b).
 */
export function sgd(options: SgdOptions): Optimizer<SgdState> {
  checkOptions("sgd", options, ["learningRate", "momentum", "nesterov"]);
  const learningRate = checkLearningRate("sgd", options.learningRate);
  const momentum = checkNumber("sgd", "momentum", options.momentum ?? 0, { min: 0, below: 1 });
  const nesterov = checkFlag("sgd", "nesterov", options.nesterov ?? false);
  if (nesterov && momentum === 0) throw new ValueError("sgd: nesterov needs a momentum above 0");
  return {
    init: (params) => ({ step: firstStep(), velocity: momentum > 0 ? zerosLike("sgd", params) : null }),
    update(grads, state) {
      const rate = rateAt(learningRate, state.step);
      const velocity =
        momentum > 0 ? tree.map((b, g) => add(mul(b, momentum), g), state.velocity, grads) : state.velocity;
      const direction = nesterov
        ? tree.map((g, b) => add(g, mul(b, momentum)), grads, velocity)
        : momentum > 0
          ? velocity
          : grads;
      const updates = tree.map((d) => neg(mul(d, rate(d.dtype))), direction);
      return [updates, { step: add(state.step, 1), velocity }];
    },
  };
}
