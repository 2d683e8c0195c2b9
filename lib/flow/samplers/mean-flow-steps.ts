import { add, maximum, minimum, mul, sub } from "../../ops/index.js";
import { checkOutput } from "../checks.js";
import { columnOf } from "../orientation.js";
import { type FixedStepOptions, gridOf } from "./grid.js";
import type { FixedSampler, SamplerStep } from "./sampler.js";

/** One mean-flow step over the whole of [0, 1]: x = e - u(e, 0, 1) (data-to-noise). One evaluation of the field. */
export function oneStep(): FixedSampler<"average-velocity"> {
  return meanFlowSteps({ steps: 1 });
}

/**
 * Mean-flow steps with an average-velocity field, each exact for an exact field. One evaluation of the field a step.
 *
 * @param options `steps`, the number of equal steps, or `times`, where steps begin and end
 * @throws ValueError for wrong options
 */
export function meanFlowSteps(options: FixedStepOptions): FixedSampler<"average-velocity"> {
  const times = gridOf("meanFlowSteps", options);
  return {
    type: "fixed",
    name: "mean flow",
    kinds: ["average-velocity"],
    times,
    step: meanFlowStep,
    evaluations: times.length - 1,
  };
}

/**
 * z_to = z + (to - from) u(z, r, t) over the interval [r, t] of both times. Data-to-noise this is
 * z_r = z_t - (t - r) u(z_t, r, t), noise-to-data z_t = z_r + (t - r) u(z_r, r, t): z is always the state at the end
 * at which the field was anchored in training.
 */
const meanFlowStep: SamplerStep<"average-velocity"> = (field, params, z, from, to, condition) => {
  const u = field.apply(params, z, minimum(from, to), maximum(from, to), condition);
  return add(z, mul(columnOf(sub(to, from), z.rank), checkOutput("sample", u, z)));
};
