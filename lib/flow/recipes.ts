import { averageVelocityMlp, type Dim } from "../models/index.js";
import { adam, muon, warmupCosine } from "../optim/index.js";
import { checkCount, checkNumber, checkOptions } from "../options.js";
import { intervalTimes } from "./intervals.js";
import { meanFlow } from "./mean-flow.js";
import { stableTarget } from "./stable-target.js";
import { logitNormalTimes, uniformTimes, withAtom } from "./times.js";
import { adaptiveWeighting } from "./weighting.js";

export interface RecipeOptions {
  /** Size of a sample: a number of features, or a shape, which the network sees flattened. */
  readonly dim: Dim;
  /** Steps that will be trained, over which the learning rate falls where it does. Default 5001. */
  readonly steps?: number;
  /** Width of the network's hidden layers. Default 128. */
  readonly hidden?: number;
  /** Number of hidden layers. Default 4. */
  readonly layers?: number;
}

/** The recipe's own options, checked, with their defaults. */
function checked(where: string, options: RecipeOptions) {
  checkOptions(where, options, ["dim", "steps", "hidden", "layers"]);
  const { dim, hidden = 128, layers = 4 } = options;
  return { steps: checkCount(where, "steps", options.steps ?? 5001), network: { dim, hidden, layers } };
}

/**
 * The setting of the tutorials, and of this library's demo: mean flow on uniform times without rows r = t, the times as
 * plain inputs, Adam at a constant rate of 3e-3, batches of 4096, no average. Quick to understand; `best` gives far better
 * samples in as many steps, each of which takes 1.6 times as long.
 */
export function tutorial(options: RecipeOptions) {
  const { network } = checked("recipes.tutorial", options);
  return {
    model: averageVelocityMlp(network),
    objective: meanFlow(),
    optimizer: adam({ learningRate: 3e-3 }),
    batchSize: 4096,
  };
}

export interface PaperRecipeOptions extends RecipeOptions {
  /** Default 1e-4. */
  readonly learningRate?: number;
  /** Decay of the average of the parameters. Default 0.9999, for trainings of some 100,000 steps. */
  readonly ema?: number;
}

/**
 * The objective and the optimizer with which the mean flow paper trains on ImageNet (Geng et al. 2025, "Mean flows for
 * one-step generative modeling"), with a perceptron for its transformer: r = t in 75 % of the rows, logit-normal
 * times (-0.4, 1), adaptive weighting of power 1, t and t - r as inputs, Adam with beta2 0.95 at a constant 1e-4, batches
 * of 256, an average of decay 0.9999. It is meant for long trainings of large networks on images.
 */
export function paper(options: PaperRecipeOptions) {
  const where = "recipes.paper";
  const { learningRate = 1e-4, ema = 0.9999, ...rest } = options;
  const { network } = checked(where, rest);
  return {
    model: averageVelocityMlp({ ...network, timeEmbedding: "sinusoidal" }),
    objective: meanFlow({
      equalTimeFraction: 0.75,
      times: logitNormalTimes({ mean: -0.4, std: 1 }),
      weighting: adaptiveWeighting({ power: 1 }),
    }),
    optimizer: adam({
      learningRate: checkNumber(where, "learningRate", learningRate, { min: 0 }),
      beta2: 0.95,
    }),
    batchSize: 256,
    ema: checkNumber(where, "ema", ema, { min: 0, max: 1 }),
  };
}

/**
 * What gave the best samples in one step on the checkerboard (docs/flow.md has the measurements): mean flow with the
 * stable target, so that its target has hardly any variance; t is uniform and half of the intervals reach the data; Muon for the hidden
 * matrices, a rate that rises to 7e-3 in 100 steps and falls to 0 along half a cosine; an average of decay 0.998 over the
 * last parameters; batches of 4096. Meant for data in few dimensions, where the stable target has an effect.
 */
export function best(options: RecipeOptions) {
  const { network, steps } = checked("recipes.best", options);
  return {
    model: averageVelocityMlp(network),
    objective: meanFlow({
      velocity: stableTarget({ groupSize: 512 }),
      times: intervalTimes({ r: withAtom(uniformTimes(), { at: 0, probability: 0.5 }), order: "scaled" }),
    }),
    optimizer: muon({
      learningRate: warmupCosine({ peak: 7e-3, warmupSteps: Math.min(100, Math.floor(steps / 4)), steps }),
    }),
    batchSize: 4096,
    ema: 0.998,
  };
}
