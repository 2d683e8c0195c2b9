import { readdirSync } from "node:fs";
import * as fx from "fluxion";
import t from "tap";
import { lowerPlan } from "#lib/backend/cuda/lower.js";
import { SharedSource } from "#lib/backend/cuda/lowering.js";
import { schedule } from "#lib/backend/cuda/schedule.js";
import { cudaStrips } from "#lib/backend/cuda/strip-profile.js";
import { currentBackend } from "#lib/backend/index.js";
import { typescriptBackend } from "#lib/backend/typescript/index.js";
import { lower } from "#lib/compile/lower.js";
import type { Plan } from "#lib/compile/plan.js";
import { stripMine } from "#lib/compile/strip.js";
import { eachSeed } from "./support/compare.js";
import { isPlain, lowerPlain } from "./support/cuda-plans.js";
import { h100 } from "./support/cuda-target.js";
import { compiles, kernelFolder, nvccMissing } from "./support/nvcc.js";
import { randomProgram } from "./support/random-program.js";

type T = fx.Tensor;

fx.setBackend("typescript");

const planOf = (f: (...inputs: T[]) => T | T[], ...inputs: T[]): Plan =>
  lower(fx.inspect(f, ...inputs).graph);
const launches = (plan: Plan): number => lowerPlain(plan).operations.length;

const key = fx.random.key(3);
const draw = (shape: number[], dtype: fx.DType = "float32"): T => fx.random.normal(key, shape, { dtype });

const dtypes = ["float32", "float64", "int32", "uint32", "bool"] as const;
const numbers = ["float32", "float64", "int32", "uint32"] as const;

/** Plans that together have every kernel in every way that shapes choose. */
function corpus(): Map<string, Plan> {
  const plans = new Map<string, Plan>();
  const add = (name: string, f: (...inputs: T[]) => T | T[], ...inputs: T[]) =>
    plans.set(name, planOf(f, ...inputs));

  for (const dtype of ["float32", "float64"] as const)
    add(
      `functions of ${dtype}`,
      (x, y) => [
        ...[fx.neg, fx.abs, fx.sign, fx.sqrt, fx.rsqrt, fx.exp, fx.expm1, fx.log, fx.log1p].map((f) => f(x!)),
        ...[fx.sin, fx.cos, fx.tanh, fx.erf, fx.sigmoid, fx.softplus, fx.gelu, fx.floor, fx.round].map((f) =>
          f(x!),
        ),
        fx.grad((z: T) => fx.sum(fx.gelu(z)))(x!),
        ...[fx.add, fx.sub, fx.mul, fx.div, fx.maximum, fx.minimum, fx.remainder, fx.pow].map((f) =>
          f(x!, y!),
        ),
        ...[fx.equal, fx.notEqual, fx.greater, fx.greaterEqual, fx.less, fx.lessEqual].map((f) => f(x!, y!)),
        fx.where(fx.logicalNot(fx.logicalAnd(fx.less(x!, y!), fx.greater(x!, 0))), x!, y!),
        ...dtypes.map((to) => fx.cast(x!, to)),
      ],
      draw([7, 5], dtype),
      draw([7, 5], dtype),
    );
  for (const dtype of ["int32", "uint32"] as const)
    add(
      `functions of ${dtype}`,
      (x, y) => [
        ...[fx.neg, fx.abs, fx.sign].map((f) => f(x!)),
        ...[fx.add, fx.sub, fx.mul, fx.maximum, fx.minimum, fx.remainder].map((f) => f(x!, y!)),
        ...[fx.equal, fx.less].map((f) => f(x!, y!)),
        ...dtypes.map((to) => fx.cast(x!, to)),
      ],
      fx.cast(draw([9]), dtype),
      fx.cast(draw([9]), dtype),
    );
  for (const dtype of dtypes) {
    const large = fx.cast(draw([512, 512], dtype === "float64" ? dtype : "float32"), dtype);
    add(
      `large maps of ${dtype}`,
      (x) => [
        fx.where(fx.equal(x!, fx.slice(x!, [0, 0], [1, 512])), x!, fx.slice(x!, [0, 0], [512, 1])),
        fx.transpose(x!),
        fx.flip(x!, 1),
      ],
      large,
    );
    add(`columns of ${dtype}`, (x) => [fx.max(x!, 0), fx.min(x!), fx.argmax(x!, 0), fx.argmin(x!, 1)], large);
    add(
      `take, sort of ${dtype}`,
      (x) => [
        fx.take(x!, fx.tensor([1, -1, 4], { dtype: "int32" }), 0),
        fx.take(x!, fx.tensor([1, -1, 4], { dtype: "int32" }), 1),
        fx.argsort(fx.slice(x!, [0, 0], [20, 5])),
        fx.argsort(x!),
        fx.argsort(fx.reshape(x!, [512 * 512])),
      ],
      large,
    );
  }
  for (const dtype of numbers) {
    for (const shape of [
      [3, 5],
      [4096, 128],
      [128, 4096],
      [700, 3, 11],
      [300_000],
      [262_144],
      [200_000, 3],
      [2, 40_000],
    ])
      add(
        `sums of ${dtype} ${shape}`,
        (x) => [
          fx.sum(x!),
          ...shape.map((_, axis) => fx.sum(x!, axis)),
          ...shape.map((_, axis) => fx.cumsum(x!, axis, { reverse: axis === 0 })),
        ],
        fx.zeros(shape, { dtype }),
      );
    const scatter = (x: T, count: number, size: number) =>
      fx.vjp(
        (table: T) => fx.take(table, fx.zeros([count], { dtype: "int32" }), 0),
        fx.zeros([size, ...x.shape.slice(1)], { dtype: x.dtype }),
      )[1](x)[0];
    if (dtype.startsWith("float"))
      add(
        `scatters of ${dtype}`,
        (x) => [scatter(x!, 4096, 1000), scatter(x!, 4096, 200_000)],
        fx.zeros([4096, 64], { dtype }),
      );
  }
  add("draws", () => [
    fx.random.normal(key, [4096, 2]),
    fx.random.uniform(fx.random.key(8), [4096]),
    fx.random.bits(fx.random.key(9), [5]),
    fx.random.normal(key, [4096, 128]),
  ]);
  add("joined", (x, y) => fx.concat([x!, y!, x!], 1), draw([300, 6]), draw([300, 5]));
  add(
    "padded",
    (x) =>
      fx.pad(x!, [
        [1, 2],
        [3, 4],
      ]),
    draw([30, 6]),
  );
  add("empty", (x) => [fx.sum(x!, 0), fx.sum(x!, 1), fx.exp(x!)], fx.zeros([0, 4]));
  return plans;
}

const plans = corpus();

t.test("every kernel compiles for a GPU", nvccMissing ? { skip: nvccMissing } : {}, async (t) => {
  const source = new SharedSource();
  for (const plan of plans.values()) lowerPlain(plan, source);
  const headers = readdirSync(kernelFolder).filter((file) => file.endsWith(".cuh"));
  for (const architecture of ["sm_80", "sm_90"] as const)
    t.equal(compiles(source.text(), architecture), undefined, `for ${architecture}`);
  for (const header of headers)
    t.equal(compiles(`#include "${header}"\n`, "sm_80"), undefined, `${header} stands alone`);
});

t.test("maps that are independent of each other are one launch", async (t) => {
  const x = fx.zeros([64]);
  const leaves = Array.from({ length: 12 }, (_, i) => fx.zeros([10 * i + 1]));
  t.equal(launches(planOf((...xs) => xs.map((x) => fx.exp(x)), ...leaves)), 1);
  t.equal(launches(planOf((a, b) => fx.concat([a!, b!, a!], 1), fx.zeros([3, 5]), fx.zeros([3, 2]))), 1);
  t.equal(
    launches(
      planOf(
        (a) =>
          fx.pad(a!, [
            [1, 2],
            [3, 4],
          ]),
        fx.zeros([3, 5]),
      ),
    ),
    1,
  );
  t.equal(launches(planOf((a) => [fx.cumsum(a!, 0), fx.exp(a!), fx.argsort(a!), fx.tanh(a!)], x)), 3);
});

t.test("reductions that are independent of each other, and of maps, are one launch", async (t) => {
  const shapes = [[128], [128, 128], [3, 128], [2], [128, 2]];
  const leaves = shapes.map((shape) => fx.zeros(shape));
  t.equal(launches(planOf((...xs) => xs.map((x) => fx.max(fx.abs(x))), ...leaves)), 1);
  t.equal(launches(planOf((...xs) => [...xs.map((x) => fx.sum(x, 0)), fx.exp(xs[1]!)], ...leaves)), 1);
  const large = [fx.zeros([300_000]), fx.zeros([512, 512]), fx.zeros([40])];
  t.equal(
    launches(planOf((...xs) => [...xs.map((x) => fx.sum(x)), fx.exp(xs[2]!)], ...large)),
    2,
    "a launch for chunks, and one for their results",
  );
});

t.test("what a map or a reduction reads is launched before it", async (t) => {
  const turned = (x: T) => fx.flip(fx.concat([x, x]));
  t.equal(launches(planOf((x) => fx.exp(turned(x!)), fx.zeros([2048]))), 2);
  t.equal(launches(planOf((x) => fx.sum(turned(x!)), fx.zeros([3000]))), 2);
  t.equal(launches(planOf((x) => fx.div(x!, fx.sum(x!)), fx.zeros([4096]))), 2);
});

t.test("one block does small steps that depend on each other, one after another", async (t) => {
  const keys = (key: T) => fx.random.split(fx.random.split(key, 3)[1]!, 2);
  const operations = (f: (...inputs: T[]) => T | T[], ...inputs: T[]) =>
    lowerPlain(planOf(f, ...inputs)).operations;
  const chain = operations((key) => keys(key!), key);
  t.equal(chain.length, 1);
  t.ok(chain[0]!.kind === "launch");
  t.same(chain[0]!.kind === "launch" && chain[0]!.grid, [1, 1, 1]);

  const beside = operations((key, x) => [...keys(key!), fx.exp(x!)], key, fx.zeros([4096]));
  t.same(
    beside.map((operation) => operation.kind === "launch" && operation.grid),
    [[17, 1, 1]],
    "beside the blocks of a large one",
  );
  t.equal(launches(planOf((x) => fx.softmax(x!, 1), fx.zeros([8, 16]))), 1);
  t.ok(launches(planOf((x) => fx.softmax(x!, 1), fx.zeros([800, 16]))) > 1, "but for large ones");

  const halving = (x: T) => {
    for (let i = 0; i < 40; i++) x = fx.div(x, fx.sum(x));
    return x;
  };
  const long = launches(planOf((x) => halving(x!), fx.zeros([32])));
  t.ok(long > 2 && long < 20, `a long chain is several: ${long}`);
});

t.test("kernels that are equal are one kernel", async (t) => {
  const plan = planOf((x) => fx.cumsum(fx.cumsum(x!, 1), 1), fx.zeros([30, 40]));
  const lowering = lowerPlain(plan);
  t.equal(lowering.operations.length, 2);
  t.equal(lowering.source.split("__global__").length - 1, 1);
});

t.test("nothing is launched for results without elements", async (t) => {
  t.equal(
    launches(planOf((x) => [fx.exp(x!), fx.sum(x!, 1), fx.cumsum(x!, 1), fx.argsort(x!)], fx.zeros([0, 4]))),
    0,
  );
  t.equal(launches(planOf((x) => fx.sum(x!, 0), fx.zeros([0, 4]))), 1, "but for the sum of nothing");
});

t.test("a schedule gives the bits of the plan, in whatever order the strands of a group run", async (t) => {
  const failures = eachSeed(60_000, 150, (seed) => {
    const { f, inputs } = randomProgram(seed);
    const { graph } = fx.inspect((...xs: T[]) => f(...xs), ...inputs);
    const plan = lower(graph);
    const arrays = [...inputs, ...graph.captured].map((x) => x.toTypedArray());
    const { groups, buffers, arenaBytes } = schedule(plan);
    const steps = groups.flatMap((strands) =>
      strands
        .toReversed()
        .flatMap((levels) =>
          levels.flatMap((level) => level.toReversed().map((number) => plan.steps[number]!)),
        ),
    );
    const want = typescriptBackend.compile(plan).run(arrays);
    const got = typescriptBackend.compile({ ...plan, steps, buffers, arenaBytes }).run(arrays);
    return want.flatMap((w, i) =>
      w.every((v, k) => Object.is(v, got[i]![k])) ? [] : [`result ${i} differs`],
    );
  });
  t.same(failures, []);
});

t.test("random programs lower to few launches", async (t) => {
  let [steps, operations] = [0, 0];
  for (let seed = 61_000; seed < 61_100; seed++) {
    const { f, inputs } = randomProgram(seed);
    const plan = planOf(f, ...inputs);
    if (!isPlain(plan)) continue;
    steps += plan.steps.length;
    operations += launches(plan);
  }
  t.ok(operations < steps, `${operations} launches for ${steps} steps`);
});

t.test("a training step is few launches", async (t) => {
  const target = { ...h100, precision: "tf32", cublas: true } as const;
  const backend = currentBackend();
  const { compile } = backend;
  let last: Plan | undefined;
  t.teardown(() => Object.assign(backend, { compile }));
  backend.compile = (plan) => {
    last = plan as Plan;
    return compile.call(backend, plan);
  };
  const sizes = { dim: 2, hidden: 128, layers: 4 };
  const rest = () => ({
    data: fx.data.checkerboard(),
    optimizer: fx.optim.adam({ learningRate: 1e-3 }),
    batchSize: 4096,
    seed: 1,
  });
  const average = (objective: ReturnType<typeof fx.flow.meanFlow>) =>
    new fx.Trainer({ model: fx.models.averageVelocityMlp(sizes), objective, ...rest() });
  const flow = { model: fx.models.velocityMlp(sizes), objective: fx.flow.flowMatching() };
  for (const [name, trainer, most] of [
    ["flow matching", new fx.Trainer({ ...flow, ...rest() }), 5],
    ["MeanFlow", average(fx.flow.meanFlow()), 5],
    ["improved MeanFlow", average(fx.flow.improvedMeanFlow()), 5],
    ["MeanFlow with r = t", average(fx.flow.meanFlow({ equalTimeFraction: 0.75 })), 10],
  ] as const) {
    await trainer.fit({ steps: 1, progress: false });
    const { operations } = lowerPlan(stripMine(last!, cudaStrips(target)), target);
    t.equal(operations.length, most, name);
  }
});

t.test("indices beyond 2^31 are counted in 64 bits", nvccMissing ? { skip: nvccMissing } : {}, async (t) => {
  const rows = 2 ** 24 + 2 ** 23;
  const loss = (w: T) => {
    const x = fx.random.normal(key, [rows, 128]);
    return fx.mean(fx.square(fx.matmul(fx.gelu(fx.matmul(x, w)), w)));
  };
  const gather = (i: T) => fx.sum(fx.take(fx.random.normal(key, [rows, 128]), i, 0));
  const plans = [
    planOf(fx.grad(loss), draw([128, 128])),
    planOf(
      (i) => fx.grad((x: T) => fx.mul(gather(i!), x))(fx.tensor(1)),
      fx.arange(0, 300, 1, { dtype: "int32" }),
    ),
    planOf((x) => fx.cumsum(fx.broadcastTo(x!, [rows, 128]), 0), draw([128])),
  ];
  for (const plan of plans) {
    const { source } = lowerPlan(stripMine(plan, cudaStrips(h100)), h100);
    t.match(source, /long long/);
    t.equal(compiles(source, "sm_90"), undefined);
  }
});
