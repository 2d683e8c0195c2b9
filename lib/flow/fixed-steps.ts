import { scan } from "../autodiff/index.js";
import { jit } from "../compile/jit.js";
import type { Condition } from "../models/index.js";
import { broadcastTo, concat, expandDims, tensor } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import { type Calls, call } from "./calls.js";
import { checkOutput } from "./checks.js";
import type { Draw, Drawn } from "./draw.js";
import { perField } from "./per-field.js";
import type { FixedSampler, SamplerStep } from "./samplers/index.js";

/** Draws by steps that are known beforehand: one call of one program, a loop. */
export function* drawFixed(sampler: FixedSampler, draw: Draw): Calls<Drawn> {
  const { field, params, noise, orientation, condition, keep } = draw;
  const times = orientation === "data-to-noise" ? sampler.times.toReversed() : [...sampler.times];
  const { dtype } = noise;
  const ends = { from: tensor(times.slice(0, -1), { dtype }), to: tensor(times.slice(1), { dtype }) };
  const { final, states } = yield* call(wayOf(field, sampler.step), params, noise, ends, condition, keep);
  const trajectory = states && concat([expandDims(noise, 0), states], 0);
  return { final, trajectory, times, evaluations: sampler.evaluations };
}

/** From noise and the times [steps] at which steps begin and end to the last state and, if kept, all after the first. */
const wayOf = perField((field, step: SamplerStep<never>) =>
  jit(
    (
      params: unknown,
      noise: Tensor,
      ends: { readonly from: Tensor; readonly to: Tensor },
      condition: Condition | undefined,
      keep: boolean,
    ) => {
      const [final, states] = scan(
        (z: Tensor, { from, to }: typeof ends) => {
          const column = (time: Tensor) => broadcastTo(time, [z.shape[0]!, 1]);
          const next = step(field as never, params, z, column(from), column(to), condition);
          checkOutput("sample", next, z);
          return [next, keep ? next : undefined] as const;
        },
        noise,
        ends,
      );
      return { final, states };
    },
  ),
);
