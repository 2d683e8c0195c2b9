// The diffusion transformer: against PyTorch, its shape and beginning, and how it trains.
import { readFileSync } from "node:fs";
import * as fx from "fluxion";
import t from "tap";
import { difference } from "./support/compare.js";
import { onEach } from "./support/each-backend.js";
import { pattern } from "./support/operand.js";

type T = fx.Tensor;
type Float = "float32" | "float64";
type Params = fx.models.DitParams;
type Condition = fx.models.Condition;

const { models } = fx;
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
function named(value: fx.tree.Tree, path = "", found = new Map<string, T>()): Map<string, T> {
  if (value instanceof fx.Tensor) return found.set(path.slice(1), value);
  for (const [key, child] of Object.entries(value ?? {})) named(child, `${path}/${key}`, found);
  return found;
}

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
  const condition: Condition | undefined = options.guidance
    ? { guidance, ...(options.classes > 0 ? { label } : {}) }
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
  `${options.average ? "average velocity" : "velocity"}, ${options.conditioning}, [${options.dim}]${options.guidance ? ", guidance" : ""}`;

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
          if (own.kind === "velocity") return fx.flow.flowMatching().loss(own, p, points);
          const objective = name === "meanFlow" ? fx.flow.meanFlow() : fx.flow.improvedMeanFlow();
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
        if (own.kind === "average-velocity") same(`${name}, rows cut`, lossOf(params, 1), [loss]);
      }
    }
  });
