import type { Plan } from "../../compile/plan.js";
import { BackendError } from "../../errors.js";
import type { TypedArray } from "../../tensor/dtype.js";
import { onHost } from "../../tensor/storage.js";
import type { Executable, Loop } from "../backend.js";
import { validatePlan } from "../validate.js";
import { allocateOutputs, checkArray, copyOf, guarded, nextTurn } from "./calls.js";
import { openLoop } from "./loop.js";
import { execute, type Program, prepare } from "./steps.js";
import { registerPlan, releasedWith, threadOf } from "./thread.js";

/** Checks the plan; its kernels are generated on the first run, on the thread that runs it. */
export function createExecutable(plan: Plan): Executable<TypedArray> {
  validatePlan(plan);
  const id = registerPlan();
  let program: Program | undefined;

  const run = (inputs: readonly TypedArray[], seconds?: Float64Array): TypedArray[] => {
    checkInputs(plan, inputs);
    return guarded(() => {
      program ??= prepare(plan);
      const outputs = allocateOutputs(plan);
      execute(program, inputs, outputs, seconds);
      return outputs;
    });
  };

  const executable: Executable<TypedArray> = {
    run: (inputs, seconds) => run(inputs.map(onHost), seconds),
    async runAsync(inputs) {
      const arrays = inputs.map(onHost);
      checkInputs(plan, arrays);
      const copies = guarded(() => arrays.map(copyOf));
      const thread = await threadOf();
      if (!thread) {
        await nextTurn();
        return run(copies);
      }
      const reply = await thread.call({ kind: "run", plan: id, inputs: copies }, plan);
      return reply.arrays;
    },
    loop(inputs, carried): Loop {
      const arrays = inputs.map(onHost);
      checkInputs(plan, arrays);
      return guarded(() => openLoop(id, plan, arrays, carried));
    },
  };
  releasedWith(executable, { kind: "forget", plan: id });
  return executable;
}

function checkInputs(plan: Plan, inputs: readonly TypedArray[]): void {
  if (inputs.length !== plan.inputs.length)
    throw new BackendError(`expected ${plan.inputs.length} inputs, got ${inputs.length}`);
  inputs.forEach((input, i) => {
    const { dtype, size } = plan.buffers[plan.inputs[i]!]!;
    checkArray(`input ${i}`, input, dtype, size);
  });
}
