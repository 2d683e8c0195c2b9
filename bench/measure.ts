import { summarize } from "./statistics.js";

/** Somebody who can do a piece of work. */
export interface Side {
  readonly label: string;
  /** Does the work a few times, and gives the seconds of one time. */
  turn(): Promise<number>;
  /** Most rounds that it takes part in: the slow ones are measured less often. Default: all. */
  readonly rounds?: number;
  /** Frees what the work needs; called after the last turn. */
  end?(): void;
  /** A peer, which may fail without ending the bench. */
  readonly peer?: true;
}

/** What one side was measured at. */
export interface Timed {
  readonly label: string;
  /** Seconds, one for each round. */
  readonly turns: readonly number[];
  /** Why a peer did not last. */
  readonly failed?: string;
}

/** OpenBLAS's threads spin for some 30 ms after their work; a turn that began then would have a core less. */
const restMilliseconds = 80;
const rest = (milliseconds = restMilliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/**
 * Lets the sides take turns, so that a change of the machine's mood meets all of them: ratios are taken within a
 * round. A turn of each goes first, unmeasured. Between turns it waits, by default until OpenBLAS's threads sleep.
 */
export async function alternate<const Sides extends readonly Side[]>(
  sides: Sides,
  rounds: number,
  pause?: number,
): Promise<{ [i in keyof Sides]: Timed }> {
  const turns = sides.map((): number[] => []);
  const failed = new Map<Side, string>();
  for (let round = -1; round < rounds; round++)
    for (const [i, side] of sides.entries()) {
      if (failed.has(side) || round >= (side.rounds ?? rounds)) continue;
      await rest(pause);
      try {
        const seconds = await side.turn();
        if (round >= 0) turns[i]!.push(seconds);
      } catch (error) {
        if (!side.peer) throw error;
        failed.set(side, (error as Error).message);
      }
    }
  for (const side of sides) side.end?.();
  return sides.map((side, i) => {
    const reason = failed.get(side);
    return { label: side.label, turns: turns[i]!, ...(reason === undefined ? {} : { failed: reason }) };
  }) as { [i in keyof Sides]: Timed };
}

/**
 * The fastest of several ways to have the same work done. All are tried; where this should be `certain`, the three
 * that did best are tried once more, so that one disturbed trial does not decide.
 *
 * @throws what the last one said, when none can do it
 */
export async function fastest(ways: readonly Side[], certain: boolean): Promise<Side> {
  let failure: unknown = new Error("there is no way to do it");
  const trials = new Map<Side, number>();
  const attempt = async (way: Side) => {
    try {
      await rest();
      const seconds = await way.turn();
      trials.set(way, Math.min(seconds, trials.get(way) ?? Number.POSITIVE_INFINITY));
    } catch (error) {
      failure = error;
      trials.delete(way);
    }
  };
  const ranked = () => [...trials].sort(([, a], [, b]) => a - b).map(([way]) => way);
  for (const way of ways) await attempt(way);
  if (certain) for (const way of ranked().slice(0, 3)) await attempt(way);
  const [best] = ranked();
  if (best === undefined) throw failure;
  return best;
}

/** The seconds of one time, from a few repetitions that each do the work `inner` times. */
export async function timed(repeats: number, inner: number, work: () => Promise<unknown>): Promise<number> {
  const seconds: number[] = [];
  for (let i = 0; i < repeats; i++) {
    const start = performance.now();
    await work();
    seconds.push((performance.now() - start) / 1000 / inner);
  }
  return summarize(seconds).median;
}
