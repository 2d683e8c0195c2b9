// The diffusion transformer: against PyTorch, its shape and beginning, and how it trains.
import { readFileSync } from "node:fs";
import * as fx from "fluxion";
import t from "tap";
import { fromPatches, toPatches } from "#lib/models/patches.js";
import { namedLeaves } from "#lib/train/named.js";
import { difference, sameBits } from "./support/compare.js";
import { onEach } from "./support/each-backend.js";
import { pattern } from "./support/operand.js";

type T = fx.Tensor;
type Float = "float32" | "float64";
type Params = fx.models.DitParams;
type Condition = fx.models.Condition;

const { flow, models } = fx;
const f64 = { dtype: "float64" } as const;
const int32 = { dtype: "int32" } as const;

// ---- Against PyTorch (test/golden/dit.py), which has the same parameters from a formula.

interface GoldenLoss {
  readonly loss: number;
  /** Of each parameter: sum, product with pattern 200, first three elements. */
  readonly gradient: readonly (readonly number[])[];
}

interface Golden {
  readonly options: fx.models.DitOptions & { readonly average: boolean; readonly classes: number };
  readonly parameters: readonly (readonly [
    name: string,
    shape: readonly number[],
    offset: number,
    factor: number,
  ])[];
  readonly value: readonly number[];
  readonly jvp: readonly number[];
  readonly losses: { readonly [objective: string]: GoldenLoss };
}

const golden: Golden[] = JSON.parse(
  readFileSync(new URL("../../test/golden/dit.json", import.meta.url), "utf8"),
);

/** The tensors of a tree by their path. */
const named = (tree: object) => new Map([...namedLeaves("", tree)].map(([path, x]) => [path.slice(1), x]));

/** The field of a row in one dtype, with the row's parameters and points. */
function setUp({ options, parameters }: Golden, dtype: Float) {
  const { average, ...rest } = options;
  const dit = { ...rest, dtype };
  const own = average ? models.averageVelocityDit(dit) : models.velocityDit(dit);
  const like = own.init(fx.random.key(0));
  const number = new Map(parameters.map(([name], i) => [name, i]));
  const names = new Map([...named(like)].map(([name, x]) => [x, name]));
  const params = fx.tree.map((x: T) => {
    const i = number.get(names.get(x)!)!;
    const [, shape, offset, factor] = parameters[i]!;
    return fx.add(fx.mul(pattern(shape, i, dtype), factor), offset);
  }, like);
  const shape = [3, ...options.dim];
  const column = (...values: number[]) => fx.tensor(values, { shape: [3, 1], dtype });
  const label = fx.tensor([options.classes, 0, 1], int32);
  const guidance = column(1, 2.5, 0.8);
  const interval = { guidanceStart: column(0, 0.125, 0.25), guidanceEnd: column(1, 0.75, 0.5) };
  const condition: Condition | undefined = options.guidance
    ? { guidance, ...(options.guidanceInterval ? interval : {}), ...(options.classes > 0 ? { label } : {}) }
    : options.classes > 0
      ? label
      : undefined;
  const points = {
    data: pattern(shape, 100, dtype),
    noise: fx.mul(pattern(shape, 101, dtype), 2),
    r: column(0.25, 0.2, 0.5),
    t: column(0.25, 0.7, 0.9375),
    condition,
  };
  return { own, like, params, points, names: [...names.values()] };
}

const title = ({ options }: Golden) =>
  `${options.average ? "average velocity" : "velocity"}, ${options.conditioning}, [${options.dim}]${options.guidance ? ", guidance" : ""}${options.guidanceInterval ? " in an interval" : ""}`;

const spread = (x: T, rank: number) => fx.reshape(x, [x.shape[0]!, ...Array(rank - 1).fill(1)]);

/** The field as a function of z and its last time, which the reference differentiates by. */
function fieldOf({ own, params, points }: ReturnType<typeof setUp>) {
  const { r, condition } = points;
  return (z: T, t: T, p = params) =>
    own.kind === "velocity" ? own.apply(p, z, t, condition) : own.apply(p, z, r, t, condition);
}

function pathOf({ data, noise, t }: ReturnType<typeof setUp>["points"]) {
  const s = spread(t, data.rank);
  return { z: fx.add(fx.mul(data, fx.sub(1, s)), fx.mul(noise, s)), v: fx.sub(noise, data) };
}

for (const [dtype, tolerance] of [
  ["float64", 1e-10],
  ["float32", 3e-4],
] as const)
  onEach(`the field, its jvp, the losses and their gradients are PyTorch's in ${dtype}`, (t) => {
    for (const row of golden) {
      const set = setUp(row, dtype);
      const { own, params, points, like } = set;
      t.same([...named(like).keys()].sort(), row.parameters.map(([name]) => name).sort(), title(row));
      for (const [name, shape] of row.parameters)
        if (`${named(like).get(name)!.shape}` !== `${shape}`) t.fail(`${name} is not [${shape}]`);

      const same = (what: string, got: T, want: readonly number[]) => {
        const found = difference(got, fx.tensor(want as number[], { shape: got.shape, dtype }), tolerance);
        t.equal(found, "", `${title(row)}: ${what}`);
      };
      const { z, v } = pathOf(points);
      const [value, slope] = fx.jvp(fieldOf(set), [z, points.t], [v, fx.ones([3, 1], { dtype })]);
      same("value", value, row.value);
      same("jvp", slope, row.jvp);

      for (const [name, { loss, gradient }] of Object.entries(row.losses)) {
        const lossOf = (p: Params, equalCount = 0): T => {
          if (own.kind === "velocity") return flow.flowMatching().loss(own, p, points);
          const objective = name === "meanFlow" ? flow.meanFlow() : flow.improvedMeanFlow();
          return objective.loss(own, p, { ...points, equalCount });
        };
        const [got, gradients] = fx.jit(fx.valueAndGrad((p: Params) => lossOf(p)))(params);
        same(name, got, [loss]);
        const byName = named(gradients);
        row.parameters.forEach(([parameter], i) => {
          const g = byName.get(parameter)!;
          const all = [
            fx.reshape(fx.sum(g), [1]),
            fx.reshape(fx.sum(fx.mul(g, pattern(g.shape, 200, dtype))), [1]),
            fx.slice(fx.reshape(g, [g.size]), [0], [3]),
          ];
          const found = difference(
            fx.concat(all, 0),
            fx.tensor([...gradient[i]!], { dtype }),
            dtype === "float64" ? tolerance : 2e-3,
          );
          if (found !== "") t.fail(`${title(row)}: ${name}, gradient by ${parameter}: ${found}`);
        });
        // The first row has r = t: cutting it off, with its row of each condition, changes nothing.
        if (own.kind === "average-velocity" && dtype === "float64")
          same(`${name}, rows cut`, lossOf(params, 1), [loss]);
      }
    }
  });

onEach("jvp and gradients agree with central differences, to the second order", (t) => {
  for (const row of [golden[2]!, golden[4]!]) {
    const set = setUp(row, "float64");
    const { z } = pathOf(set.points);
    const f = fieldOf(set);
    t.doesNotThrow(() => fx.checkGrads((z: T, t: T, p: Params) => f(z, t, p), [z, set.points.t, set.params]));
  }
});

// ---- The beginning.

const tiny = { dim: [4, 6, 2], hidden: 8, depth: 1, heads: 2 } as const;
const variants = (["adaLN-zero", "in-context"] as const).flatMap((conditioning) =>
  [0, 3].flatMap((classes) => [false, true].map((guidance) => ({ conditioning, classes, guidance }))),
);

function conditionOf(
  { classes = 0, guidance = false }: fx.models.DitOptions,
  n: number,
  dtype: Float = "float32",
) {
  const label = fx.tensor(
    Array.from({ length: n }, (_, i) => i % (classes + 1)),
    int32,
  );
  const scale = fx.add(fx.reshape(fx.arange(0, n, 1, { dtype }), [n, 1]), 1);
  if (guidance) return { guidance: scale, ...(classes > 0 ? { label } : {}) };
  return classes > 0 ? label : undefined;
}

t.test("a field begins as zero, and has the parameters that one counts", async (t) => {
  const { hidden: h, depth } = tiny;
  for (const variant of variants)
    for (const average of [false, true]) {
      const options = { ...tiny, ...variant };
      const field = average ? models.averageVelocityDit(options) : models.velocityDit(options);
      const params = field.init(fx.random.key(1)) as Params;
      const [z, r, time] = [
        fx.random.normal(fx.random.key(2), [3, 4, 6, 2]),
        fx.zeros([3, 1]),
        fx.ones([3, 1]),
      ];
      const condition = conditionOf(options, 3);
      const y =
        field.kind === "velocity"
          ? field.apply(params, z, time, condition)
          : field.apply(params, z, r, time, condition);
      const name = `${field.kind}, ${JSON.stringify(variant)}`;
      t.same(y.shape, z.shape, name);
      t.ok(
        [...y.toTypedArray()].every((value) => value === 0),
        "zeros",
      );

      const affine = (from: number, to: number) => (from + 1) * to;
      const told = (average ? 2 : 1) + (variant.classes > 0 ? 1 : 0) + (variant.guidance ? 1 : 0);
      const embedders = told - (variant.classes > 0 ? 1 : 0);
      // qkv and out; scales of query and key, each h / heads; gate and value of 24, and out.
      const block = 4 * h * h + 2 * (h / 2) + 3 * 24 * h;
      const own = variant.conditioning === "adaLN-zero" ? affine(h, 6 * h) : 2 * h;
      const last = variant.conditioning === "adaLN-zero" ? affine(h, 2 * h) : h + told * 2 * h;
      const want =
        affine(8, h) +
        embedders * (affine(17, h) + affine(h, h)) +
        (variant.classes > 0 ? (variant.classes + 1) * h : 0) +
        depth * (block + own) +
        last +
        affine(h, 8);
      const count = fx.tree.leaves(params).reduce((sum, x) => sum + x.size, 0);
      t.equal(count, want, "parameters");
    }
});

t.test("defaults: patches of 2, 4 blocks of 128 features and 4 heads, adaLN-zero, in float32", async (t) => {
  const field = models.averageVelocityDit({ dim: [8, 8, 1] });
  const params = field.init(fx.random.key(0));
  t.same(field.dim, [8, 8, 1]);
  t.same(params.patches.weight.shape, [4, 128]);
  t.equal(params.blocks.length, 4);
  t.same(params.blocks[0]!.attention.queryScale!.shape, [32]);
  t.same(params.blocks[0]!.mlp.out.weight.shape, [344, 128]);
  t.same(params.blocks[0]!.modulation!.weight.shape, [128, 768]);
  t.same(
    params.times.map(({ in: first }) => first.weight.shape),
    [
      [17, 128],
      [17, 128],
    ],
  );
  t.ok(fx.tree.leaves(params).every(({ dtype }) => dtype === "float32"));
  const draws = fx.tree.leaves(params).filter((x) => x.size > 1000 && x.toTypedArray().some((v) => v !== 0));
  t.equal(
    new Set(draws.map((x) => x.toTypedArray().slice(0, 3).join())).size,
    draws.length,
    "each its own draw",
  );
});

t.test("patches are squares of the image, row by row, and go back into it", async (t) => {
  // An image whose pixel at row i and column j, channel c, is 100 i + 10 j + c.
  const [h, w, c] = [4, 6, 2];
  const pixel = (i: number) => 100 * Math.floor(i / (w * c)) + 10 * (Math.floor(i / c) % w) + (i % c);
  const image = fx.tensor(
    Array.from({ length: h * w * c }, (_, i) => pixel(i)),
    { shape: [1, h, w, c] },
  );
  const patches = toPatches(image, 2);
  t.same(patches.shape, [1, 6, 8]);
  t.same(
    (patches.toArray() as number[][][])[0]![4],
    [220, 221, 230, 231, 320, 321, 330, 331],
    "row 1, column 1",
  );
  for (const p of [1, 2])
    for (const n of [1, 3]) {
      const images = fx.random.normal(fx.random.key(p), [n, h, w, c]);
      const there = toPatches(images, p);
      t.same(there.shape, [n, (h / p) * (w / p), p * p * c]);
      t.same(fromPatches(there, p, [h, w, c]).toArray(), images.toArray());
      t.same(toPatches(fromPatches(there, p, [h, w, c]), p).toArray(), there.toArray());
    }
});

// ---- Conditions of several parts.

/** A field of [n, 2] that tells one row of its condition from another: z label + guidance t. */
const pair = (z: T, t: T, condition: Condition | undefined) => {
  const { label, guidance } = condition as { label: T; guidance: T };
  return fx.add(fx.mul(z, fx.expandDims(fx.cast(label, z.dtype), 1)), fx.mul(guidance, t));
};
const velocity: fx.models.VelocityField<null> = {
  kind: "velocity",
  init: () => null,
  apply: (_, z, t, condition) => pair(z, t, condition),
};
const average: fx.models.AverageVelocityField<null> = {
  kind: "average-velocity",
  init: () => null,
  apply: (_, z, r, t, condition) => pair(z, fx.add(t, r), condition),
};

t.test("each row has its part of a condition of several tensors, in every loss", async (t) => {
  const n = 5;
  const data = fx.random.normal(fx.random.key(1), [n, 2], f64);
  const noise = fx.random.normal(fx.random.key(2), [n, 2], f64);
  const condition = {
    label: fx.tensor([3, 0, 2, 1, 5], int32),
    guidance: fx.tensor([[1], [2], [0.5], [4], [3]], f64),
  };
  const row = (x: T, i: number) =>
    fx.slice(x, [i, ...x.shape.slice(1).map(() => 0)], [1, ...x.shape.slice(1)]);
  const rowOf = <P extends object>(points: P, i: number) => fx.tree.map((x: T) => row(x, i), points) as P;
  const time = fx.tensor([[0.25], [0.5], [0.7], [0.9], [1]], f64);
  const whole = flow.flowMatching().loss(velocity, null, { data, noise, t: time, condition }).item();
  const rows = Array.from({ length: n }, (_, i) =>
    flow
      .flowMatching()
      .loss(velocity, null, rowOf({ data, noise, t: time, condition }, i))
      .item(),
  );
  t.ok(Math.abs(whole - rows.reduce((a, b) => a + b) / n) < 1e-12, "flow matching");

  for (const make of [flow.meanFlow, flow.improvedMeanFlow])
    for (const orientation of ["data-to-noise", "noise-to-data"] as const)
      for (const equalTimeFraction of [0, 0.4, 1]) {
        const objective = make({ equalTimeFraction, orientation });
        const times = objective.sampleTimes(fx.random.key(3), n, f64);
        t.equal(times.equalCount, Math.round(equalTimeFraction * n));
        const loss = fx.jit((points: fx.flow.IntervalPoints) => objective.loss(average, null, points));
        const all = loss({ data, noise, ...times, condition }).item();
        const { equalCount: _, ...rt } = times;
        const each = Array.from({ length: n }, (_, i) =>
          loss(rowOf({ data, noise, ...rt, condition }, i)).item(),
        );
        const mean = each.reduce((a, b) => a + b) / n;
        t.ok(Math.abs(all - mean) < 1e-11, `${objective.name}, ${orientation}, ${equalTimeFraction}`);
      }
});

t.test("samplers give the field its condition of several tensors", async (t) => {
  const noise = fx.random.normal(fx.random.key(1), [3, 2], f64);
  const condition = { label: fx.tensor([1, 0, 2], int32), guidance: fx.tensor([[1], [2], [-1]], f64) };
  const column = (value: number) => fx.full([3, 1], value, f64);
  const oneStep = fx.sub(noise, average.apply(null, noise, column(0), column(1), condition));
  const { sample, sampleAsync } = flow;
  t.equal(difference(sample(average, null, noise, flow.oneStep(), { condition }), oneStep, 1e-15), "");
  t.equal(
    difference(await sampleAsync(average, null, noise, flow.oneStep(), { condition }), oneStep, 1e-15),
    "",
  );
  const half = fx.sub(noise, fx.mul(velocity.apply(null, noise, column(1), condition), 0.5));
  const two = fx.sub(half, fx.mul(velocity.apply(null, half, column(0.5), condition), 0.5));
  t.equal(difference(sample(velocity, null, noise, flow.euler({ steps: 2 }), { condition }), two, 1e-14), "");

  const wrong = (given: unknown, name: string, message: RegExp) => {
    const points = { data: noise, noise, r: column(0), t: column(1), condition: given as Condition };
    for (const use of [
      () => flow.meanFlow().loss(average, null, points),
      () => flow.flowMatching().loss(velocity, null, points),
      () => sample(average, null, noise, flow.oneStep(), { condition: given as Condition }),
    ])
      t.throws(use, { name, message }, String(message));
  };
  wrong({}, "ValueError", /condition must be a Tensor, or an object of Tensors, got an object/);
  wrong(null, "ValueError", /condition must be a Tensor, .* got null/);
  wrong("cat", "ValueError", /condition must be a Tensor, .* got "cat"/);
  wrong({ label: 3 }, "ValueError", /condition must be a Tensor, or an object of Tensors/);
  wrong({ label: undefined }, "ValueError", /condition must be a Tensor, or an object of Tensors/);
  wrong({ ...condition, guidance: fx.ones([2, 1], f64) }, "ShapeError", /\[3, \.\.\.\], .* got \[2, 1\]/);
  wrong({ ...condition, guidance: fx.ones([], f64) }, "ShapeError", /\[3, \.\.\.\], .* got \[\]/);
});

// ---- Training.

const shapes = fx.data.shapes({ size: 8, classes: ["circle", "frame"], rotation: 0 });
const small = { dim: [8, 8, 1], patch: 4, hidden: 16, depth: 1, heads: 2, classes: 2 } as const;
const optimizer = () => fx.optim.adam({ learningRate: 5e-3 });
const mean = (values: Float32Array) => values.reduce((a, b) => a + b, 0) / values.length;
const quiet = { progress: false } as const;

t.test("every objective trains, in both kinds of conditioning", async (t) => {
  for (const conditioning of ["adaLN-zero", "in-context"] as const) {
    const options = { ...small, conditioning };
    const common = { data: shapes, optimizer: optimizer(), batchSize: 32, ema: 0.9 };
    const model = models.averageVelocityDit(options);
    const velocity = new fx.Trainer({
      ...common,
      model: models.velocityDit(options),
      objective: flow.flowMatching(),
    });
    const meanFlow = new fx.Trainer({
      ...common,
      model,
      objective: flow.meanFlow({ equalTimeFraction: 0.75 }),
    });
    const improved = new fx.Trainer({
      ...common,
      model,
      objective: flow.improvedMeanFlow({ equalTimeFraction: 0.5 }),
    });
    const sampled = { sampler: flow.euler({ steps: 2 }), condition: fx.tensor([0, 1, 2], int32) };
    for (const { name, trainer, draw } of [
      {
        name: "flow matching",
        trainer: velocity,
        draw: (o: object) => velocity.sample(3, { ...sampled, ...o }),
      },
      { name: "mean flow", trainer: meanFlow, draw: (o: object) => meanFlow.sample(3, { ...sampled, ...o }) },
      { name: "improved", trainer: improved, draw: (o: object) => improved.sample(3, { ...sampled, ...o }) },
    ]) {
      await trainer.fit({ steps: 40, ...quiet });
      const { losses } = trainer;
      const [first, last] = [mean(losses.slice(0, 5)), mean(losses.slice(-10))];
      t.ok(last < 0.85 * first, `${name}, ${conditioning}: from ${first} to ${last}`);
      const samples = await draw({});
      t.same(samples.shape, [3, 8, 8, 1]);
      t.ok([...samples.toTypedArray()].every(Number.isFinite));
      t.not(difference(await draw({ params: "live" }), samples, 1e-6), "", "the average is another field");
    }
  }
});

t.test("labels matter after training: each class has its field", async (t) => {
  const model = models.velocityDit(small);
  const objective = flow.flowMatching();
  const trainer = new fx.Trainer({ model, objective, data: shapes, optimizer: optimizer(), batchSize: 64 });
  await trainer.fit({ steps: 120, ...quiet });
  const n = 256;
  const { data, label } = shapes.sampleLabelled(fx.random.key(5), n);
  const noise = fx.random.normal(fx.random.key(6), [n, 8, 8, 1]);
  const time = fx.full([n, 1], 0.8);
  const lossWith = (condition: T) =>
    objective.loss(model, trainer.params, { data, noise, t: time, condition }).item();
  const [right, wrong] = [lossWith(label), lossWith(fx.sub(1, label))];
  t.ok(right < 0.95 * wrong, `the right labels have the loss ${right}, the wrong ones ${wrong}`);
});

t.test("a training in context with an average continues to the bit", async (t) => {
  const path = `${t.testdir({})}/a.safetensors`;
  const model = models.averageVelocityDit({ ...small, conditioning: "in-context", contextTokens: 1 });
  const make = () =>
    new fx.Trainer({
      model,
      objective: flow.meanFlow({ equalTimeFraction: 0.5 }),
      data: shapes,
      optimizer: optimizer(),
      batchSize: 8,
      ema: 0.9,
    });
  const whole = make();
  await whole.fit({ steps: 8, ...quiet });
  const first = make();
  await first.fit({ steps: 3, ...quiet });
  await first.save(path);
  const second = make();
  await second.restore(path);
  await second.fit({ steps: 2, ...quiet });
  await second.fit({ steps: 3, ...quiet });
  t.same(second.losses, whole.losses);
  const [a, b] = [second, whole].map(({ params, emaParams }) => fx.tree.leaves([params, emaParams]));
  t.ok(a!.length > 20 && a!.every((x, i) => sameBits(x, b![i]!)), "parameters and their average");
  const other = new fx.Trainer({
    model: models.averageVelocityDit(small),
    objective: flow.meanFlow(),
    data: shapes,
    optimizer: optimizer(),
    batchSize: 8,
    ema: 0.9,
  });
  await t.rejects(other.restore(path), { name: "FileError" }, "another conditioning has other parameters");
});

// ---- Errors.

t.test("options that do not fit are named", async (t) => {
  const refused: [object, string, RegExp][] = [
    [{ dim: 4 }, "ValueError", /dim must be \[height, width, channels\], got 4/],
    [{ dim: [4, 4] }, "ValueError", /dim must be \[height, width, channels\], got an array of 2/],
    [{ dim: [4, 0, 1] }, "ValueError", /dim\[1\] must be a whole number >= 1, got 0/],
    [{ patch: 0 }, "ValueError", /patch must be a whole number >= 1/],
    [{ patch: 4 }, "ValueError", /patches of 4 x 4 do not tile an image of 4 x 6/],
    [{ hidden: 0 }, "ValueError", /hidden must be a whole number/],
    [{ heads: 0 }, "ValueError", /heads must be a whole number/],
    [{ heads: 4 }, "ValueError", /hidden must be a multiple of 4 heads .* got 8 and 4 heads/],
    [{ depth: 0 }, "ValueError", /depth must be a whole number/],
    [{ mlpHidden: 0 }, "ValueError", /mlpHidden must be a whole number/],
    [{ classes: -1 }, "ValueError", /classes must be a whole number >= 0/],
    [{ guidance: 1 }, "ValueError", /guidance must be true or false, got 1/],
    [{ guidanceInterval: true }, "ValueError", /guidanceInterval needs guidance: true/],
    [
      { conditioning: "cross" },
      "ValueError",
      /conditioning must be one of "adaLN-zero", "in-context", got "cross"/,
    ],
    [{ conditioning: "in-context", contextTokens: 0 }, "ValueError", /contextTokens must be a whole number/],
    [{ contextTokens: 2 }, "ValueError", /contextTokens is for conditioning "in-context"/],
    [{ timeEmbedding: "none" }, "ValueError", /timeEmbedding must be one of/],
    [{ dtype: "int32" }, "DTypeError", /dtype must be "float32" or "float64"/],
    [{ width: 3 }, "ValueError", /unknown option "width"/],
  ];
  for (const [options, name, message] of refused)
    for (const make of [models.velocityDit, models.averageVelocityDit])
      t.throws(() => make({ ...tiny, ...options } as never), { name, message }, String(message));
  t.throws(() => models.velocityDit(undefined as never), {
    name: "ValueError",
    message: /velocityDit: options must be an object/,
  });
});

t.test("inputs that do not fit are named", async (t) => {
  const z = fx.zeros([3, 4, 6, 2]);
  const [column, label] = [fx.ones([3, 1]), fx.tensor([0, 1, 2], int32)];
  const applied = (options: object, condition?: unknown, { state = z, time = column } = {}) => {
    const v = models.velocityDit({ ...tiny, ...options });
    return () => v.apply(v.init(fx.random.key(0)), state, time, condition as Condition);
  };
  const [labelled, guided, both] = [{ classes: 3 }, { guidance: true }, { classes: 3, guidance: true }];
  t.doesNotThrow(applied(labelled, { label }), "a label may come by its name too");
  t.doesNotThrow(applied(both, { guidance: column, label }));
  const refused: [() => unknown, string, RegExp][] = [
    [
      applied({}, undefined, { state: fx.zeros([3, 6, 4, 2]) }),
      "ShapeError",
      /\[batch, 4, 6, 2\], got \[3, 6, 4, 2\]/,
    ],
    [applied({}, undefined, { state: fx.zeros([4, 6, 2]) }), "ShapeError", /got \[4, 6, 2\]/],
    [applied({}, undefined, { time: fx.ones([3]) }), "ShapeError", /times must be \[3, 1\], got \[3\]/],
    [applied({}, undefined, { time: fx.ones([1, 1]) }), "ShapeError", /times must be \[3, 1\], got \[1, 1\]/],
    [applied({}, label), "ValueError", /the condition must have nothing, got label/],
    [applied(labelled), "ValueError", /velocityDit: the condition must have label, got nothing/],
    [applied(labelled, { label, guidance: column }), "ValueError", /must have label, got guidance and label/],
    [applied(labelled, { label: undefined }), "ValueError", /label must be a Tensor, got undefined/],
    [applied(labelled, { label: 2 }), "ValueError", /label must be a Tensor, got 2/],
    [applied(labelled, fx.ones([3])), "ShapeError", /labels must be int32 \[3\], got float32\[3\]/],
    [
      applied(labelled, fx.ones([3, 1], int32)),
      "ShapeError",
      /labels must be int32 \[3\], got int32\[3, 1\]/,
    ],
    [
      applied(labelled, fx.tensor([0, 4, 1], int32)),
      "BackendError",
      /index 4 is out of range for an axis of size 4/,
    ],
    [applied(guided, column), "ValueError", /must have guidance, got label/],
    [applied(guided, { guidance: fx.ones([3]) }), "ShapeError", /guidance must be \[3, 1\], got \[3\]/],
    [applied(guided, { guidance: fx.ones([3, 1], int32) }), "DTypeError", /int32/],
    [
      applied({ guidance: true, guidanceInterval: true }, { guidance: column, guidanceStart: column }),
      "ValueError",
      /must have guidance and guidanceStart and guidanceEnd, got guidance and guidanceStart/,
    ],
    [applied(both, label), "ValueError", /must have label and guidance, got label/],
    [applied(both, { label, guidance: undefined }), "ValueError", /guidance must be a Tensor, got undefined/],
  ];
  for (const [use, name, message] of refused) t.throws(use, { name, message }, String(message));
  const u = models.averageVelocityDit(tiny);
  const params = u.init(fx.random.key(0));
  t.throws(() => u.apply(params, z, fx.ones([3]), column), {
    name: "ShapeError",
    message: /times must be \[3, 1\]/,
  });
});
