/** The cuda backend beside PyTorch and JAX on the same card; bench/gpu.sh runs it. See bench/README.md. */
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as fx from "fluxion";
import { openCuda } from "#lib/backend/cuda/load.js";
import { stopChildren } from "./children.js";
import { FlagError } from "./flags.js";
import { type GpuCase, gpuCases } from "./gpu/cases.js";
import { type GpuFlags, gpuHelp, readGpuFlags } from "./gpu/flags.js";
import { ourSide } from "./gpu/ours.js";
import { findGpuPeers, type GpuPeer } from "./gpu/peers.js";
import { type GpuLine, markdownOf, shortTime, tableOf } from "./gpu/table.js";
import { alternate, type Side, type Timed } from "./measure.js";
import { summarize } from "./statistics.js";

async function measure(flags: GpuFlags, note: (line: GpuLine) => void): Promise<void> {
  fx.setBackend(flags.backend);
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const device = flags.backend === "cuda" ? openCuda().device.name : flags.backend;
  const peers = await findGpuPeers(flags.python, flags.backend === "cuda" ? "cuda" : "cpu", flags.quick);
  const versions = peers.map(({ name, about }) => [
    name,
    "version" in about ? about.version : `missing: ${about.missing}`,
  ]);
  note({ device, versions: { Node: process.version, ...Object.fromEntries(versions) } });
  for (const work of gpuCases(flags.only, flags.precision, flags.quick)) {
    if (elapsed() > flags.seconds) {
      note({ skipped: work.name, reason: `since ${flags.seconds} s had passed` });
      continue;
    }
    const { name, section, precision, flops, bytes } = work;
    note({ name, section, precision, flops, bytes });
    console.log(`[${elapsed().toFixed(0)} s] ${name}`);
    for (const { label, turns, failed } of await compare(work, peers, flags)) {
      note({ case: name, side: label, ...(failed === undefined ? { turns } : { failed }) });
      console.log(`  ${label.padEnd(48)} ${failed ?? shortTime(summarize(turns).median)}`);
    }
  }
}

async function compare(
  work: GpuCase,
  peers: readonly GpuPeer[],
  { backend, quick }: GpuFlags,
): Promise<readonly Timed[]> {
  // What fails on our side shows in the table, and the other cases are measured.
  const sides = [{ ...ourSide(work, backend), peer: true } as Side, ...peers.flatMap((p) => p.sides(work))];
  if (work.section === "tutorial") return once(sides);
  return alternate(sides, quick ? 3 : 7, 5);
}

/** One turn each, without one before it: compilation belongs to the work. */
async function once(sides: readonly Side[]): Promise<Timed[]> {
  const all: Timed[] = [];
  for (const { label, turn } of sides) {
    try {
      all.push({ label, turns: [await turn()] });
    } catch (error) {
      all.push({ label, turns: [], failed: (error as Error).message });
    }
  }
  return all;
}

async function main(flags: GpuFlags): Promise<void> {
  mkdirSync(flags.out, { recursive: true });
  const lines = join(flags.out, "gpu.jsonl");
  if (!flags.merge) {
    writeFileSync(lines, "");
    await measure(flags, (line) => appendFileSync(lines, `${JSON.stringify(line)}\n`));
  }
  const table = tableOf(readFileSync(lines, "utf8"));
  writeFileSync(join(flags.out, "gpu.json"), `${JSON.stringify(table, undefined, 2)}\n`);
  const markdown = markdownOf(table);
  writeFileSync(join(flags.out, "gpu.md"), markdown);
  console.log(`\n${markdown}`);
  if (table.rows.some(({ cells }) => cells[0]?.failed !== undefined)) process.exitCode = 1;
}

process.on("exit", stopChildren);
process.on("SIGINT", () => process.exit(130));
process.on("SIGTERM", () => process.exit(143));

try {
  const flags = readGpuFlags(process.argv.slice(2));
  if (flags === "help") console.log(gpuHelp);
  else await main(flags);
} catch (error) {
  if (!(error instanceof FlagError)) throw error;
  console.error(`${error.message}\nSee node build-ts/bench/gpu.js --help`);
  process.exitCode = 2;
} finally {
  stopChildren();
}
