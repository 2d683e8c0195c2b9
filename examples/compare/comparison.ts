import { join } from "node:path";
import * as fx from "fluxion";
import { type Quality, Yardstick } from "./measures.js";
import type { Options } from "./options.js";
import { keptRuns, type Run, settingsOf } from "./results.js";
import { type Row, summarize } from "./summary.js";
import { columnNotes, markdownComparison, plainComparison } from "./table.js";
import { network, optimization } from "./training.js";

/** Where a comparison says how far it is. */
export interface Output {
  print(line: string): void;
  /** Whether each training shows its progress. */
  readonly progress: boolean;
}

/**
 * Does the runs that are not there yet, keeping each as soon as it has ended, and writes table, numbers and figure of
 * what was asked for.
 */
export async function compare(options: Options, { print, progress }: Output): Promise<void> {
  const { out, dataSets, methods, seeds, samples } = options;
  const file = join(out, "compare.json");
  const settings = settingsOf(options);
  const runs = [...(await keptRuns(file, settings))];
  const planned = seeds.flatMap((seed) =>
    dataSets.flatMap((dataSet) => methods.map((method) => ({ seed, dataSet, method }))),
  );
  const missing = planned.filter(
    ({ seed, dataSet, method }) =>
      !runs.some((run) => run.seed === seed && run.data === dataSet.name && run.method === method.name),
  );
  print(
    `Comparison: ${planned.length} runs of ${settings.steps} steps, batch ${settings.batchSize}, backend ${settings.backend}.`,
  );
  if (missing.length < planned.length)
    print(`Kept from before, and not done again: ${planned.length - missing.length}, in ${file}.`);

  const yardsticks = new Map(dataSets.map((dataSet) => [dataSet, new Yardstick(dataSet, samples)]));
  const floors = Object.fromEntries(
    [...yardsticks].map(([{ name }, yardstick]) => [name, yardstick.floor()]),
  );
  const keep = () => {
    const numbers = { settings, floors, runs, summary: summarize(runs, options) };
    return fx.io.writeFileAtomic(file, `${JSON.stringify(numbers, undefined, 2)}\n`);
  };
  // Before any run: a folder that cannot be written should not cost one.
  await keep();
  for (const [i, { seed, dataSet, method }] of missing.entries()) {
    const label = `${dataSet.title}, ${method.name}, seed ${seed}`;
    const { steps, batchSize } = settings;
    const job = { dataSet, yardstick: yardsticks.get(dataSet)!, seed, steps, batchSize, samples };
    const identity = { data: dataSet.name, method: method.name, seed };
    const show = progress && { label: label.padEnd(36) };
    const run = await method.run({ ...job, progress: show }).then(
      (measured): Run => ({ ...identity, ...measured }),
      (error: unknown): Run => {
        if (!(error instanceof fx.NonFiniteError)) throw error;
        return { ...identity, diverged: error.message };
      },
    );
    runs.push(run);
    await keep();
    print(`${i + 1} of ${missing.length}: ${label}: ${outcome(run)}`);
  }
  await write(summarize(runs, options), runs, floors, options, print);
}

function outcome(run: Run): string {
  if ("diverged" in run) return `diverged. ${run.diverged}`;
  const [[curve, points]] = Object.entries(run.curves) as [[string, (typeof run.curves)[string]]];
  const [{ evaluations, energyDistance }] = points as [(typeof points)[number]];
  const way = curve === run.method ? "" : `${curve}, `;
  return (
    `loss ${run.loss.toFixed(3)}, ${run.millisecondsPerStep.toFixed(2)} ms a step, energy distance ` +
    `${energyDistance.toPrecision(3)} (${way}${evaluations} evaluation${evaluations === 1 ? "" : "s"})`
  );
}

/** The table on the terminal and in Markdown, and the figure. */
async function write(
  rows: readonly Row[],
  runs: readonly Run[],
  floors: Readonly<Record<string, Quality>>,
  options: Options,
  print: Output["print"],
): Promise<void> {
  const { out, dataSets } = options;
  const notes = [...columnNotes, ...settingNotes(options), ...divergenceNotes(runs, options)];
  print(`\n${plainComparison(rows, floors, dataSets)}\n`);
  for (const note of notes) print(note);
  const markdown = [markdownComparison(rows, floors, dataSets), notes.map((note) => `- ${note}`).join("\n")];
  await fx.io.writeFileAtomic(join(out, "compare.md"), `${markdown.join("\n\n")}\n`);

  const panels = dataSets.flatMap(({ name, title }): fx.plot.QualityPanel[] => {
    const own = rows.filter(({ data }) => data === name);
    const curves = own.map(({ curve, points }) => [
      curve,
      points.map(({ evaluations, energyDistance }) => ({ evaluations, values: energyDistance.values })),
    ]);
    const floor = floors[name]!.energyDistance;
    return own.length === 0 ? [] : [{ title, floor, curves: Object.fromEntries(curves) }];
  });
  if (panels.length === 0) {
    print("\nEvery run diverged: there is no figure.");
    return;
  }
  const figure = fx.plot.qualityCurves(panels, { measure: "energy distance", log: true });
  await figure.save(join(out, "compare.svg"));
  await figure.save(join(out, "compare.png"));
  print(`\nTable, numbers and figure: ${join(out, "compare.md")}, compare.json, compare.svg and compare.png`);
}

function settingNotes({ steps, batchSize, samples, seeds, methods }: Options): string[] {
  const { peak, warmupSteps, ema } = optimization(steps);
  const several =
    seeds.length === 1 ? `seed ${seeds[0]}` : `seeds ${seeds[0]} to ${seeds.at(-1)}: means and ranges`;
  return [
    ...methods.map(({ name, description }) => `${name}: ${description}.`),
    `All: ${network.layers} hidden layers of ${network.hidden}, exact GELU, raw times; ${steps} steps, batch ${batchSize}, Adam, ` +
      `warm-up of ${warmupSteps} steps to ${peak}, then half a cosine to 0; moving average ${ema}; ${samples} samples, ${several}.`,
  ];
}

function divergenceNotes(runs: readonly Run[], { dataSets, methods, seeds }: Options): string[] {
  return runs.flatMap((run) => {
    const dataSet = dataSets.find(({ name }) => name === run.data);
    const asked = methods.some(({ name }) => name === run.method) && seeds.includes(run.seed);
    if (!("diverged" in run) || dataSet === undefined || !asked) return [];
    return [`${run.method} diverged on ${dataSet.title} with seed ${run.seed}, which is left out.`];
  });
}
