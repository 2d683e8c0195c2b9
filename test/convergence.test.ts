import * as fx from "fluxion";
import t from "tap";

const { data, flow, metrics, models, optim } = fx;

/** Two modes on a line: the flow splits, so that average velocities differ from velocities. */
const mixture = data.gaussianMixture({ means: [[-1], [1]], deviation: 0.3 });

const network = { dim: 1, hidden: 32, layers: 3 } as const;
const field = models.averageVelocityMlp(network);
const withHead = models.averageVelocityMlp({ ...network, velocityHead: true });
const points = { equalTimeFraction: 0.25 };
const steps = 1500;

/** Each objective with the field that learns by it. */
// biome-ignore lint/suspicious/noExplicitAny: what an objective draws, and a model's parameters, are their own business.
const methods: Record<string, [fx.flow.AverageVelocityObjective<any>, fx.models.AverageVelocityField<any>]> =
  {
    "mean flow": [flow.meanFlow(points), field],
    "improved mean flow": [flow.improvedMeanFlow(points), field],
    "improved mean flow with a velocity head": [
      flow.improvedMeanFlow({ ...points, tangent: "velocity-head" }),
      withHead,
    ],
    "improved mean flow, predicting data": [flow.improvedMeanFlow(points), models.dataPrediction(field)],
    "alpha-flow": [
      flow.alphaFlow({ ...points, alpha: flow.sigmoidAlpha({ from: 0.2 * steps, to: 0.8 * steps }) }),
      field,
    ],
    "split mean flow": [flow.splitMeanFlow(), field],
    shortcut: [flow.shortcut(), field],
    "Lagrangian self-distillation": [flow.lagrangianSelfDistillation(), field],
    consistency: [flow.consistency(), field],
  };

/** Points of the paths of the mixture at t, with intervals [r, t] and [0, t], and the noise. */
function places(n: number) {
  const [a, b, c, d] = fx.random.split(fx.random.key(9), 4) as [fx.Tensor, fx.Tensor, fx.Tensor, fx.Tensor];
  const noise = fx.random.normal(b, [n, 1]);
  const time = fx.random.uniform(c, [n, 1]);
  const z = fx.add(fx.mul(fx.sub(1, time), mixture.sample(a, n)), fx.mul(time, noise));
  const [zero, one] = [fx.zeros([n, 1]), fx.ones([n, 1])];
  return {
    anyInterval: { z, r: fx.mul(time, fx.random.uniform(d, [n, 1])), t: time },
    toData: { z, r: zero, t: time },
    oneStep: { z: noise, r: zero, t: one },
  };
}

t.test("every objective comes close to the exact average velocity of a Gaussian mixture", async (t) => {
  const exact = flow.mixtureAverageVelocity(mixture);
  const { anyInterval, toData, oneStep } = places(1000);
  for (const [name, [objective, model]] of Object.entries(methods)) {
    const trainer = new fx.Trainer({
      model,
      objective,
      data: mixture,
      optimizer: optim.adam({ learningRate: optim.cosine({ from: 1e-2, steps }) }),
      batchSize: 512,
      ema: 0.99,
    });
    await trainer.fit({ steps, progress: false });
    const error = (at: typeof oneStep) => metrics.averageVelocityError(model, trainer.emaParams, exact, at);
    // A field of zeros has the errors 0.38, 0.82 and 0.79; one that learned v itself 1.06, 0.71 and 0.45.
    t.ok(error(oneStep) < 0.18, `${name}: one step, ${error(oneStep)}`);
    t.ok(error(toData) < 0.28, `${name}: from any time to the data, ${error(toData)}`);
    if (name !== "consistency")
      t.ok(error(anyInterval) < 0.25, `${name}: any interval, ${error(anyInterval)}`);
    trainer.dispose();
  }
});
