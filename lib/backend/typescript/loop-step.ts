import type { LoopStep, Plan } from "../../compile/plan.js";
import { allocate, type TypedArray } from "../../tensor/dtype.js";
import { execute, type PreparedStep, prepare } from "./steps.js";

/** Runs a plan again and again; the carries go to and fro between their results and arrays of the step's own. */
export function prepareLoop(step: LoopStep): PreparedStep {
  const { length, reverse, inits, carries } = step;
  const plan = step.plan as Plan;
  const program = prepare(plan);
  const spares = plan.outputs.slice(0, carries.length).map((id) => {
    const { dtype, size } = plan.buffers[id]!;
    return allocate(dtype, size);
  });
  return (buffers) => {
    const at = (ids: readonly number[]) => ids.map((id) => buffers[id]!);
    const results = at(carries);
    let current = at(inits);
    if (length === 0) for (const [i, result] of results.entries()) result.set(current[i]!);
    const [consts, xs, ys] = [at(step.consts), at(step.xs), at(step.ys)];
    for (let turn = 0; turn < length; turn++) {
      const place = reverse ? length - 1 - turn : turn;
      const slice = (array: TypedArray) => {
        const size = array.length / length;
        return array.subarray(place * size, (place + 1) * size) as TypedArray;
      };
      // The last turn writes the results.
      const next = (length - turn) % 2 === 1 ? results : spares;
      execute(program, [...consts, ...current, ...xs.map(slice)], [...next, ...ys.map(slice)]);
      current = next;
    }
  };
}
