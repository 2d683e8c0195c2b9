import * as fx from "fluxion";
import type { DataSet } from "./data-sets.js";
import type { FieldErrors, Quality, Yardstick } from "./measures.js";

/** The network of all methods, but for what a method's own model adds. */
export const network = { dim: 2, hidden: 128, layers: 4, activation: "gelu", timeEmbedding: "raw" } as const;

/**
 * The optimizer of all methods: Adam, whose rate rises to `peak` over the warm-up and then falls to 0 along half a cosine.
 * Samples are drawn with a moving average of the parameters, whose memory is at most a fifth of the training.
 */
export function optimization(steps: number) {
  return {
    peak: 3e-3,
    warmupSteps: Math.min(100, steps >> 2),
    ema: Number(Math.max(0, Math.min(0.999, 1 - 5 / steps)).toPrecision(3)),
  };
}

/** Numbers of evaluations of the network by which samples are drawn. */
export const evaluationCounts: readonly number[] = [1, 2, 4, 8, 16];

export interface Job {
  readonly dataSet: DataSet;
  readonly yardstick: Yardstick;
  readonly seed: number;
  readonly steps: number;
  readonly batchSize: number;
  readonly samples: number;
  readonly progress: NonNullable<fx.FitOptions["progress"]>;
}

/** What a method trains, and how its field is sampled. */
// biome-ignore lint/suspicious/noExplicitAny: a model's parameters are its own business.
export interface Recipe<Model extends fx.models.Field<any>> {
  readonly model: Model;
  readonly objective: (training: { readonly steps: number }) => fx.TrainerOptions<Model>["objective"];
  /** In place of the optimizer and the average of all methods. */
  readonly optimization?: (training: { readonly steps: number }) => {
    // biome-ignore lint/suspicious/noExplicitAny: an optimizer's state is its own business.
    readonly optimizer: fx.optim.Optimizer<any>;
    readonly ema?: number;
  };
  /** For each curve, the sampler with so many evaluations; undefined where there is none. */
  readonly curves: Readonly<
    Record<string, (evaluations: number) => fx.flow.Sampler<Model["kind"]> | undefined>
  >;
}

export interface Measured {
  /** Mean raw loss of the last 200 steps. */
  readonly loss: number;
  /** The median over stretches of about a tenth of a second. */
  readonly millisecondsPerStep: number;
  readonly curves: Readonly<Record<string, readonly ({ readonly evaluations: number } & Quality)[]>>;
  readonly fieldErrors?: FieldErrors;
}

/**
 * Trains a method, and measures its samples and its field.
 *
 * @throws NonFiniteError when the training diverges
 */
// biome-ignore lint/suspicious/noExplicitAny: a model's parameters are its own business.
export async function trainAndMeasure<Model extends fx.models.Field<any>>(
  recipe: Recipe<Model>,
  { dataSet, yardstick, seed, steps, batchSize, samples, progress }: Job,
): Promise<Measured> {
  const { optimizer, ema } = recipe.optimization?.({ steps }) ?? common(steps);
  const trainer = new fx.Trainer({
    model: recipe.model,
    objective: recipe.objective({ steps }),
    data: dataSet.distribution,
    batchSize,
    seed,
    optimizer,
    ...(ema === undefined ? {} : { ema }),
  });
  try {
    const paces: number[] = [];
    let before = { step: 0, seconds: 0 };
    const { loss } = await trainer.fit({
      steps,
      progress,
      log: ({ step, stepsPerSecond }) => {
        const seconds = step / stepsPerSecond;
        paces.push((1000 * (seconds - before.seconds)) / (step - before.step));
        before = { step, seconds };
      },
    });
    const curves: Record<string, ({ evaluations: number } & Quality)[]> = {};
    for (const [name, samplerOf] of Object.entries(recipe.curves)) {
      const points = (curves[name] = [] as ({ evaluations: number } & Quality)[]);
      for (const evaluations of evaluationCounts) {
        const sampler = samplerOf(evaluations);
        if (sampler === undefined) continue;
        const drawn = await trainer.sample(samples, { sampler, key: yardstick.noiseKey });
        points.push({ evaluations, ...yardstick.quality(drawn) });
      }
    }
    const fieldErrors = yardstick.fieldErrors(recipe.model, trainer.emaParams ?? trainer.params);
    return {
      loss,
      millisecondsPerStep: median(paces),
      curves,
      ...(fieldErrors === undefined ? {} : { fieldErrors }),
    };
  } finally {
    trainer.dispose();
  }
}

/** The optimizer and the average of all methods. */
function common(steps: number) {
  const { peak, warmupSteps, ema } = optimization(steps);
  const learningRate = fx.optim.warmupCosine({ peak, warmupSteps, steps });
  return { optimizer: fx.optim.adam({ learningRate }), ema };
}

/** The median of at least one number. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2;
}
