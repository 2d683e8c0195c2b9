// Checked by the compiler, never run: an objective and a sampler take only their kind of field.
import * as fx from "fluxion";

const { flow, models, nn, optim } = fx;

declare const data: fx.Tensor;
declare const t: fx.Tensor;
const points = { data, noise: data, r: t, t };

const v = models.velocityMlp({ dim: 2 });
const u = models.averageVelocityMlp({ dim: 2 });
const vParams = v.init(fx.random.key(0));
const uParams = u.init(fx.random.key(0));

flow.flowMatching().loss(v, vParams, points);
flow.meanFlow().loss(u, uParams, points);
flow.improvedMeanFlow().lossAndRaw(u, uParams, points).raw.item();

// @ts-expect-error mean flow needs an average velocity
flow.meanFlow().loss(v, vParams, points);
// @ts-expect-error improved mean flow needs an average velocity
flow.improvedMeanFlow().loss(v, vParams, points);
// @ts-expect-error flow matching needs a velocity
flow.flowMatching().loss(u, uParams, points);
// @ts-expect-error mean flow needs r
flow.meanFlow().loss(u, uParams, { data, noise: data, t });
// @ts-expect-error a misspelt option
flow.meanFlow({ equalTimesFraction: 0.5 });
// @ts-expect-error an orientation that is none
flow.meanFlow({ orientation: "forwards" });
// @ts-expect-error flow matching has no intervals
flow.flowMatching({ equalTimeFraction: 0.5 });

// Objectives that draw more than times need it in their points.
const interval = { ...points, ...flow.alphaFlow().sampleTimes(fx.random.key(0), 4) };
flow.alphaFlow({ alpha: flow.sigmoidAlpha({ from: 10, to: 20 }) }).loss(u, uParams, interval);
flow.splitMeanFlow().loss(u, uParams, { ...points, s: t });
flow.consistency({ tangentNormalization: false }).loss(u, uParams, { ...points, rho: t });
flow.shortcut({ levels: 3 }).loss(u, uParams, points);
flow.lagrangianSelfDistillation({ stopTarget: false }).loss(u, uParams, points);
// @ts-expect-error alpha flow needs alpha
flow.alphaFlow().loss(u, uParams, points);
// @ts-expect-error split mean flow needs s
flow.splitMeanFlow().loss(u, uParams, points);
// @ts-expect-error consistency needs rho
flow.consistency().loss(u, uParams, points);
// @ts-expect-error every interval of consistency ends at the data
flow.consistency({ equalTimeFraction: 0.5 });
// @ts-expect-error shortcut needs an average velocity
flow.shortcut().loss(v, vParams, points);
flow.meanFlow({ guidance: { scale: 2, classes: 3 } }).loss(u, uParams, { ...points, unlabelled: t });
flow
  .meanFlow({ times: flow.intervalTimes({ t: flow.logitNormalTimes() }) })
  .sampleTimes(t, 2)
  .r.item();
// @ts-expect-error mean flow's guidance has one scale
flow.meanFlow({ guidance: { scales: [1, 2], classes: 3 } });
// @ts-expect-error improved mean flow's guidance has several
flow.improvedMeanFlow({ guidance: { scale: 2, classes: 3 } });
// @ts-expect-error mean flow has the conditional velocity as its tangent
flow.meanFlow({ tangent: "velocity-head" });
// @ts-expect-error flow matching has no intervals
flow.flowMatching({ times: flow.intervalTimes() });

// Samplers, and what sample gives with and without a trajectory.
const drawn: fx.Tensor = flow.sample(v, vParams, data, flow.euler({ steps: 2 }));
const path: fx.Tensor = flow.sample(u, uParams, data, flow.oneStep(), { trajectory: true }).trajectory;
const later: Promise<fx.Tensor> = flow.sampleAsync(
  u,
  uParams,
  data,
  flow.meanFlowSteps({ times: [1, 0.5, 0] }),
);
flow.sample(u, uParams, data, flow.euler({ steps: 2 }));
// @ts-expect-error mean-flow steps need an average velocity
flow.sample(v, vParams, data, flow.oneStep());
// @ts-expect-error no trajectory was asked for
flow.sample(u, uParams, data, flow.oneStep()).trajectory;
// @ts-expect-error either steps or times
flow.meanFlowSteps({});
// @ts-expect-error either steps or times
flow.rungeKutta4({});

// Solvers of the velocity's equation take both kinds of field.
for (const sampler of [
  flow.midpoint({ steps: 2 }),
  flow.heun({ times: [0, 1] }),
  flow.rungeKutta4({ steps: 2 }),
  flow.dormandPrince(),
  flow.dormandPrince({ relativeTolerance: 1e-3, absoluteTolerance: 1e-3, maxSteps: 10 }),
]) {
  flow.sample(v, vParams, data, sampler).item();
  flow.sampleAsync(u, uParams, data, sampler);
}
const cost: number = flow.sample(v, vParams, data, flow.dormandPrince(), { trajectory: true }).evaluations;
const known: number = flow.heun({ steps: 2 }).evaluations;
// @ts-expect-error an adaptive sampler does not know its cost beforehand
flow.dormandPrince().evaluations;
// @ts-expect-error a misspelt option
flow.dormandPrince({ tolerance: 1e-3 });
const either: fx.flow.Sampler<"velocity">[] = [flow.euler({ steps: 2 }), flow.dormandPrince()];
const steps = either.map((sampler) => (sampler.type === "fixed" ? sampler.times.length : sampler.maxSteps));
// @ts-expect-error a sampler for average velocities
export const wrong: fx.flow.Sampler<"velocity"> = flow.oneStep();
export const results = [drawn, path, later, cost, known, steps];

// Anyone's object of the right shape is a field, and keeps its parameters' type.
const own: fx.models.VelocityField<{ scale: fx.Tensor }> = {
  kind: "velocity",
  init: () => ({ scale: fx.ones([]) }),
  apply: ({ scale }, z) => fx.mul(z, scale),
};
flow.flowMatching().loss(own, { scale: t }, points);
// @ts-expect-error parameters of another type
flow.flowMatching().loss(own, { offset: t }, points);
fx.grad((p: { scale: fx.Tensor }) => flow.flowMatching().loss(own, p, points))(own.init(t)).scale.item();

// Modules and optimizers keep the type of the parameters.
const net = nn.sequential(nn.linear({ in: 2, out: 3 }), nn.activation("silu"), nn.layerNorm({ dim: 3 }));
const params = net.init(t);
params[0].weight.item();
params[2].offset.item();
// @ts-expect-error an activation has no parameters
params[1].weight.item();
// @ts-expect-error a misspelt activation
nn.mlp({ sizes: [2, 3], activation: "gleu" });
const adam = optim.adam({ learningRate: 1e-3 });
const [updates, state] = adam.update(params, adam.init(params), params);
optim.applyUpdates(params, updates)[0].weight.item();
state.step.item();
// @ts-expect-error gradients of another type
adam.update([1], state, params);
// @ts-expect-error a misspelt option
optim.adam({ learningrate: 1e-3 });

// A velocity head, and the parameters that labels and heads need.
const headed = models.averageVelocityMlp({ dim: 2, velocityHead: true });
headed.applyWithVelocity(headed.init(t), data, t, t).v.item();
headed.init(t).velocityHead?.weight.item();
flow.meanFlow().loss(headed, headed.init(t), points);
// @ts-expect-error no head was asked for
u.applyWithVelocity(uParams, data, t, t);
const labelled = models.velocityMlp({ dim: 2, classes: 3 });
labelled.init(t).mlp[0]?.weight.item();
// @ts-expect-error with labels the parameters are not a list of layers
labelled.init(t)[0];
// @ts-expect-error a misspelt option
models.averageVelocityMlp({ dim: 2, velocityheads: true });
