import type { Plan, StrippedPlan } from "../compile/plan.js";
import { BackendError } from "../errors.js";
import type { TypedArray } from "../tensor/dtype.js";
import type { Storage } from "../tensor/storage.js";

export type BackendName = "typescript" | "cpu" | "cuda";

/** What runs plans. Nothing outside this folder knows which backend runs. */
export interface Backend<Output extends Storage = Storage> {
  readonly name: BackendName;
  /** What a compiled plan depends on besides the plan and the name: programs of another value are not used. */
  readonly settings?: string;
  /** The plan as the backend runs it, where that is not as it is compiled. */
  optimize?(plan: Plan): StrippedPlan;
  /** Prepares a plan once, to be run many times. */
  compile(plan: Plan): Executable<Output>;
}

/** What a run fails with when an index is out of range: `site` is that of the gather or scatter, when it has one. */
export class IndexOutOfRange extends BackendError {
  readonly #site: number | undefined;

  constructor(problem: string, site: number | undefined) {
    super(problem);
    this.#site = site;
  }

  get site(): number | undefined {
    return this.#site;
  }
}

/** A plan ready to run; `Output` is where its results lie. */
export interface Executable<Output extends Storage = Storage> {
  /**
   * Runs the plan on inputs of the plan's dtypes and sizes; gives new arrays, on a device where the backend has one.
   * Inputs may lie anywhere.
   * `seconds`, with an element for each step of the plan that the backend runs, gets the time of each.
   * Throws BackendError when an input does not fit (a detached buffer has length 0), and IndexOutOfRange.
   */
  run(inputs: readonly Storage[], seconds?: Float64Array): Output[];
  /** The same off the main thread; the inputs are copied before the call returns. */
  runAsync(inputs: readonly Storage[]): Promise<Output[]>;
  /** A loop around the plan whose state stays with the backend; see Loop. Inputs are copied. */
  loop(inputs: readonly Storage[], carried: number): Loop;
}

/**
 * A plan whose first `carried` outputs are its first `carried` inputs in the next step (equal dtypes and
 * sizes). The other inputs stay as given. The other outputs are observed; the last of them is the guard,
 * a scalar: a step whose guard is not finite is not committed, and the run ends there.
 */
export interface Loop {
  /**
   * Runs up to `steps` steps off the main thread, one call at a time. `completed` counts committed steps.
   * `observed[i]` holds observation i of every step that ran, one after the other, a last uncommitted step included.
   * (completed < steps) says that the guard stopped it. A step that throws rejects; the state stays that of the
   * last committed step.
   */
  run(steps: number): Promise<{ completed: number; observed: TypedArray[] }>;
  /** A copy of carried state i. Throws while a run is under way. */
  read(index: number): TypedArray;
  /** Replaces carried state i (copied). Throws while a run is under way. */
  write(index: number, data: TypedArray): void;
  /** Frees the state; any later call throws. Called while a run is under way, it frees it when that ends. */
  dispose(): void;
}
