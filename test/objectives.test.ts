import fs from "node:fs";
import * as fx from "fluxion";
import t from "tap";
import { close } from "./support/close.js";
import { onEach } from "./support/each-backend.js";

const { flow, models } = fx;
const f64 = { dtype: "float64" } as const;
type T = fx.Tensor;
type Orientation = fx.flow.Orientation;
// biome-ignore lint/suspicious/noExplicitAny: each objective draws points of its own.
type AnyObjective = fx.flow.AverageVelocityObjective<any>;
type Points = fx.flow.IntervalPoints & { s?: T; alpha?: T; rho?: T };
const orientations: Orientation[] = ["data-to-noise", "noise-to-data"];
const makers = {
  alphaFlow: flow.alphaFlow,
  splitMeanFlow: flow.splitMeanFlow,
  shortcut: flow.shortcut,
  lagrangianSelfDistillation: flow.lagrangianSelfDistillation,
  consistency: flow.consistency,
};
type Name = keyof typeof makers;
const names = Object.keys(makers) as Name[];
const make = (name: Name, options: object = {}): AnyObjective =>
  (makers[name] as (options: object) => AnyObjective)(options);

const flat = (x: T): number[] => Array.from(x.toTypedArray());
const column = (values: readonly number[]) => fx.tensor(values, { shape: [values.length, 1], ...f64 });
const scalar = (value: number) => fx.tensor(value, f64);
const normal = (seed: number, shape: number[]) => fx.random.normal(fx.random.key(seed), shape, f64);
const numbers = (params: unknown): number[] => fx.tree.leaves(params).flatMap(flat);

const average = models.averageVelocityMlp({ dim: 2, hidden: 6, layers: 2, dtype: "float64" });
const averageParams = average.init(fx.random.key(11));

/** Data, noise and what the objective draws, for n samples. */
function pointsOf(objective: AnyObjective, seed: number, n: number, shape: number[] = [2]): Points {
  return {
    data: normal(seed, [n, ...shape]),
    noise: normal(seed + 1, [n, ...shape]),
    ...(objective.sampleTimes(fx.random.key(seed + 2), n, f64) as fx.flow.Draws<Points>),
  };
}

/** Loss and gradient as numbers. */
function lossAndGradient<P>(
  objective: AnyObjective,
  field: fx.models.AverageVelocityField<P>,
  params: P,
  points: Points,
): number[] {
  const of = (p: unknown) => objective.loss(field as fx.models.AverageVelocityField<unknown>, p, points);
  const [loss, g] = fx.valueAndGrad(of as (p: never) => T)(params as never);
  return [loss.item(), ...numbers(g)];
}

// ---- A linear field, by hand.

const [a, b, c] = [0.7, -0.4, 1.3];
type Linear = { a: T; b: T; c: T };
/** u(z, r, t) = a z + b t + c r. */
const linearField: fx.models.AverageVelocityField<Linear> = {
  kind: "average-velocity",
  init: () => ({ a: scalar(a), b: scalar(b), c: scalar(c) }),
  apply: (p, z, r, time) => fx.add(fx.add(fx.mul(p.a, z), fx.mul(p.b, time)), fx.mul(p.c, r)),
};
const linear = (z: number, r: number, s: number) => a * z + b * s + c * r;

/** What an objective compares in one sample: a residual, its derivative by (a, b, c), and the factor of its square. */
interface Residual {
  value: number;
  slopes: [number, number, number];
  factor?: number;
}
interface Sample {
  x: number;
  e: number;
  r: number;
  s: number;
  t: number;
  alpha: number;
  rho: number;
}
const regression = (z: number, r: number, s: number, target: number, factor = 1): Residual => ({
  value: linear(z, r, s) - target,
  slopes: [z, s, r],
  factor,
});
const dataToNoise = ({ x, e, t }: Sample) => ({ z: (1 - t) * x + t * e, v: e - x });
const noiseToData = ({ x, e, r }: Sample) => ({ z: (1 - r) * e + r * x, v: x - e });

/** The residual of an interval with r < t in each objective. */
const byHand: Record<string, Record<Orientation, (sample: Sample) => Residual>> = {
  alphaFlow: {
    "data-to-noise": (p) => {
      const { z, v } = dataToNoise(p);
      const s = p.alpha * p.r + (1 - p.alpha) * p.t;
      const ahead = linear(z - (p.t - s) * v, p.r, s);
      return regression(z, p.r, p.t, p.alpha * v + (1 - p.alpha) * ahead, 1 / p.alpha);
    },
    "noise-to-data": (p) => {
      const { z, v } = noiseToData(p);
      const s = p.alpha * p.t + (1 - p.alpha) * p.r;
      const ahead = linear(z + (s - p.r) * v, s, p.t);
      return regression(z, p.r, p.t, p.alpha * v + (1 - p.alpha) * ahead, 1 / p.alpha);
    },
  },
  splitMeanFlow: {
    "data-to-noise": (p) => {
      const { z } = dataToNoise(p);
      const near = linear(z, p.s, p.t);
      const far = linear(z - (p.t - p.s) * near, p.r, p.s);
      return regression(z, p.r, p.t, ((p.t - p.s) * near + (p.s - p.r) * far) / (p.t - p.r));
    },
    "noise-to-data": (p) => {
      const { z } = noiseToData(p);
      const near = linear(z, p.r, p.s);
      const far = linear(z + (p.s - p.r) * near, p.s, p.t);
      return regression(z, p.r, p.t, ((p.s - p.r) * near + (p.t - p.s) * far) / (p.t - p.r));
    },
  },
  shortcut: {
    "data-to-noise": (p) => {
      const { z } = dataToNoise(p);
      const d = (p.t - p.r) / 2;
      const told = d <= 1 / 8 ? 0 : d;
      const one = linear(z, p.t - told, p.t);
      const two = linear(z - d * one, p.t - d - told, p.t - d);
      return regression(z, p.r, p.t, (one + two) / 2);
    },
    "noise-to-data": (p) => {
      const { z } = noiseToData(p);
      const d = (p.t - p.r) / 2;
      const told = d <= 1 / 8 ? 0 : d;
      const one = linear(z, p.r, p.r + told);
      const two = linear(z + d * one, p.r + d, p.r + d + told);
      return regression(z, p.r, p.t, (one + two) / 2);
    },
  },
  // X = z - h u, dX/dr = u - h c; the teacher (a X + (b + c) r) has no derivative.
  lagrangianSelfDistillation: {
    "data-to-noise": (p) => {
      const { z } = dataToNoise(p);
      const h = p.t - p.r;
      const u = linear(z, p.r, p.t);
      return {
        value: u - h * c - linear(z - h * u, p.r, p.r),
        slopes: [z, p.t, p.r - h],
      };
    },
    "noise-to-data": (p) => {
      const { z } = noiseToData(p);
      const h = p.t - p.r;
      const u = linear(z, p.r, p.t);
      return {
        value: u + h * b - linear(z + h * u, p.t, p.t),
        slopes: [z, p.t + h, p.r],
      };
    },
  },
  // The teacher's derivative by a is X + a dX/da, by b r + a dX/db, ...; dX/da = -h z, dX/db = -h t, dX/dc = -h r.
  "lagrangianSelfDistillation, not stopped": {
    "data-to-noise": (p) => {
      const { z } = dataToNoise(p);
      const h = p.t - p.r;
      const u = linear(z, p.r, p.t);
      const end = z - h * u;
      return {
        value: u - h * c - linear(end, p.r, p.r),
        slopes: [z - end + a * h * z, p.t - p.r + a * h * p.t, p.r - h - p.r + a * h * p.r],
      };
    },
    "noise-to-data": (p) => {
      const { z } = noiseToData(p);
      const h = p.t - p.r;
      const u = linear(z, p.r, p.t);
      const end = z + h * u;
      return {
        value: u + h * b - linear(end, p.t, p.t),
        slopes: [z - end - a * h * z, p.t + h - p.t - a * h * p.t, p.r - p.t - a * h * p.r],
      };
    },
  },
  consistency: {
    "data-to-noise": (p) => {
      const { z, v } = dataToNoise(p);
      const u = linear(z, 0, p.t);
      const g = v - u - p.rho * p.t * (a * v + b);
      return regression(z, 0, p.t, u + g / (Math.abs(g) + 0.3));
    },
    "noise-to-data": (p) => {
      const { z, v } = noiseToData(p);
      const u = linear(z, p.r, 1);
      const g = v - u + p.rho * (1 - p.r) * (a * v + c);
      return regression(z, p.r, 1, u + g / (Math.abs(g) + 0.3));
    },
  },
};

/** Points of the linear field: some with r = t in the first three rows, but for consistency. */
function linearSamples(kind: string, orientation: Orientation): { samples: Sample[]; points: Points } {
  const n = 9;
  const [p, q, w] = [30, 31, 32].map((seed) => flat(fx.random.uniform(fx.random.key(seed), [n], f64)));
  const [x, e] = [33, 34].map((seed) => flat(normal(seed, [n])));
  const samples = x!.map((_, i): Sample => {
    let [r, end] = i < 3 ? [p![i]!, p![i]!] : [Math.min(p![i]!, q![i]!), Math.max(p![i]!, q![i]!)];
    if (kind === "consistency") [r, end] = orientation === "data-to-noise" ? [0, end] : [r, 1];
    return { x: x![i]!, e: e![i]!, r, t: end, s: r + w![i]! * (end - r), alpha: 0.3, rho: 0.6 };
  });
  const of = (name: keyof Sample) => column(samples.map((s) => s[name]));
  const points = { data: of("x"), noise: of("e"), r: of("r"), t: of("t"), s: of("s") };
  return { samples, points: { ...points, alpha: scalar(0.3), rho: scalar(0.6) } };
}

t.test("every objective of a linear field agrees with the derivation by hand", async (t) => {
  for (const kind of Object.keys(byHand)) {
    const name = kind.split(",")[0] as Name;
    const options = {
      alphaFlow: {},
      splitMeanFlow: {},
      shortcut: { levels: 3 },
      lagrangianSelfDistillation: { stopTarget: kind === name },
      consistency: { tangentNormalization: 0.3 },
    }[name];
    for (const orientation of orientations) {
      const { samples, points } = linearSamples(kind, orientation);
      const want = [0, 0, 0, 0];
      for (const sample of samples) {
        const { x, e, r, t: end } = sample;
        const sign = orientation === "data-to-noise" ? 1 : -1;
        const state = sign === 1 ? (1 - end) * x + end * e : (1 - end) * e + end * x;
        const {
          value,
          slopes,
          factor = 1,
        } = r === end ? regression(state, r, r, sign * (e - x)) : byHand[kind]![orientation](sample);
        want[0]! += (factor * value ** 2) / samples.length;
        for (let i = 0; i < 3; i++) want[i + 1]! += (2 * factor * value * slopes[i]!) / samples.length;
      }
      const objective = make(name, { orientation, ...options });
      for (const equalCount of kind === "consistency" ? [0] : [0, 3]) {
        const got = lossAndGradient(objective, linearField, linearField.init(fx.random.key(0)), {
          ...points,
          equalCount,
        });
        close(t, got, want, 1e-12, `${kind}, ${orientation}, ${equalCount} rows apart`);
      }
    }
  }
});

t.test(
  "the gradient goes through the derivative, the flow map and the teacher of a transformer",
  async (t) => {
    // Without stopped gradients the loss is a plain function of the parameters: differences are its gradient.
    const field = models.averageVelocityDit({
      dim: [2, 2, 1],
      patch: 1,
      hidden: 8,
      depth: 1,
      heads: 2,
      ...f64,
    });
    const params = fx.tree.map(
      (x: T) => fx.mul(fx.random.normal(fx.random.key(x.size), x.shape, f64), 0.2),
      field.init(fx.random.key(1)),
    );
    for (const orientation of orientations) {
      const objective = flow.lagrangianSelfDistillation({
        orientation,
        stopTarget: false,
        equalTimeFraction: 0.25,
      });
      const points = pointsOf(objective, 40, 4, [2, 2, 1]);
      t.doesNotThrow(() =>
        fx.checkGrads((p: typeof params) => objective.loss(field, p, points), [params], {
          order: 1,
          step: 1e-6,
        }),
      );
    }
  },
);

// ---- Limits.

t.test("alpha flow goes from regression on v to mean flow, with an error of order alpha", async (t) => {
  for (const orientation of orientations) {
    const mean = flow.meanFlow({ orientation });
    const alphaFlow = flow.alphaFlow({ orientation });
    const points = pointsOf(mean, 1, 64);
    const at = (alpha: number) =>
      lossAndGradient(alphaFlow, average, averageParams, { ...points, alpha: scalar(alpha) });

    const { data, noise, r, t: end } = points;
    const later = orientation === "data-to-noise";
    const [start, goal, anchor] = later ? [data, noise, end] : [noise, data, r];
    const z = fx.add(fx.mul(start, fx.sub(1, anchor)), fx.mul(goal, anchor));
    const [loss, g] = fx.valueAndGrad((p: typeof averageParams) =>
      fx.mean(fx.square(fx.sub(average.apply(p, z, r, end), fx.sub(goal, start)))),
    )(averageParams);
    close(t, at(1), [loss.item(), ...numbers(g)], 1e-12, `${orientation}, alpha = 1`);

    // A field that varies fast in z and in time: the difference is a fair measure of what the smallest alpha costs.
    const field = models.averageVelocityMlp({
      dim: 2,
      hidden: 16,
      layers: 2,
      timeEmbedding: "fourier",
      ...f64,
    });
    const params = fx.tree.map((x: T) => fx.mul(x, 2), field.init(fx.random.key(5)));
    const gradient = (alpha: number) =>
      lossAndGradient(alphaFlow, field, params, { ...points, alpha: scalar(alpha) }).slice(1);
    const limit = lossAndGradient(mean, field, params, points).slice(1);
    const distance = (alpha: number) =>
      Math.hypot(...gradient(alpha).map((x, i) => x - limit[i]!)) / Math.hypot(...limit);
    const order = Math.log2(distance(2e-3) / distance(1e-3));
    t.ok(Math.abs(order - 1) < 0.05, `${orientation}: order ${order}`);
    const smallest = distance(5e-3);
    t.ok(smallest < 0.02, `${orientation}: at 5e-3 the gradient is ${smallest} of mean flow's away from it`);
  }
});

t.test("additive fields have no loss beyond that of the rows with r = t", async (t) => {
  // A constant field adds up, splits, and is its own velocity; v = noise - data is not that constant.
  const constant: fx.models.AverageVelocityField<T> = {
    kind: "average-velocity",
    init: () => fx.tensor([[0.4, -1.1]], f64),
    apply: (p, z) => fx.broadcastTo(p, z.shape),
  };
  const params = constant.init(fx.random.key(0));
  // dz/dt = l z: every step is exact, so all the identities hold, whatever the data are.
  const l = 0.8;
  const quotient = (length: T) =>
    fx.where(fx.equal(length, 0), l, fx.div(fx.expm1(fx.mul(length, l)), length));
  const exponential = (orientation: Orientation): fx.models.AverageVelocityField<null> => ({
    kind: "average-velocity",
    init: () => null,
    apply: (_, z, r, time) =>
      fx.mul(z, quotient(orientation === "data-to-noise" ? fx.sub(r, time) : fx.sub(time, r))),
  });
  for (const orientation of orientations) {
    for (const name of ["splitMeanFlow", "shortcut", "lagrangianSelfDistillation"] as const) {
      const objective = make(name, { orientation, equalTimeFraction: 0 });
      const points = pointsOf(objective, 4, 32);
      close(t, lossAndGradient(objective, constant, params, points), [0, 0, 0], 1e-14, `${name}, constant`);
      if (name === "shortcut") continue;
      const loss = objective.loss(exponential(orientation), null, points).item();
      close(t, [loss], [0], 1e-18, `${name}, ${orientation}, exponential`);
    }
    const shortcut = make("shortcut", { orientation, levels: 4 });
    // An interval that is larger than the smallest: both halves are exact steps.
    const wide = {
      ...pointsOf(shortcut, 5, 8),
      r: fx.full([8, 1], 0.25, f64),
      t: fx.full([8, 1], 0.75, f64),
    };
    const { equalCount: _, ...points } = wide;
    const loss = shortcut.loss(exponential(orientation), null, points).item();
    close(t, [loss], [0], 1e-18, `shortcut, ${orientation}, exponential`);
  }
});

t.test("consistency without normalisation is mean flow on intervals that end at the data", async (t) => {
  for (const orientation of orientations) {
    const objective = flow.consistency({ orientation, tangentNormalization: false });
    const points = pointsOf(objective, 6, 16);
    close(
      t,
      lossAndGradient(objective, average, averageParams, points),
      lossAndGradient(flow.meanFlow({ orientation }), average, averageParams, points),
      1e-13,
      orientation,
    );
    const normalised = flow.consistency({ orientation });
    const errors = Array.from({ length: 16 }, (_, i) => {
      const cut = (x: T) => fx.slice(x, [i, 0], [1, x.shape[1]!]);
      const { data, noise, r, t: end, rho } = points;
      const one = { data: cut(data), noise: cut(noise), r: cut(r), t: cut(end), rho };
      return 2 * normalised.loss(average, averageParams, one as never).item();
    });
    t.ok(
      errors.every((e) => e > 0 && e < 1),
      "a sample's error, |g|^2 / (|g| + c)^2, lies below 1",
    );
  }
});

t.test("the network of TrigFlow and the average velocity give one consistency function", async (t) => {
  // f(z_t, t) = cos(a) x_a - sin(a) F with x_a = z_t / N, for u = F / N + (2t - 1) z_t / N^2.
  for (const [s, z, F] of [
    [0.1, 0.7, -1.2],
    [0.5, -0.3, 0.4],
    [0.9, 1.1, 2],
    [1, -0.6, 0.3],
  ] as const) {
    const N = Math.hypot(s, 1 - s);
    const angle = Math.atan2(s, 1 - s);
    const u = F / N + ((2 * s - 1) * z) / N ** 2;
    close(t, [z - s * u], [(Math.cos(angle) * z) / N - Math.sin(angle) * F], 1e-14);
  }
});

t.test("both orientations are mirror images: t -> 1 - t turns one into the other", async (t) => {
  const one = (x: T) => fx.sub(1, x);
  const mirrorField: typeof average = {
    ...average,
    apply: (p, z, r, time) => fx.neg(average.apply(p, z, one(time), one(r))),
  };
  for (const name of names) {
    const objective = make(name);
    const points = pointsOf(objective, 7, 12);
    const mirrored = { ...points, r: one(points.t), t: one(points.r) };
    if (points.s !== undefined) mirrored.s = one(points.s);
    close(
      t,
      lossAndGradient(make(name, { orientation: "noise-to-data" }), mirrorField, averageParams, mirrored),
      lossAndGradient(objective, average, averageParams, points),
      1e-11,
      name,
    );
  }
});

// ---- The parts of an objective.

t.test("the split at r = t changes neither loss nor gradient", async (t) => {
  for (const name of names.filter((x) => x !== "consistency")) {
    for (const orientation of orientations) {
      const weighting = flow.adaptiveWeighting({ power: 0.5, offset: 0.1 });
      for (const equalTimeFraction of [0.375, 1]) {
        const objective = make(name, { orientation, weighting, equalTimeFraction });
        const points = pointsOf(objective, 8, 8);
        t.equal(points.equalCount, 8 * equalTimeFraction);
        close(
          t,
          lossAndGradient(objective, average, averageParams, points),
          lossAndGradient(objective, average, averageParams, { ...points, equalCount: 0 }),
          1e-12,
          `${name}, ${orientation}, ${points.equalCount} of 8`,
        );
      }
    }
  }
});

t.test("teachers evaluate the field on the rows with r < t only, and without a gradient", async (t) => {
  const batches = (name: Name, options: object = {}) => {
    const objective = make(name, options);
    const found: number[] = [];
    const spy: typeof average = {
      ...average,
      apply(p, z, r, time) {
        found.push(z.shape[0]!);
        return average.apply(p, z, r, time);
      },
    };
    objective.loss(spy, averageParams, pointsOf(objective, 9, 8));
    return found;
  };
  t.same(batches("alphaFlow"), [8, 8]);
  t.same(batches("alphaFlow", { equalTimeFraction: 0.25 }), [2, 6, 6]);
  t.same(batches("splitMeanFlow"), [4, 4, 4, 4]);
  t.same(batches("shortcut"), [6, 2, 2, 2]);
  t.same(batches("lagrangianSelfDistillation"), [6, 2, 2]);
  t.same(batches("consistency"), [8]);
});

t.test("samples of any shape and conditions go through every objective", async (t) => {
  const options = { conditionDim: 4, hidden: 5, layers: 1, dtype: "float64" } as const;
  const shaped = models.averageVelocityMlp({ dim: [3, 2], ...options });
  const long = models.averageVelocityMlp({ dim: 6, ...options });
  const params = shaped.init(fx.random.key(1));
  const condition = normal(12, [8, 4]);
  for (const name of names)
    for (const orientation of orientations) {
      const objective = make(name, { orientation });
      const points = { ...pointsOf(objective, 11, 8, [3, 2]), condition };
      const whole = lossAndGradient(objective, shaped, params, points);
      const flattened = {
        ...points,
        data: fx.reshape(points.data, [8, 6]),
        noise: fx.reshape(points.noise, [8, 6]),
      };
      close(t, lossAndGradient(objective, long, params, flattened), whole, 1e-12, `${name}, ${orientation}`);
    }
});

t.test(
  "intervals, splits, alpha and rho are drawn alike inside and outside of a compiled step",
  async (t) => {
    for (const name of names)
      for (const orientation of orientations)
        for (const dtype of ["float32", "float64"] as const) {
          const fractions = name === "consistency" ? [{}] : [{}, { equalTimeFraction: 0.3 }];
          for (const options of fractions) {
            const objective = make(name, { orientation, ...options });
            const n = 101;
            const drawn = objective.sampleTimes(fx.random.key(3), n, { dtype });
            const defaults = { alphaFlow: 0, splitMeanFlow: 0.5, shortcut: 0.75, consistency: 0 };
            const share =
              "equalTimeFraction" in options ? 0.3 : { lagrangianSelfDistillation: 0.75, ...defaults }[name];
            t.equal(drawn.equalCount, Math.round(share * n));
            const [r, s, end] = [drawn.r, drawn.s ?? drawn.t, drawn.t].map(flat);
            t.same(
              [drawn.r.shape, drawn.t.shape, drawn.r.dtype, drawn.t.dtype],
              [[n, 1], [n, 1], dtype, dtype],
            );
            t.ok(
              r!.every((x, i) => 0 <= x && x <= s![i]! && s![i]! <= end![i]! && end![i]! <= 1),
              "0 <= r <= s <= t <= 1",
            );
            t.ok(
              r!.every((x, i) => (i < drawn.equalCount ? x === end![i] : x < end![i]!)),
              "r = t in the first rows",
            );
            const compiled = fx.jit((key: T) => objective.sampleTimes(key, n, { dtype }))(fx.random.key(3));
            t.same(Object.keys(compiled).sort(), Object.keys(drawn).sort());
            for (const key of ["r", "t", "s", "alpha", "rho"].filter((x) => drawn[x] !== undefined)) {
              t.equal(drawn[key].dtype, dtype);
              t.same(flat(compiled[key]), flat(drawn[key]), `the same ${key}`);
            }
          }
        }
  },
);

t.test("a split lies anywhere in its interval, a shortcut on the grid of its size", async (t) => {
  const mean = (x: number[]) => x.reduce((sum, v) => sum + v, 0) / x.length;
  const n = 4000;
  const split = flow.splitMeanFlow({ equalTimeFraction: 0 }).sampleTimes(fx.random.key(1), n, f64);
  const share = flat(fx.div(fx.sub(split.s, split.r), fx.sub(split.t, split.r)));
  t.ok(Math.abs(mean(share) - 1 / 2) < 0.02 && Math.abs(mean(share.map((x) => x * x)) - 1 / 3) < 0.02);

  for (const dtype of ["float32", "float64"] as const) {
    const options = { equalTimeFraction: 0, levels: 5 };
    const { r, t: end } = flow.shortcut(options).sampleTimes(fx.random.key(2), n, { dtype });
    const sizes = flat(fx.sub(end, r));
    const starts = flat(r);
    t.ok(
      sizes.every((d, i) => Number.isInteger(starts[i]! / d)),
      "each start is a multiple of the size",
    );
    for (const d of [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16]) {
      const found = starts.filter((_, i) => sizes[i] === d);
      t.ok(Math.abs(found.length / n - 1 / 5) < 0.03, `a fifth of the intervals has size ${d}`);
      t.equal(new Set(found).size, 1 / d, "each part is drawn");
    }
    t.equal(sizes.filter((d) => d < 1 / 16 || d > 1).length, 0);
  }
  const deepest = flow.shortcut({ equalTimeFraction: 0, levels: 20 }).sampleTimes(fx.random.key(3), n);
  const [r, end] = [flat(deepest.r), flat(deepest.t)];
  t.ok(r.every((x, i) => Number.isInteger(Math.log2(end[i]! - x)) && Number.isInteger(x / (end[i]! - x))));
});

t.test("alpha goes from 1 to its smallest value along a sigmoid", async (t) => {
  const at = (schedule: fx.flow.AlphaSchedule, k: number) =>
    schedule(fx.tensor(k, { dtype: "int32" })).item();
  const schedule = flow.sigmoidAlpha({ from: 100, to: 300 });
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  for (const k of [180, 200, 210, 240])
    close(t, [at(schedule, k)], [1 - sigmoid((25 * (k - 200)) / 200)], 1e-14, `step ${k}`);
  t.same(
    [0, 100, 157, 243, 300, 1e9].map((k) => at(schedule, k)),
    [1, 1, 1, 5e-3, 5e-3, 5e-3],
  );
  const soft = flow.sigmoidAlpha({ from: 0, to: 10, temperature: 4, smallest: 0.2 });
  close(
    t,
    [0, 3, 5, 7, 9].map((k) => at(soft, k)),
    [1, sigmoid(0.8), 0.5, sigmoid(-0.8), 0.2],
    1e-14,
  );

  const objective = flow.alphaFlow({ alpha: schedule });
  const drawn = fx.jit((step: T) => objective.sampleTimes(fx.random.key(0), 4, { step, ...f64 }).alpha);
  for (const k of [0, 190, 1000]) t.equal(drawn(fx.tensor(k, { dtype: "int32" })).item(), at(schedule, k));
  t.equal(
    objective.sampleTimes(fx.random.key(0), 4).alpha.item(),
    1,
    "without a step the first one is meant",
  );
  const given = flow.alphaFlow({ alpha: 0.25 }).sampleTimes(fx.random.key(0), 4).alpha;
  t.same(
    [given.item(), given.shape, flow.alphaFlow().sampleTimes(fx.random.key(0), 4).alpha.item()],
    [0.25, [], 0.5],
  );
});

t.test("rho grows with the training steps to 1", async (t) => {
  const rho = (options: object, k: number) =>
    flow
      .consistency(options)
      .sampleTimes(fx.random.key(0), 3, { step: fx.tensor(k, { dtype: "int32" }) })
      .rho.item();
  t.same(
    [0, 5, 20, 21].map((k) => rho({ tangentWarmup: 20 }, k)),
    [0, 0.25, 1, 1],
  );
  t.same(
    [0, 5].map((k) => rho({}, k)),
    [1, 1],
  );
  t.equal(flow.consistency({ tangentWarmup: 20 }).sampleTimes(fx.random.key(0), 3).rho.item(), 0);
});

// ---- Training.

t.test("every objective trains a network that samples in one step", async (t) => {
  const model = models.averageVelocityMlp({ dim: 2, hidden: 32, layers: 2 });
  const data = fx.data.gaussianMixture({
    means: [
      [-2, 1],
      [2, 0],
    ],
    deviation: 0.3,
  });
  const options: Record<Name, object> = {
    alphaFlow: { alpha: flow.sigmoidAlpha({ from: 50, to: 250 }), equalTimeFraction: 0.25 },
    splitMeanFlow: {},
    shortcut: {},
    lagrangianSelfDistillation: {},
    consistency: { tangentWarmup: 50 },
  };
  for (const name of names)
    for (const orientation of orientations) {
      const trainer = new fx.Trainer({
        model,
        objective: make(name, { orientation, ...options[name] }),
        data,
        optimizer: fx.optim.adam({ learningRate: 1e-2 }),
        batchSize: 256,
      });
      const distance = async () => {
        const samples = await trainer.sample(500, { sampler: flow.oneStep(), key: fx.random.key(1) });
        return fx.metrics.energyDistance(samples, data.sample(fx.random.key(2), 500));
      };
      const before = await distance();
      await trainer.fit({ steps: 300, progress: false });
      const after = await distance();
      t.ok(after < 0.3 * before, `${name}, ${orientation}: energy distance from ${before} to ${after}`);
      trainer.dispose();
    }
});

// ---- Wrong input.

t.test("options that cannot be are named", async (t) => {
  const refused: [Name, object, RegExp][] = [
    ...names.flatMap((name): [Name, object, RegExp][] => [
      [name, { orientation: "up" }, new RegExp(`^${name}: orientation must be one of`)],
      [name, { times: 3 }, new RegExp(`^${name}: times must be a distribution`)],
      [name, { weighting: 3 }, new RegExp(`^${name}: weighting must be`)],
      [name, { stpTarget: true }, new RegExp(`^${name}: unknown option "stpTarget"`)],
    ]),
    ["alphaFlow", { equalTimeFraction: 2 }, /^alphaFlow: equalTimeFraction must be .* >= 0 and <= 1, got 2/],
    ["alphaFlow", { alpha: 0 }, /^alphaFlow: alpha must be a finite number > 0 and <= 1, got 0/],
    ["alphaFlow", { alpha: 1.5 }, /alpha must be .* got 1.5/],
    ["alphaFlow", { alpha: "half" }, /alpha must be .* got "half"/],
    ["shortcut", { levels: 0 }, /^shortcut: levels must be a whole number/],
    ["shortcut", { levels: 2.5 }, /levels must be a whole number/],
    ["shortcut", { levels: 21 }, /levels must be a whole number from 1 to 20, got 21/],
    ["lagrangianSelfDistillation", { stopTarget: 1 }, /stopTarget must be true or false, got 1/],
    ["consistency", { equalTimeFraction: 0.5 }, /^consistency: unknown option "equalTimeFraction"/],
    ["consistency", { tangentNormalization: 0 }, /tangentNormalization must be a finite number > 0, got 0/],
    ["consistency", { tangentNormalization: true }, /tangentNormalization must be .* got true/],
    ["consistency", { tangentWarmup: -1 }, /tangentWarmup must be a whole number >= 0, got -1/],
  ];
  for (const [name, options, message] of refused)
    t.throws(() => make(name, options), { name: "ValueError", message }, `${name} ${message}`);

  const { sigmoidAlpha } = flow;
  const value = (message: RegExp) => ({ name: "ValueError", message });
  t.throws(() => sigmoidAlpha({ from: 5, to: 5 }), value(/sigmoidAlpha: to must be a whole number >= 6/));
  t.throws(() => sigmoidAlpha({ from: -1, to: 5 }), value(/from must be a whole number >= 0/));
  t.throws(() => sigmoidAlpha({ from: 0, to: 5, temperature: 0 }), value(/temperature must be/));
  t.throws(() => sigmoidAlpha({ from: 0, to: 5, smallest: 0.5 }), value(/smallest must be .* got 0.5/));
  t.throws(() => sigmoidAlpha({ from: 0, to: 5, least: 0.1 } as never), value(/unknown option "least"/));
  const bad = flow.alphaFlow({ alpha: () => fx.ones([2]) });
  t.throws(() => bad.sampleTimes(fx.random.key(0), 4), value(/must give a tensor of one element/));
  const numeric = flow.alphaFlow({ alpha: (() => 0.5) as never });
  t.throws(() => numeric.sampleTimes(fx.random.key(0), 4), value(/tensor of one element, got 0.5/));
});

t.test("points that cannot be are named", async (t) => {
  const refused = (name: Name, change: object, kind: string, message: RegExp, orientation?: Orientation) => {
    const objective = make(name, orientation === undefined ? {} : { orientation });
    const points = { ...pointsOf(objective, 1, 4), ...change } as Points;
    t.throws(
      () => objective.loss(average, averageParams, points),
      { name: kind, message },
      `${name} ${message}`,
    );
  };
  for (const name of names) {
    refused(
      name,
      { r: column([0, 0.5, 2, 0]) },
      "ValueError",
      new RegExp(`^${name}: r must lie in \\[0, 1\\]`),
    );
    refused(name, { noise: normal(1, [4, 3]) }, "ShapeError", /must be alike/);
    refused(name, { data: fx.ones([4, 2]) }, "DTypeError", /use cast/);
    const objective = make(name);
    const velocity = { kind: "velocity", apply() {} } as never;
    t.throws(() => objective.loss(velocity, null, pointsOf(objective, 1, 4)), {
      name: "ValueError",
      message: new RegExp(`^${name}: needs a field of kind "average-velocity"`),
    });
    t.throws(() => objective.sampleTimes(fx.random.key(0), 0), { name: "ValueError" });
    t.throws(() => objective.sampleTimes(fx.random.key(0), 4, { dtype: "int32" }), { name: "ValueError" });
  }
  refused(
    "alphaFlow",
    { alpha: undefined },
    "ValueError",
    /alphaFlow: alpha must be a Tensor, got undefined/,
  );
  refused(
    "alphaFlow",
    { alpha: scalar(0) },
    "ValueError",
    /alpha must be a finite number > 0 and <= 1, got 0/,
  );
  refused("alphaFlow", { alpha: fx.ones([4, 1], f64) }, "ShapeError", /alpha must be a scalar, got \[4, 1\]/);
  refused("alphaFlow", { alpha: fx.tensor(0.5) }, "DTypeError", /alpha is float32, but data is float64/);
  const interval = { r: column([0.2, 0.2, 0.2, 0.2]), t: column([0.6, 0.6, 0.6, 0.6]), equalCount: 0 };
  refused(
    "splitMeanFlow",
    { ...interval, s: column([0.4, 0.7, 0.4, 0.4]) },
    "ValueError",
    /splitMeanFlow: s must lie in \[r, t\], got r = 0.2, s = 0.7 and t = 0.6 in row 1/,
  );
  refused("splitMeanFlow", { s: undefined }, "ValueError", /s must be a Tensor/);
  refused("splitMeanFlow", { s: scalar(0.5) }, "ShapeError", /s must be \[4, 1\]/);
  refused("consistency", { rho: scalar(2) }, "ValueError", /rho must be .* got 2/);
  refused(
    "consistency",
    interval,
    "ValueError",
    /consistency: r must be 0, where the data are, got 0.2 in row 0/,
  );
  refused("consistency", interval, "ValueError", /t must be 1, .* got 0.6 in row 0/, "noise-to-data");
});

// ---- PyTorch's values.

interface GoldenNet {
  activation: "tanh" | "gelu";
  shape: number[];
  params: fx.TensorData[];
  data: fx.TensorData;
  noise: fx.TensorData;
}
interface GoldenCase {
  net: number;
  objective: Name;
  orientation: Orientation;
  options: object;
  weighting: { power: number; offset: number } | null;
  points: Record<string, number | number[]>;
  loss: number;
  raw: number;
  gradient: number[];
}
const file = new URL("../../test/golden/objectives.json", import.meta.url);
const golden: { nets: GoldenNet[]; cases: GoldenCase[] } = JSON.parse(fs.readFileSync(file, "utf8"));

/** [z, r, t] through two hidden layers, parameters [W, b, W, b, W, b]. */
function perceptron(activation: "tanh" | "gelu"): fx.models.AverageVelocityField<T[]> {
  const act = activation === "tanh" ? fx.tanh : fx.gelu;
  return {
    kind: "average-velocity",
    init: () => [],
    apply([w1, b1, w2, b2, w3, b3], z, r, time) {
      const x = fx.concat([fx.reshape(z, [z.shape[0]!, z.size / z.shape[0]!]), r, time], 1);
      const layer = (y: T, w: T, b: T) => fx.add(fx.matmul(y, w), b);
      return fx.reshape(layer(act(layer(act(layer(x, w1!, b1!)), w2!, b2!)), w3!, b3!), z.shape);
    },
  };
}

onEach("losses and gradients are PyTorch's, with and without the rows with r = t apart", (t) => {
  const compiled = new Map<string, (params: T[], points: Points) => [T[], T]>();
  for (const c of golden.cases) {
    const net = golden.nets[c.net]!;
    const weighting = c.weighting === null ? {} : { weighting: flow.adaptiveWeighting(c.weighting) };
    const objective = make(c.objective, { orientation: c.orientation, ...c.options, ...weighting });
    const name = `${c.objective}, ${c.orientation}, ${JSON.stringify(c.options)}, ${net.activation}`;
    for (const equalCount of c.objective === "consistency" ? [0] : [0, 2]) {
      const text = `${name}, ${c.weighting !== null}, ${equalCount}`;
      let program = compiled.get(text);
      if (program === undefined) {
        const field = perceptron(net.activation);
        program = fx.jit((params: T[], points: Points) => {
          const f = (p: T[]): [T, T] => {
            const { loss, raw } = objective.lossAndRaw(field, p, { ...points, equalCount });
            return [loss, raw];
          };
          const [[loss, raw], g] = fx.valueAndGrad(f, { hasAux: true })(params);
          return [g, fx.stack([loss, raw])] as [T[], T];
        });
        compiled.set(text, program);
      }
      const points = Object.fromEntries(
        Object.entries(c.points).map(([key, x]) => [key, typeof x === "number" ? scalar(x) : column(x)]),
      );
      const [g, values] = program(
        net.params.map((x) => fx.tensor(x, f64)),
        { data: fx.tensor(net.data, f64), noise: fx.tensor(net.noise, f64), ...points } as Points,
      );
      const scale = Math.max(1, ...c.gradient.map(Math.abs));
      close(t, flat(values), [c.loss, c.raw], 1e-12 * Math.max(1, c.loss), `${text}: loss and raw loss`);
      close(t, numbers(g), c.gradient, 1e-12 * scale, `${text}: gradient`);
    }
  }
  t.end();
});
