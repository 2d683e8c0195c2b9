import * as fx from "fluxion";
import type { Options } from "./options.js";
import { data, type Run, runs, type Training } from "./runs.js";

/** What is kept of a run for the figures, all points [n, 2]. */
export interface Material {
  readonly run: Run;
  readonly losses: Float32Array;
  /** Samples by each of the numbers of steps of the figure. */
  readonly bySteps: readonly fx.Tensor[];
  /** States on the way from noise to data, at evenly spaced times. */
  readonly moments: readonly fx.Tensor[];
  readonly momentTimes: readonly number[];
  /** Samples at the checkpoints. */
  readonly atCheckpoints: readonly fx.Tensor[];
}

/** A figure with its file name and what it shows. */
export interface Entry {
  readonly file: string;
  readonly title: string;
  readonly caption: string;
  readonly figure: fx.plot.Figure;
}

/** Half of the side of the plots: the board reaches to 2. */
const scale = 2.6;
const momentCount = 6;

/** Sampling steps for the figures in which they do not vary. */
export function figureSteps(run: Run): number {
  return run.average ? 1 : 100;
}

/** The figures' samples of a trained run. */
export async function collect(
  run: Run,
  training: Training,
  atCheckpoints: readonly fx.Tensor[],
  { seed, figureSteps, points }: Options,
): Promise<Material> {
  const key = fx.random.key(seed + 1);
  const bySteps: fx.Tensor[] = [];
  for (const steps of figureSteps) bySteps.push(await training.sample(points, steps, key));
  // Mean flow makes one large step for each moment; flow matching needs many small ones in between.
  const between = run.average ? 1 : 20;
  const way = await training.trajectory(points, (momentCount - 1) * between, key);
  const places = Array.from({ length: momentCount }, (_, i) => i * between);
  const at = (i: number) => fx.reshape(fx.slice(way.trajectory, [i, 0, 0], [1, points, 2]), [points, 2]);
  return {
    run,
    losses: training.losses,
    bySteps,
    moments: places.map(at),
    momentTimes: places.map((i) => way.times[i]!),
    atCheckpoints,
  };
}

/** All figures of the demo. */
export function figures(
  material: readonly Material[],
  checkpoints: readonly number[],
  options: Options,
): Entry[] {
  const { seed, points, figureSteps } = options;
  const backwards = material.filter(({ run }) => run.orientation === "data-to-noise");
  const forwards = material.filter(({ run }) => run.orientation === "noise-to-data");
  const names = (list: readonly Material[]) => list.map(({ run }) => run.name);
  const table = (list: readonly Material[]) =>
    figureSteps.map((_, i) => list.map(({ bySteps }) => bySteps[i]!));
  const stepLabels = figureSteps.map((steps) => `T = ${steps}`);
  const look = { scale, limit: points };
  const [noiseKey, dataKey] = fx.random.split(fx.random.key(seed + 2), 2) as [fx.Tensor, fx.Tensor];
  return [
    {
      file: "source-and-target",
      title: "Source and target",
      caption:
        "Samples of a standard normal distribution are carried to the checkerboard. Its dark tiles cover half of the square from -2 to 2.",
      figure: fx.plot.scatterGrid([[fx.random.normal(noiseKey, [points, 2]), data.sample(dataKey, points)]], {
        rows: [""],
        columns: ["source: normal noise", "target: checkerboard"],
        size: 280,
        ...look,
      }),
    },
    {
      file: "loss-curves",
      title: "Loss",
      caption:
        "Raw loss of each step, faint, and its moving average. The levels cannot be compared between objectives: the variance of " +
        "the target is part of each, and it is largest for MF, whose target contains the derivative along a random velocity.",
      figure: fx.plot.lossCurves(Object.fromEntries(backwards.map(({ run, losses }) => [run.name, losses]))),
    },
    {
      file: "samples-by-steps",
      title: "Samples by the number of steps T",
      caption:
        "FM learns the velocity at one moment, so its single large step goes to the mean of all data: the collapse at T = 1 is " +
        "right, and what mean flow exists to avoid. MF and iMF learn the average velocity over an interval and need one step.",
      figure: fx.plot.scatterGrid(table(backwards), { rows: stepLabels, columns: names(backwards), ...look }),
    },
    {
      file: "evolution",
      title: "From noise to data",
      caption: `States at ${momentCount} times, noise at the left. FM by Euler's method with ${20 * (momentCount - 1)} steps, MF and iMF with one step from each moment to the next.`,
      figure: fx.plot.scatterGrid(
        backwards.map(({ moments }) => moments),
        {
          rows: names(backwards),
          columns: backwards[0]!.momentTimes.map((time) => `t = ${Number(time.toFixed(2))}`),
          size: 130,
          colorBy: "row",
          ...look,
        },
      ),
    },
    {
      file: "checkpoints",
      title: "Samples in the course of training",
      caption:
        "After so many training steps: FM with T = 100, MF and iMF with T = 1, always from the same noise.",
      figure: fx.plot.scatterGrid(
        material.map(({ atCheckpoints }) => atCheckpoints),
        {
          rows: runs.map(({ name, orientation }) =>
            orientation === "data-to-noise" ? name : `${name}, forwards`,
          ),
          columns: checkpoints.map((step) => `step ${step}`),
          size: 130,
          colorBy: "row",
          ...look,
        },
      ),
    },
    {
      file: "noise-to-data",
      title: "The other orientation",
      caption:
        "The same with noise at time 0 and data at time 1. The average velocity is then anchored at the start of its interval, and " +
        "steps go forwards. Nothing else changes.",
      figure: fx.plot.scatterGrid(table(forwards), {
        rows: stepLabels,
        columns: forwards.map(({ run }) => `${run.name}, noise to data`),
        ...look,
      }),
    },
  ];
}
