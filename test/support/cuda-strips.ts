import { compiled } from "#lib/backend/cuda/cache.js";
import { openCuda } from "#lib/backend/cuda/load.js";
import { lowerPlan } from "#lib/backend/cuda/lower.js";
import { Lowering, type Target } from "#lib/backend/cuda/lowering.js";
import { lowerStrip } from "#lib/backend/cuda/strip.js";
import { cudaStrips } from "#lib/backend/cuda/strip-profile.js";
import type { Plan, StrippedPlan } from "#lib/compile/plan.js";
import { stripMine } from "#lib/compile/strip.js";
import { allocate, type TypedArray } from "#lib/tensor/dtype.js";
import { h100 } from "./cuda-target.js";

/** The plan with strips for a device. */
export const stripped = (plan: Plan, device: Target = h100): StrippedPlan =>
  stripMine(plan, cudaStrips(device));

/** The kernels of the strips of a plan. */
export function lowerStrips(plan: StrippedPlan, device: Target = h100): Lowering {
  const lowering = new Lowering(device, plan.buffers, plan.arenaBytes);
  plan.steps.forEach((step, number) => {
    lowering.beginStep(number);
    if (step.kind === "strip") lowerStrip(lowering, step);
  });
  return lowering;
}

/** Runs a plan on the CUDA device. */
export function runOnDevice(
  plan: StrippedPlan,
  inputs: readonly TypedArray[],
  device: Target = h100,
): TypedArray[] {
  const { addon, device: opened } = openCuda();
  const { source, ...body } = lowerPlan(plan, device);
  const module = addon.load(compiled(addon, opened, source));
  const results = addon.createProgram(module, body).run(inputs.map((array) => addon.upload(array)));
  return results.map((result, i) => {
    const { dtype, size } = plan.buffers[plan.outputs[i]!]!;
    const array = allocate(dtype, size);
    result.read(array);
    return array;
  });
}
