import type { Setting, Work } from "./peers/torch.js";
import { type Summary, summarize } from "./statistics.js";

/** Somebody who can do a piece of work; `turn` does it a few times and gives the seconds of each time. */
export interface Side {
  readonly label: string;
  turn(): Promise<number[]>;
}

/** OpenBLAS's threads spin for some 30 ms after their work; a turn that began then would have a core less. */
const rest = () => new Promise((resolve) => setTimeout(resolve, 80));

/** The times of one side. */
export interface Timing extends Summary {
  readonly label: string;
  /** How this side's time compares: the reference's median over this one's, so above 1 is faster than it. */
  readonly ratio?: number;
}

/**
 * Lets the sides take turns, so that a change of the machine's mood meets all of them, and sums up each side's times.
 * The last side is the reference for the ratios when there are several.
 */
export async function alternate(sides: readonly Side[], rounds: number): Promise<Timing[]> {
  const seconds = sides.map((): number[] => []);
  for (const side of sides) await side.turn();
  for (let round = 0; round < rounds; round++)
    for (const [i, side] of sides.entries()) {
      await rest();
      seconds[i]!.push(...(await side.turn()));
    }
  const summaries = seconds.map(summarize);
  const reference = summaries.at(-1)!.median;
  return sides.map(({ label }, i) => ({
    label,
    ...summaries[i]!,
    ...(i < sides.length - 1 ? { ratio: reference / summaries[i]!.median } : {}),
  }));
}

/**
 * PyTorch at the best of its settings and variants for this work.
 *
 * @param variants the work in the ways in which it may be asked
 * @param repeats times for each turn
 * @param scale how often each time does the work
 * @throws what PyTorch says when no setting can do it
 */
export async function bestTorch(
  settings: readonly Setting[],
  variants: readonly Work[],
  repeats: number,
  scale: number,
): Promise<Side> {
  let best: { setting: Setting; work: Work; median: number } | undefined;
  let failure: unknown;
  for (const work of variants)
    for (const setting of settings) {
      try {
        await rest();
        const { median } = summarize(await setting.process.measure(work, setting.threads, repeats));
        if (best === undefined || median < best.median) best = { setting, work, median };
      } catch (error) {
        failure = error;
      }
    }
  if (best === undefined) throw failure;
  const { setting, work } = best;
  const jvp = variants.length > 1 ? `, ${work["jvp"]} JVP` : "";
  return {
    label: `PyTorch (${setting.label}${jvp})`,
    turn: async () =>
      (await setting.process.measure(work, setting.threads, repeats)).map((seconds) => seconds / scale),
  };
}
