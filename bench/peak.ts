import { measureBandwidth, measurePeak, threads as threadsInUse } from "#lib/backend/cpu.js";
import type { Bench } from "./bench.js";
import { engineering, percent, threadsOf } from "./format.js";
import type { Side } from "./measure.js";
import { type Summary, summarize } from "./statistics.js";

/** Seconds of one measurement of the peak: the best of five windows of 4 ms. */
const seconds = 0.02;

/** Bytes of each of the three arrays of a bandwidth measurement, where no section asks for others: beyond caches. */
const large = 1 << 26;

/** What the machine did at best at some moment of the run. */
export interface PeakRow {
  readonly what: "multiply-adds" | "memory";
  readonly threads: number;
  /** Bytes of each array, for memory. */
  readonly bytes?: number;
  /** FLOP/s or bytes/s. */
  readonly rate: Summary;
  readonly measurements: number;
}

/**
 * The machine's own limits, measured again and again between the turns of the work that is held against them:
 * clocks change with heat, load and neighbours.
 */
export class Peak {
  readonly #rates = new Map<string, { row: Omit<PeakRow, "rate" | "measurements">; rates: number[] }>();

  /** A side whose turn is the least time that so many float32 operations take on so many threads. */
  floor(flops: number, threads: number): Side {
    return {
      label: "floor",
      turn: async () => flops / this.#note({ what: "multiply-adds", threads }, measurePeak(threads, seconds)),
    };
  }

  /** A side whose turn is the time of moving so many bytes, at the speed of a triad on arrays of `bytes` bytes. */
  transfer(moved: number, threads: number, bytes = large): Side {
    return {
      label: "triad",
      turn: async () =>
        moved / this.#note({ what: "memory", threads, bytes }, measureBandwidth(threads, bytes)),
    };
  }

  /** All that was measured so far. */
  rows(): PeakRow[] {
    return [...this.#rates.values()].map(({ row, rates }) => ({
      ...row,
      rate: summarize(rates),
      measurements: rates.length,
    }));
  }

  #note(row: Omit<PeakRow, "rate" | "measurements">, rate: number): number {
    const key = JSON.stringify(row);
    const entry = this.#rates.get(key) ?? { row, rates: [] };
    this.#rates.set(key, entry);
    entry.rates.push(rate);
    return rate;
  }
}

/** Measures the limits for themselves; the other sections go on with it. */
export async function benchPeak({ peak, print, quick }: Bench): Promise<void> {
  for (const threads of new Set([1, threadsInUse()]))
    for (const side of [peak.floor(1, threads), peak.transfer(1, threads)])
      for (let i = 0; i < (quick ? 3 : 9); i++) await side.turn();
  printPeak(peak, print);
}

/** Median and spread of each limit over the run so far. */
export function printPeak(peak: Peak, print: Bench["print"]): void {
  for (const { what, threads, bytes, rate, measurements } of peak.rows()) {
    const size = bytes === undefined ? "" : `, arrays of ${engineering(bytes, "B")}`;
    const name = `${what}, ${threadsOf(threads)}${size}`;
    const unit = what === "memory" ? "B/s" : "FLOP/s";
    const spread = `±${percent(rate.spread).padStart(4)}`;
    print(
      `  ${name.padEnd(44)} ${engineering(rate.median, unit).padStart(12)} ${spread} (${measurements} measurements)`,
    );
  }
}
