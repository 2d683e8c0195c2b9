import { setThreads, threads as threadsInUse } from "#lib/backend/cpu.js";
import type { Bench } from "./bench.js";
import { stepFlops } from "./floor.js";
import { engineering, percent, threadsOf } from "./format.js";
import { alternate } from "./measure.js";
import { ratio, type Summary, summarize } from "./statistics.js";
import { layers, trainingSide } from "./trainers.js";

/** A step of flow matching at one place of one of the three series. */
export interface ScalingRow {
  readonly series: "batch" | "width" | "threads";
  readonly batch: number;
  readonly hidden: number;
  readonly threads: number;
  readonly seconds: Summary;
  readonly samplesPerSecond: number;
  /** The floor's time over ours. */
  readonly shareOfFloor: Summary;
}

/** Each series changes one number of this place. */
const middle = { batch: 4096, hidden: 128 };

export async function benchScaling(bench: Bench): Promise<ScalingRow[]> {
  const all = threadsInUse();
  const batches = [256, 1024, 4096, 16384, 65536];
  const places = [
    ...batches.map((batch) => ({ series: "batch" as const, ...middle, batch, threads: all })),
    ...[64, 128, 256, 512].map((hidden) => ({ series: "width" as const, ...middle, hidden, threads: all })),
    ...threadCounts(all).map((threads) => ({ series: "threads" as const, ...middle, threads })),
  ];
  bench.print(`  FM, MLP of ${layers} layers, Adam`);
  const rows: ScalingRow[] = [];
  try {
    for (const place of places) rows.push(await measure(bench, place));
  } finally {
    setThreads(all);
  }
  return rows;
}

async function measure(
  bench: Bench,
  place: Pick<ScalingRow, "series" | "batch" | "hidden" | "threads">,
): Promise<ScalingRow> {
  const { series, batch, hidden, threads } = place;
  const name = `batch ${batch}, ${hidden} wide, ${threadsOf(threads)}`;
  bench.progress(name);
  setThreads(threads);
  const flops = stepFlops("fm", hidden, layers, batch);
  const steps = Math.max(1, Math.round(5e9 / flops));
  const side = trainingSide("fm", { batch, hidden }, "cpu", steps);
  const [own, floor] = await alternate([side, bench.peak.floor(flops, threads)], bench.rounds);
  const seconds = summarize(own.turns);
  const row = {
    ...place,
    seconds,
    samplesPerSecond: batch / seconds.median,
    shareOfFloor: ratio(floor.turns, own.turns),
  };
  bench.print(
    `  by ${series.padEnd(8)} ${name.padEnd(36)} ${engineering(row.samplesPerSecond, "samples/s").padStart(16)} ` +
      `±${percent(seconds.spread).padStart(4)}  ${percent(row.shareOfFloor.median).padStart(4)} of the floor's speed`,
  );
  return row;
}

/** 1, 2, 4, ... and all. */
export function threadCounts(all: number): number[] {
  const counts: number[] = [];
  for (let count = 1; count < all; count *= 2) counts.push(count);
  return [...counts, all];
}
