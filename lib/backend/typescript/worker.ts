import type { Plan } from "../../compile/plan.js";
import type { BackendError } from "../../errors.js";
import type { TypedArray } from "../../tensor/dtype.js";
import { IndexOutOfRange } from "../backend.js";
import { allocateOutputs, guarded } from "./calls.js";
import { Iteration, type LoopState } from "./iteration.js";
import type { Message, Reply, Request } from "./messages.js";
import { execute, type Program, prepare } from "./steps.js";

// The worker thread's side of thread.ts: runs plans and loops, one call at a time.

interface Channel {
  post(message: Reply | "ready", transfer: ArrayBuffer[]): void;
}

const plans = new Map<number, Plan>();
const programs = new Map<number, Program>();
const loops = new Map<number, LoopState>();

function receive(message: Message, channel: Channel): void {
  switch (message.kind) {
    case "plan":
      plans.set(message.plan, message.data);
      return;
    case "loop":
      loops.set(message.loop, message.state);
      return;
    case "forget":
      plans.delete(message.plan);
      programs.delete(message.plan);
      return;
    case "close":
      loops.delete(message.loop);
      return;
  }
  try {
    const { arrays, completed } = guarded(() => perform(message));
    channel.post(
      { call: message.call, arrays, completed },
      arrays.map((array) => array.buffer as ArrayBuffer),
    );
  } catch (error) {
    const site = error instanceof IndexOutOfRange ? error.site : undefined;
    channel.post({ call: message.call, error: (error as BackendError).problem, site }, []);
  }
}

function perform(request: Request): { arrays: TypedArray[]; completed: number } {
  const program = programs.get(request.plan) ?? prepare(plans.get(request.plan)!);
  programs.set(request.plan, program);
  if (request.kind === "run") {
    const arrays = allocateOutputs(program.plan);
    execute(program, request.inputs, arrays);
    return { arrays, completed: 1 };
  }
  const iteration = new Iteration(program, loops.get(request.loop)!, request.steps);
  while (iteration.advance());
  return { arrays: iteration.observations(), completed: iteration.completed };
}

/** The web's workers talk through the global object; listening begins at once, or messages would be lost. */
const scope = globalThis as {
  process?: { versions?: { node?: string } };
  postMessage?(message: unknown, transfer: ArrayBuffer[]): void;
  onmessage?: (event: { data: Message }) => void;
};
if (scope.process?.versions?.node) {
  void import("node:worker_threads").then(({ parentPort }) => {
    const channel: Channel = { post: (message, transfer) => parentPort?.postMessage(message, transfer) };
    parentPort?.on("message", (message: Message) => receive(message, channel));
    channel.post("ready", []);
  });
} else {
  const channel: Channel = { post: (message, transfer) => scope.postMessage?.(message, transfer) };
  scope.onmessage = ({ data }) => receive(data, channel);
  channel.post("ready", []);
}
