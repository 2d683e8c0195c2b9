import type { ChildProcess } from "node:child_process";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { lastLine, startChild } from "../children.js";

/** What a peer is asked to do, as torch_peer.py and the .mjs files say. */
export type Work = Readonly<Record<string, string | number>>;

/**
 * A process that does work for the bench and stays, so that its caches and threads are as warm as ours. One JSON
 * object a line, both ways: first `{ ready: true }`, then for each request `{ seconds: [...] }` or `{ error }`.
 * It starts at the first request.
 */
export class PeerProcess {
  readonly #start: () => ChildProcess;
  #child: ChildProcess | undefined;
  #lines: AsyncIterator<string> | undefined;
  #complaints = "";
  readonly #patience: number;

  /** No single request takes longer than `patience`, in milliseconds. */
  constructor(
    command: string,
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
    patience = 120_000,
  ) {
    this.#patience = patience;
    this.#start = () =>
      startChild(command, args, { env: { ...process.env, ...env }, stdio: ["pipe", "pipe", "pipe"] });
  }

  /** Seconds of each repetition of this work. */
  async measure(work: Work, repeats: number): Promise<number[]> {
    return (await this.ask({ ...work, repeats }))["seconds"] as number[];
  }

  /** Starts the process; its first line, which may say more than `ready`. */
  async start(): Promise<Record<string, unknown>> {
    this.#complaints = "";
    const child = (this.#child = this.#start());
    child.stderr!.on("data", (chunk) => (this.#complaints = `${this.#complaints}${chunk}`.slice(-4000)));
    // A failed start shows as the end of its lines.
    child.on("error", (error) => (this.#complaints += error.message));
    child.stdin!.on("error", () => {});
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    return this.#reply();
  }

  /** The answer to one request. */
  async ask(request: Work): Promise<Record<string, unknown>> {
    if (this.#lines === undefined) await this.start();
    this.#child!.stdin!.write(`${JSON.stringify(request)}\n`);
    return this.#reply();
  }

  async #reply(): Promise<Record<string, unknown>> {
    const timer = setTimeout(() => this.#child!.kill("SIGKILL"), this.#patience);
    const { value, done } = await this.#lines!.next();
    clearTimeout(timer);
    if (done) {
      this.#lines = undefined; // the next request starts another process
      throw new Error(
        this.#child!.killed
          ? `no answer within ${this.#patience / 1000} s`
          : lastLine(this.#complaints) || "the process ended",
      );
    }
    const reply = JSON.parse(value) as Record<string, unknown>;
    if (reply["error"] !== undefined) throw new Error(String(reply["error"]));
    return reply;
  }
}

/** A peer's script lies beside the TypeScript source, not beside the compiled file. */
export function peerScript(name: string): string {
  const here = dirname(fileURLToPath(import.meta.url));
  return join(here.replace(/([\\/])build-ts([\\/]bench)/, "$2"), name);
}
