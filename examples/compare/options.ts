import { chosen, parseFlags, quickness, wholeNumber } from "../support/flags.js";
import { type DataSet, dataSets } from "./data-sets.js";
import { further, type Method, methods } from "./methods.js";

/** What is to be compared, and how. */
export interface Options {
  readonly seeds: readonly number[];
  readonly steps: number;
  readonly batchSize: number;
  /** Samples for each number in the table. */
  readonly samples: number;
  readonly dataSets: readonly DataSet[];
  readonly methods: readonly Method[];
  readonly out: string;
}

const names = (choices: readonly { readonly name: string }[]) => choices.map(({ name }) => name).join(", ");

export const help = `Trains every objective in one setting on three data sets, and compares samples, fields and cost.

usage: npm run compare -- [flags]

  --seeds N          trainings of each objective on each data set (default 1)
  --seed-from N      the first seed (default 0)
  --steps N          training steps of each run (default 5001)
  --batch N          samples in a batch (default 1024)
  --samples N        samples for each number in the table (default 10000)
  --data LIST        ${names(dataSets)} (default: all)
  --objectives LIST  ${names(methods)} (default: all these);
                     and further ones: ${names(further)}
  --backend NAME     typescript, cpu or cuda (default: the fastest there is)
  --out FOLDER       where compare.md, .json, .svg and .png go (default runs/compare; runs/compare-quick with --quick)
  --quick            a short look, under half a minute: few steps, small batches, few samples
  --help             this text

Lists are separated by commas. Each run is kept in compare.json when it has ended: the same command goes on where it was
interrupted, and other data, objectives and seeds are added. Remove the folder to have all runs done again.`;

/**
 * The options in the arguments; undefined when help was asked for. Sets the backend.
 *
 * @throws UsageError saying which flag is wrong
 */
export function readOptions(args: readonly string[]): Options | undefined {
  const text = { type: "string" } as const;
  const flags = parseFlags(args, {
    seeds: text,
    "seed-from": text,
    steps: text,
    batch: text,
    samples: text,
    data: text,
    objectives: text,
    backend: text,
    out: text,
    quick: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  });
  if (flags.help === true) return undefined;
  const { quick, slow } = quickness(flags);
  const first = wholeNumber("--seed-from", flags["seed-from"], 0, 0);
  const count = wholeNumber("--seeds", flags.seeds, 1, 1);
  return {
    seeds: Array.from({ length: count }, (_, i) => first + i),
    steps: wholeNumber("--steps", flags.steps, slow ? 20 : quick ? 200 : 5001, 1),
    batchSize: wholeNumber("--batch", flags.batch, slow ? 64 : quick ? 256 : 1024, 1),
    samples: wholeNumber("--samples", flags.samples, slow ? 200 : quick ? 1000 : 10_000, 1),
    dataSets: chosen("--data", flags.data, dataSets),
    methods: chosen("--objectives", flags.objectives, methods, further),
    out: flags.out ?? (quick ? "runs/compare-quick" : "runs/compare"),
  };
}
