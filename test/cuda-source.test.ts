import { readdirSync } from "node:fs";
import * as fx from "fluxion";
import t from "tap";
import { lowerCumsum } from "#lib/backend/cuda/cumsum.js";
import { lowerGather, lowerScatter } from "#lib/backend/cuda/indexing.js";
import { Lowering, type Target } from "#lib/backend/cuda/lowering.js";
import { lowerMaps } from "#lib/backend/cuda/map.js";
import type { Launch } from "#lib/backend/cuda/program.js";
import { lowerReduce } from "#lib/backend/cuda/reduce.js";
import { schedule } from "#lib/backend/cuda/schedule.js";
import { lowerSort } from "#lib/backend/cuda/sort.js";
import { lower } from "#lib/compile/lower.js";
import type { BufferSpec, Expression, MapStep, Plan, ReduceStep, Step } from "#lib/compile/plan.js";
import { compiles, kernelFolder, nvccMissing } from "./support/nvcc.js";

type T = fx.Tensor;

fx.setBackend("typescript");

const target: Target = {
  multiprocessors: 132,
  sharedBytes: 227 * 1024,
  architecture: 90,
  precision: "float32",
  cublas: false,
};

/** The launches of the steps of a plan that are no products, attention or loops. */
function lowered(plan: Plan): Lowering {
  const { groups, buffers, arenaBytes } = schedule(plan);
  const lowering = new Lowering(target, buffers, arenaBytes);
  groups.forEach((numbers) => {
    lowering.beginStep(numbers[0]!);
    const steps = numbers.map((number) => plan.steps[number]!);
    const [step] = steps as [Step];
    if (step.kind === "map") lowerMaps(lowering, steps as MapStep[]);
    else if (step.kind === "reduce") lowerReduce(lowering, step);
    else if (step.kind === "gather") lowerGather(lowering, step);
    else if (step.kind === "scatter") lowerScatter(lowering, step);
    else if (step.kind === "sort") lowerSort(lowering, step);
    else if (step.kind === "cumsum") lowerCumsum(lowering, step);
  });
  return lowering;
}

const planOf = (f: (...inputs: T[]) => T | T[], ...inputs: T[]): Plan =>
  lower(fx.inspect(f, ...inputs).graph);
const launches = (lowering: Lowering): Launch[] =>
  lowering.operations.filter((operation) => operation.kind === "launch");
const kernels = (lowering: Lowering): number => lowering.source.split("__global__").length - 1;

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
  const sources = [...plans.values()].map((plan) => lowered(plan).source);
  for (const architecture of ["sm_80", "sm_90"] as const) {
    for (const [i, name] of [...plans.keys()].entries())
      t.equal(compiles(sources[i]!, architecture), undefined, `${name} for ${architecture}`);
    for (const header of readdirSync(kernelFolder).filter((file) => file.endsWith(".cuh")))
      t.equal(compiles(`#include "${header}"\n`, architecture), undefined, `${header} for ${architecture}`);
  }
});
