import type { Plan } from "../../compile/plan.js";
import { BackendError } from "../../errors.js";
import type { TypedArray } from "../../tensor/dtype.js";
import { IndexOutOfRange } from "../backend.js";
import type { LoopState } from "./iteration.js";
import type { Message, Release, Reply, Request } from "./messages.js";

/** What node:worker_threads' Worker and the web's have in common, once made alike. */
interface Port {
  post(message: Message, transfer: ArrayBuffer[]): void;
  /** Whether the worker keeps the process alive. */
  hold(held: boolean): void;
}

interface Listeners {
  message(reply: Reply | "ready"): void;
  failure(reason: string): void;
}

type Answer = Extract<Reply, { arrays: TypedArray[] }>;

/** The worker thread, which all executables share. It takes calls one after the other. */
export class Thread {
  private readonly calls = new Map<number, { resolve(answer: Answer): void; reject(error: Error): void }>();
  private readonly plans = new Set<number>();
  private readonly loops = new Set<number>();
  private nextCall = 0;

  constructor(private readonly port: Port) {}

  /** Sends a call, before it the plan and the loop that the worker has not yet seen. */
  call(request: Request, plan: Plan, state?: LoopState): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const call = this.nextCall++;
      try {
        if (!this.plans.has(request.plan))
          this.port.post({ kind: "plan", plan: request.plan, data: plan }, []);
        this.plans.add(request.plan);
        if (request.kind === "iterate" && !this.loops.has(request.loop)) {
          this.port.post({ kind: "loop", loop: request.loop, plan: request.plan, state: state! }, []);
          this.loops.add(request.loop);
        }
        const transfer =
          request.kind === "run" ? request.inputs.map((input) => input.buffer as ArrayBuffer) : [];
        this.port.post({ ...request, call }, transfer);
      } catch (error) {
        this.port.hold(this.calls.size > 0);
        return reject(new BackendError(`typescript backend: cannot reach the worker thread: ${error}`));
      }
      this.calls.set(call, { resolve, reject });
      this.port.hold(true);
    });
  }

  release(release: Release): void {
    const known =
      release.kind === "close" ? this.loops.delete(release.loop) : this.plans.delete(release.plan);
    if (known) this.port.post(release, []);
  }

  answer(reply: Reply): void {
    const call = this.calls.get(reply.call);
    this.calls.delete(reply.call);
    if (this.calls.size === 0) this.port.hold(false);
    if ("error" in reply)
      call?.reject(
        reply.site === undefined
          ? new BackendError(reply.error)
          : new IndexOutOfRange(reply.error, reply.site),
      );
    else call?.resolve(reply);
  }

  fail(reason: string): void {
    for (const { reject } of this.calls.values())
      reject(new BackendError(`typescript backend: the worker thread ended: ${reason}`));
    this.calls.clear();
  }
}

let thread: Promise<Thread | undefined> | undefined;

/** The worker thread, started on the first call; undefined where the environment has none. */
export function threadOf(): Promise<Thread | undefined> {
  return (thread ??= start());
}

let plans = 0;
let loops = 0;
export const registerPlan = (): number => plans++;
export const registerLoop = (): number => loops++;

/** Lets the worker drop what it holds for an object that nobody holds here any more. */
const released = new FinalizationRegistry<Release>((release) => sendRelease(release));
export function releasedWith(owner: object, release: Release): void {
  released.register(owner, release);
}

export function sendRelease(release: Release): void {
  void thread?.then((running) => running?.release(release));
}

function start(): Promise<Thread | undefined> {
  return new Promise((resolve) => {
    let running: Thread | undefined;
    let port: Port | undefined;
    let ended = false;
    const withoutWorker = (reason: string) => {
      if (!ended)
        console.warn(
          `fluxion: the worker thread does not start, so asynchronous work blocks this thread: ${reason}`,
        );
      ended = true;
      resolve(undefined);
    };
    const listeners: Listeners = {
      message(reply) {
        if (reply !== "ready") return running?.answer(reply);
        running = new Thread(port!);
        resolve(running);
      },
      // Before it is ready, the worker has failed to load (a bundle without it, say): work stays on this thread,
      // and that is said once.
      // Later, calls under way fail and the next one starts another worker.
      failure(reason) {
        if (!running) return withoutWorker(reason);
        if (ended) return; // Node reports an error and then the exit
        ended = true;
        running.fail(reason);
        thread = undefined;
      },
    };
    openPort(listeners).then(
      (opened) => {
        port = opened;
        if (!opened) resolve(undefined);
      },
      (error) => withoutWorker(String(error)),
    );
  });
}

/** The part of the web's Worker that is used here. */
interface WebWorker {
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
  onmessage: ((event: { data: Reply | "ready" }) => void) | null;
  onerror: ((event: { message?: string }) => void) | null;
}

async function openPort(listeners: Listeners): Promise<Port | undefined> {
  const scope = globalThis as {
    process?: { versions?: { node?: string } };
    Worker?: new (url: URL, options: { type: "module" }) => WebWorker;
  };
  const url = new URL("./worker.js", import.meta.url);
  if (scope.process?.versions?.node) {
    const { Worker } = await import("node:worker_threads");
    // The flags of the process (loaders, --input-type) are not for this file.
    const worker = new Worker(url, { execArgv: [] });
    worker.on("message", (reply) => listeners.message(reply));
    worker.on("error", (error) => listeners.failure(error.message));
    worker.on("exit", (code) => listeners.failure(`exit code ${code}`));
    return {
      post: (message, transfer) => worker.postMessage(message, transfer),
      hold: (held) => (held ? worker.ref() : worker.unref()),
    };
  }
  if (!scope.Worker) return undefined;
  const worker = new scope.Worker(url, { type: "module" });
  worker.onmessage = ({ data }) => listeners.message(data);
  worker.onerror = ({ message }) => listeners.failure(message ?? "error");
  return { post: (message, transfer) => worker.postMessage(message, transfer), hold: () => {} };
}
