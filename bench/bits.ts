import type { Bench } from "./bench.js";
import { outputOf } from "./children.js";
import { sibling } from "./startup.js";

/** Checksums of the parameters after the same training, by number of threads. */
export interface Bits {
  readonly checksums: Readonly<Record<string, string>>;
  readonly equal: boolean;
}

export async function benchBits(bench: Bench): Promise<Bits> {
  const checksums: Record<string, string> = {};
  for (const threads of ["1", "2", "3", "8"]) {
    bench.progress(`${threads} threads`);
    const env = { FLUXION_NUM_THREADS: threads };
    checksums[threads] = (await outputOf(process.execPath, [sibling("bits-child.js")], env)).trim();
  }
  const equal = new Set(Object.values(checksums)).size === 1;
  const list = Object.entries(checksums).map(([threads, sum]) => `${threads}: ${sum}`);
  bench.print(
    equal ? `  equal on 1, 2, 3 and 8 threads (${checksums["1"]})` : `  DIFFERENT: ${list.join(", ")}`,
  );
  return { checksums, equal };
}
