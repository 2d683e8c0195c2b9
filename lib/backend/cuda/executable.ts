import type { Plan } from "../../compile/plan.js";
import { BackendError } from "../../errors.js";
import type { Storage } from "../../tensor/storage.js";
import type { Executable, Loop } from "../backend.js";
import { translated, translatedAsync } from "../native.js";
import { bufferOf, StateLoop } from "../native-loop.js";
import type { CudaAddon, NativeBuffer, NativeProgram } from "./addon.js";
import { CudaArray, place } from "./arrays.js";
import { loopModule } from "./load.js";

/** A plan on the device. Results stay there until they are read; `run` does not wait for them. */
export class CudaExecutable implements Executable<CudaArray> {
  readonly #addon: CudaAddon;
  readonly #plan: Plan;
  readonly #native: NativeProgram;

  constructor(addon: CudaAddon, plan: Plan, native: NativeProgram) {
    this.#addon = addon;
    this.#plan = plan;
    this.#native = native;
  }

  run(inputs: readonly Storage[], seconds?: Float64Array): CudaArray[] {
    const buffers = this.#place(inputs);
    return this.#wrap(translated(() => this.#native.run(buffers, seconds)));
  }

  async runAsync(inputs: readonly Storage[]): Promise<CudaArray[]> {
    const buffers = this.#place(inputs);
    return this.#wrap(await translatedAsync(() => this.#native.runAsync(buffers)));
  }

  loop(inputs: readonly Storage[], carried: number): Loop {
    const buffers = this.#place(inputs);
    return new StateLoop(
      this.#plan,
      carried,
      translated(() => this.#native.loop(loopModule(), buffers, carried)),
    );
  }

  #wrap(outputs: readonly NativeBuffer[]): CudaArray[] {
    return outputs.map((native, i) => {
      const { dtype, size } = bufferOf(this.#plan, this.#plan.outputs[i]!);
      return new CudaArray(native, dtype, size);
    });
  }

  #place(inputs: readonly Storage[]): NativeBuffer[] {
    const { inputs: numbers } = this.#plan;
    if (inputs.length !== numbers.length)
      throw new BackendError(`expected ${numbers.length} inputs, got ${inputs.length}`);
    return inputs.map((input, i) => {
      const { dtype, size } = bufferOf(this.#plan, numbers[i]!);
      return place(this.#addon, input, i, dtype, size);
    });
  }
}
