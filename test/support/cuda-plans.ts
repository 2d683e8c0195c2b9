import { compiled } from "#lib/backend/cuda/cache.js";
import { lowerCumsum } from "#lib/backend/cuda/cumsum.js";
import { lowerGather, lowerScatter } from "#lib/backend/cuda/indexing.js";
import { openCuda } from "#lib/backend/cuda/load.js";
import { Lowering, SharedSource } from "#lib/backend/cuda/lowering.js";
import { isShareable, schedule } from "#lib/backend/cuda/schedule.js";
import { lowerSort } from "#lib/backend/cuda/sort.js";
import { lowerStrands } from "#lib/backend/cuda/strands.js";
import type { Plan } from "#lib/compile/plan.js";
import { allocate, type TypedArray } from "#lib/tensor/dtype.js";
import { h100 } from "./cuda-target.js";

const kinds = ["map", "reduce", "gather", "scatter", "sort", "cumsum"];

/** Whether a plan has no products, attention or loops, which have tests of their own. */
export const isPlain = ({ steps }: Plan): boolean => steps.every(({ kind }) => kinds.includes(kind));

/** The kernels and launches of a plan that is plain; plans with one source share their kernels. */
export function lowerPlain(plan: Plan, source = new SharedSource()): Lowering {
  const { groups, buffers, arenaBytes } = schedule(plan);
  const lowering = new Lowering(h100, buffers, arenaBytes, source);
  for (const group of groups) {
    lowering.beginStep(group[0]![0]![0]!);
    const step = plan.steps[group[0]![0]![0]!]!;
    if (isShareable(step)) lowerStrands(lowering, plan.steps, group);
    else if (step.kind === "gather") lowerGather(lowering, step);
    else if (step.kind === "scatter") lowerScatter(lowering, step);
    else if (step.kind === "sort") lowerSort(lowering, step);
    else if (step.kind === "cumsum") lowerCumsum(lowering, step);
    else throw new Error(`a ${step.kind} step is not plain`);
  }
  return lowering;
}

/** Runners of plans on the CUDA device, whose kernels are compiled together. */
export function deviceRunners(plans: readonly Plan[]): ((inputs: readonly TypedArray[]) => TypedArray[])[] {
  const { addon, device } = openCuda();
  const source = new SharedSource();
  const lowerings = plans.map((plan) => lowerPlain(plan, source));
  const module = addon.load(compiled(addon, device, source.text()));
  return plans.map(({ inputs, outputs, buffers }, i) => {
    const { operations, arenaBytes } = lowerings[i]!;
    const body = { buffers: lowerings[i]!.buffers(), inputs, outputs, operations, arenaBytes };
    const program = addon.createProgram(module, body);
    return (arrays) => {
      const results = program.run(arrays.map((array) => addon.upload(array)));
      return results.map((result, k) => {
        const { dtype, size } = buffers[outputs[k]!]!;
        const array = allocate(dtype, size);
        result.read(array);
        return array;
      });
    };
  });
}
