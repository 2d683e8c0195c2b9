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
];

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
