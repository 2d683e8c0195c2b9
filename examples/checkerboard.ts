/**
 * The main job in one command: `npm run demo` trains flow matching, mean flow and improved mean flow on the
 * checkerboard, measures their samples, and writes figures and a report.
 */
import { join } from "node:path";
import * as fx from "fluxion";
import { type Evaluation, evaluate } from "./checkerboard/evaluation.js";
import { collect, type Entry, figureSteps, figures, type Material } from "./checkerboard/figures.js";
import { help, type Options, readOptions } from "./checkerboard/options.js";
import { reportHtml } from "./checkerboard/report.js";
import { data, learningRate, network, type Run, runs, training } from "./checkerboard/runs.js";
import { cells, columns, type Result, wordColumns } from "./checkerboard/table.js";
import { runMain } from "./support/main.js";
import { plainTable } from "./support/table.js";

/** When samples are taken for the figure, in tenths of the training. */
const checkpointTenths = [0, 1, 2, 4, 6, 10];

async function main(options: Options): Promise<void> {
  const { steps, seed, samples, out } = options;
  const tenth = Math.max(1, Math.floor((steps - 1) / 10));
  const checkpoints = checkpointTenths.map((n) => n * tenth).filter((step) => step <= steps);
  const [firstKey, secondKey] = fx.random.split(fx.random.key(seed + 3), 2) as [fx.Tensor, fx.Tensor];
  const reference = data.sample(firstKey, samples);
  const floor = evaluate(data.sample(secondKey, samples), reference);
  console.log(
    `Checkerboard: ${runs.length} runs of ${steps} steps, batch ${options.batchSize}, seed ${seed}, backend ${fx.backend()}.`,
  );
  const results: Result[] = [];
  const material: Material[] = [];
  for (const run of runs) {
    const done = await trainAndMeasure(run, checkpoints, reference, options);
    results.push(done.result);
    material.push(done.material);
    console.log(
      `${label(run)}: loss ${done.result.loss.toFixed(3)}, ${done.result.stepsPerSecond.toFixed(1)} steps/s`,
    );
  }
  const rows = cells(results, floor);
  console.log(`\n${plainTable(columns, rows, wordColumns)}\n`);
  for (const note of tableNotes(options)) console.log(note);
  await write(out, rows, results, floor, figures(material, checkpoints, options), options);
  console.log(`\nFigures and report: ${join(out, "report.html")}`);
}

/** Trains one run, taking samples at the checkpoints, and measures it. */
async function trainAndMeasure(
  run: Run,
  checkpoints: readonly number[],
  reference: fx.Tensor,
  options: Options,
): Promise<{ result: Result; material: Material }> {
  const { steps, seed, points, samples, tableSteps } = options;
  const trained = training(run, options);
  const look = () => trained.sample(points, figureSteps(run), fx.random.key(seed + 1));
  const atCheckpoints = [await look()];
  const { loss, stepsPerSecond } = await trained.fit({
    steps,
    progress: { label: label(run).padEnd(18) },
    logEvery: checkpoints[1] ?? steps,
    log: async ({ step }) => {
      if (checkpoints.includes(step)) atCheckpoints.push(await look());
    },
  });
  const rows: { steps: number; evaluation: Evaluation }[] = [];
  for (const count of tableSteps) {
    const drawn = await trained.sample(samples, count, fx.random.key(seed + 4));
    rows.push({ steps: count, evaluation: evaluate(drawn, reference) });
  }
  const material = await collect(run, trained, atCheckpoints, options);
  trained.dispose();
  return { result: { run, loss, stepsPerSecond, rows }, material };
}

function tableNotes({ samples, tableSteps }: Options): string[] {
  return [
    `Loss: mean of the raw loss over the last 200 steps. T: sampling steps (${tableSteps.join(", ")}), by Euler's method for FM and ` +
      `mean-flow steps for MF and iMF. Each row measures ${samples} samples against as many points of data; the last row, two ` +
      "independent sets of data, is what cannot be beaten but by chance.",
    "FM at T = 1 collapses to the mean of the data, which is right: a velocity at one moment does not know where its path bends.",
  ];
}

/** Writes figures, numbers and the report. */
async function write(
  out: string,
  rows: string[][],
  results: readonly Result[],
  floor: Evaluation,
  entries: readonly Entry[],
  options: Options,
): Promise<void> {
  const pictures = [];
  for (const { file, figure, title, caption } of entries) {
    await figure.save(join(out, `${file}.svg`));
    const png = await figure.toPNG();
    await fx.io.writeFileAtomic(join(out, `${file}.png`), png);
    pictures.push({ title, caption, png });
  }
  const { steps, batchSize, seed } = options;
  const settings: [string, string][] = [
    [
      "network",
      `${network.layers} hidden layers of ${network.hidden}, exact GELU, input (z, t, r) for MF and (z, t) for FM`,
    ],
    ["training", `${steps} steps, batch ${batchSize}, Adam ${learningRate}, seed ${seed}`],
    ["backend", fx.backend()],
  ];
  const numbers = { settings: { steps, batchSize, seed, backend: fx.backend() }, results, floor };
  await fx.io.writeFileAtomic(join(out, "results.json"), `${JSON.stringify(numbers, undefined, 2)}\n`);
  await fx.io.writeFileAtomic(
    join(out, "report.html"),
    reportHtml(
      "Flow matching and mean flow on the checkerboard",
      settings,
      rows,
      tableNotes(options),
      pictures,
    ),
  );
}

function label({ name, orientation }: Run): string {
  return `${name} ${orientation}`;
}

await runMain("npm run demo", async () => {
  const options = readOptions(process.argv.slice(2));
  if (options === undefined) console.log(help);
  else await main(options);
});
