import type { MapStep, Plan, ReduceStep, Step, StrippedPlan, StripStep } from "../../compile/plan.js";
import { lowerAttention } from "./attention.js";
import { lowerCumsum } from "./cumsum.js";
import { lowerGather, lowerScatter } from "./indexing.js";
import { Lowering, SharedSource, type Target } from "./lowering.js";
import { lowerMatMul } from "./matmul.js";
import type { CudaBody, CudaProgram } from "./program.js";
import { isShareable, schedule } from "./schedule.js";
import { lowerSort } from "./sort.js";
import { lowerStrands } from "./strands.js";
import { lowerStrip } from "./strip.js";

/**
 * What a device runs for a plan: kernels made for its shapes and for this device. Maps and reductions
 * share launches (schedule.ts), so that steps may run in another order than the plan's.
 */
export function lowerPlan(plan: Plan | StrippedPlan, target: Target): CudaProgram {
  const source = new SharedSource();
  const body = lowerBody(plan, (buffers, arenaBytes) => new Lowering(target, buffers, arenaBytes, source));
  return { ...body, source: source.text() };
}

function lowerBody(
  plan: Plan | StrippedPlan,
  begin: (buffers: Plan["buffers"], arenaBytes: number) => Lowering,
): CudaBody {
  const { groups, buffers, arenaBytes } = schedule(plan);
  const lowering = begin(buffers, arenaBytes);
  for (const group of groups) {
    const first = group[0]![0]![0]!;
    lowering.beginStep(first);
    const step = plan.steps[first]!;
    if (isShareable(step)) lowerStrands(lowering, plan.steps, group);
    else lowerStep(lowering, step);
  }
  const { inputs, outputs } = plan;
  return {
    buffers: lowering.buffers(),
    inputs,
    outputs,
    arenaBytes: lowering.arenaBytes,
    operations: lowering.operations,
  };
}

type Kind = (Step | StripStep)["kind"];
type OfKind<K extends Kind> = Extract<Step | StripStep, { readonly kind: K }>;

/** What each kind of step becomes. */
const kinds: {
  readonly [K in Exclude<Kind, "map" | "reduce">]: (lowering: Lowering, step: OfKind<K>) => void;
} = {
  matmul: lowerMatMul,
  gather: lowerGather,
  scatter: lowerScatter,
  sort: lowerSort,
  cumsum: lowerCumsum,
  attention: lowerAttention,
  strip: lowerStrip,
  loop: (lowering, { length, reverse, consts, inits, carries, xs, ys, plan }) => {
    const body = lowerBody(plan, (buffers, arenaBytes) => lowering.nested(buffers, arenaBytes));
    lowering.add({ kind: "turns", length, reverse, body, consts, inits, carries, xs, ys });
  },
};

function lowerStep(lowering: Lowering, step: Exclude<Step | StripStep, MapStep | ReduceStep>): void {
  (kinds[step.kind] as (lowering: Lowering, step: unknown) => void)(lowering, step);
}
