import { parseFlags, quickness, wholeNumber } from "../support/flags.js";

/** What the demo is asked to do. */
export interface Options {
  readonly steps: number;
  readonly seed: number;
  readonly out: string;
  readonly batchSize: number;
  /** Samples for each number in the table. */
  readonly samples: number;
  /** Numbers of sampling steps in the table, and in the figure. */
  readonly tableSteps: readonly number[];
  readonly figureSteps: readonly number[];
  /** Points in each panel of a figure. */
  readonly points: number;
  readonly quick: boolean;
}

export const help = `Trains flow matching, mean flow and improved mean flow on the checkerboard, prints a table, draws figures.

usage: npm run demo -- [flags]

  --steps N        training steps of each run (default 5001)
  --seed N         seed of parameters, batches and samples (default 0)
  --backend NAME   typescript, cpu or cuda (default: the fastest there is)
  --out FOLDER     where figures and report.html go (default runs/checkerboard)
  --quick          a short look, under half a minute: fewer steps, smaller batches, fewer samples
  --help           this text`;

/**
 * The options in the arguments; undefined when help was asked for. Sets the backend.
 *
 * @throws UsageError saying which flag is wrong
 */
export function readOptions(args: readonly string[]): Options | undefined {
  const flags = parseFlags(args, {
    steps: { type: "string" },
    seed: { type: "string" },
    backend: { type: "string" },
    out: { type: "string" },
    quick: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  });
  if (flags.help === true) return undefined;
  const { quick, slow } = quickness(flags);
  return {
    quick,
    steps: wholeNumber("--steps", flags.steps, quick ? 200 : 5001, 1),
    seed: wholeNumber("--seed", flags.seed, 0, 0),
    out: flags.out ?? "runs/checkerboard",
    batchSize: slow ? 128 : quick ? 1024 : 4096,
    samples: slow ? 500 : quick ? 2000 : 10_000,
    tableSteps: quick ? [1, 2, 4, 10] : [1, 2, 4, 10, 100],
    figureSteps: slow ? [1, 10] : quick ? [1, 10, 100] : [1, 10, 100, 500],
    points: slow ? 300 : quick ? 1000 : 2500,
  };
}
