/** `npm run bench`: this library beside its peers and the machine's limits. See bench/README.md. */
import { cpus } from "node:os";
import * as fx from "fluxion";
import { instructionSet, threads } from "#lib/backend/cpu.js";
import { benchAttention } from "./attention.js";
import type { Bench } from "./bench.js";
import { benchBits } from "./bits.js";
import { stopChildren } from "./children.js";
import { drawResults } from "./figure.js";
import { FlagError, type Flags, help, readFlags, type SectionName } from "./flags.js";
import { benchGemm } from "./gemm.js";
import { benchMap } from "./map.js";
import { benchPeak, Peak, printPeak } from "./peak.js";
import { findPeers } from "./peers/index.js";
import type { Results } from "./results.js";
import { benchScaling } from "./scaling.js";
import { benchStartup } from "./startup.js";
import { benchSteps } from "./steps.js";

interface Section {
  readonly title: string;
  run(bench: Bench): Promise<unknown>;
}

const all: { readonly [Name in SectionName]: Section } = {
  peak: { title: "What the machine does at best", run: benchPeak },
  gemm: { title: "Matrix products, float32", run: benchGemm },
  steps: { title: "Training steps on the checkerboard", run: benchSteps },
  attention: { title: "Attention and its derivatives, float32", run: benchAttention },
  map: { title: "Elementwise work on large arrays", run: benchMap },
  scaling: { title: "Flow matching by batch, width and threads", run: benchScaling },
  startup: { title: "Start-up in fresh processes", run: benchStartup },
  bits: { title: "Bits of 20 steps of improved mean flow", run: benchBits },
};

async function main(flags: Flags): Promise<void> {
  const started = performance.now();
  const elapsed = () => `${Math.round((performance.now() - started) / 1000)} s`;
  const cpu = fx.backends().find(({ name }) => name === "cpu")!;
  if (!cpu.available) throw new FlagError(`the bench measures the cpu addon, but ${cpu.reason}`);
  const machine = {
    processor: cpus()[0]?.model ?? "unknown",
    threads: threads(),
    instructionSet: instructionSet(),
    node: process.version,
  };
  print(`${machine.processor}, ${machine.threads} threads, ${machine.instructionSet}, Node ${machine.node}`);
  const compares = flags.only.some((name) => ["gemm", "steps", "attention"].includes(name));
  const { peers, about } = compares ? await findPeers(flags.peers, print) : { peers: {}, about: {} };
  const peak = new Peak();
  const bench: Bench = { quick: flags.quick, rounds: flags.quick ? 3 : 11, peers, peak, print, progress };

  const found: Partial<Record<SectionName, unknown>> = {};
  for (const [i, name] of flags.only.entries()) {
    print(`\n[${i + 1}/${flags.only.length}, ${elapsed()}] ${all[name].title}`);
    found[name] = await all[name].run(bench);
  }
  if (peak.rows().length > 0 && flags.only.some((name) => name !== "peak")) {
    print("\nThe machine's limits over the whole run");
    printPeak(peak, print);
  }
  const results = { machine, quick: flags.quick, peers: about, ...found, peak: peak.rows() } as Results;
  if (flags.json !== undefined)
    await fx.io.writeFileAtomic(flags.json, `${JSON.stringify(results, undefined, 2)}\n`);
  if (flags.svg !== undefined) await drawResults(results).save(flags.svg);
  print(`\n${elapsed()} in all`);
}

const watched = process.stderr.isTTY === true;

function print(line: string): void {
  if (watched) process.stderr.write("\r\x1b[K");
  console.log(line);
}

function progress(doing: string): void {
  if (watched) process.stderr.write(`\r\x1b[K${doing.slice(0, 100)}`);
}

// However the bench ends, nothing that it started goes on.
process.on("exit", stopChildren);
process.on("SIGINT", () => process.exit(130));
process.on("SIGTERM", () => process.exit(143));
process.on("SIGHUP", () => process.exit(129));

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
