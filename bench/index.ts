/** `npm run bench`: this library beside PyTorch, in one run, with the sides taking turns. See bench/README.md. */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import * as fx from "fluxion";
import { benchGemm } from "./gemm.js";
import type { Timing } from "./measure.js";
import { startTorch } from "./peers/torch.js";
import { benchSteps } from "./steps.js";

const help = `Measures matrix products and training steps on each backend, beside PyTorch.

usage: npm run bench -- [flags]

  --quick      fewer rounds and shapes
  --json FILE  also writes the figures to a file
  --help       this text`;

/** A piece of work with the times of all who did it. */
export interface Row {
  readonly section: "gemm" | "step";
  readonly name: string;
  /** Floating-point operations of the work, where they count. */
  readonly flops?: number;
  readonly timings: readonly Timing[];
}

async function main(flags: { quick?: boolean; json?: string }): Promise<void> {
  const quick = flags.quick === true;
  const backends = fx.backends().filter(({ available }) => available);
  const torch = await startTorch();
  try {
    console.log(`Node ${process.version}, ${availableParallelism()} threads, backends ${names(backends)}`);
    for (const { name, reason } of fx.backends().filter(({ available }) => !available))
      console.log(`without ${name}: ${reason}`);
    if ("missing" in torch) console.log(`without PyTorch: ${torch.missing}`);
    else console.log(`beside ${torch.version}${torch.note === undefined ? "" : `; ${torch.note}`}`);
    const settings = "missing" in torch ? [] : torch.settings;
    const ratio = `${settings.length > 0 ? "PyTorch" : names(backends).at(-1)}'s time over this one's`;
    const rows: Row[] = [];
    console.log(`\nMatrix products, float32. Median, its spread, and ${ratio}.`);
    for await (const row of benchGemm(names(backends), settings, quick)) rows.push(print(row));
    console.log(
      `\nTraining steps: MLP 4 x 128, batch 4096, Adam, every sample with r < t. Likewise ${ratio}.`,
    );
    for await (const row of benchSteps(names(backends), settings, quick)) rows.push(print(row));
    if (flags.json !== undefined) {
      const peers = "missing" in torch ? { missing: torch.missing } : { torch: torch.version };
      const content = { node: process.version, threads: availableParallelism(), peers, rows };
      await fx.io.writeFileAtomic(flags.json, `${JSON.stringify(content, undefined, 2)}\n`);
    }
  } finally {
    if (!("missing" in torch)) torch.stop();
  }
}

function names(backends: readonly fx.BackendInfo[]): fx.BackendName[] {
  return backends.map(({ name }) => name);
}

function print(row: Row): Row {
  console.log(`  ${row.name}`);
  for (const { label, median, spread, ratio } of row.timings) {
    const rate = row.flops === undefined ? "" : `${(row.flops / median / 1e9).toFixed(1)} GFLOP/s`;
    const compared = ratio === undefined ? "" : `${ratio.toFixed(2)}x`;
    const time = `${(median * 1000).toPrecision(4)} ms`;
    console.log(
      `    ${label.padEnd(50)} ${time.padStart(10)} ±${(100 * spread).toFixed(0).padStart(2)} % ${rate.padStart(15)} ${compared.padStart(8)}`,
    );
  }
  return row;
}

try {
  const { values } = parseArgs({
    options: { quick: { type: "boolean" }, json: { type: "string" }, help: { type: "boolean", short: "h" } },
  });
  if (values.help === true) console.log(help);
  else await main(values);
} catch (error) {
  if (!String((error as { code?: unknown }).code).startsWith("ERR_PARSE_ARGS")) throw error;
  console.error(`${(error as Error).message}\nSee npm run bench -- --help`);
  process.exitCode = 2;
}
