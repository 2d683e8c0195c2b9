import { fileURLToPath } from "node:url";
import type { Bench } from "./bench.js";
import { outputOf } from "./children.js";
import { engineering, time } from "./format.js";
import { type Summary, summarize } from "./statistics.js";

/** What a fresh process takes, each part in a process of its own several times. */
export interface Startup {
  readonly parts: readonly { readonly part: string; readonly seconds: Summary }[];
  /** Peak memory of a training of 300 steps less that of an idle Node process, in bytes, where the system tells. */
  readonly memory?: Summary;
}

const meanings: Readonly<Record<string, string>> = {
  import: 'import "fluxion"',
  addon: "load the addon",
  parameters: "new Trainer: initial parameters",
  trace: "trace, differentiate and lower a step",
  compile: "compile its plan in the addon",
  "first step": "the first step",
};

export async function benchStartup(bench: Bench): Promise<Startup> {
  const runs: { seconds: Record<string, number>; memory?: number }[] = [];
  const idle: number[] = [];
  for (let i = 0; i < (bench.quick ? 2 : 7); i++) {
    bench.progress(`fresh process ${i + 1}`);
    runs.push(JSON.parse(await outputOf(process.execPath, [sibling("startup-child.js")])));
    const { memory } = JSON.parse(await outputOf(process.execPath, [sibling("idle-child.js")]));
    if (memory !== undefined) idle.push(memory);
  }
  const parts = Object.keys(meanings).map((part) => ({
    part,
    seconds: summarize(runs.map(({ seconds }) => seconds[part]!)),
  }));
  for (const { part, seconds } of parts) bench.print(`  ${meanings[part]!.padEnd(40)} ${time(seconds)}`);
  const total = runs.map(({ seconds }) => Object.values(seconds).reduce((a, b) => a + b, 0));
  bench.print(`  ${"in all, FM 4 x 128, batch 4096".padEnd(40)} ${time(summarize(total))}`);
  if (idle.length === 0) {
    bench.print("  memory: this system does not tell a process's own peak");
    return { parts };
  }
  const base = summarize(idle).median;
  const memory = summarize(runs.map((run) => run.memory! - base));
  bench.print(
    `  ${"peak memory of 300 steps".padEnd(40)} ${engineering(memory.median, "B")} above an idle Node process's ${engineering(base, "B")}`,
  );
  return { parts, memory };
}

/** A compiled script of this folder. */
export function sibling(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}
