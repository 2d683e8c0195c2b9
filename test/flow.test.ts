import * as fx from "fluxion";
import t from "tap";
import { close } from "./support/close.js";

const { flow, models } = fx;
const f64 = { dtype: "float64" } as const;
type Orientation = fx.flow.Orientation;
const orientations: Orientation[] = ["data-to-noise", "noise-to-data"];

const flat = (x: fx.Tensor): number[] => Array.from(x.toTypedArray());
const column = (values: readonly number[]) => fx.tensor(values, { shape: [values.length, 1], ...f64 });
const normal = (seed: number, shape: number[]) => fx.random.normal(fx.random.key(seed), shape, f64);
const numbers = (params: unknown): number[] => fx.tree.leaves(params).flatMap(flat);

/** Random points with r < t, and r = t in the first `equal` rows. */
function pointsOf(seed: number, n: number, equal = 0, shape: number[] = [2]) {
  const [a, b] = fx.random.split(fx.random.key(seed + 1000)).map((k) => flat(fx.random.uniform(k, [n], f64)));
  const r = a!.map((v, i) => (i < equal ? v : Math.min(v, b![i]!)));
  const end = a!.map((v, i) => (i < equal ? v : Math.max(v, b![i]!)));
  return {
    data: normal(seed, [n, ...shape]),
    noise: normal(seed + 1, [n, ...shape]),
    r: column(r),
    t: column(end),
  };
}

const average = models.averageVelocityMlp({ dim: 2, hidden: 6, layers: 2, dtype: "float64" });
const velocity = models.velocityMlp({ dim: 2, hidden: 6, layers: 2, dtype: "float64" });
const averageParams = average.init(fx.random.key(11));
const velocityParams = velocity.init(fx.random.key(12));

// ---- the losses against derivations that are independent of the library's derivatives ----

t.test(
  "flow matching is the mean squared distance to the conditional velocity, on the path of its orientation",
  async (t) => {
    // v(z, t) = a z + b t, one dimension: everything by hand.
    const field = {
      kind: "velocity",
      init: () => ({ a: fx.tensor(0.7, f64), b: fx.tensor(-0.4, f64) }),
      apply: (p: { a: fx.Tensor; b: fx.Tensor }, z: fx.Tensor, time: fx.Tensor) =>
        fx.add(fx.mul(p.a, z), fx.mul(p.b, time)),
    } as const;
    const { data, noise, t: time } = pointsOf(1, 7, 0, [1]);
    for (const orientation of orientations) {
      const [from, to] = orientation === "data-to-noise" ? [data, noise] : [noise, data];
      const [start, end, s] = [flat(from), flat(to), flat(time)];
      let [loss, da, db] = [0, 0, 0];
      s.forEach((at, i) => {
        const z = (1 - at) * start[i]! + at * end[i]!;
        const error = 0.7 * z - 0.4 * at - (end[i]! - start[i]!);
        loss += error ** 2 / 7;
        da += (2 * error * z) / 7;
        db += (2 * error * at) / 7;
      });
      const objective = flow.flowMatching({ orientation });
      const [value, g] = fx.valueAndGrad((p: ReturnType<typeof field.init>) =>
        objective.loss(field, p, { data, noise, t: time }),
      )(field.init());
      close(t, [value.item(), g.a.item(), g.b.item()], [loss, da, db], 1e-12, orientation);
    }
  },
);

interface Linear {
  a: fx.Tensor;
  b: fx.Tensor;
  c: fx.Tensor;
}
/** u(z, r, t) = a z + b t + c r. */
const linearField: fx.models.AverageVelocityField<Linear> = {
  kind: "average-velocity",
  init: () => ({ a: fx.tensor(0.7, f64), b: fx.tensor(-0.4, f64), c: fx.tensor(1.3, f64) }),
  apply: ({ a, b, c }, z, r, time) => fx.add(fx.add(fx.mul(a, z), fx.mul(b, time)), fx.mul(c, r)),
};

/** Loss and gradient of the linear field by hand: no gradient through the target or the tangent. */
function linearByHand(
  points: ReturnType<typeof pointsOf>,
  orientation: Orientation,
  weight: number,
): number[] {
  const [a, b, c] = [0.7, -0.4, 1.3];
  const later = orientation === "data-to-noise";
  const [start, end] = later
    ? [flat(points.data), flat(points.noise)]
    : [flat(points.noise), flat(points.data)];
  const [r, s] = [flat(points.r), flat(points.t)];
  const sums = [0, 0, 0, 0];
  r.forEach((_, i) => {
    const anchor = later ? s[i]! : r[i]!;
    const z = (1 - anchor) * start[i]! + anchor * end[i]!;
    const v = end[i]! - start[i]!;
    const own = a * z + (b + c) * anchor;
    const tangent = weight * v + (1 - weight) * own;
    const length = s[i]! - r[i]!;
    const target = later ? v - length * (a * tangent + b) : v + length * (a * tangent + c);
    const error = a * z + b * s[i]! + c * r[i]! - target;
    [error ** 2, 2 * error * z, 2 * error * s[i]!, 2 * error * r[i]!].forEach((term, k) => {
      sums[k]! += term / r.length;
    });
  });
  return sums;
}

t.test(
  "mean flow, its blend and improved mean flow of a linear field agree with the derivation by hand",
  async (t) => {
    const points = pointsOf(2, 9, 3, [1]);
    for (const orientation of orientations) {
      for (const [objective, weight] of [
        [flow.meanFlow({ orientation }), 1],
        [flow.meanFlow({ orientation, conditionalTangentWeight: 0.3 }), 0.3],
        [flow.improvedMeanFlow({ orientation }), 0],
      ] as const) {
        const params = linearField.init(fx.random.key(0));
        const [value, g] = fx.valueAndGrad((p: Linear) => objective.loss(linearField, p, points))(params);
        const got = [value, g.a, g.b, g.c].map((x) => x.item());
        close(
          t,
          got,
          linearByHand(points, orientation, weight),
          1e-12,
          `${objective.name}, ${orientation}, ${weight}`,
        );
      }
    }
  },
);

/** A perceptron's target by central differences along the tangent, with no derivative of the library. */
function targetByDifferences(
  field: typeof average,
  params: typeof averageParams,
  points: ReturnType<typeof pointsOf>,
  orientation: Orientation,
  weight: number,
) {
  const later = orientation === "data-to-noise";
  const [from, to] = later ? [points.data, points.noise] : [points.noise, points.data];
  const anchor = later ? points.t : points.r;
  const z = fx.add(fx.mul(from, fx.sub(1, anchor)), fx.mul(to, anchor));
  const v = fx.sub(to, from);
  const tangent = fx.add(fx.mul(v, weight), fx.mul(field.apply(params, z, anchor, anchor), 1 - weight));
  const h = 1e-4;
  const at = (s: number) => {
    const [moved, time] = [fx.add(z, fx.mul(tangent, s)), fx.add(anchor, s)];
    return later ? field.apply(params, moved, points.r, time) : field.apply(params, moved, time, points.t);
  };
  // Fourth order: (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12 h.
  const inner = fx.mul(fx.sub(at(h), at(-h)), 8);
  const derivative = fx.div(fx.sub(inner, fx.sub(at(2 * h), at(-2 * h))), 12 * h);
  const change = fx.mul(fx.sub(points.t, points.r), derivative);
  return { z, v, derivative, target: later ? fx.sub(v, change) : fx.add(v, change) };
}

t.test(
  "the target and the gradient of a perceptron agree with finite differences, for every time embedding",
  async (t) => {
    const points = pointsOf(3, 6, 2);
    for (const timeEmbedding of ["raw", "fourier", "sinusoidal"] as const) {
      const field = models.averageVelocityMlp({
        dim: 2,
        hidden: 5,
        layers: 2,
        timeEmbedding,
        dtype: "float64",
      });
      const params = field.init(fx.random.key(21));
      for (const orientation of orientations) {
        for (const weight of [1, 0.4, 0]) {
          const objective = flow.meanFlow({ orientation, conditionalTangentWeight: weight });
          const { z, target } = targetByDifferences(field, params, points, orientation, weight);
          // The target is a constant of the minimisation: differences of this loss are the gradient.
          const frozen = (p: typeof params) =>
            fx.mean(fx.square(fx.sub(field.apply(p, z, points.r, points.t), target))).item();
          const [value, g] = fx.valueAndGrad((p: typeof params) => objective.loss(field, p, points))(params);
          const name = `${timeEmbedding}, ${orientation}, ${weight}`;
          close(t, [value.item()], [frozen(params)], 1e-8, `loss ${name}`);
          const direction = fx.tree.map((x) => fx.random.normal(fx.random.key(x.size), x.shape, f64), params);
          const moved = (s: number) =>
            frozen(fx.tree.map((x, d) => fx.add(x, fx.mul(d, s)), params, direction));
          const slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
          const [gradient, along] = [numbers(g), numbers(direction)];
          const product = gradient.reduce((a, v, i) => a + v * along[i]!, 0);
          close(t, [product], [slope], 1e-6 * Math.max(1, Math.abs(slope)), `gradient ${name}`);
        }
      }
    }
  },
);

t.test("regressing u + (t - r) sg(du/dt) on v has the same loss and gradient", async (t) => {
  const points = pointsOf(4, 8, 2);
  for (const orientation of orientations) {
    const sign = orientation === "data-to-noise" ? 1 : -1;
    for (const [objective, weight] of [
      [flow.meanFlow({ orientation }), 1],
      [flow.improvedMeanFlow({ orientation }), 0],
    ] as const) {
      const { z, v, derivative } = targetByDifferences(average, averageParams, points, orientation, weight);
      const compound = (p: typeof averageParams) => {
        const u = average.apply(p, z, points.r, points.t);
        return fx.mean(
          fx.square(fx.sub(fx.add(u, fx.mul(fx.mul(fx.sub(points.t, points.r), derivative), sign)), v)),
        );
      };
      const [a, ga] = fx.valueAndGrad((p: typeof averageParams) => objective.loss(average, p, points))(
        averageParams,
      );
      const [b, gb] = fx.valueAndGrad(compound)(averageParams);
      close(
        t,
        [a.item(), ...numbers(ga)],
        [b.item(), ...numbers(gb)],
        1e-9,
        `${objective.name}, ${orientation}`,
      );
    }
  }
});

t.test("an exact straight flow has no loss, in any objective and orientation", async (t) => {
  // data = m + s noise: every path is straight, and the velocity along it is constant, so u = v at every (r, t).
  const [m, s] = [0.8, 0.3];
  const noise = normal(5, [6, 2]);
  const points = { ...pointsOf(5, 6, 2), noise, data: fx.add(fx.mul(noise, s), m) };
  for (const orientation of orientations) {
    // e = (z - share m) / (share s + 1 - share), with share the share of the data in z.
    const shareAt = (time: fx.Tensor) => (orientation === "data-to-noise" ? fx.sub(1, time) : time);
    const sign = orientation === "data-to-noise" ? 1 : -1;
    const exact = (z: fx.Tensor, time: fx.Tensor) => {
      const share = shareAt(time);
      const e = fx.div(fx.sub(z, fx.mul(share, m)), fx.add(fx.mul(share, s), fx.sub(1, share)));
      return fx.mul(fx.sub(fx.mul(e, 1 - s), m), sign);
    };
    const v: fx.models.VelocityField<null> = {
      kind: "velocity",
      init: () => null,
      apply: (_, z, time) => exact(z, time),
    };
    const u: fx.models.AverageVelocityField<null> = {
      kind: "average-velocity",
      init: () => null,
      apply: (_, z, r, time) => exact(z, orientation === "data-to-noise" ? time : r),
    };
    close(t, [flow.flowMatching({ orientation }).loss(v, null, points).item()], [0], 1e-28);
    close(t, [flow.meanFlow({ orientation }).loss(u, null, points).item()], [0], 1e-28);
    close(t, [flow.improvedMeanFlow({ orientation }).loss(u, null, points).item()], [0], 1e-28);
  }
});

t.test("both orientations are mirror images: t -> 1 - t turns one into the other", async (t) => {
  const points = pointsOf(6, 8, 2);
  const mirrored = { ...points, r: fx.sub(1, points.t), t: fx.sub(1, points.r) };
  const one = (x: fx.Tensor) => fx.sub(1, x);
  const u: typeof average = {
    ...average,
    apply: (p, z, r, time) => fx.neg(average.apply(p, z, one(time), one(r))),
  };
  const v: typeof velocity = { ...velocity, apply: (p, z, time) => fx.neg(velocity.apply(p, z, one(time))) };
  for (const make of [flow.meanFlow, flow.improvedMeanFlow]) {
    const value = (orientation: Orientation, field: typeof average, at: typeof points) => {
      const [loss, g] = fx.valueAndGrad((p: typeof averageParams) =>
        make({ orientation }).loss(field, p, at),
      )(averageParams);
      return [loss.item(), ...numbers(g)];
    };
    close(t, value("noise-to-data", u, mirrored), value("data-to-noise", average, points), 1e-12, make.name);
  }
  const matching = (orientation: Orientation, field: typeof velocity, time: fx.Tensor) =>
    flow
      .flowMatching({ orientation })
      .loss(field, velocityParams, { ...points, t: time })
      .item();
  close(t, [matching("noise-to-data", v, one(points.t))], [matching("data-to-noise", velocity, points.t)]);

  const noise = normal(7, [5, 2]);
  const steps = flow.meanFlowSteps({ times: [0, 0.125, 0.5, 1] });
  const back = flow.meanFlowSteps({ times: [0, 0.5, 0.875, 1] });
  const forwards = flow.sample(u, averageParams, noise, back, { orientation: "noise-to-data" });
  close(t, flat(forwards), flat(flow.sample(average, averageParams, noise, steps)), 1e-12, "mean-flow steps");
  const euler = flow.euler({ steps: 7 });
  close(
    t,
    flat(flow.sample(v, velocityParams, noise, euler, { orientation: "noise-to-data" })),
    flat(flow.sample(velocity, velocityParams, noise, euler)),
    1e-12,
    "Euler steps",
  );
});

// ---- the parts of an objective ----

t.test("the split at r = t changes neither loss nor gradient", async (t) => {
  for (const equal of [0, 3, 8]) {
    const points = pointsOf(8, 8, equal);
    for (const orientation of orientations) {
      for (const make of [flow.meanFlow, flow.improvedMeanFlow]) {
        const objective = make({
          orientation,
          weighting: flow.adaptiveWeighting({ power: 0.5, offset: 0.1 }),
        });
        const value = (equalCount?: number) => {
          const f = (p: typeof averageParams) => objective.loss(average, p, { ...points, equalCount });
          const [loss, g] = fx.valueAndGrad(f)(averageParams);
          return [
            loss.item(),
            objective.lossAndRaw(average, averageParams, { ...points, equalCount }).raw.item(),
            ...numbers(g),
          ];
        };
        close(t, value(equal), value(), 1e-12, `${objective.name}, ${orientation}, ${equal} of 8`);
      }
    }
  }
});

t.test(
  "the field is evaluated once for each row, and once more by improved mean flow where r < t",
  async (t) => {
    const points = pointsOf(9, 8, 3);
    const evaluated = (objective: fx.flow.AverageVelocityObjective, equalCount?: number) => {
      const batches: number[] = [];
      const spy: typeof average = {
        ...average,
        apply(p, z, r, time) {
          batches.push(z.shape[0]!);
          return average.apply(p, z, r, time);
        },
      };
      objective.loss(spy, averageParams, { ...points, equalCount });
      return batches;
    };
    t.same(evaluated(flow.meanFlow()), [8]);
    t.same(evaluated(flow.meanFlow(), 3), [3, 5]);
    t.same(evaluated(flow.improvedMeanFlow()), [8, 8]);
    t.same(evaluated(flow.improvedMeanFlow(), 3), [3, 5, 5]);
    const all = fx.tensor([[0.5]], f64);
    const same = { ...pointsOf(9, 1, 1), r: all, t: all };
    const derivatives: number[] = [];
    const field: typeof average = {
      ...average,
      apply(p, z, r, time) {
        derivatives.push(Number(z.isSymbolic));
        return average.apply(p, z, r, time);
      },
    };
    flow.meanFlow().loss(field, averageParams, { ...same, equalCount: 1 });
    t.same(derivatives, [0], "rows with r = t are not traced by a jvp");
  },
);

t.test("times lie in [0, 1], sorted, with r = t in the first rows", async (t) => {
  const objective = flow.meanFlow({ equalTimeFraction: 0.3 });
  const { r, t: end, equalCount } = objective.sampleTimes(fx.random.key(1), 1001);
  t.same([r.shape, end.shape, r.dtype, equalCount], [[1001, 1], [1001, 1], "float32", 300]);
  const [a, b] = [flat(r), flat(end)];
  t.ok(a.every((v, i) => v >= 0 && v <= b[i]! && b[i]! <= 1));
  t.ok(
    a.slice(0, 300).every((v, i) => v === b[i]!),
    "r = t in the first 300",
  );
  t.ok(a.slice(300).filter((v, i) => v < b[i + 300]!).length > 690, "r < t in the others");
  const mean = (x: number[]) => x.reduce((s, v) => s + v, 0) / x.length;
  t.ok(Math.abs(mean(a.slice(0, 300)) - 1 / 2) < 0.06, "points are uniform");
  t.ok(
    Math.abs(mean(a.slice(300)) - 1 / 3) < 0.04 && Math.abs(mean(b.slice(300)) - 2 / 3) < 0.04,
    "intervals are sorted pairs",
  );
  t.equal(flow.meanFlow().sampleTimes(fx.random.key(1), 10).equalCount, 0);
  t.equal(flow.meanFlow({ equalTimeFraction: 1 }).sampleTimes(fx.random.key(1), 10).equalCount, 10);
  t.equal(flow.flowMatching().sampleTimes(fx.random.key(1), 10, f64).t.dtype, "float64");
  const compiled = fx.jit((k: fx.Tensor) => objective.sampleTimes(k, 1001))(fx.random.key(1));
  t.same(
    [flat(compiled.r), flat(compiled.t), compiled.equalCount],
    [a, b, 300],
    "the same bits inside of a compiled step",
  );
});

t.test("logit-normal times have a normal logit", async (t) => {
  const times = flat(
    flow.logitNormalTimes({ mean: -0.6, std: 1.6 }).sample(fx.random.key(2), 20_000, "float64"),
  );
  const logits = times.map((s) => Math.log(s / (1 - s)));
  const mean = logits.reduce((a, v) => a + v, 0) / logits.length;
  const std = Math.sqrt(logits.reduce((a, v) => a + (v - mean) ** 2, 0) / logits.length);
  t.ok(Math.abs(mean + 0.6) < 0.04 && Math.abs(std - 1.6) < 0.04, `mean ${mean}, deviation ${std}`);
});

t.test("adaptive weighting divides each sample's error by a constant power of itself", async (t) => {
  const points = pointsOf(10, 5, 0);
  const [power, offset] = [0.75, 0.01];
  const weighted = flow.meanFlow({ weighting: flow.adaptiveWeighting({ power, offset }) });
  const { z, target } = targetByDifferences(average, averageParams, points, "data-to-noise", 1);
  const errorsAt = (p: typeof averageParams) =>
    fx.sum(fx.square(fx.sub(average.apply(p, z, points.r, points.t), target)), 1);
  const weights = flat(errorsAt(averageParams)).map((e) => 1 / (e + offset) ** power);
  const want = flat(errorsAt(averageParams)).reduce((a, e, i) => a + (e * weights[i]!) / 5, 0);
  const constant = fx.tensor(weights, f64);
  const g = fx.grad((p: typeof averageParams) => fx.div(fx.sum(fx.mul(errorsAt(p), constant)), 5))(
    averageParams,
  );
  const [loss, got] = fx.valueAndGrad((p: typeof averageParams) => weighted.loss(average, p, points))(
    averageParams,
  );
  close(t, [loss.item(), ...numbers(got)], [want, ...numbers(g)], 1e-8);
  const { raw } = weighted.lossAndRaw(average, averageParams, points);
  close(
    t,
    [raw.item()],
    [flow.meanFlow().loss(average, averageParams, points).item()],
    1e-14,
    "raw is the plain loss",
  );
  const plain = flow.flowMatching().lossAndRaw(velocity, velocityParams, points);
  t.equal(plain.loss, plain.raw, "without weighting both are one");
});

t.test("samples of any shape and conditions go through every objective", async (t) => {
  const points = { ...pointsOf(11, 6, 2, [3, 2]), condition: normal(12, [6, 4]) };
  const u = models.averageVelocityMlp({
    dim: [3, 2],
    conditionDim: 4,
    hidden: 5,
    layers: 1,
    dtype: "float64",
  });
  const v = models.velocityMlp({ dim: [3, 2], conditionDim: 4, hidden: 5, layers: 1, dtype: "float64" });
  const [pu, pv] = [u.init(fx.random.key(1)), v.init(fx.random.key(1))];
  const flatPoints = {
    ...points,
    data: fx.reshape(points.data, [6, 6]),
    noise: fx.reshape(points.noise, [6, 6]),
  };
  const u6 = models.averageVelocityMlp({ dim: 6, conditionDim: 4, hidden: 5, layers: 1, dtype: "float64" });
  for (const objective of [flow.meanFlow(), flow.improvedMeanFlow({ orientation: "noise-to-data" })]) {
    const whole = objective.loss(u, pu, points).item();
    close(t, [objective.loss(u, pu, { ...points, equalCount: 2 }).item()], [whole], 1e-13);
    close(t, [objective.loss(u6, pu, flatPoints).item()], [whole], 1e-13, "the shape does not matter");
  }
  t.ok(Number.isFinite(flow.flowMatching().loss(v, pv, points).item()));
  const noise = normal(13, [6, 3, 2]);
  t.same(flow.sample(u, pu, noise, flow.oneStep(), { condition: points.condition }).shape, [6, 3, 2]);
});

t.test("a compiled step gives the loss of the plain call", async (t) => {
  const points = { ...pointsOf(14, 8, 3), equalCount: 3 };
  const objective = flow.improvedMeanFlow();
  const compiled = fx.jit((p: typeof averageParams, at: typeof points) =>
    objective.lossAndRaw(average, p, at),
  );
  close(
    t,
    [compiled(averageParams, points).loss.item()],
    [objective.loss(average, averageParams, points).item()],
  );
});

// ---- samplers ----

const field = (apply: (z: fx.Tensor, time: fx.Tensor) => fx.Tensor): fx.models.VelocityField<null> => ({
  kind: "velocity",
  init: () => null,
  apply: (_, z, time) => apply(z, time),
});
const intervalField = (
  apply: (z: fx.Tensor, r: fx.Tensor, time: fx.Tensor) => fx.Tensor,
): fx.models.AverageVelocityField<null> => ({
  kind: "average-velocity",
  init: () => null,
  apply: (_, z, r, time) => apply(z, r, time),
});

t.test("every sampler is exact for a constant velocity", async (t) => {
  const noise = normal(15, [4, 2]);
  const c = fx.tensor([[0.5, -2]], f64);
  const v = field((z) => fx.broadcastTo(c, z.shape));
  const u = intervalField((z) => fx.broadcastTo(c, z.shape));
  for (const [orientation, sign] of [
    ["data-to-noise", -1],
    ["noise-to-data", 1],
  ] as const) {
    const want = flat(fx.add(noise, fx.mul(c, sign)));
    for (const steps of [1, 3, 10]) {
      close(t, flat(flow.sample(v, null, noise, flow.euler({ steps }), { orientation })), want);
      close(t, flat(flow.sample(u, null, noise, flow.euler({ steps }), { orientation })), want);
      close(t, flat(flow.sample(u, null, noise, flow.meanFlowSteps({ steps }), { orientation })), want);
    }
    close(t, flat(flow.sample(u, null, noise, flow.oneStep(), { orientation })), want);
  }
});

t.test("Euler's method has order 1", async (t) => {
  // dz/dt = (z + 1) cos t: z + 1 grows by exp(sin t).
  const noise = normal(16, [3, 1]);
  const v = field((z, time) => fx.mul(fx.add(z, 1), fx.cos(time)));
  const u = intervalField((z, r, time) => fx.mul(fx.add(z, 1), fx.mul(fx.cos(r), fx.div(time, r))));
  for (const [orientation, sign] of [
    ["data-to-noise", -1],
    ["noise-to-data", 1],
  ] as const) {
    const exact = flat(noise).map((z) => (z + 1) * Math.exp(sign * Math.sin(1)) - 1);
    const error = (steps: number) => {
      const z = flat(flow.sample(v, null, noise, flow.euler({ steps }), { orientation }));
      return Math.max(...z.map((value, i) => Math.abs(value - exact[i]!)));
    };
    const order = Math.log2(error(64) / error(128));
    t.ok(Math.abs(order - 1) < 0.05, `${orientation}: order ${order}`);
  }
  const steps = flow.euler({ steps: 4 });
  close(
    t,
    flat(flow.sample(u, null, noise, steps)),
    flat(flow.sample(v, null, noise, steps)),
    1e-12,
    "u(z, t, t) is the velocity",
  );
});

t.test("mean-flow steps are exact for an exact average velocity, on any grid", async (t) => {
  // dz/dt = l z, so the displacement over [r, t] is z_t (1 - exp(-l (t - r))) = z_r (exp(l (t - r)) - 1).
  const l = 1.7;
  const noise = normal(17, [3, 2]);
  const later = intervalField((z, r, time) => {
    const length = fx.sub(time, r);
    return fx.mul(z, fx.div(fx.neg(fx.expm1(fx.mul(length, -l))), length));
  });
  const earlier = intervalField((z, r, time) => {
    const length = fx.sub(time, r);
    return fx.mul(z, fx.div(fx.expm1(fx.mul(length, l)), length));
  });
  for (const sampler of [
    flow.oneStep(),
    flow.meanFlowSteps({ steps: 5 }),
    flow.meanFlowSteps({ times: [1, 0.9, 0.2, 0] }),
    flow.meanFlowSteps({ times: [0, 0.3, 1] }),
  ]) {
    close(t, flat(flow.sample(later, null, noise, sampler)), flat(fx.mul(noise, Math.exp(-l))));
    const forwards = flow.sample(earlier, null, noise, sampler, { orientation: "noise-to-data" });
    close(t, flat(forwards), flat(fx.mul(noise, Math.exp(l))));
  }
});

t.test("a trajectory holds every state from the noise to the samples", async (t) => {
  const noise = normal(18, [4, 2]);
  const sampler = flow.meanFlowSteps({ times: [1, 0.5, 0.25, 0] });
  const { final, trajectory, times } = flow.sample(average, averageParams, noise, sampler, {
    trajectory: true,
  });
  t.same(
    [trajectory.shape, times],
    [
      [4, 4, 2],
      [1, 0.5, 0.25, 0],
    ],
  );
  const states = fx.split(trajectory, 4).map((x) => fx.reshape(x, [4, 2]));
  t.same(flat(states[0]!), flat(noise));
  t.same(flat(states[3]!), flat(final));
  t.same(flat(final), flat(flow.sample(average, averageParams, noise, sampler)));
  const u = average.apply(averageParams, states[1]!, fx.full([4, 1], 0.25, f64), fx.full([4, 1], 0.5, f64));
  close(
    t,
    flat(states[2]!),
    flat(fx.sub(states[1]!, fx.mul(u, 0.25))),
    1e-14,
    "z_r = z_t - (t - r) u(z_t, r, t)",
  );
  const up = flow.sample(average, averageParams, noise, sampler, {
    trajectory: true,
    orientation: "noise-to-data",
  });
  t.same(up.times, [0, 0.25, 0.5, 1]);
});

t.test(
  "sampling inside of a compiled function, and off the main thread, gives the same samples",
  async (t) => {
    const noise = normal(19, [4, 2]);
    const sampler = flow.euler({ steps: 3 });
    const want = flat(flow.sample(velocity, velocityParams, noise, sampler));
    const compiled = fx.jit((p: typeof velocityParams, z: fx.Tensor) => flow.sample(velocity, p, z, sampler));
    close(t, flat(compiled(velocityParams, noise)), want);
    t.same(flat(await flow.sampleAsync(velocity, velocityParams, noise, sampler)), want);
    const { trajectory } = await flow.sampleAsync(average, averageParams, noise, flow.oneStep(), {
      trajectory: true,
    });
    t.same(trajectory.shape, [2, 4, 2]);
  },
);

t.test(
  "a step is traced once for each number of steps, however many steps and calls there are",
  async (t) => {
    let traced = 0;
    const v = field((z) => {
      traced++;
      return fx.neg(z);
    });
    const noise = normal(20, [3, 2]);
    flow.sample(v, null, noise, flow.euler({ steps: 500 }));
    flow.sample(v, null, noise, flow.euler({ steps: 500 }), { orientation: "noise-to-data" });
    t.equal(traced, 1);
    flow.sample(v, null, noise, flow.euler({ steps: 5 }));
    t.equal(traced, 2);
  },
);

// ---- wrong input ----

t.test("a field of the wrong kind is named", async (t) => {
  const points = pointsOf(1, 4);
  t.throws(() => flow.meanFlow().loss(velocity as never, velocityParams, points), {
    name: "ValueError",
    message: 'meanFlow: needs a field of kind "average-velocity", got one of kind "velocity"',
  });
  t.throws(() => flow.improvedMeanFlow().loss(velocity as never, velocityParams, points), {
    name: "ValueError",
  });
  t.throws(() => flow.flowMatching().loss(average as never, averageParams, points), {
    name: "ValueError",
    message: 'flowMatching: needs a field of kind "velocity", got one of kind "average-velocity"',
  });
  t.throws(() => flow.flowMatching().loss({ apply() {} } as never, null, points), {
    name: "ValueError",
    message: /got an object/,
  });
  t.throws(() => flow.sample(velocity as never, velocityParams, points.noise, flow.oneStep()), {
    name: "ValueError",
    message: /sample \(mean flow\): needs a field of kind "average-velocity"/,
  });
});

t.test("points that cannot be are named", async (t) => {
  const good = pointsOf(1, 4);
  const loss = (change: object) => () => flow.meanFlow().loss(average, averageParams, { ...good, ...change });
  const value = (message: RegExp) => ({ name: "ValueError", message });
  const shape = (message: RegExp) => ({ name: "ShapeError", message });
  t.throws(
    loss({ r: column([0, 0, 0.9, 0]), t: column([0.5, 0.5, 0.5, 0.2]) }),
    value(/r = 0.9 and t = 0.5 in row 2/),
  );
  t.throws(
    loss({ t: column([0, 0, 0, 1.5]), r: column([0, 0, 0, 0]) }),
    value(/t must lie in \[0, 1\], got 1.5 in row 3/),
  );
  t.throws(loss({ t: column([0, Number.NaN, 0, 1]), r: column([0, 0, 0, 0]) }), value(/got NaN in row 1/));
  t.throws(loss({ data: fx.div(good.data, 0) }), value(/data must be finite, got -?Infinity in row 0/));
  t.throws(loss({ noise: fx.mul(good.noise, Number.NaN) }), value(/noise must be finite/));
  t.throws(loss({ equalCount: 2 }), value(/equalCount is 2, but r = .* in row 0/));
  t.throws(loss({ equalCount: 5 }), value(/from 0 to 4, got 5/));
  t.throws(
    loss({ data: fx.zeros([0, 2], f64), noise: fx.zeros([0, 2], f64) }),
    shape(/empty batch, shape \[0, 2\]/),
  );
  t.throws(loss({ noise: normal(1, [3, 2]) }), shape(/data is \[4, 2\], but noise is \[3, 2\]/));
  t.throws(
    loss({ data: normal(1, [4, 3]), noise: normal(1, [4, 3]) }),
    shape(/samples of shape \[2\], data has \[3\]/),
  );
  t.throws(loss({ data: normal(1, [4]), noise: normal(1, [4]) }), shape(/\[batch, \.\.\.dim\], got \[4\]/));
  t.throws(loss({ t: fx.ones([4], f64) }), shape(/t must be \[4, 1\].* got \[4\]/));
  t.throws(loss({ r: fx.zeros([3, 1], f64) }), shape(/r must be \[4, 1\]/));
  t.throws(loss({ condition: fx.zeros([3, 1], f64) }), shape(/condition must be \[4, \.\.\.\]/));
  t.throws(loss({ t: fx.ones([4, 1]) }), {
    name: "DTypeError",
    message: /t is float32, but data is float64/,
  });
  t.throws(loss({ data: fx.ones([4, 2], { dtype: "int32" }) }), {
    name: "DTypeError",
    message: /data must be float32 or float64/,
  });
  t.throws(loss({ r: 0 }), value(/r must be a Tensor, got 0/));
  t.throws(
    () => flow.flowMatching().loss(velocity, velocityParams, undefined as never),
    value(/points must be/),
  );
  const narrow = { ...average, apply: (_: unknown, z: fx.Tensor) => fx.sum(z, 1, { keepDims: true }) };
  t.throws(
    () => flow.meanFlow().loss(narrow as never, averageParams, good),
    shape(/must give the shape of z, \[4, 2\], got \[4, 1\]/),
  );
});

t.test("values are checked outside of compiled functions, shapes inside too", async (t) => {
  const good = pointsOf(1, 4);
  const step = fx.jit((at: typeof good) => flow.meanFlow().loss(average, averageParams, at));
  t.ok(Number.isFinite(step({ ...good, r: good.t, t: good.r }).item()));
  t.throws(() => step({ ...good, t: fx.ones([4, 2], f64) }), { name: "ShapeError" });
});

t.test("options that cannot be are named", async (t) => {
  const value = (message: RegExp) => ({ name: "ValueError", message });
  t.throws(
    () => flow.meanFlow({ equalTimesFraction: 1 } as never),
    value(/unknown option "equalTimesFraction"; known options: orientation/),
  );
  t.throws(() => flow.flowMatching({ equalTimeFraction: 1 } as never), value(/flowMatching: unknown option/));
  t.throws(
    () => flow.meanFlow({ orientation: "forward" as never }),
    value(/orientation must be one of "data-to-noise", "noise-to-data"/),
  );
  t.throws(() => flow.meanFlow({ equalTimeFraction: 1.1 }), value(/>= 0 and <= 1, got 1.1/));
  t.throws(() => flow.meanFlow({ conditionalTangentWeight: -1 }), value(/conditionalTangentWeight/));
  t.throws(() => flow.meanFlow({ times: "uniform" as never }), value(/times must be a distribution/));
  t.throws(() => flow.meanFlow({ weighting: 1 as never }), value(/weighting must be/));
  t.throws(() => flow.adaptiveWeighting({ offset: 0 }), value(/offset .* > 0, got 0/));
  t.throws(() => flow.logitNormalTimes({ sd: 1 } as never), value(/unknown option "sd"/));
  t.throws(() => flow.meanFlow().sampleTimes(fx.random.key(0), 0), value(/n must be a whole number >= 1/));
  t.throws(() => flow.euler({ steps: 0 }), value(/steps/));
  t.throws(() => flow.meanFlowSteps({} as never), value(/either steps or times/));
  t.throws(() => flow.meanFlowSteps({ times: [0, 0.5, 0.5, 1] }), value(/strictly from 0 to 1/));
  t.throws(() => flow.meanFlowSteps({ times: [0, 0.5] }), value(/strictly from 0 to 1/));
});

t.test("sampling checks noise, sampler and options", async (t) => {
  const [noise, sampler] = [normal(1, [4, 2]), flow.euler({ steps: 2 })];
  const draw =
    (z: unknown, s: unknown = sampler, options?: unknown) =>
    () =>
      flow.sample(velocity, velocityParams, z as never, s as never, options as never);
  t.throws(draw(noise, flow.euler), { name: "ValueError", message: /needs a sampler, such as euler/ });
  t.throws(draw(noise, sampler, { steps: 3 }), { name: "ValueError", message: /unknown option "steps"/ });
  t.throws(draw(normal(1, [4, 3])), {
    name: "ShapeError",
    message: /samples of shape \[2\], noise has \[3\]/,
  });
  t.throws(draw(fx.zeros([0, 2], f64)), { name: "ShapeError", message: /empty batch/ });
  t.throws(draw(fx.div(noise, 0)), { name: "ValueError", message: /noise must be finite/ });
  t.throws(draw([1, 2]), { name: "ValueError", message: /noise must be a Tensor/ });
});
