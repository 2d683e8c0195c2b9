import * as fx from "fluxion";
import { type Job, type Measured, network, type Recipe, trainAndMeasure } from "./training.js";

/** One way to train a field and to sample it. */
export interface Method {
  /** On the command line, in files, and on the curves of its samples. */
  readonly name: string;
  readonly description: string;
  /** The names of its curves: one for each way to sample it. */
  readonly curves: readonly string[];
  run(job: Job): Promise<Measured>;
}

/** What is compared; a further method is a further line. */
export const methods: readonly Method[] = [
  velocity("FM", "flow matching, by Euler's and by Heun's method", () => fx.flow.flowMatching()),
  average("MF", "mean flow, r < t for all samples", () => fx.flow.meanFlow()),
  average("MF-0.75", "mean flow, r = t for 75 % of them", () =>
    fx.flow.meanFlow({ equalTimeFraction: 0.75 }),
  ),
  average("iMF", "improved mean flow, r < t for all samples", () => fx.flow.improvedMeanFlow()),
  average("iMF-0.5", "improved mean flow, r = t for 50 % of them", () =>
    fx.flow.improvedMeanFlow({ equalTimeFraction: 0.5 }),
  ),
  average(
    "iMF-head",
    "iMF-0.5 with the tangent of an auxiliary velocity head",
    () => fx.flow.improvedMeanFlow({ equalTimeFraction: 0.5, tangent: "velocity-head" }),
    { model: fx.models.averageVelocityMlp({ ...network, velocityHead: true }) },
  ),
  average(
    "x-pred",
    "iMF-0.5 with a network that predicts data",
    () => fx.flow.improvedMeanFlow({ equalTimeFraction: 0.5 }),
    { model: fx.models.dataPrediction(fx.models.averageVelocityMlp(network)) },
  ),
  average("alpha", "alpha-flow, alpha from 1 to 0.005 over the training, r = t for 25 %", ({ steps }) =>
    fx.flow.alphaFlow({
      alpha: fx.flow.sigmoidAlpha({ from: 0, to: Math.round(0.8 * steps) }),
      equalTimeFraction: 0.25,
    }),
  ),
  average("split", "split mean flow, r = t for 50 %", () => fx.flow.splitMeanFlow()),
  average("shortcut", "shortcut model, r = t for 75 %", () => fx.flow.shortcut()),
  average("LSD", "Lagrangian self-distillation, r = t for 75 %", () => fx.flow.lagrangianSelfDistillation()),
  average("sCM", "consistency with normalised tangents, r = 0 for all samples", () => fx.flow.consistency(), {
    sampler: toData,
  }),
  average("MF-adaptive", "MF-0.75 with adaptive weighting of power 1, the paper's", () =>
    fx.flow.meanFlow({ equalTimeFraction: 0.75, weighting: fx.flow.adaptiveWeighting() }),
  ),
  average("MF-stable", "mean flow with the stable target in groups of 512", () =>
    fx.flow.meanFlow({ velocity: fx.flow.stableTarget() }),
  ),
  recipe(
    "best",
    "flow.recipes.best at this batch: stable target, half of r at 0, Muon",
    fx.flow.recipes.best,
  ),
];

/** What is run when it is asked for by name: the other recipes, and fields that are restricted in some way. */
export const further: readonly Method[] = [
  recipe("tutorial", "flow.recipes.tutorial at this batch", fx.flow.recipes.tutorial),
  recipe("paper", "flow.recipes.paper at this batch", fx.flow.recipes.paper),
  ablation("affine", "a field that is affine in z", fx.models.averageVelocityAffine({ dim: 2 })),
  ablation(
    "low-rank",
    "an affine field whose matrix has rank 1",
    fx.models.averageVelocityLowRank({ dim: 2, rank: 1 }),
  ),
  ablation(
    "lipschitz-10",
    "network of Lipschitz constant 10",
    fx.models.averageVelocityMlp({ ...network, lipschitz: 10 }),
  ),
  ablation(
    "lipschitz-100",
    "network of Lipschitz constant 100",
    fx.models.averageVelocityMlp({ ...network, lipschitz: 100 }),
  ),
  ablation(
    "increasing",
    "each component of u increasing in t",
    fx.models.averageVelocityMonotone({ dim: 2 }),
  ),
  ablation(
    "t-length",
    "a network on (t, t - r)",
    fx.models.averageVelocityMlp({ ...network, timePair: "end-length" }),
  ),
  ablation(
    "fourier",
    "a network on three octaves of t and of t - r",
    fx.models.averageVelocityMlp({ ...network, timeEmbedding: "fourier" }),
  ),
];

// biome-ignore lint/suspicious/noExplicitAny: a model's parameters are its own business.
function ablation(name: string, description: string, model: fx.models.AverageVelocityField<any>): Method {
  const objective = () => fx.flow.improvedMeanFlow({ equalTimeFraction: 0.5 });
  return average(name, `iMF-0.5 with ${description}`, objective, { model });
}

/** Only intervals that reach the data are learned: there is the one step. */
function toData(evaluations: number) {
  return evaluations === 1 ? fx.flow.oneStep() : undefined;
}

/** What a recipe has of a trainer's options. */
interface Setting {
  // biome-ignore lint/suspicious/noExplicitAny: a model's parameters are its own business.
  readonly model: fx.models.AverageVelocityField<any>;
  readonly objective: Average["objective"] extends (training: never) => infer O ? O : never;
  // biome-ignore lint/suspicious/noExplicitAny: an optimizer's state is its own business.
  readonly optimizer: fx.optim.Optimizer<any>;
  readonly ema?: number;
}

/** A recipe of the library, with an optimizer of its own. */
function recipe(
  name: string,
  description: string,
  of: (options: fx.flow.recipes.RecipeOptions) => Setting,
): Method {
  const at = (steps: number) => of({ dim: network.dim, steps });
  return method(name, description, {
    model: at(1).model,
    objective: ({ steps }) => at(steps).objective,
    optimization: ({ steps }) => at(steps),
    curves: { [name]: (evaluations) => fx.flow.meanFlowSteps({ steps: evaluations }) },
  });
}

/** The method whose steps are the unit of the cost. */
export const baseline = "FM";

function velocity(
  name: string,
  description: string,
  objective: Recipe<fx.models.VelocityField>["objective"],
): Method {
  return method(name, description, {
    model: fx.models.velocityMlp(network),
    objective,
    curves: {
      [`${name}, Euler`]: (evaluations) => fx.flow.euler({ steps: evaluations }),
      // Two evaluations a step.
      [`${name}, Heun`]: (evaluations) =>
        evaluations % 2 === 0 ? fx.flow.heun({ steps: evaluations / 2 }) : undefined,
    },
  });
}

// biome-ignore lint/suspicious/noExplicitAny: a model's parameters are its own business.
type Average = Recipe<fx.models.AverageVelocityField<any>>;

/**
 * @param objective given the length of the training, on which its schedules may depend
 * @param options.model default: the plain network
 * @param options.sampler by the number of evaluations; default: as many equal mean-flow steps. undefined where a field
 *   cannot be sampled by that many
 */
function average(
  name: string,
  description: string,
  objective: Average["objective"],
  options: { model?: Average["model"]; sampler?: Average["curves"][string] } = {},
): Method {
  const { model = fx.models.averageVelocityMlp(network) } = options;
  const { sampler = (evaluations) => fx.flow.meanFlowSteps({ steps: evaluations }) } = options;
  return method(name, description, { model, objective, curves: { [name]: sampler } });
}

// biome-ignore lint/suspicious/noExplicitAny: a model's parameters are its own business.
function method<Model extends fx.models.Field<any>>(
  name: string,
  description: string,
  recipe: Recipe<Model>,
): Method {
  return {
    name,
    description,
    curves: Object.keys(recipe.curves),
    run: (job) => trainAndMeasure(recipe, job),
  };
}
