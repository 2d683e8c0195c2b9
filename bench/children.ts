import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";

/** Every child process of the bench, so that none outlives it. */
const running = new Set<ChildProcess>();

/** Starts a child process that ends with the bench at the latest. */
export function startChild(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const child = spawn(command, args, options);
  running.add(child);
  const forget = () => running.delete(child);
  child.once("error", forget);
  child.once("close", forget);
  return child;
}

/** Ends all that still run, whatever they are at. */
export function stopChildren(): void {
  for (const child of running) child.kill("SIGKILL");
}

/** What a child process prints, when it ends well. Throws with its last line of complaint otherwise. */
export function outputOf(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = startChild(command, args, {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let out = "";
    let complaints = "";
    child.stdout!.on("data", (chunk) => (out += chunk));
    child.stderr!.on("data", (chunk) => (complaints += chunk));
    child.once("error", reject);
    child.once("close", (code, signal) => {
      if (code === 0) resolve(out);
      else reject(new Error(lastLine(complaints) || `${command} ended with ${signal ?? `status ${code}`}`));
    });
  });
}

/** The last line that says something: of a traceback, what went wrong. */
export function lastLine(text: string): string {
  const lines = text.split("\n").map((line) => line.trim());
  return lines.filter((line) => line !== "" && !/^(at |Node\.js v)/.test(line)).at(-1) ?? "";
}
