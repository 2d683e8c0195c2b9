import * as fx from "fluxion";
import type { Options } from "./options.js";

/** One training of the demo. */
export interface Run {
  /** FM, MF or iMF. */
  readonly name: string;
  readonly orientation: fx.flow.Orientation;
  /** Whether its model is an average velocity, which can be sampled in one step. */
  readonly average: boolean;
}

/** The five trainings, in the order of the table. */
export const runs: readonly Run[] = [
  { name: "FM", orientation: "data-to-noise", average: false },
  { name: "MF", orientation: "data-to-noise", average: true },
  { name: "iMF", orientation: "data-to-noise", average: true },
  { name: "FM", orientation: "noise-to-data", average: false },
  { name: "MF", orientation: "noise-to-data", average: true },
];

/** A training with what the demo does to it, whatever its kind of model. */
export interface Training {
  readonly losses: Float32Array;
  fit(options: fx.FitOptions): Promise<fx.FitResult>;
  /** Euler's steps for a velocity, mean-flow steps for an average velocity. */
  sample(count: number, steps: number, key: fx.Tensor): Promise<fx.Tensor>;
  trajectory(count: number, steps: number, key: fx.Tensor): Promise<fx.flow.Trajectory>;
  dispose(): void;
}

export const data = fx.data.checkerboard();

/** The network and the optimizer of the demo. */
export const network = { dim: 2, hidden: 128, layers: 4, activation: "gelu", timeEmbedding: "raw" } as const;
export const learningRate = 3e-3;

/** The training of a run, before its first step. */
export function training(run: Run, { seed, batchSize }: Options): Training {
  const { orientation } = run;
  const rest = { data, batchSize, seed, optimizer: fx.optim.adam({ learningRate }) };
  if (!run.average) {
    const trainer = new fx.Trainer({
      model: fx.models.velocityMlp(network),
      objective: fx.flow.flowMatching({ orientation }),
      ...rest,
    });
    return withSampler(trainer, (steps) => fx.flow.euler({ steps }));
  }
  const objective = run.name === "iMF" ? fx.flow.improvedMeanFlow : fx.flow.meanFlow;
  const trainer = new fx.Trainer({
    model: fx.models.averageVelocityMlp(network),
    objective: objective({ orientation }),
    ...rest,
  });
  return withSampler(trainer, (steps) => fx.flow.meanFlowSteps({ steps }));
}

// biome-ignore lint/suspicious/noExplicitAny: a model's parameters are its own business.
function withSampler<Model extends fx.models.Field<any>>(
  trainer: fx.Trainer<Model>,
  sampler: (steps: number) => fx.flow.Sampler<Model["kind"]>,
): Training {
  return {
    get losses() {
      return trainer.losses;
    },
    fit: (options) => trainer.fit(options),
    sample: (count, steps, key) => trainer.sample(count, { sampler: sampler(steps), key }),
    trajectory: (count, steps, key) =>
      trainer.sample(count, { sampler: sampler(steps), key, trajectory: true }),
    dispose: () => trainer.dispose(),
  };
}
