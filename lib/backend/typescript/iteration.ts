import type { Plan } from "../../compile/plan.js";
import { allocate, type TypedArray } from "../../tensor/dtype.js";
import { execute, type Program } from "./steps.js";

/**
 * The state of a loop. It exists twice: a step reads one bank and writes the other, and to commit it is to
 * change the current one, so a step that fails leaves nothing behind. In shared memory, both threads see it.
 */
export interface LoopState {
  /** One number: the current bank. */
  readonly current: Int32Array;
  readonly banks: readonly [readonly TypedArray[], readonly TypedArray[]];
  /** The inputs that do not change. */
  readonly constants: readonly TypedArray[];
}

/** A run of several steps, one `advance` each. */
export class Iteration {
  completed = 0;
  private ran = 0;
  private readonly observed: TypedArray[];
  private readonly sizes: readonly number[];

  constructor(
    private readonly program: Program,
    private readonly state: LoopState,
    private readonly steps: number,
  ) {
    const specs = observations(program.plan, state);
    this.sizes = specs.map(({ size }) => size);
    this.observed = specs.map(({ dtype, size }) => allocate(dtype, size * steps));
  }

  /** Runs a step; says whether another one is to follow. */
  advance(): boolean {
    if (this.ran === this.steps) return false;
    const { state } = this;
    const current = Atomics.load(state.current, 0);
    const observed = this.observed.map((all, i) =>
      all.subarray(this.ran * this.sizes[i]!, (this.ran + 1) * this.sizes[i]!),
    );
    const inputs = [...state.banks[current]!, ...state.constants];
    execute(this.program, inputs, [...state.banks[1 - current]!, ...observed]);
    this.ran++;
    if (!Number.isFinite(observed.at(-1)![0]!)) return false;
    Atomics.store(state.current, 0, 1 - current);
    this.completed++;
    return this.ran < this.steps;
  }

  /** The observations of the steps that ran. */
  observations(): TypedArray[] {
    if (this.ran === this.steps) return this.observed;
    return this.observed.map((all, i) => all.slice(0, this.ran * this.sizes[i]!));
  }
}

function observations(plan: Plan, state: LoopState) {
  return plan.outputs.slice(state.banks[0].length).map((buffer) => plan.buffers[buffer]!);
}
