import { checkOptions } from "../../options.js";
import type { EmbeddedPair } from "./runge-kutta.js";
import { type AdaptiveSampler, checkStepControl } from "./sampler.js";

export interface DormandPrinceOptions {
  /** Error of a step allowed for each unit of the state's size; >= 0. Default 1e-5. */
  readonly relativeTolerance?: number | undefined;
  /** Error of a step allowed besides, in the units of the state; > 0. Default 1e-5. */
  readonly absoluteTolerance?: number | undefined;
  /** The most steps that one draw tries, accepted or rejected. Default 1000. */
  readonly maxSteps?: number | undefined;
}

/**
 * The method of Dormand and Prince, of order 5, with steps as long as the tolerances allow. For both kinds of field (an
 * average-velocity field's velocity is u(z, t, t)).
 *
 * A step is accepted when the estimated error of *each* sample of the batch is within its tolerance,
 *
 *     sqrt(mean over dimensions of (error / (absoluteTolerance + relativeTolerance max(|z|, |z_new|)))^2) <= 1,
 *
 * so the hardest sample decides how long the steps of the batch are, and an easy one is drawn the more exactly. The
 * tolerances bound the error of a step; that of the samples is as a rule of the same magnitude. A step costs six
 * evaluations of the field, the first one a draw eight.
 *
 * The number of steps depends on the values, so a draw is a loop outside of compiled programs: it cannot be part of a
 * function that is traced (jit, grad, vmap).
 *
 * Source: Dormand, Prince, A family of embedded Runge-Kutta formulae (1980); the control of the step as in Hairer,
 * Norsett, Wanner, Solving Ordinary Differential Equations I, section II.4.
 *
 * @throws ValueError for wrong options
 */
export function dormandPrince(options: DormandPrinceOptions = {}): AdaptiveSampler {
  const where = "dormandPrince";
  checkOptions(where, options, ["relativeTolerance", "absoluteTolerance", "maxSteps"]);
  const { relativeTolerance = 1e-5, absoluteTolerance = 1e-5, maxSteps = 1000 } = options;
  const control = checkStepControl(where, { relativeTolerance, absoluteTolerance, maxSteps });
  return {
    type: "adaptive",
    name: where,
    kinds: ["velocity", "average-velocity"],
    pair: dormandPrincePair,
    ...control,
  };
}

/** RK5(4)7FM of the paper: its seventh slope, that at the new state, belongs to the error alone. */
export const dormandPrincePair: EmbeddedPair = {
  tableau: {
    nodes: [0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1],
    stages: [
      [],
      [1 / 5],
      [3 / 40, 9 / 40],
      [44 / 45, -56 / 15, 32 / 9],
      [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
      [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
    ],
    weights: [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
  },
  error: [71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40],
  errorOrder: 4,
};
