import type { Plan } from "../../compile/plan.js";
import { BackendError, FluxionError } from "../../errors.js";
import { allocate, type DType, dtypeOf, type TypedArray } from "../../tensor/dtype.js";

// What every way of running a plan has to do around it: check and copy arrays, allocate results, name errors.

/** Runs `action`; what it throws comes out as a BackendError. */
export function guarded<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof FluxionError) throw error;
    throw new BackendError(`typescript backend: ${error instanceof Error ? error.message : String(error)}`);
  }
}

export function allocateOutputs(plan: Plan): TypedArray[] {
  return plan.outputs.map((buffer) => allocate(plan.buffers[buffer]!.dtype, plan.buffers[buffer]!.size));
}

/** A copy in memory of its own. (Buffer's slice would share the memory, and a clone take all of a pool.) */
export function copyOf(array: TypedArray): TypedArray {
  const copy = allocate(dtypeOf(array)!, array.length);
  copy.set(array);
  return copy;
}

/** A turn of the event loop, so that timers and input are served. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

export function checkArray(where: string, array: TypedArray, dtype: DType, size: number): void {
  if (dtypeOf(array) === dtype && array.length === size) return;
  const kind = dtypeOf(array) ?? Object.prototype.toString.call(array).slice(8, -1);
  const detached = array?.length === 0 ? " (is its buffer detached?)" : "";
  throw new BackendError(
    `${where}: expected ${dtype} of ${size} elements, got ${kind} of ${array?.length}${detached}`,
  );
}
