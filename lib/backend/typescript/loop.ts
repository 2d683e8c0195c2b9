import type { Plan } from "../../compile/plan.js";
import { BackendError } from "../../errors.js";
import type { TypedArray } from "../../tensor/dtype.js";
import type { Loop } from "../backend.js";
import { checkArray, copyOf, guarded, nextTurn } from "./calls.js";
import { Iteration, type LoopState } from "./iteration.js";
import { alignedBytes, type Program, prepare, view } from "./steps.js";
import { registerLoop, releasedWith, sendRelease, threadOf } from "./thread.js";

/** On the main thread, the event loop gets a turn after this many milliseconds. */
const slice = 8;

/**
 * A loop whose state lies in shared memory: the worker thread computes on it, and `read` and `write` reach it
 * from here while no run is under way. Without shared memory or threads it runs on the main thread in slices.
 */
export function openLoop(planId: number, plan: Plan, inputs: readonly TypedArray[], carried: number): Loop {
  checkLoop(plan, carried);
  const id = registerLoop();
  const { state: opened, shared } = createState(plan, inputs, carried);
  let state: LoopState | undefined = opened;
  let program: Program | undefined; // of this thread, where there is no other
  let running = false;
  let disposed = false;

  const live = (action: string): LoopState => {
    if (disposed || !state) throw new BackendError(`loop.${action}: the loop is disposed`);
    if (running) throw new BackendError(`loop.${action}: a run is under way`);
    return state;
  };
  const free = () => {
    state = program = undefined;
    sendRelease({ kind: "close", loop: id });
  };

  const iterate = async (state: LoopState, steps: number) => {
    const thread = shared ? await threadOf() : undefined;
    if (thread) {
      const answer = await thread.call({ kind: "iterate", plan: planId, loop: id, steps }, plan, state);
      return { completed: answer.completed, observed: answer.arrays };
    }
    await nextTurn();
    program ??= guarded(() => prepare(plan));
    const iteration = guarded(() => new Iteration(program!, state, steps));
    let start = Date.now();
    while (guarded(() => iteration.advance())) {
      if (Date.now() - start < slice) continue;
      await nextTurn();
      start = Date.now();
    }
    return { completed: iteration.completed, observed: iteration.observations() };
  };

  const carriedSpec = (index: number) => {
    if (!Number.isInteger(index) || index < 0 || index >= carried)
      throw new BackendError(`loop: no carried state ${index}; there are ${carried}`);
    return plan.buffers[plan.inputs[index]!]!;
  };

  const loop: Loop = {
    async run(steps) {
      const current = live("run");
      if (!Number.isSafeInteger(steps) || steps < 0)
        throw new BackendError(`loop.run: steps must be a whole number >= 0, got ${steps}`);
      running = true;
      try {
        return await iterate(current, steps);
      } finally {
        running = false;
        if (disposed) free();
      }
    },
    read(index) {
      const { banks, current } = live("read");
      carriedSpec(index);
      return guarded(() => copyOf(banks[Atomics.load(current, 0)]![index]!));
    },
    write(index, data) {
      const { banks, current } = live("write");
      const { dtype, size } = carriedSpec(index);
      checkArray(`loop.write: state ${index}`, data, dtype, size);
      banks[Atomics.load(current, 0)]![index]!.set(data);
    },
    dispose() {
      if (disposed) return;
      disposed = true;
      if (!running) free();
    },
  };
  releasedWith(loop, { kind: "close", loop: id });
  return loop;
}

function checkLoop(plan: Plan, carried: number): void {
  if (
    !Number.isInteger(carried) ||
    carried < 0 ||
    carried > plan.inputs.length ||
    carried >= plan.outputs.length
  )
    throw new BackendError(
      `loop: ${carried} carried states of ${plan.inputs.length} inputs and ${plan.outputs.length} outputs (one of them the guard)`,
    );
  for (let i = 0; i < carried; i++) {
    const before = plan.buffers[plan.inputs[i]!]!;
    const after = plan.buffers[plan.outputs[i]!]!;
    if (before.dtype !== after.dtype || before.size !== after.size)
      throw new BackendError(
        `loop: state ${i} goes in as ${before.dtype} of ${before.size} elements and comes out as ${after.dtype} of ${after.size}`,
      );
  }
  const guard = plan.buffers[plan.outputs.at(-1)!]!;
  if (guard.size !== 1) throw new BackendError(`loop: the guard has ${guard.size} elements, not 1`);
}

/** All of the loop's state in one block of memory, shared where the environment allows it. */
function createState(plan: Plan, inputs: readonly TypedArray[], carried: number) {
  const specs = plan.inputs.map((buffer) => plan.buffers[buffer]!);
  const banked = [...specs, ...specs.slice(0, carried)];
  const bytes = banked.reduce((sum, { dtype, size }) => sum + alignedBytes(dtype, size), 64);
  const shared = typeof SharedArrayBuffer === "function";
  let memory: ArrayBuffer | SharedArrayBuffer;
  try {
    memory = shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
  } catch {
    throw new BackendError(`cannot allocate ${bytes} bytes for the state of a loop`);
  }
  let offset = 64;
  const arrays = banked.map(({ dtype, size }) => {
    const array = view(memory, dtype, offset, size);
    offset += alignedBytes(dtype, size);
    return array;
  });
  for (const [i, input] of inputs.entries()) arrays[i]!.set(input);
  const state: LoopState = {
    current: new Int32Array(memory, 0, 1),
    banks: [arrays.slice(0, carried), arrays.slice(inputs.length)],
    constants: arrays.slice(carried, inputs.length),
  };
  return { state, shared };
}
