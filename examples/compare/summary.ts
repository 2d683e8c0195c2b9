import type { FieldErrors, Quality } from "./measures.js";
import { baseline, type Method } from "./methods.js";
import type { Options } from "./options.js";
import type { Run } from "./results.js";
import { median } from "./training.js";

/** A number over several trainings. */
export interface Spread {
  readonly mean: number;
  readonly least: number;
  readonly greatest: number;
  readonly values: readonly number[];
}

/** The same numbers, over several trainings. */
type Spreads<Numbers> = { readonly [Name in keyof Numbers]: Spread };

/** One curve of one method on one data set, over its seeds. */
export interface Row {
  readonly data: string;
  readonly method: string;
  readonly curve: string;
  readonly seeds: readonly number[];
  readonly points: readonly ({ readonly evaluations: number } & Spreads<Quality>)[];
  readonly fieldErrors?: Spreads<FieldErrors>;
  /** Time of a step in that of flow matching with the same data and seed; the median over seeds. */
  readonly cost?: number;
}

/** The rows of the chosen data sets, methods and seeds; a method without a run on a data set has none. */
export function summarize(runs: readonly Run[], { dataSets, methods, seeds }: Options): Row[] {
  return dataSets.flatMap(({ name: data }) => {
    const here = runs.filter((run) => run.data === data && seeds.includes(run.seed));
    return methods.flatMap((method) => rowsOf(here, data, method));
  });
}

function rowsOf(runs: readonly Run[], data: string, { name, curves }: Method): Row[] {
  const own = measured(runs, name);
  if (own.length === 0) return [];
  const units = new Map(measured(runs, baseline).map((run) => [run.seed, run.millisecondsPerStep]));
  const costs = own.flatMap(({ seed, millisecondsPerStep }) => {
    const unit = units.get(seed);
    return unit === undefined ? [] : [millisecondsPerStep / unit];
  });
  const errors = own.flatMap(({ fieldErrors }) => (fieldErrors === undefined ? [] : [fieldErrors]));
  return curves.map((curve) => ({
    data,
    method: name,
    curve,
    seeds: own.map(({ seed }) => seed),
    points: own[0]!.curves[curve]!.map(({ evaluations }, i) => ({
      evaluations,
      ...spreads<Quality>(
        own.map((run) => {
          const { evaluations: _, ...quality } = run.curves[curve]![i]!;
          return quality;
        }),
      ),
    })),
    ...(errors.length === 0 ? {} : { fieldErrors: spreads<FieldErrors>(errors) }),
    ...(costs.length === 0 ? {} : { cost: median(costs) }),
  }));
}

function measured(runs: readonly Run[], method: string) {
  return runs.flatMap((run) => (run.method === method && !("diverged" in run) ? [run] : []));
}

/** Each number of the first, with its counterparts in the others. */
function spreads<Numbers extends object>(all: readonly Numbers[]): Spreads<Numbers> {
  const names = Object.keys(all[0]!) as (keyof Numbers)[];
  return Object.fromEntries(
    names.map((name) => [name, spread(all.map((numbers) => numbers[name] as number))]),
  ) as Spreads<Numbers>;
}

function spread(values: readonly number[]): Spread {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return { mean, least: Math.min(...values), greatest: Math.max(...values), values };
}
