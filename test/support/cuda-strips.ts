import { compiled } from "#lib/backend/cuda/cache.js";
import { openCuda } from "#lib/backend/cuda/load.js";
import { Lowering, type Target } from "#lib/backend/cuda/lowering.js";
import { lowerMatMul } from "#lib/backend/cuda/matmul.js";
import type { CudaProgram } from "#lib/backend/cuda/program.js";
import { isShareable } from "#lib/backend/cuda/schedule.js";
import { lowerStrands } from "#lib/backend/cuda/strands.js";
import { lowerStrip } from "#lib/backend/cuda/strip.js";
import { cudaStrips } from "#lib/backend/cuda/strip-profile.js";
import type { Plan, StrippedPlan } from "#lib/compile/plan.js";
import { stripMine } from "#lib/compile/strip.js";
import { allocate, type TypedArray } from "#lib/tensor/dtype.js";

export const target: Target = {
  multiprocessors: 132,
  sharedBytes: 227 * 1024,
  architecture: 90,
  precision: "float32",
  cublas: false,
};

/** The plan with strips for a device. */
export const stripped = (plan: Plan, device: Target = target): StrippedPlan =>
  stripMine(plan, cudaStrips(device));

/** The kernels of a plan of maps, reductions, products and strips; with `only`, of its strips alone. */
export function lowerStripped(plan: StrippedPlan, device: Target = target, only = false): Lowering {
  const lowering = new Lowering(device, plan.buffers, plan.arenaBytes);
  plan.steps.forEach((step, number) => {
    lowering.beginStep(number);
    if (step.kind === "strip") lowerStrip(lowering, step);
    else if (only) return;
    else if (isShareable(step)) lowerStrands(lowering, plan.steps, [[[number]]]);
    else if (step.kind === "matmul") lowerMatMul(lowering, step);
    else throw new Error(`no kernels for a ${step.kind} step here`);
  });
  return lowering;
}

/** Runs a plan on the CUDA device. */
export function runOnDevice(
  plan: StrippedPlan,
  inputs: readonly TypedArray[],
  device: Target = target,
): TypedArray[] {
  const { addon, device: opened } = openCuda();
  const lowering = lowerStripped(plan, device);
  const program: CudaProgram = {
    source: lowering.source,
    buffers: lowering.buffers(),
    inputs: plan.inputs,
    outputs: plan.outputs,
    operations: lowering.operations,
    arenaBytes: lowering.arenaBytes,
  };
  const module = addon.load(compiled(addon, opened, program.source));
  const results = addon.createProgram(module, program).run(inputs.map((array) => addon.upload(array)));
  return results.map((result, i) => {
    const { dtype, size } = plan.buffers[plan.outputs[i]!]!;
    const array = allocate(dtype, size);
    result.read(array);
    return array;
  });
}
