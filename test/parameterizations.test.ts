// Flow fields that see their inputs, or give their output, in other ways than the plain perceptron.
import * as fx from "fluxion";
import t, { type Test } from "tap";
import { timeFeatures } from "#lib/models/time-features.js";
import { close as closeNumbers } from "./support/close.js";
import { onEach } from "./support/each-backend.js";

type T = fx.Tensor;

const { models, nn } = fx;
const f64 = { dtype: "float64" } as const;
const int32 = { dtype: "int32" } as const;
const small = { hidden: 6, layers: 2, dtype: "float64" } as const;
const flat = (x: T): number[] => Array.from(x.toTypedArray());
const random = (seed: number, ...shape: number[]) => fx.random.normal(fx.random.key(seed), shape, f64);
const column = (...values: number[]) => fx.tensor(values, { shape: [values.length, 1], ...f64 });
const key = fx.random.key(1);

function close(t: Test, got: T, want: T, tolerance = 1e-12, name = "values"): void {
  t.same(got.shape, want.shape, `${name}: shape`);
  closeNumbers(t, flat(got), flat(want), tolerance, name);
}

/** Holds jvp and vjp of a field, by parameters, state and times, against central differences to the second order. */
function holdsDerivatives<P>(
  t: Test,
  field: fx.models.Field<P>,
  params: P,
  name: string,
  condition?: fx.models.Condition,
  dim: number[] = [2],
) {
  const [z, r, time] = [random(20, 3, ...dim), column(0.1, 0.3, 0.55), column(0.5, 0.9, 0.6)];
  const f = (p: P, z: T, r: T, time: T) =>
    field.kind === "velocity" ? field.apply(p, z, time, condition) : field.apply(p, z, r, time, condition);
  t.doesNotThrow(() => fx.checkGrads(f, [params, z, r, time]), name);
}

// ---- Times.

onEach("the pair of times is the end with the start, or with the length, whatever the embedding", (t) => {
  const [z, r, time] = [random(0, 3, 2), column(0.1, 0.3, 0.6), column(0.5, 0.9, 0.6)];
  for (const timeEmbedding of ["raw", "fourier", "sinusoidal"] as const)
    for (const timePair of ["end-start", "end-length", undefined] as const) {
      const name = `${timeEmbedding}, ${timePair}`;
      const u = models.averageVelocityMlp({
        dim: 2,
        timeEmbedding,
        ...(timePair === undefined ? {} : { timePair }),
        ...small,
      });
      const params = u.init(key);
      const see = timeFeatures("test", timeEmbedding);
      const starts = timePair === undefined ? timeEmbedding === "raw" : timePair === "end-start";
      const input = fx.concat([z, see.apply(time), see.apply(starts ? r : fx.sub(time, r))], 1);
      const net = nn.mlp({ sizes: [2 + 2 * see.size, 6, 6, 2], dtype: "float64" });
      close(t, u.apply(params, z, r, time), net.apply(params, input), 1e-12, name);
      holdsDerivatives(t, u, params, name);
    }
});

// ---- Conditions.

onEach("labels are rows of a learned table beside the times, and the last row stands for none", (t) => {
  const v = models.velocityMlp({ dim: 2, classes: 3, labelDim: 4, ...small });
  const params = v.init(key);
  t.same(params.labels!.table.shape, [4, 4]);
  const [z, time, label] = [random(0, 4, 2), column(0.1, 0.5, 0.8, 1), fx.tensor([2, 0, 3, 1], int32)];
  const rows = fx.take(params.labels!.table, label, 0);
  const net = nn.mlp({ sizes: [7, 6, 6, 2], dtype: "float64" });
  const want = net.apply(params.mlp, fx.concat([z, time, rows], 1));
  close(t, v.apply(params, z, time, label), want);
  close(t, v.apply(params, z, time, { label }), want, 0, "by its name");
  t.same(models.averageVelocityMlp({ dim: 2, classes: 1 }).init(key).labels!.table.shape, [2, 16]);
  t.same(models.velocityMlp({ dim: 2, classes: 0 }).init(key).length, 5, "no classes, no table");
  t.throws(() => fx.grad((p: typeof params) => fx.sum(v.apply(p, z, time, fx.add(label, 1))))(params), {
    name: "BackendError",
    message: /index 4 is out of range for an axis of size 4/,
  });
});

onEach("guidance is seen as its reciprocal, with the ends of its interval, each embedded as a time", (t) => {
  const n = 3;
  const [z, r, time] = [random(0, n, 2), column(0.1, 0.3, 0.6), column(0.5, 0.9, 0.6)];
  const all = {
    label: fx.tensor([0, 2, 1], int32),
    features: random(2, n, 3),
    guidance: column(1, 2.5, 4),
    guidanceStart: column(0, 0.125, 0.25),
    guidanceEnd: column(1, 0.75, 0.5),
  };
  for (const timeEmbedding of ["raw", "fourier"] as const) {
    const see = timeFeatures("test", timeEmbedding).apply;
    const u = models.averageVelocityMlp({
      dim: 2,
      timeEmbedding,
      timePair: "end-length",
      classes: 2,
      conditionDim: 3,
      guidance: true,
      guidanceInterval: true,
      ...small,
    });
    const params = u.init(key);
    const rows = fx.take(params.labels!.table, all.label, 0);
    const times = [time, fx.sub(time, r)].map(see);
    const numbers = [fx.div(1, all.guidance), all.guidanceStart, all.guidanceEnd].map(see);
    const input = fx.concat([z, ...times, rows, all.features, ...numbers], 1);
    const net = nn.mlp({ sizes: [input.shape[1]!, 6, 6, 2], dtype: "float64" });
    close(t, u.apply(params, z, r, time, all), net.apply(params.mlp, input), 1e-12, timeEmbedding);
    holdsDerivatives(t, u, params, timeEmbedding, all);
  }
  const v = models.velocityMlp({ dim: 2, guidance: true, ...small });
  const own = v.init(key);
  const guided = v.apply(own, z, time, { guidance: all.guidance });
  const net = nn.mlp({ sizes: [4, 6, 6, 2], dtype: "float64" });
  close(t, guided, net.apply(own, fx.concat([z, time, fx.div(1, all.guidance)], 1)));
});

t.test("conditions of perceptrons that do not fit are named", async (t) => {
  const [z, one] = [fx.zeros([3, 2]), fx.ones([3, 1])];
  const label = fx.tensor([0, 1, 2], int32);
  const applied = (options: object, condition?: unknown) => {
    const u = models.averageVelocityMlp({ dim: 2, ...options });
    return () => u.apply(u.init(key), z, one, one, condition as fx.models.Condition);
  };
  const refused: [() => unknown, string, RegExp][] = [
    [applied({ classes: 3 }), "ValueError", /the condition must have label, got nothing/],
    [applied({ classes: 3 }, fx.ones([3])), "ShapeError", /labels must be int32 \[3\], got float32\[3\]/],
    [applied({ classes: 3 }, { label: 1 }), "ValueError", /label must be a Tensor, got 1/],
    [applied({ guidance: true }, one), "ValueError", /must have guidance, got label/],
    [applied({ guidance: true }, { guidance: fx.ones([3]) }), "ShapeError", /guidance must be \[3, 1\]/],
    [
      applied({ classes: 3, conditionDim: 2 }, label),
      "ValueError",
      /must have label and features, got label/,
    ],
    [
      applied({ conditionDim: 2 }, { features: fx.ones([3, 1]) }),
      "ShapeError",
      /features must be \[3, 2\], got \[3, 1\]/,
    ],
    [applied({}, label), "ValueError", /got a condition, but conditionDim is 0/],
    [() => applied({ classes: -1 }), "ValueError", /classes must be a whole number >= 0, got -1/],
    [() => applied({ labelDim: 3 }), "ValueError", /labelDim needs classes/],
    [() => applied({ classes: 2, labelDim: 0 }), "ValueError", /labelDim must be a whole number/],
    [() => applied({ guidance: "yes" }), "ValueError", /guidance must be true or false/],
    [() => applied({ guidanceInterval: true }), "ValueError", /guidanceInterval needs guidance: true/],
    [() => applied({ timePair: "both" }), "ValueError", /timePair must be one of "end-start", "end-length"/],
    [
      () => models.velocityMlp({ dim: 2, timePair: "end-start" } as never),
      "ValueError",
      /unknown option "timePair"/,
    ],
  ];
  for (const [use, name, message] of refused) t.throws(use, { name, message }, String(message));
});

t.test("a perceptron with classes learns from the labels of a training's data", async (t) => {
  // One class lies about 2 and the other one about -2.
  const labelled: fx.data.LabelledDistribution = {
    name: "two points",
    dim: 1,
    classes: 2,
    classNames: ["left", "right"],
    sample: (key, n) => labelled.sampleLabelled(key, n).data,
    sampleLabelled(key, n) {
      const label = fx.random.randint(key, [n], 0, 2);
      return { data: fx.reshape(fx.sub(fx.mul(fx.cast(label, "float32"), 4), 2), [n, 1]), label };
    },
  };
  const trainer = new fx.Trainer({
    model: models.averageVelocityMlp({ dim: 1, classes: 2, hidden: 32, layers: 2 }),
    objective: fx.flow.meanFlow({ equalTimeFraction: 0.5 }),
    data: labelled,
    optimizer: fx.optim.adam({ learningRate: 1e-2 }),
    batchSize: 128,
  });
  await trainer.fit({ steps: 300, progress: false });
  const condition = fx.tensor([0, 1], int32);
  const samples = await trainer.sample(2, { sampler: fx.flow.oneStep(), condition });
  closeNumbers(t, flat(samples), [-2, 2], 0.5);
});

// ---- Two heads.

onEach("a velocity head is a second output layer on the perceptron's last hidden layer", (t) => {
  const [z, r, time] = [random(0, 3, 3, 2), column(0.1, 0.3, 0.6), column(0.5, 0.9, 0.6)];
  for (const layers of [1, 3]) {
    const options = { dim: [3, 2], timeEmbedding: "fourier", ...small, layers } as const;
    const plain = models.averageVelocityMlp(options);
    t.notOk(plain.applyWithVelocity, "without the option there is no such method");
    const headed = models.averageVelocityMlp({ ...options, velocityHead: true });
    const params = headed.init(key);
    t.same(params.velocityHead!.weight.shape, [6, 6]);
    const { u, v } = headed.applyWithVelocity(params, z, r, time);
    const swapped = [...params.mlp.slice(0, -1), params.velocityHead!];
    close(t, u, plain.apply(params.mlp, z, r, time), 1e-14, "u");
    close(t, headed.apply(params, z, r, time), u, 1e-14, "apply");
    close(t, v, plain.apply(swapped, z, r, time), 1e-14, "v");
    t.doesNotThrow(() =>
      fx.checkGrads(
        (p: typeof params, z: T, r: T, time: T) => headed.applyWithVelocity(p, z, r, time),
        [params, z, r, time],
      ),
    );
  }
  const labelled = models.averageVelocityMlp({ dim: [3, 2], classes: 2, velocityHead: true, ...small });
  const params = labelled.init(key);
  const label = fx.tensor([0, 2, 1], int32);
  const { u } = labelled.applyWithVelocity(params, z, r, time, label);
  close(t, u, labelled.apply(params, z, r, time, label), 1e-14, "with labels");
});

onEach("a velocity head is a second map to patches in the transformer", (t) => {
  const options = { dim: [4, 4, 1], hidden: 8, heads: 2, depth: 1, classes: 2, dtype: "float64" } as const;
  for (const conditioning of ["adaLN-zero", "in-context"] as const) {
    const plain = models.averageVelocityDit({ ...options, conditioning });
    const headed = models.averageVelocityDit({ ...options, conditioning, velocityHead: true });
    const start = headed.init(key);
    t.same(Object.keys(plain.init(key)), Object.keys(start).slice(0, -1), "the head is all that is new");
    t.notOk(plain.applyWithVelocity);
    const params = fx.tree.map((x: T) => fx.add(x, fx.mul(random(x.size, ...x.shape), 0.1)), start);
    const [z, r, time] = [random(0, 3, 4, 4, 1), column(0.1, 0.3, 0.6), column(0.5, 0.9, 0.6)];
    const label = fx.tensor([0, 2, 1], int32);
    const { velocityHead, ...rest } = params;
    const { u, v } = headed.applyWithVelocity(params, z, r, time, label);
    close(t, u, plain.apply(rest, z, r, time, label), 1e-13, `${conditioning}: u`);
    close(t, headed.apply(params, z, r, time, label), u, 1e-13, `${conditioning}: apply`);
    close(
      t,
      v,
      plain.apply({ ...rest, head: velocityHead! }, z, r, time, label),
      1e-13,
      `${conditioning}: v`,
    );
    const zero = headed.applyWithVelocity(start, z, r, time, label);
    t.ok([...flat(zero.u), ...flat(zero.v)].every((x) => x === 0));
  }
});

t.test("apply never computes the velocity head", async (t) => {
  const [z, one] = [fx.zeros([3, 2]), fx.ones([3, 1])];
  const u = models.averageVelocityMlp({ dim: 2, hidden: 5, layers: 2, velocityHead: true });
  const plain = models.averageVelocityMlp({ dim: 2, hidden: 5, layers: 2 });
  const flopsOf = (apply: (...args: never[]) => unknown, params: object) =>
    fx.inspect(apply as (...args: unknown[]) => unknown, params, z, one, one).flops;
  const params = u.init(key);
  const [own, both] = [flopsOf(u.apply, params), flopsOf(u.applyWithVelocity, params)];
  t.equal(own, flopsOf(plain.apply, plain.init(key)));
  t.ok(both > own && both < 1.5 * own, `the head adds to ${own}: ${both}`);
  t.throws(() => models.averageVelocityMlp({ dim: 2, velocityHead: 1 as never }), {
    name: "ValueError",
    message: /velocityHead must be true or false, got 1/,
  });
  for (const make of [models.velocityMlp, models.velocityDit])
    t.throws(() => make({ dim: [4, 4, 1], velocityHead: true } as never), {
      name: "ValueError",
      message: /unknown option "velocityHead"/,
    });
});

// ---- Prediction of data.

/** A field of 2 features whose network always gives x. */
const constant = (x: T): fx.models.AverageVelocityField<{ x: T }> => ({
  kind: "average-velocity",
  dim: x.shape.slice(1),
  init: () => ({ x }),
  apply: ({ x }) => x,
});

onEach("the line by which a field that predicts data leaves its anchor meets the data", (t) => {
  const [x, e] = [random(0, 3, 2, 2), random(1, 3, 2, 2)];
  const [r, time] = [column(0.1, 0.3, 0.6), column(0.5, 0.9, 0.6)];
  for (const orientation of ["data-to-noise", "noise-to-data"] as const) {
    const toNoise = orientation === "data-to-noise";
    const anchor = fx.reshape(toNoise ? time : r, [3, 1, 1]);
    const [start, end] = toNoise ? [x, e] : [e, x];
    const z = fx.add(fx.mul(start, fx.sub(1, anchor)), fx.mul(end, anchor));
    // On the straight path between data and noise the velocity is that of the path.
    const u = models.dataPrediction(constant(x), { orientation });
    close(t, u.apply({ x }, z, r, time), fx.sub(end, start), 1e-13, orientation);
    t.same(u.dim, [2, 2]);
    // From noise, over the whole of [0, 1], the sample of one step is what the network gives.
    const one = fx.flow.sample(u, { x }, e, fx.flow.oneStep(), { orientation });
    close(t, one, x, 1e-14, `${orientation}: one step`);

    const v = models.dataPrediction(
      { kind: "velocity", init: () => ({ x }), apply: ({ x }: { x: T }) => x },
      { orientation },
    );
    close(t, v.apply({ x }, z, toNoise ? time : r), fx.sub(end, start), 1e-13, `${orientation}: velocity`);
    // Where the data are one point, Euler's method from noise is on the path, and each step but clipped ones exact.
    const sampled = fx.flow.sample(v, { x }, e, fx.flow.euler({ steps: 10 }), { orientation });
    close(t, sampled, x, 1e-13, `${orientation}: Euler`);
  }
});

onEach("near the data the divisor of a prediction is clipped", (t) => {
  const x = fx.zeros([2, 1], f64);
  const z = fx.ones([2, 1], f64);
  const far = fx.ones([2, 1], f64);
  const at = (options: fx.models.DataPredictionOptions, r: T, time: T) =>
    flat(models.dataPrediction(constant(x), options).apply({ x }, z, r, time));
  closeNumbers(t, at({}, fx.zeros([2, 1], f64), column(0, 0.1)), [20, 10]);
  closeNumbers(t, at({ smallestTime: 0.2 }, fx.zeros([2, 1], f64), column(0.1, 0.4)), [5, 2.5]);
  closeNumbers(t, at({ orientation: "noise-to-data" }, column(0.99, 0.9), far), [-20, -10]);
});

onEach("prediction of data keeps parameters and conditions, and reads both heads as data", (t) => {
  const inner = models.averageVelocityMlp({ dim: 2, classes: 2, velocityHead: true, ...small });
  const label = fx.tensor([0, 2, 1], int32);
  const [z, r, time] = [random(0, 3, 2), column(0.1, 0.3, 0.6), column(0.5, 0.9, 0.6)];
  for (const orientation of ["data-to-noise", "noise-to-data"] as const) {
    const field = models.dataPrediction(inner, { orientation });
    const params = field.init(key);
    t.same(fx.tree.leaves(params).map(flat), fx.tree.leaves(inner.init(key)).map(flat));
    const heads = inner.applyWithVelocity(params, z, r, time, label);
    const got = field.applyWithVelocity(params, z, r, time, label);
    const [sign, distance] = orientation === "data-to-noise" ? [1, time] : [-1, fx.sub(1, r)];
    for (const name of ["u", "v"] as const)
      close(t, got[name], fx.mul(fx.div(fx.sub(z, heads[name]), distance), sign), 1e-13, name);
    close(t, field.apply(params, z, r, time, label), got.u, 1e-13);
    holdsDerivatives(t, field, params, orientation, label);
    const velocity = models.dataPrediction(models.velocityMlp({ dim: 2, ...small }), { orientation });
    holdsDerivatives(t, velocity, velocity.init(key), `velocity, ${orientation}`);
  }
  t.notOk(models.dataPrediction(models.averageVelocityMlp({ dim: 2 })).applyWithVelocity);
  for (const [use, message] of [
    [() => models.dataPrediction({} as never), /needs a field \{ kind, init, apply \}, got an object/],
    [() => models.dataPrediction(undefined as never), /got undefined/],
    [() => models.dataPrediction(inner, { smallestTime: 0 }), /smallestTime must be a finite number > 0/],
    [() => models.dataPrediction(inner, { orientation: "up" as never }), /orientation must be one of/],
    [() => models.dataPrediction(inner, { smallest: 1 } as never), /unknown option "smallest"/],
  ] as const)
    t.throws(use, { name: "ValueError", message }, String(message));
});

t.test("a training by prediction of data finds the point where all data are", async (t) => {
  for (const orientation of ["data-to-noise", "noise-to-data"] as const) {
    const trainer = new fx.Trainer({
      model: models.dataPrediction(models.averageVelocityMlp({ dim: 2, hidden: 16, layers: 2 }), {
        orientation,
      }),
      objective: fx.flow.meanFlow({ orientation, equalTimeFraction: 0.5 }),
      data: fx.data.fromTensor(fx.tensor([[1, -1]])),
      optimizer: fx.optim.adam({ learningRate: 1e-2 }),
      batchSize: 64,
    });
    await trainer.fit({ steps: 200, progress: false });
    const samples = await trainer.sample(3, { sampler: fx.flow.oneStep() });
    closeNumbers(t, flat(samples), [1, -1, 1, -1, 1, -1], 0.2, orientation);
  }
});

// ---- Affine fields.

/** The first Legendre polynomials on [0, 1], written out. */
const legendre = [
  () => 1,
  (t: number) => 2 * t - 1,
  (t: number) => 6 * t ** 2 - 6 * t + 1,
  (t: number) => 20 * t ** 3 - 30 * t ** 2 + 12 * t - 1,
];

/** Their products in r and t up to a total degree, in their order. */
const products = (degree: number, r: number, time: number) =>
  Array.from({ length: degree + 1 }, (_, total) =>
    Array.from({ length: total + 1 }, (_, j) => legendre[total - j]!(r) * legendre[j]!(time)),
  ).flat();

/** The sum over k of weight k times slice k of the first axis. */
const combined = (weights: number[], x: T): T =>
  fx.reshape(fx.matmul(fx.tensor([weights], f64), fx.reshape(x, [x.shape[0]!, -1])), x.shape.slice(1));

onEach("affine fields are A z + b with polynomials of the times", (t) => {
  const [rs, ts] = [
    [0.1, 0.3, 0.55],
    [0.5, 0.9, 0.6],
  ];
  const [z, r, time] = [random(0, 3, 2, 2), column(...rs), column(...ts)];
  const flatZ = fx.reshape(z, [3, 4]);
  for (const degree of [0, 1, 3])
    for (const average of [false, true]) {
      const options = { dim: [2, 2], degree, dtype: "float64" } as const;
      const name = `degree ${degree}, average ${average}`;
      const weights = (i: number) =>
        average ? products(degree, rs[i]!, ts[i]!) : legendre.slice(0, degree + 1).map((p) => p(ts[i]!));
      const count = weights(0).length;
      const values = <P>(field: fx.models.Field<P>, params: P) =>
        field.kind === "velocity" ? field.apply(params, z, time) : field.apply(params, z, r, time);
      const drawn = <P extends object>(params: P) =>
        fx.tree.map((x: T) => random(x.size + x.rank, ...x.shape), params) as P;

      const affine = average ? models.averageVelocityAffine(options) : models.velocityAffine(options);
      t.same(affine.init(key).matrix.shape, [count, 4, 4], name);
      t.ok(
        flat(values(affine, affine.init(key))).every((x) => x === 0),
        "zero at first",
      );
      const a = drawn(affine.init(key));
      const rows = (of: (i: number) => T) => fx.reshape(fx.concat([0, 1, 2].map(of), 0), z.shape);
      const row = (i: number) => fx.slice(flatZ, [i, 0], [1, 4]);
      const offset = (p: { offset: T }, i: number) => fx.reshape(combined(weights(i), p.offset), [1, 4]);
      const want = rows((i) => fx.add(fx.matmul(row(i), combined(weights(i), a.matrix)), offset(a, i)));
      close(t, values(affine, a), want, 1e-12, name);
      holdsDerivatives(t, affine, a, name, undefined, [2, 2]);

      const low = average
        ? models.averageVelocityLowRank({ ...options, rank: 2 })
        : models.velocityLowRank({ ...options, rank: 2 });
      t.ok(
        flat(values(low, low.init(key))).every((x) => x === 0),
        "zero at first",
      );
      const b = drawn(low.init(key));
      const ofRank = rows((i) => {
        const scaled = fx.mul(fx.matmul(row(i), b.right), combined(weights(i), b.diagonal));
        return fx.add(fx.matmul(scaled, fx.transpose(b.left)), offset(b, i));
      });
      close(t, values(low, b), ofRank, 1e-12, `rank 2, ${name}`);
      holdsDerivatives(t, low, b, `rank 2, ${name}`, undefined, [2, 2]);
    }
});

t.test(
  "an affine field learns the velocity of a Gaussian's flow, and a low rank one starts to learn",
  async (t) => {
    // Data N(m, s^2): v(z, t) = (e - x given z) is A(t) (z - (1 - t) m) - m with A = (t - (1 - t) s^2) / variance(t).
    const [m, s] = [1, 0.8];
    const gaussian: fx.data.Distribution = {
      name: "gaussian",
      dim: 1,
      sample: (key, n) => fx.add(fx.mul(fx.random.normal(key, [n, 1]), s), m),
    };
    const common = {
      objective: fx.flow.flowMatching(),
      data: gaussian,
      optimizer: fx.optim.adam({ learningRate: fx.optim.cosine({ from: 3e-2, steps: 1000 }) }),
      batchSize: 512,
    };
    const model = models.velocityAffine({ dim: 1, degree: 5 });
    const trainer = new fx.Trainer({ model, ...common });
    await trainer.fit({ steps: 1000, progress: false });
    const n = 2000;
    const time = fx.random.uniform(fx.random.key(3), [n, 1]);
    const [x, e] = [gaussian.sample(fx.random.key(4), n), fx.random.normal(fx.random.key(5), [n, 1])];
    const z = fx.add(fx.mul(x, fx.sub(1, time)), fx.mul(e, time));
    const [zs, ts] = [flat(z), flat(time)];
    const want = zs.map((z, i) => {
      const [time, rest] = [ts[i]!, 1 - ts[i]!];
      const slope = (time - rest * s ** 2) / (rest ** 2 * s ** 2 + time ** 2);
      return slope * (z - rest * m) - m;
    });
    const got = flat(model.apply(trainer.params, z, time));
    const error = Math.sqrt(want.reduce((sum, w, i) => sum + (w - got[i]!) ** 2, 0) / n);
    t.ok(error < 0.04, `the root mean square error is ${error}`);

    const low = new fx.Trainer({ model: models.velocityLowRank({ dim: 1, rank: 1 }), ...common });
    await low.fit({ steps: 200, progress: false });
    t.ok(low.losses.at(-1)! < 0.7 * low.losses[0]!, `from ${low.losses[0]} to ${low.losses.at(-1)}`);
  },
);

t.test("what affine fields cannot take is named", async (t) => {
  const [z, one] = [fx.zeros([3, 2]), fx.ones([3, 1])];
  const u = models.averageVelocityAffine({ dim: 2 });
  const v = models.velocityLowRank({ dim: 2, rank: 1 });
  const refused: [() => unknown, string, RegExp][] = [
    [() => models.velocityAffine({} as never), "ValueError", /velocityAffine: dim must be/],
    [() => models.velocityAffine({ dim: 2, degree: -1 }), "ValueError", /degree must be a whole number >= 0/],
    [() => models.velocityAffine({ dim: 2, rank: 1 } as never), "ValueError", /unknown option "rank"/],
    [
      () => models.averageVelocityLowRank({ dim: 2 } as never),
      "ValueError",
      /rank must be a whole number >= 1/,
    ],
    [() => u.apply(u.init(key), fx.zeros([3, 3]), one, one), "ShapeError", /z must be \[batch, 2\]/],
    [() => u.apply(u.init(key), z, fx.ones([3]), one), "ShapeError", /r must be \[3, 1\], got \[3\]/],
    [() => v.apply(v.init(key), z, one, one), "ValueError", /velocityLowRank: takes no condition/],
  ];
  for (const [use, name, message] of refused) t.throws(use, { name, message }, String(message));
});

// ---- Monotone fields.

onEach("each component of a monotone field goes one way with t, whatever the parameters", (t) => {
  for (const direction of ["increasing", "decreasing", undefined] as const)
    for (const scale of [1, 8]) {
      const u = models.averageVelocityMonotone({
        dim: [2, 2],
        units: 3,
        ...(direction === undefined ? {} : { direction }),
        ...small,
      });
      const params = fx.tree.map((x: T) => fx.mul(x, scale), u.init(key));
      const n = 40;
      const z = fx.mul(random(0, n, 2, 2), 3);
      const [r, time] = [0, 1].map((i) => fx.random.uniform(fx.random.key(i), [n, 1], f64)) as [T, T];
      const [, slope] = fx.jvp((time: T) => u.apply(params, z, r, time), [time], [fx.ones([n, 1], f64)]);
      const signs = flat(slope).map((x) => (direction === "decreasing" ? -x : x));
      const name = `${direction}, ${scale}`;
      t.ok(
        signs.every((x) => x >= 0),
        name,
      );
      t.ok(
        signs.some((x) => x > 1e-3),
        `${name}: and it does move`,
      );
      holdsDerivatives(t, u, params, name, undefined, [2, 2]);
    }
});

onEach("a monotone field is a base and steps in t, from one perceptron", (t) => {
  const u = models.averageVelocityMonotone({ dim: 2, units: 3, direction: "decreasing", ...small });
  const params = u.init(key);
  t.same(params.mlp.at(-1)!.weight.shape, [6, 2 + 6 + 3]);
  const [z, r, time] = [random(0, 3, 2), column(0.1, 0.3, 0.6), column(0.5, 0.9, 0.6)];
  const net = nn.mlp({ sizes: [3, 6, 6, 11], dtype: "float64" });
  const y = net.apply(params.mlp, fx.concat([z, r], 1)).toArray() as number[][];
  const softplus = (x: number) => Math.log1p(Math.exp(x));
  const slopes = flat(params.slopes);
  const want = y.flatMap((row, k) =>
    [0, 1].map((i) =>
      slopes.reduce((sum, a, j) => {
        const step = Math.tanh(softplus(a) * flat(time)[k]! + row[8 + j]!);
        return sum - (softplus(row[2 + 3 * i + j]!) * step) / 3;
      }, row[i]!),
    ),
  );
  closeNumbers(t, flat(u.apply(params, z, r, time)), want);
});

t.test("what a monotone field cannot take is named", async (t) => {
  const make = models.averageVelocityMonotone;
  const u = make({ dim: 2 });
  const [z, one] = [fx.zeros([3, 2]), fx.ones([3, 1])];
  const refused: [() => unknown, string, RegExp][] = [
    [() => make({ dim: 0 }), "ValueError", /dim must be a whole number >= 1, got 0/],
    [() => make({ dim: 2, units: 0 }), "ValueError", /units must be a whole number >= 1, got 0/],
    [() => make({ dim: 2, direction: "up" as never }), "ValueError", /direction must be one of "increasing"/],
    [() => make({ dim: 2, unit: 3 } as never), "ValueError", /unknown option "unit"/],
    [() => u.apply(u.init(key), z, one, fx.ones([3])), "ShapeError", /t must be \[3, 1\], got \[3\]/],
    [() => u.apply(u.init(key), z, one, one, one), "ValueError", /takes no condition/],
  ];
  for (const [use, name, message] of refused) t.throws(use, { name, message }, String(message));
});

// ---- Beginning from flow matching.

onEach("an average velocity that begins from a velocity is that velocity for all r", (t) => {
  const n = 4;
  const [z, r, time] = [random(0, n, 2), column(0, 0.1, 0.5, 0.7), column(1, 0.9, 0.6, 0.7)];
  const told = {
    label: fx.tensor([0, 2, 1, 0], int32),
    features: random(1, n, 3),
    guidance: column(1, 2, 3, 4),
  };
  const conditions = { conditionDim: 3, classes: 2, guidance: true } as const;
  for (const timeEmbedding of ["raw", "fourier", "sinusoidal"] as const)
    for (const timePair of ["end-start", "end-length"] as const)
      for (const own of [{}, conditions, { lipschitz: 1, activation: "silu" } as const])
        for (const velocityHead of [false, true]) {
          const options = { dim: 2, timeEmbedding, ...own, ...small } as const;
          const name = `${timeEmbedding}, ${timePair}, ${Object.keys(own)}, head ${velocityHead}`;
          const condition = "classes" in own ? told : undefined;
          const velocity = models.velocityMlp<number>(options);
          const vParams = velocity.init(fx.random.key(3));
          const average = models.averageVelocityMlp<number, boolean>({ ...options, timePair, velocityHead });
          const params = models.averageParamsFromVelocity<number, boolean>(
            { ...options, timePair, velocityHead },
            vParams,
          );
          const shapes = (tree: object) => fx.tree.leaves(tree).map((x) => [...x.shape]);
          t.same(shapes(params), shapes(average.init(key)), name);
          const want = velocity.apply(vParams, z, time, condition);
          close(t, average.apply(params, z, r, time, condition), want, 1e-12, name);
          if (!velocityHead) continue;
          const both = average.applyWithVelocity!(params, z, r, time, condition);
          close(t, both.v, want, 1e-12, `${name}: v`);
        }
});

t.test("parameters of another velocity field are refused", async (t) => {
  const options = { dim: 2, hidden: 6, layers: 2 } as const;
  const from =
    (params: unknown, more: object = {}) =>
    () =>
      models.averageParamsFromVelocity({ ...options, ...more }, params as fx.nn.MlpParams);
  const draw = (more: object = {}) => models.velocityMlp({ ...options, ...more }).init(key);
  t.doesNotThrow(from(draw()));
  const refused: [() => unknown, string, RegExp][] = [
    [from(draw({ dim: 3 })), "ShapeError", /params\/0\/weight is float32\[4, 6\]; .* need float32\[3, 6\]/],
    [from(draw({ hidden: 7 })), "ShapeError", /params\/0\/weight is float32\[3, 7\]/],
    [from(draw({ layers: 3 })), "ValueError", /params must be an array of 3, got an array of 4/],
    [from(draw({ dtype: "float64" })), "DTypeError", /is float64\[3, 6\]; these options need float32/],
    [from(draw({ timeEmbedding: "fourier" })), "ShapeError", /params\/0\/weight is float32\[9, 6\]/],
    [
      from(draw(), { classes: 2 }),
      "ValueError",
      /params must be an object \{ mlp, labels \}, got an array of 3/,
    ],
    [
      from(draw({ classes: 2 })),
      "ValueError",
      /params must be an array of 3, got an object \{ mlp, labels \}/,
    ],
    [from(undefined), "ValueError", /got undefined/],
    [from([{}, {}, {}]), "ValueError", /params\/0 must be an object \{ weight, bias \}, got an object/],
    [from(draw().map((layer) => ({ ...layer, bias: 0 }))), "ValueError", /params\/0\/bias must be a Tensor/],
    [from(draw(), { timePair: "both" }), "ValueError", /timePair must be one of/],
  ];
  for (const [use, name, message] of refused) t.throws(use, { name, message }, String(message));
});

const twoMoons = fx.data.twoMoons();
const adam = () => fx.optim.adam({ learningRate: 1e-3 });

t.test("a mean-flow training begins exactly at the parameters that it is given, and trains", async (t) => {
  const options = { dim: 2, hidden: 32, layers: 2, timeEmbedding: "fourier" } as const;
  const common = { data: twoMoons, optimizer: adam(), batchSize: 128 };
  const first = new fx.Trainer({
    model: models.velocityMlp(options),
    objective: fx.flow.flowMatching(),
    ...common,
  });
  await first.fit({ steps: 300, progress: false });
  const params = models.averageParamsFromVelocity(options, first.params);
  const make = (more: object) =>
    new fx.Trainer({
      model: models.averageVelocityMlp(options),
      objective: fx.flow.meanFlow({ equalTimeFraction: 0.5 }),
      ...common,
      ema: 0.9,
      ...more,
    });
  const warm = make({ params });
  const values = (tree: object) => fx.tree.leaves(tree).map(flat);
  t.same(values(warm.params), values(params));
  t.same(values(warm.emaParams!), values(params), "and so does the average");
  // Where r = t the loss of mean flow is flow matching's: the first one of the warm training is as low already.
  const equal = { objective: fx.flow.meanFlow({ equalTimeFraction: 1 }) };
  const [cold, start] = [make(equal), make({ ...equal, params })];
  for (const trainer of [cold, start]) await trainer.fit({ steps: 1, progress: false });
  t.ok(start.losses[0]! < 0.9 * cold.losses[0]!, `${start.losses[0]} is below ${cold.losses[0]}`);
  await warm.fit({ steps: 20, progress: false });
  t.equal(warm.step, 20);
  t.notSame(values(warm.params), values(params));
  t.same(
    values(params),
    values(models.averageParamsFromVelocity(options, first.params)),
    "ours are as they were",
  );
});

t.test("a trainer given the parameters that it would draw is the same training", async (t) => {
  const model = models.averageVelocityMlp({ dim: 2, hidden: 8, layers: 1 });
  const common = { model, objective: fx.flow.meanFlow(), data: twoMoons, optimizer: adam(), batchSize: 16 };
  const drawn = new fx.Trainer(common);
  const given = new fx.Trainer({ ...common, params: drawn.params });
  for (const trainer of [drawn, given]) await trainer.fit({ steps: 5, progress: false });
  t.same(given.losses, drawn.losses);
});

t.test("initial parameters that do not fit the model are named", async (t) => {
  const model = models.velocityMlp({ dim: 2, hidden: 4, layers: 1 });
  const own = model.init(key);
  const start = (params: unknown) => () =>
    new fx.Trainer({
      model,
      objective: fx.flow.flowMatching(),
      data: twoMoons,
      optimizer: adam(),
      batchSize: 4,
      params: params as fx.nn.MlpParams,
    });
  const wide = models.velocityMlp({ dim: 2, hidden: 5, layers: 1 }).init(key);
  const double = models.velocityMlp({ dim: 2, hidden: 4, layers: 1, dtype: "float64" }).init(key);
  const refused: [() => unknown, string, RegExp][] = [
    [start(own.slice(0, 1)), "ValueError", /Trainer: params\/1\/bias is missing; the model has float32\[2\]/],
    [start([...own, own[0]]), "ValueError", /the model has no parameter params\/2\/bias/],
    [start(wide), "ShapeError", /params\/0\/bias is float32\[5\]; the model has float32\[4\]/],
    [start(double), "DTypeError", /params\/0\/bias is float64\[4\]; the model has float32\[4\]/],
    [start(3), "ValueError", /params\/0\/bias is missing/],
  ];
  for (const [use, name, message] of refused) t.throws(use, { name, message }, String(message));
});
