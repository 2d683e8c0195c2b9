import * as fx from "fluxion";
import { threads as threadsInUse } from "#lib/backend/cpu.js";
import { backendOf } from "#lib/backend/index.js";
import type { Bench } from "./bench.js";
import { engineering, percent, time } from "./format.js";
import { alternate, type Side, timed } from "./measure.js";
import { ratio, type Summary, summarize } from "./statistics.js";

/** Elementwise work on large arrays. */
export interface MapRow {
  readonly name: string;
  readonly elements: number;
  readonly seconds: Summary;
  /** Bytes read and written a second. */
  readonly rate: number;
  /** Our share of the triad's rate on arrays of the same size, measured in the same rounds. */
  readonly shareOfTriad: Summary;
}

interface Work {
  readonly name: string;
  readonly elements: number;
  /** Arrays read, of this many elements each; one is written. */
  readonly operands: number;
  f(...operands: fx.Tensor[]): fx.Tensor;
}

const works: readonly Work[] = [
  { name: "a * b + c", elements: 1 << 24, operands: 3, f: (a, b, c) => a!.mul(b!).add(c!) },
  { name: "gelu(a)", elements: 1 << 22, operands: 1, f: (a) => fx.gelu(a!) },
];

export async function benchMap(bench: Bench): Promise<MapRow[]> {
  bench.print(`  ${"".padEnd(24)} ${"time".padStart(15)} ${"rate".padStart(12)}  share of the triad's rate`);
  const rows: MapRow[] = [];
  for (const { name, elements, operands, f } of works) {
    bench.progress(name);
    const moved = 4 * elements * (operands + 1);
    const triad = bench.peak.transfer(moved, threadsInUse(), 4 * elements);
    const [own, limit] = await alternate([ours(elements, operands, f), triad], bench.rounds);
    const seconds = summarize(own.turns);
    const row = {
      name,
      elements,
      seconds,
      rate: moved / seconds.median,
      shareOfTriad: ratio(limit.turns, own.turns),
    };
    rows.push(row);
    bench.print(
      `  ${`${name}, 2^${Math.log2(elements)} numbers`.padEnd(24)} ${time(seconds)} ` +
        `${engineering(row.rate, "B/s").padStart(12)}  ${percent(row.shareOfTriad.median)} ±${percent(row.shareOfTriad.spread)}`,
    );
  }
  return rows;
}

/** The work in a loop that writes its result to the same two places in turn. */
function ours(elements: number, operands: number, f: Work["f"]): Side {
  const inputs = Array.from({ length: operands }, (_, i) => fx.random.normal(fx.random.key(i), [elements]));
  const step = () => ({ state: { y: f(...inputs) }, observed: [fx.zeros([])] });
  const loop = fx.compileLoop(step, { y: fx.zeros([elements]) }, { backend: backendOf("cpu") });
  return { label: "ours", turn: () => timed(5, 1, () => loop.run(1)), end: () => loop.dispose() };
}
