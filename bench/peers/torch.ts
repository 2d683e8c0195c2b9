import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** What torch_peer.py is asked to do: see there. */
export type Work = Readonly<Record<string, string | number>>;

/** One way to run PyTorch: none is best for all work, so each is tried. */
export interface Setting {
  readonly process: TorchProcess;
  readonly threads: number;
  readonly label: string;
}

export type TorchPeer =
  | { readonly settings: readonly Setting[]; readonly version: string; readonly note?: string; stop(): void }
  | { readonly missing: string };

const howToInstall = "on Debian: apt install python3-torch libopenblas0-pthread";

/** Starts PyTorch in its processes, or says how to install it. */
export async function startTorch(): Promise<TorchPeer> {
  const python = ["/usr/bin/python3", "python3"].find(
    (command) => spawnSync(command, ["-c", "import torch, functorch"], { stdio: "ignore" }).status === 0,
  );
  if (python === undefined) return { missing: `PyTorch is not installed (${howToInstall})` };
  const script = peerScript();
  const coreTypes = hasAvx512() ? ["default", "SKYLAKEX"] : ["default"];
  const processes = coreTypes.map((coreType) => new TorchProcess(python, script, coreType));
  const stop = () => processes.forEach((process) => void process.stop());
  try {
    const [ready] = await Promise.all(processes.map((process) => process.reply()));
    const threads = [1, 2].filter((n) => n <= availableParallelism());
    const settings = processes.flatMap((process) =>
      threads.map((n) => ({
        process,
        threads: n,
        label: `${n} thread${n > 1 ? "s" : ""}, ${process.coreType}`,
      })),
    );
    const version = `PyTorch ${String(ready?.["torch"])} (${String(ready?.["blas"])} BLAS)`;
    const note =
      ready?.["blas"] === "reference"
        ? "PyTorch has only the untuned reference BLAS here: apt install libopenblas0-pthread"
        : undefined;
    return { settings, version, stop, ...(note === undefined ? {} : { note }) };
  } catch (error) {
    stop();
    return { missing: `PyTorch did not start: ${(error as Error).message}` };
  }
}

/** A Python process that stays, so that its caches and threads are as warm as ours. */
export class TorchProcess {
  readonly coreType: string;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(python: string, script: string, coreType: string) {
    this.coreType = coreType;
    const env = { ...process.env, ...(coreType === "default" ? {} : { OPENBLAS_CORETYPE: coreType }) };
    this.#child = spawn(python, [script], { env, stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** Seconds of each repetition of this work. */
  async measure(work: Work, threads: number, repeats: number): Promise<number[]> {
    this.#child.stdin!.write(`${JSON.stringify({ ...work, threads, repeats })}\n`);
    return (await this.reply())["seconds"] as number[];
  }

  /** The next line from Python. */
  async reply(): Promise<Record<string, unknown>> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("the Python process ended");
    const reply = JSON.parse(value) as Record<string, unknown>;
    if (reply["error"] !== undefined) throw new Error(String(reply["error"]));
    return reply;
  }

  stop(): void {
    this.#child.stdin!.end();
    this.#child.kill();
  }
}

/** The script lies beside the TypeScript source, not beside the compiled file. */
function peerScript(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  return join(here.replace(/([\\/])build-ts([\\/])bench/, "$1$2bench"), "torch_peer.py");
}

/** Where OpenBLAS would otherwise choose a slower kernel on processors that it does not know. */
function hasAvx512(): boolean {
  try {
    return readFileSync("/proc/cpuinfo", "utf8").includes("avx512f");
  } catch {
    return false;
  }
}
