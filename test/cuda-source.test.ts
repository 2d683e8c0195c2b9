import { readdirSync } from "node:fs";
import * as fx from "fluxion";
import t from "tap";
import { SharedSource } from "#lib/backend/cuda/lowering.js";
import { schedule } from "#lib/backend/cuda/schedule.js";
import { typescriptBackend } from "#lib/backend/typescript/index.js";
import { lower } from "#lib/compile/lower.js";
import type { Plan } from "#lib/compile/plan.js";
import { eachSeed } from "./support/compare.js";
import { isPlain, lowerPlain } from "./support/cuda-plans.js";
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

t.test("what a map reads is launched before it", async (t) => {
  const plan = planOf((a) => fx.exp(fx.flip(fx.concat([a!, a!]))), fx.zeros([64]));
  t.ok(launches(plan) > 1);
});

t.test("kernels that are equal are one kernel", async (t) => {
  const plan = planOf((a, b) => [fx.sum(a!, 1), fx.sum(b!, 1)], fx.zeros([30, 40]), fx.zeros([30, 40]));
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
