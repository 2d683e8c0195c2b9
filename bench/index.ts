/** `npm run bench`: this library beside its peers and the machine's limits. See bench/README.md. */
import { availableParallelism, cpus } from "node:os";
import * as fx from "fluxion";
import { instructionSet } from "#lib/backend/cpu.js";
import type { Bench } from "./bench.js";
import { stopChildren } from "./children.js";
import { FlagError, type Flags, help, readFlags, type SectionName } from "./flags.js";
import { benchGemm } from "./gemm.js";
import { benchPeak, Peak, type PeakRow, printPeak } from "./peak.js";
import { findPeers } from "./peers/index.js";
import { benchSteps } from "./steps.js";

interface Section {
  readonly title: string;
  run(bench: Bench): Promise<unknown>;
}

const all: Readonly<Record<string, Section>> = {
  peak: { title: "What the machine does at best", run: benchPeak },
  gemm: { title: "Matrix products, float32", run: benchGemm },
  steps: { title: "Training steps on the checkerboard", run: benchSteps },
};

/** What is written as data. */
export interface Results {
  readonly machine: Readonly<Record<string, string | number>>;
  readonly quick: boolean;
  readonly peers: Readonly<Record<string, string>>;
  readonly peak: readonly PeakRow[];
  readonly sections: Partial<{ readonly [Name in SectionName]: unknown }>;
}

async function main(flags: Flags): Promise<void> {
  const started = performance.now();
  const cpu = fx.backends().find(({ name }) => name === "cpu")!;
  if (!cpu.available) throw new FlagError(`the bench measures the cpu addon, but ${cpu.reason}`);
  const machine = {
    processor: cpus()[0]?.model ?? "unknown",
    threads: availableParallelism(),
    instructionSet: instructionSet(),
    node: process.version,
  };
  print(`${machine.processor}, ${machine.threads} threads, ${machine.instructionSet}, Node ${machine.node}`);
  const withPeers = flags.only.some((name) => name === "gemm" || name === "steps");
  const peers = withPeers ? await findPeers(flags.peers, print) : {};
  const bench: Bench = {
    quick: flags.quick,
    rounds: flags.quick ? 3 : 11,
    peers,
    peak: new Peak(),
    print,
    progress,
  };
  const results: Record<string, unknown> = {};
  for (const [i, name] of flags.only.entries()) {
    const elapsed = Math.round((performance.now() - started) / 1000);
    print(`\n[${i + 1}/${flags.only.length}, ${elapsed} s] ${all[name]!.title}`);
    results[name] = await all[name]!.run(bench);
  }
  if (bench.peak.rows().length > 0 && flags.only.some((name) => name !== "peak")) {
    print("\nThe machine's limits over the whole run");
    printPeak(bench.peak, print);
  }
  print(`\n${Math.round((performance.now() - started) / 1000)} s`);
}

const live = process.stderr.isTTY === true;

function print(line: string): void {
  if (live) process.stderr.write("\r\x1b[K");
  console.log(line);
}

function progress(doing: string): void {
  if (live) process.stderr.write(`\r\x1b[K${doing.slice(0, 100)}`);
}

process.on("exit", stopChildren);
for (const [signal, status] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
] as const)
  process.on(signal, () => process.exit(status));

try {
  const flags = readFlags(process.argv.slice(2));
  if (flags === "help") print(help);
  else await main(flags);
} catch (error) {
  if (!(error instanceof FlagError)) throw error;
  console.error(`${error.message}\nSee npm run bench -- --help`);
  process.exitCode = 2;
} finally {
  stopChildren();
}
