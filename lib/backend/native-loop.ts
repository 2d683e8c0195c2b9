import type { Plan } from "../compile/plan.js";
import { BackendError } from "../errors.js";
import { allocate, type DType, type TypedArray } from "../tensor/dtype.js";
import type { Loop } from "./backend.js";
import { translated, translatedAsync } from "./native.js";

/** A loop of an addon: as Loop, over arrays that the caller provides. */
export interface NativeLoop {
  run(steps: number, observed: readonly TypedArray[]): Promise<{ completed: number; ran: number }>;
  read(index: number, target: TypedArray): void;
  write(index: number, data: TypedArray): void;
  dispose(): void;
}

/** The loop of a plan whose first `carried` inputs are its state, on top of an addon's. */
export class StateLoop implements Loop {
  readonly #plan: Plan;
  readonly #carried: number;
  readonly #native: NativeLoop;

  constructor(plan: Plan, carried: number, native: NativeLoop) {
    this.#plan = plan;
    this.#carried = carried;
    this.#native = native;
  }

  async run(steps: number): Promise<{ completed: number; observed: TypedArray[] }> {
    if (!(Number.isSafeInteger(steps) && steps >= 0)) {
      throw new BackendError(`the number of steps is ${steps}; use a nonnegative integer`);
    }
    const specs = this.#plan.outputs.slice(this.#carried).map((number) => bufferOf(this.#plan, number));
    const room = specs.map(({ dtype, size }) => allocate(dtype, size * steps));
    const { completed, ran } = await translatedAsync(() => this.#native.run(steps, room));
    const observed = room.map((array, i) =>
      ran === steps ? array : array.slice(0, ran * (specs[i]?.size ?? 0)),
    );
    return { completed, observed };
  }

  read(index: number): TypedArray {
    const { dtype, size } = this.#stateBuffer(index);
    const target = allocate(dtype, size);
    translated(() => this.#native.read(index, target));
    return target;
  }

  write(index: number, data: TypedArray): void {
    this.#stateBuffer(index);
    translated(() => this.#native.write(index, data));
  }

  dispose(): void {
    this.#native.dispose();
  }

  #stateBuffer(index: number): { dtype: DType; size: number } {
    const number = index >= 0 && index < this.#carried ? this.#plan.inputs[index] : undefined;
    if (number === undefined)
      throw new BackendError(`there is no carried state ${index} of ${this.#carried}`);
    return bufferOf(this.#plan, number);
  }
}

/** What the plan says of a buffer. */
export function bufferOf(plan: Plan, number: number): { dtype: DType; size: number } {
  const buffer = plan.buffers[number];
  if (!buffer) throw new BackendError(`malformed plan: there is no buffer ${number}`);
  return buffer;
}
