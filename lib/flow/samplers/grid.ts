import { ValueError } from "../../errors.js";
import { checkCount, checkNumber, checkOptions, describe } from "../../options.js";

/** Where the steps of a sampler begin and end. */
export type FixedStepOptions =
  | {
      /** Number of equal steps. */
      readonly steps: number;
    }
  | {
      /** The times at which steps begin and end: from 0 to 1 or from 1 to 0, strictly monotone. */
      readonly times: readonly number[];
    };

/** The times at which steps begin and end, from 0 to 1. */
export function gridOf(where: string, options: FixedStepOptions): number[] {
  checkOptions(where, options, ["steps", "times"]);
  const { steps, times } = options as { readonly steps?: number; readonly times?: readonly number[] };
  if ((steps === undefined) === (times === undefined))
    throw new ValueError(`${where}: give either steps or times`);
  return times === undefined ? even(checkCount(where, "steps", steps)) : checkGrid(where, times);
}

function even(steps: number): number[] {
  return Array.from({ length: steps + 1 }, (_, i) => i / steps);
}

function checkGrid(where: string, times: unknown): number[] {
  if (!Array.isArray(times) || times.length < 2)
    throw new ValueError(`${where}: times must be an array of at least two numbers, got ${describe(times)}`);
  const grid = times.map((t, i) => checkNumber(where, `times[${i}]`, t, { min: 0, max: 1 }));
  if (grid[0]! > grid.at(-1)!) grid.reverse();
  if (grid[0] !== 0 || grid.at(-1) !== 1 || grid.some((t, i) => i > 0 && t <= grid[i - 1]!))
    throw new ValueError(
      `${where}: times must go strictly from 0 to 1 or from 1 to 0, got [${times.slice(0, 12).join(", ")}${times.length > 12 ? ", ..." : ""}]`,
    );
  return grid;
}
