// Checked by the compiler alone: an objective takes only models of its kind.
import * as fx from "fluxion";

const data = fx.data.checkerboard();
const optimizer = fx.optim.adam({ learningRate: 1e-3 });
const velocity = fx.models.velocityMlp({ dim: 2 });
const average = fx.models.averageVelocityMlp({ dim: 2 });
const rest = { data, optimizer, batchSize: 8 };

export const flowMatching = new fx.Trainer({ model: velocity, objective: fx.flow.flowMatching(), ...rest });
export const meanFlow = new fx.Trainer({ model: average, objective: fx.flow.meanFlow(), ...rest });
export const improved = new fx.Trainer({ model: average, objective: fx.flow.improvedMeanFlow(), ...rest });

// @ts-expect-error flow matching learns a velocity, not an average velocity
export const wrong1 = new fx.Trainer({ model: average, objective: fx.flow.flowMatching(), ...rest });
// @ts-expect-error mean flow learns an average velocity
export const wrong2 = new fx.Trainer({ model: velocity, objective: fx.flow.meanFlow(), ...rest });
// @ts-expect-error improved mean flow learns an average velocity
export const wrong3 = new fx.Trainer({ model: velocity, objective: fx.flow.improvedMeanFlow(), ...rest });
// @ts-expect-error a batch needs a size
export const wrong4 = new fx.Trainer({ model: velocity, objective: fx.flow.flowMatching(), data, optimizer });

/** One's own field, with one's own parameters. */
const own = {
  kind: "velocity" as const,
  dim: 2,
  init: (key: fx.Tensor) => ({ scale: fx.random.normal(key, [2]) }),
  apply: (params: { scale: fx.Tensor }, z: fx.Tensor, t: fx.Tensor) => fx.mul(fx.mul(z, params.scale), t),
};
const ownTrainer = new fx.Trainer({ model: own, objective: fx.flow.flowMatching(), ...rest });
export const scale: fx.Tensor = ownTrainer.params.scale;
// @ts-expect-error the parameters keep their type
export const none = ownTrainer.params.weight;

export async function sampling(): Promise<void> {
  const samples: fx.Tensor = await meanFlow.sample(4, { sampler: fx.flow.oneStep() });
  const all: fx.flow.Trajectory = await flowMatching.sample(4, {
    sampler: fx.flow.euler({ steps: 2 }),
    trajectory: true,
  });
  await meanFlow.sample(4, { sampler: fx.flow.dormandPrince() });
  await flowMatching.sample(4, { sampler: fx.flow.dormandPrince() });
  await flowMatching.sample(4, { sampler: fx.flow.heun({ steps: 2 }) });
  // @ts-expect-error mean-flow steps need an average velocity
  await flowMatching.sample(4, { sampler: fx.flow.oneStep() });
  // @ts-expect-error a sampler is needed
  await flowMatching.sample(4, {});
  void [samples, all];
}

/** Labelled data are data; labels make a data set labelled. */
export const conditional = new fx.Trainer({
  model: velocity,
  objective: fx.flow.flowMatching(),
  ...rest,
  data: fx.data.shapes({ classes: ["ring", "star"] }),
  conditional: false,
});
declare const rows: fx.Tensor;
declare const labels: fx.Tensor;
export const classes: number = fx.data.fromTensor(rows, { labels }).classes;
export const label: fx.Tensor = fx.data.glyphs().sampleLabelled(rows, 3, { labels }).label;
// @ts-expect-error without labels there are no classes
export const noClasses = fx.data.fromTensor(rows).classes;
// @ts-expect-error a shape that is none
fx.data.shapes({ classes: ["blob"] });

/** A training may begin with parameters of the model's own type. */
const begin = { dim: 2, velocityHead: true } as const;
export const warm = new fx.Trainer({
  model: fx.models.averageVelocityMlp(begin),
  objective: fx.flow.improvedMeanFlow(),
  ...rest,
  params: fx.models.averageParamsFromVelocity(begin, velocity.init(rows)),
});
export const wrong = new fx.Trainer({
  model: fx.models.averageVelocityMlp(begin),
  objective: fx.flow.improvedMeanFlow(),
  ...rest,
  // @ts-expect-error a velocity's parameters lack the head
  params: velocity.init(rows),
});
/** Prediction of data keeps the kind of a field, its parameters' type and its head. */
const predicting = fx.models.dataPrediction(fx.models.averageVelocityMlp(begin));
predicting.applyWithVelocity(predicting.init(rows), rows, rows, rows).u.item();
// @ts-expect-error a velocity has no head
fx.models.dataPrediction(velocity).applyWithVelocity;

// A recipe is the rest of a trainer's options.
export const trainers = [
  new fx.Trainer({ ...fx.flow.recipes.tutorial({ dim: 2 }), data }),
  new fx.Trainer({ ...fx.flow.recipes.paper({ dim: 2 }), data }),
  new fx.Trainer({ ...fx.flow.recipes.best({ dim: 2 }), data, seed: 1, batchSize: 512 }),
];
