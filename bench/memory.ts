import { readFile } from "node:fs/promises";

/**
 * The most memory that this process had so far, in bytes: Linux's VmHWM. undefined elsewhere: getrusage, which other
 * systems have, also counts what the parent had when it started this process.
 */
export async function peakMemory(): Promise<number | undefined> {
  const status = await readFile("/proc/self/status", "utf8").catch(() => "");
  const kilobytes = /^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1];
  return kilobytes === undefined ? undefined : 1024 * Number(kilobytes);
}
