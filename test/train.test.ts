import fs from "node:fs/promises";
import { join } from "node:path";
import { Writable } from "node:stream";
import * as fx from "fluxion";
import t from "tap";

const { adam, chain, clipByGlobalNorm, cosine, sgd } = fx.optim;
const { euler, flowMatching, improvedMeanFlow, meanFlow, oneStep } = fx.flow;

const small = { dim: 2, hidden: 8, layers: 1 };
const model = fx.models.averageVelocityMlp(small);
const optimizer = chain(clipByGlobalNorm(1), adam({ learningRate: cosine({ from: 1e-2, steps: 100 }) }));

function meanFlowTrainer(options: object = {}) {
  const data = fx.data.checkerboard();
  return new fx.Trainer({
    model,
    objective: meanFlow(),
    data,
    optimizer,
    batchSize: 16,
    ema: 0.9,
    ...options,
  });
}

function flowMatchingTrainer(options: object = {}) {
  return new fx.Trainer({
    model: fx.models.velocityMlp(small),
    objective: flowMatching(),
    data: fx.data.checkerboard(),
    optimizer: adam({ learningRate: 1e-2 }),
    batchSize: 16,
    ...options,
  });
}

/** All numbers of a trainer, to the bit. */
function bits(trainer: { params: unknown; emaParams: unknown; losses: Float32Array }): string[] {
  return [
    ...fx.tree.leaves([trainer.params, trainer.emaParams ?? []]).map((x) => x.toTypedArray()),
    trainer.losses,
  ].map((array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("hex"));
}

const quiet = { progress: false } as const;

t.test("a step learns", async (t) => {
  // The best constant velocity for noise to data around (3, -1) is (-3, 1): the loss of a network that finds it is
  // about the variance of noise - data, which is 1 here.
  const data = fx.data.fromTensor(fx.tensor([[3, -1]]));
  const trainer = flowMatchingTrainer({ data, optimizer: adam({ learningRate: 3e-2 }), batchSize: 64 });
  const { loss, step, stepsPerSecond } = await trainer.fit({ steps: 400, ...quiet });
  t.equal(step, 400);
  t.equal(trainer.losses.length, 400);
  t.ok(trainer.losses[0]! > 4, `the first loss is ${trainer.losses[0]}`);
  t.ok(loss < 1.2, `the last losses are about ${loss}`);
  t.ok(stepsPerSecond > 0);
  const samples = await trainer.sample(200, { sampler: euler({ steps: 10 }) });
  const center = fx.mean(samples, 0).toTypedArray();
  t.ok(Math.hypot(center[0]! - 3, center[1]! + 1) < 0.3, `samples lie about (${center})`);
});

t.test("every objective trains, in both orientations", async (t) => {
  for (const orientation of ["data-to-noise", "noise-to-data"] as const) {
    for (const objective of [
      meanFlow({ orientation }),
      improvedMeanFlow({ orientation, equalTimeFraction: 0.5, weighting: fx.flow.adaptiveWeighting() }),
    ]) {
      const trainer = meanFlowTrainer({ objective });
      await trainer.fit({ steps: 3, ...quiet });
      const samples = await trainer.sample(5, { sampler: oneStep() });
      t.same(samples.shape, [5, 2], `${objective.name}, ${orientation}`);
      // One step starts at the noise, and adds or subtracts the average velocity over the whole interval.
      const { trajectory } = await trainer.sample(5, { sampler: oneStep(), trajectory: true });
      const noise = fx.reshape(fx.slice(trajectory, [0, 0, 0], [1, 5, 2]), [5, 2]);
      const u = model.apply(trainer.emaParams!, noise, fx.zeros([5, 1]), fx.ones([5, 1]));
      const expected = orientation === "data-to-noise" ? fx.sub(noise, u) : fx.add(noise, u);
      const distance = fx.max(fx.abs(fx.sub(samples, expected))).item();
      t.ok(distance < 1e-5, `differs by ${distance}`);
    }
    await flowMatchingTrainer({ objective: flowMatching({ orientation }) }).fit({ steps: 2, ...quiet });
  }
});

t.test("the seed decides everything", async (t) => {
  const run = async (seed: number) => {
    const trainer = meanFlowTrainer({ seed });
    await trainer.fit({ steps: 5, ...quiet });
    return bits(trainer);
  };
  t.same(await run(1), await run(1));
  t.notSame(await run(1), await run(2));
});

t.test("a training that is divided, saved and restored has the bits of one that is not", async (t) => {
  const folder = t.testdir({});
  const whole = meanFlowTrainer();
  await whole.fit({ steps: 40, ...quiet });

  const divided = meanFlowTrainer();
  for (const steps of [1, 2, 0, 17, 20]) await divided.fit({ steps, ...quiet });
  t.same(bits(divided), bits(whole), "divided into fits");

  const first = meanFlowTrainer();
  await first.fit({ steps: 13, ...quiet });
  await first.save(join(folder, "first.safetensors"));
  const second = meanFlowTrainer({ seed: 99 });
  await second.fit({ steps: 2, ...quiet });
  await second.restore(join(folder, "first.safetensors"));
  t.equal(second.step, 13);
  t.same(bits(second), bits(first), "restored");
  await second.fit({ steps: 27, ...quiet });
  t.same(bits(second), bits(whole), "and continued");
  const sampler = oneStep();
  t.same((await second.sample(3, { sampler })).toArray(), (await whole.sample(3, { sampler })).toArray());
  await second.save(join(folder, "second.safetensors"));
  await whole.save(join(folder, "whole.safetensors"));
  t.same(
    await fs.readFile(join(folder, "second.safetensors")),
    await fs.readFile(join(folder, "whole.safetensors")),
  );

  const { metadata, tensors } = await fx.io.loadSafetensors(join(folder, "whole.safetensors"));
  t.match(metadata, { format: "fluxion-trainer", step: "40", seed: "0", model: /average-velocity/ });
  t.equal(tensors["losses"]!.size, 40);
});

t.test("checkpoints are written every so many steps", async (t) => {
  const folder = join(t.testdir({}), "deep", "checkpoints");
  const trainer = flowMatchingTrainer();
  await trainer.fit({ steps: 3, ...quiet });
  await trainer.fit({ steps: 10, ...quiet, checkpoint: { directory: folder, every: 5 } });
  t.same((await fs.readdir(folder)).sort(), ["step-00000005.safetensors", "step-00000010.safetensors"]);
  const other = flowMatchingTrainer();
  await other.restore(join(folder, "step-00000010.safetensors"));
  await other.fit({ steps: 3, ...quiet });
  t.same(bits(other), bits(trainer));

  const blocked = join(t.testdir({ file: "" }), "file", "below");
  await t.rejects(trainer.fit({ steps: 5, ...quiet, checkpoint: { directory: blocked, every: 1 } }), {
    name: "FileError",
  });
  t.equal(trainer.step, 14, "the training stands where it could not be saved");
});

t.test("an abort stops between two steps", async (t) => {
  const trainer = meanFlowTrainer();
  const controller = new AbortController();
  const log = ({ step }: fx.FitEvent) => {
    if (step >= 3) controller.abort();
  };
  await t.rejects(trainer.fit({ steps: 1e6, ...quiet, log, signal: controller.signal }), {
    name: "AbortError",
  });
  const { step } = trainer;
  t.ok(step >= 3 && step < 1e6);
  t.equal(trainer.losses.length, step);
  await t.rejects(trainer.fit({ steps: 1, ...quiet, signal: controller.signal }), { name: "AbortError" });
  t.equal(trainer.step, step, "a signal that was given before stops the first step");
  await trainer.fit({ steps: 5, ...quiet });
  const whole = meanFlowTrainer();
  await whole.fit({ steps: step + 5, ...quiet });
  t.same(bits(trainer), bits(whole), "the training goes on as if nothing had happened");

  const timed = meanFlowTrainer();
  const start = performance.now();
  await t.rejects(timed.fit({ steps: 1e8, ...quiet, signal: AbortSignal.timeout(100) }), {
    name: "TimeoutError",
  });
  t.ok(performance.now() - start < 5000, "a timer can stop it, since the event loop is free");
});

t.test("the event loop is free while steps run", async (t) => {
  const trainer = meanFlowTrainer({
    model: fx.models.averageVelocityMlp({ dim: 2, hidden: 64 }),
    batchSize: 1024,
  });
  let longest = 0;
  let last = 0;
  const timer = setInterval(() => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 2);
  await trainer.fit({ steps: 2, ...quiet });
  last = performance.now();
  longest = 0;
  await t.rejects(trainer.fit({ steps: 1e6, ...quiet, signal: AbortSignal.timeout(400) }));
  clearInterval(timer);
  t.ok(longest < 150, `the longest wait was ${longest.toFixed(1)} ms`);
});

t.test("a loss that is not finite stops the training, with the last good state", async (t) => {
  const folder = t.testdir({});
  const diverging = flowMatchingTrainer({ optimizer: sgd({ learningRate: 30 }) });
  await t.rejects(diverging.fit({ steps: 10_000, ...quiet }), {
    name: "NonFiniteError",
    message:
      /step \d+ .*not finite|step \d+ .*the loss is (NaN|Infinity).*lower learning rate.*clipByGlobalNorm/s,
  });
  t.ok(diverging.losses.every(Number.isFinite), "only good steps are in the history");
  const values = () => fx.tree.leaves(diverging.params).flatMap((x) => [...x.toTypedArray()]);
  t.ok(values().every(Number.isFinite));
  const { step } = diverging;
  await t.rejects(diverging.fit({ steps: 1, ...quiet }), {
    name: "NonFiniteError",
    message: new RegExp(`step ${step} \\(counted from 0\\)`),
  });
  t.equal(diverging.step, step);
  await diverging.save(join(folder, "a.safetensors"));
  await flowMatchingTrainer({ optimizer: sgd({ learningRate: 30 }) }).restore(join(folder, "a.safetensors"));

  const overflowing = flowMatchingTrainer({
    optimizer: {
      init: () => fx.ones([]),
      update: (grads: fx.tree.Tree, state: fx.Tensor) => [
        fx.tree.map((g) => fx.mul(g, 0), grads),
        fx.div(state, 0),
      ],
    },
  });
  const before = bits(overflowing);
  await t.rejects(overflowing.fit({ steps: 3, ...quiet }), {
    name: "NonFiniteError",
    message:
      /step 0 .*the loss is [\d.]+, but the updated parameters or the optimizer's state are not finite/s,
  });
  t.same(bits(overflowing), before, "a good loss with a bad optimizer's state counts as well");

  const poisoned = {
    name: "poisoned",
    dim: 2,
    sample: (key: fx.Tensor, n: number) => fx.div(fx.random.normal(key, [n, 2]), 0),
  };
  await t.rejects(flowMatchingTrainer({ data: poisoned }).fit({ steps: 1, ...quiet }), {
    name: "NonFiniteError",
    message: /the loss is (NaN|Infinity).*check\s+that the data are finite/s,
  });
});

t.test("checkpoints that do not fit are refused, and the trainer stays as it was", async (t) => {
  const folder = t.testdir({});
  const good = join(folder, "good.safetensors");
  const bad = join(folder, "bad.safetensors");
  const trainer = meanFlowTrainer();
  await trainer.fit({ steps: 4, ...quiet });
  await trainer.save(good);
  await trainer.fit({ steps: 2, ...quiet });
  const before = bits(trainer);
  const bytes = await fs.readFile(good);
  const refused = async (
    what: string,
    message: RegExp,
    of = trainer as { restore(path: string): Promise<void> },
  ) => {
    await t.rejects(of.restore(bad), { name: "FileError", message }, what);
    t.same(bits(trainer), before, `${what}: untouched`);
  };

  for (const length of [0, 7, 8, 100, bytes.length - 1]) {
    await fs.writeFile(bad, bytes.subarray(0, length));
    await refused(`cut short after ${length} bytes`, /bad\.safetensors/);
  }
  for (const size of [2n ** 64n - 1n, 2n ** 53n, 2n ** 31n, 0n]) {
    const hostile = Buffer.from(bytes);
    hostile.writeBigUInt64LE(size, 0);
    await fs.writeFile(bad, hostile);
    await refused(`a header of ${size} bytes`, /header/);
  }

  const { tensors, metadata } = await fx.io.loadSafetensors(good);
  const changed = async (
    newTensors: Record<string, fx.Tensor | undefined>,
    newMetadata: Record<string, string> = {},
  ) => {
    const all = Object.entries({ ...tensors, ...newTensors }).filter((entry) => entry[1] !== undefined);
    await fx.io.saveSafetensors(bad, Object.fromEntries(all) as Record<string, fx.Tensor>, {
      ...metadata,
      ...newMetadata,
    });
  };
  const name = Object.keys(tensors).find((path) => path.startsWith("params/"))!;
  await changed({}, { format: "gguf" });
  await refused("of another kind", /not a checkpoint of a Trainer/);
  await changed({}, { version: "3" });
  await refused("of a later version", /version is 3; this library reads 2/);
  for (const step of ["-1", "1.5", "1e3", "", "99999999999999999999"]) {
    await changed({}, { step });
    await refused(`step ${step}`, /step is not a whole number/);
  }
  await changed({}, { step: "5" });
  await refused("losses that do not fit the step", /5 steps need their losses as float32\[5\].*float32\[4\]/);
  await changed({ losses: undefined });
  await refused("no losses", /has none/);
  await changed({ [name]: undefined });
  await refused("a parameter missing", new RegExp(`${name} is missing`));
  await changed({ [name]: fx.zeros([3, 3]) });
  await refused(
    "a parameter of another shape",
    new RegExp(`${name} is float32\\[3, 3\\]; the trainer has float32`),
  );
  await changed({ [name]: fx.cast(tensors[name]!, "float64") });
  await refused("a parameter of another dtype", new RegExp(`${name} is float64`));
  await changed({ "params/more": fx.ones([1]) });
  await refused("a parameter more", /params\/more is in the file/);
  await changed({ other: fx.ones([1]) });
  await refused("a part more", /other is in the file/);

  await fs.writeFile(bad, bytes);
  await refused(
    "of a wider model",
    /params.* is float32\[.*the trainer has float32\[/,
    meanFlowTrainer({
      model: fx.models.averageVelocityMlp({ ...small, hidden: 9 }),
    }),
  );
  await refused(
    "of a model with more layers",
    /params.* (is missing|the trainer has)/,
    meanFlowTrainer({
      model: fx.models.averageVelocityMlp({ ...small, layers: 2 }),
    }),
  );
  await refused(
    "of another kind of model",
    /model is average-velocity of 2; the trainer's is velocity of 2/,
    flowMatchingTrainer(),
  );
  await refused(
    "of another objective",
    /objective is mean flow.*improved mean flow/,
    meanFlowTrainer({ objective: improvedMeanFlow() }),
  );
  await refused(
    "of another orientation",
    /data-to-noise.*noise-to-data/,
    meanFlowTrainer({
      objective: meanFlow({ orientation: "noise-to-data" }),
    }),
  );
  await refused(
    "with an average that is not kept",
    /ema.* is in the file/,
    meanFlowTrainer({ ema: undefined }),
  );
  await refused(
    "with another optimizer's state",
    /optimizer.*(in the file|missing)/,
    meanFlowTrainer({ optimizer: sgd({ learningRate: 1 }) }),
  );
  await t.rejects(trainer.restore(join(folder, "none")), { name: "FileError", message: /cannot read/ });

  await trainer.restore(good);
  await trainer.fit({ steps: 2, ...quiet });
  t.same(bits(trainer), before, "and the good one still fits");
});

t.test("progress off a terminal is a plain line", async (t) => {
  const written: string[] = [];
  const stream = { write: (text: string) => written.push(text) };
  await meanFlowTrainer().fit({ steps: 20, progress: { stream, label: "MF", interval: 0 } });
  t.ok(written.length >= 2);
  for (const line of written)
    t.match(line, /^MF {2}step \d+\/20 {2}loss \d\S* {2}\d\S* steps\/s {2}\d+:\d\d left\n$/);
  t.match(written.at(-1), /step 20\/20 .* 0:00 left/);

  written.length = 0;
  await meanFlowTrainer().fit({ steps: 20, progress: { stream, interval: 60 } });
  t.equal(written.length, 1, "one at the end, when it does not take long");
});

t.test("progress on a terminal is a bar", async (t) => {
  let written = "";
  const stream = Object.assign(
    new Writable({
      write(chunk, _encoding, done) {
        written += chunk;
        done();
      },
    }),
    { isTTY: true, columns: 120 },
  );
  await meanFlowTrainer().fit({ steps: 8, progress: { stream, label: "MF" } });
  t.match(written, /MF \[=+-*\] 8\/8 {2}loss \d\S* {2}\d\S* steps\/s {2}0:00 left/);
});

t.test("log hears of every step, and may look at the trainer", async (t) => {
  const trainer = meanFlowTrainer();
  const events: fx.FitEvent[] = [];
  let seen = 0;
  await trainer.fit({
    steps: 30,
    ...quiet,
    log: async (event) => {
      events.push(event);
      t.equal(event.step, trainer.step);
      t.equal(fx.tree.leaves(trainer.params).length, 4);
      t.ok(event.stepsPerSecond > 0);
      t.ok(Number.isFinite(event.loss));
      await new Promise((resolve) => setTimeout(resolve, 1));
      seen = event.step;
    },
  });
  t.equal(seen, 30, "an async log is waited for");
  t.ok(events.length >= 2);
  const whole = trainer.losses;
  const first = whole.subarray(0, events[0]!.step);
  t.ok(Math.abs(events[0]!.loss - first.reduce((sum, x) => sum + x, 0) / first.length) < 1e-6);
  events.length = 0;
  await trainer.fit({ steps: 20, ...quiet, logEvery: 8, log: (event) => events.push(event) });
  t.same(
    events.map(({ step }) => step),
    [32, 40, 48],
    "at the steps asked for",
  );
  await t.rejects(
    trainer.fit({
      steps: 3,
      ...quiet,
      log: () => {
        throw new Error("mine");
      },
    }),
    { message: "mine" },
    "its errors end the fit",
  );
  await trainer.fit({ steps: 1, ...quiet });
});

t.test("samples", async (t) => {
  const trainer = meanFlowTrainer();
  await trainer.fit({ steps: 5, ...quiet });
  const sampler = oneStep();
  const ema = await trainer.sample(6, { sampler });
  t.same(
    ema.toArray(),
    (await trainer.sample(6, { sampler, params: "ema" })).toArray(),
    "the average is the default",
  );
  t.notSame(ema.toArray(), (await trainer.sample(6, { sampler, params: "live" })).toArray());
  t.notSame(ema.toArray(), (await trainer.sample(6, { sampler, key: fx.random.key(5) })).toArray());
  const way = await trainer.sample(6, { sampler: fx.flow.meanFlowSteps({ steps: 3 }), trajectory: true });
  t.same(way.trajectory.shape, [4, 6, 2]);
  t.same(way.times, [1, 2 / 3, 1 / 3, 0]);

  await t.rejects(trainer.sample(0, { sampler }), { name: "ValueError", message: /count/ });
  await t.rejects(trainer.sample(3, { sampler, parms: "ema" } as never), {
    name: "ValueError",
    message: /"parms"/,
  });
  await t.rejects(trainer.sample(3, { sampler, params: "average" as never }), { name: "ValueError" });
  const without = flowMatchingTrainer();
  await t.rejects(without.sample(3, { sampler: euler({ steps: 1 }), params: "ema" }), {
    name: "ValueError",
    message: /needs a trainer with the option ema/,
  });
  await t.rejects(without.sample(3, { sampler: oneStep() as never }), {
    name: "ValueError",
    message: /kind/,
  });
  t.equal(without.emaParams, undefined);
});

/** Two far points, 0 and 1, of which only the label tells which one it is. */
const places = [
  [3, -1],
  [-2, 2],
];
const pair = () => fx.data.fromTensor(fx.tensor(places), { labels: fx.tensor([0, 1], { dtype: "int32" }) });

/** A velocity for each class, whatever z and t are. */
const perClass: fx.models.VelocityField<{ table: fx.Tensor }> = {
  kind: "velocity",
  dim: 2,
  init: () => ({ table: fx.zeros([2, 2]) }),
  apply: ({ table }, _z, _t, condition) => fx.take(table, condition as fx.Tensor, 0),
};

/** Reads z, the times, and the class. */
const withClasses = (network = fx.models.averageVelocityMlp({ ...small, conditionDim: 10 })) => ({
  ...network,
  apply: (params: fx.nn.MlpParams, z: fx.Tensor, r: fx.Tensor, t: fx.Tensor, condition?: fx.Tensor) =>
    network.apply(params, z, r, t, fx.oneHot(condition!, 10)),
});

t.test("the field learns with the labels of the data", async (t) => {
  // The best velocity of a class is the mean of noise - data, - its point, and what is left is the variance of the
  // noise, 1. Without labels the variance of the points, (5^2 + 3^2) / 8 a coordinate, would be left too.
  const trainer = new fx.Trainer({
    model: perClass,
    objective: flowMatching(),
    data: pair(),
    optimizer: adam({ learningRate: cosine({ from: 0.1, steps: 300 }) }),
    batchSize: 128,
  });
  const { loss } = await trainer.fit({ steps: 300, ...quiet });
  t.ok(Math.abs(loss - 1) < 0.15, `the last losses are about ${loss}`);
  const table = trainer.params.table.toArray() as number[][];
  for (const [k, place] of places.entries())
    t.ok(Math.hypot(table[k]![0]! + place[0]!, table[k]![1]! + place[1]!) < 0.2, `class ${k}: ${table[k]}`);

  const condition = fx.tensor(
    Array.from({ length: 400 }, (_, i) => i % 2),
    { dtype: "int32" },
  );
  for (const steps of [1, 4]) {
    const samples = await trainer.sample(400, { sampler: euler({ steps }), condition });
    const byClass = fx.reshape(samples, [200, 2, 2]);
    const centres = fx.mean(byClass, 0).toArray() as number[][];
    for (const [k, place] of places.entries())
      t.ok(Math.hypot(centres[k]![0]! - place[0]!, centres[k]![1]! - place[1]!) < 0.35, `${centres[k]}`);
  }
  const way = await trainer.sample(2, {
    sampler: euler({ steps: 3 }),
    condition: fx.tensor([1, 1], { dtype: "int32" }),
    trajectory: true,
  });
  t.same(way.trajectory.shape, [4, 2, 2]);
});

t.test("every objective trains with labels, and continues to the bit", async (t) => {
  const folder = t.testdir({});
  const path = join(folder, "a.safetensors");
  const glyphs = fx.data.glyphs({ size: 6 });
  const network = fx.models.averageVelocityMlp({ ...small, dim: [6, 6, 1], conditionDim: 10 });
  for (const objective of [meanFlow(), improvedMeanFlow({ equalTimeFraction: 0.4 })]) {
    const make = () => meanFlowTrainer({ model: withClasses(network), data: glyphs, objective });
    const whole = make();
    await whole.fit({ steps: 12, ...quiet });
    t.ok(whole.losses.every(Number.isFinite));
    const first = make();
    await first.fit({ steps: 5, ...quiet });
    await first.save(path);
    const second = make();
    await second.restore(path);
    await second.fit({ steps: 3, ...quiet });
    await second.fit({ steps: 4, ...quiet });
    t.same(bits(second), bits(whole), objective.name);
    const condition = fx.tensor([7, 0, 7], { dtype: "int32" });
    const drawn = await second.sample(3, { sampler: oneStep(), condition });
    t.same(drawn.shape, [3, 6, 6, 1]);
    t.same(drawn.toArray(), (await whole.sample(3, { sampler: oneStep(), condition })).toArray());
  }
  const [a, b] = ["typescript", "cpu"].map((backend) =>
    fx.backends().some(({ name, available }) => name === backend && available)
      ? meanFlowTrainer({ model: withClasses(network), data: glyphs, backend })
      : undefined,
  );
  await a?.fit({ steps: 4, ...quiet });
  await b?.fit({ steps: 4, ...quiet });
  for (let i = 0; i < 4 && a !== undefined && b !== undefined; i++)
    t.ok(Math.abs(a.losses[i]! - b.losses[i]!) < 1e-3, `${a.losses[i]} and ${b.losses[i]}`);
});

t.test("labels can be left out", async (t) => {
  const rows = fx.tensor(places);
  const plain = meanFlowTrainer({ data: fx.data.fromTensor(rows) });
  const without = meanFlowTrainer({ data: pair(), conditional: false });
  await plain.fit({ steps: 5, ...quiet });
  await without.fit({ steps: 5, ...quiet });
  t.same(bits(without), bits(plain), "the training is that of data without labels");

  const wrong = (options: object, message: RegExp) =>
    t.throws(() => meanFlowTrainer(options), { name: "ValueError", message }, String(message));
  wrong({ conditional: true }, /conditional training needs labelled data/);
  wrong({ conditional: "yes" }, /conditional must be true or false, got "yes"/);
  await t.rejects(meanFlowTrainer({ data: pair() }).fit({ steps: 1, ...quiet }), {
    name: "ValueError",
    message: /got a condition, but conditionDim is 0/,
  });
});

t.test("a condition has a row for each sample", async (t) => {
  const trainer = meanFlowTrainer({ model: withClasses(), data: pair() });
  const sampler = oneStep();
  const labels = (values: number[]) => fx.tensor(values, { dtype: "int32" });
  await t.rejects(trainer.sample(3, { sampler, condition: labels([0, 1]) }), {
    name: "ShapeError",
    message: /Trainer.sample: condition must be \[3, \.\.\.\], a row for each sample, got \[2\]/,
  });
  await t.rejects(trainer.sample(3, { sampler, condition: [0, 1, 1] as never }), {
    name: "ValueError",
    message: /condition must be a Tensor, or an object of Tensors, got an array of 3/,
  });
  const [zeros, ones] = [labels([0, 0, 0]), labels([1, 1, 1])];
  const drawn = async (condition: fx.Tensor) => (await trainer.sample(3, { sampler, condition })).toArray();
  t.same(await drawn(zeros), await drawn(zeros));
  t.notSame(await drawn(zeros), await drawn(ones));
});

t.test("float64 models train in float64", async (t) => {
  const trainer = flowMatchingTrainer({ model: fx.models.velocityMlp({ ...small, dtype: "float64" }) });
  await trainer.fit({ steps: 3, ...quiet });
  t.ok(fx.tree.leaves(trainer.params).every((x) => x.dtype === "float64"));
  t.equal((await trainer.sample(2, { sampler: euler({ steps: 2 }) })).dtype, "float64");
});

t.test("both backends train alike", async (t) => {
  const [a, b] = [meanFlowTrainer({ backend: "typescript" }), meanFlowTrainer()];
  await a.fit({ steps: 5, ...quiet });
  await b.fit({ steps: 5, ...quiet });
  for (let i = 0; i < 5; i++)
    t.ok(Math.abs(a.losses[i]! - b.losses[i]!) < 1e-3, `${a.losses[i]} and ${b.losses[i]}`);
});

t.test("wrong options are named", async (t) => {
  const wrong = (options: object, message: RegExp) =>
    t.throws(() => meanFlowTrainer(options), { name: "ValueError", message }, String(message));
  wrong(
    { objective: flowMatching() },
    /flow matching needs a model of kind "velocity", got one of kind "average-velocity"/,
  );
  wrong({ model: fx.models.velocityMlp(small) }, /mean flow needs a model of kind "average-velocity"/);
  wrong({ batchsize: 3 }, /unknown option "batchsize"/);
  wrong({ batchSize: 0 }, /batchSize/);
  wrong({ batchSize: 1.5 }, /batchSize/);
  wrong({ seed: -1 }, /seed/);
  wrong({ ema: 1.5 }, /decay/);
  wrong({ ema: "0.9" }, /ema/);
  wrong({ model: undefined }, /model must be a field/);
  wrong({ objective: {} }, /objective/);
  wrong({ data: [] }, /data must be a distribution/);
  wrong({ optimizer: adam }, /optimizer/);
  wrong({ backend: "gpu" }, /unknown backend "gpu"/);
  wrong({ model: fx.models.averageVelocityMlp({ ...small, dim: 3 }) }, /shape \[3\], the data has \[2\]/);

  const trainer = meanFlowTrainer();
  const fit = (options: object, message: RegExp) =>
    t.rejects(trainer.fit({ steps: 1, ...quiet, ...options } as never), { name: "ValueError", message });
  await fit({ steps: -1 }, /steps/);
  await fit({ steps: 0.5 }, /steps/);
  await fit({ step: 1 }, /unknown option "step"/);
  await fit({ log: 3 }, /log/);
  await fit({ logEvery: 0 }, /logEvery/);
  await fit({ signal: {} }, /AbortSignal/);
  await fit({ progress: { stream: {} } }, /stream/);
  await fit({ checkpoint: { directory: "x", every: 0 } }, /checkpoint\.every/);
  await fit({ checkpoint: { directory: "", every: 1 } }, /checkpoint\.directory/);
  t.equal(trainer.step, 0);
});

t.test("a trainer that is at work, or was disposed of, says so", async (t) => {
  const trainer = meanFlowTrainer();
  const fit = trainer.fit({ steps: 50, ...quiet });
  await new Promise((resolve) => setImmediate(resolve));
  await t.rejects(trainer.fit({ steps: 1 }), { name: "ValueError", message: /another fit is under way/ });
  t.throws(() => trainer.params, { name: "ValueError", message: /steps are running/ });
  await t.rejects(trainer.save("never-written"), { name: "ValueError", message: /steps are running/ });
  await fit;
  t.equal(trainer.step, 50);
  trainer.dispose();
  trainer.dispose();
  t.equal(trainer.losses.length, 50, "the history stays");
  for (const use of [
    () => trainer.fit({ steps: 1 }),
    () => trainer.sample(1, { sampler: oneStep() }),
    () => trainer.save("never-written"),
  ])
    await t.rejects(async () => void (await use()), { name: "ValueError", message: /disposed/ });

  const interrupted = meanFlowTrainer();
  const running = interrupted.fit({ steps: 1e6, ...quiet });
  setTimeout(() => interrupted.dispose(), 30);
  await t.rejects(running, { name: "ValueError", message: /disposed/ });
});
