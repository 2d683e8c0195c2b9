import * as fx from "fluxion";
import t from "tap";
import { close } from "./support/close.js";
import { onEach } from "./support/each-backend.js";

const { flow, models } = fx;
const f64 = { dtype: "float64" } as const;
const flat = (x: fx.Tensor): number[] => Array.from(x.toTypedArray());
const normal = (seed: number, shape: number[]) => fx.random.normal(fx.random.key(seed), shape, f64);
const column = (values: readonly number[]) => fx.tensor(values, { shape: [values.length, 1], ...f64 });
const orientations = ["data-to-noise", "noise-to-data"] as const;
const value = { name: "ValueError" };

/** The velocity by the posterior over the data of the same group and label, in plain numbers. */
function byHand(
  orientation: fx.flow.Orientation,
  data: number[][],
  noise: number[][],
  times: number[],
  groupSize: number,
  labels: number[] = times.map(() => 0),
): number[] {
  return data.flatMap((x, i) => {
    const sigma = orientation === "data-to-noise" ? times[i]! : 1 - times[i]!;
    const z = x.map((xk, k) => (1 - sigma) * xk + sigma * noise[i]![k]!);
    const first = Math.floor(i / groupSize) * groupSize;
    let total = 0;
    const mean = x.map(() => 0);
    for (let j = first; j < first + groupSize; j++) {
      if (labels[j] !== labels[i]) continue;
      const distance = z.reduce((s, zk, k) => s + (zk - (1 - sigma) * data[j]![k]!) ** 2, 0);
      const weight = Math.exp(-distance / (2 * sigma ** 2));
      total += weight;
      mean.forEach((_, k) => {
        mean[k]! += weight * data[j]![k]!;
      });
    }
    const sign = orientation === "data-to-noise" ? 1 : -1;
    return z.map((zk, k) => (sign * (zk - mean[k]! / total)) / sigma);
  });
}

const times = [0.1, 0.3, 0.35, 0.5, 0.62, 0.7, 0.8, 0.9];

onEach("the stable target is the posterior mean over the group, in both orientations", (t) => {
  const [data, noise] = [normal(1, [8, 3]), normal(2, [8, 3])];
  const [x, e] = [data.toArray() as number[][], noise.toArray() as number[][]];
  const labels = [0, 1, 0, 1, 1, 1, 0, 2];
  const label = fx.tensor(labels, { dtype: "int32" });
  for (const orientation of orientations)
    for (const groupSize of [1, 2, 4, 8, 100]) {
      const estimate = (condition?: fx.models.Condition) =>
        flat(
          flow.stableTarget({ groupSize }).estimate(orientation, { data, noise, condition }, column(times)),
        );
      const size = Math.min(groupSize, 8);
      const name = `${orientation}, ${groupSize}`;
      close(t, estimate(), byHand(orientation, x, e, times, size), 1e-9, name);
      const labelled = byHand(orientation, x, e, times, size, labels);
      close(t, estimate(label), labelled, 1e-9, `${name}, labels`);
      close(t, estimate({ label }), labelled, 1e-9, `${name}, labels by name`);
    }
});

t.test("a group of one row, and points that are hardly noise, have the pair's own velocity", async (t) => {
  const [data, noise] = [normal(1, [8, 2]), normal(2, [8, 2])];
  const pairs = { data, noise };
  const v = flat(fx.sub(noise, data));
  close(
    t,
    flat(flow.stableTarget({ groupSize: 1 }).estimate("data-to-noise", pairs, column(times))),
    v,
    1e-9,
  );
  const ends = column([0, 1e-7, 1e-3, 0.0099, 0, 0, 0, 0]);
  t.same(flat(flow.stableTarget().estimate("data-to-noise", pairs, ends)), v);
  t.same(
    flat(flow.stableTarget().estimate("noise-to-data", pairs, fx.sub(1, ends))),
    v.map((x) => -x),
  );
  for (const dtype of ["float32", "float64"] as const) {
    const at = (shares: number[]) => fx.tensor(shares, { shape: [8, 1], dtype });
    const cast = { data: fx.cast(data, dtype), noise: fx.cast(noise, dtype) };
    const extreme = flow
      .stableTarget()
      .estimate("data-to-noise", cast, at([0, 0.01, 0.011, 0.02, 0.5, 0.99, 1, 1]));
    t.equal(extreme.dtype, dtype);
    t.ok(flat(extreme).every(Number.isFinite), `${dtype}: finite at all times`);
  }
});

t.test(
  "it comes closer to the marginal velocity as the group grows, with far less variance than a pair",
  async (t) => {
    const mixture = fx.data.gaussianMixture({ modes: 3, radius: 1.5, deviation: 0.4 });
    const [n, key] = [4096, fx.random.key(3)];
    const [a, b, c] = fx.random.split(key, 3) as [fx.Tensor, fx.Tensor, fx.Tensor];
    const data = mixture.sample(a, n, f64);
    const noise = fx.random.normal(b, [n, 2], f64);
    const time = fx.random.uniform(c, [n, 1], { min: 0.1, max: 1, ...f64 });
    for (const orientation of orientations) {
      const at = orientation === "data-to-noise" ? time : fx.sub(1, time);
      const z = fx.add(fx.mul(fx.sub(1, time), data), fx.mul(time, noise));
      const exact = flow.mixtureVelocity(mixture, { orientation }).apply({}, z, at);
      const error = (v: fx.Tensor) => Math.sqrt(fx.mean(fx.square(fx.sub(v, exact))).item());
      const errors = [1, 16, 256, 2048].map((groupSize) =>
        error(flow.stableTarget({ groupSize }).estimate(orientation, { data, noise }, at)),
      );
      for (let i = 1; i < errors.length; i++)
        t.ok(errors[i]! < 0.55 * errors[i - 1]!, `${orientation}: ${errors[i]} after ${errors[i - 1]}`);
    }
  },
);

interface Linear {
  a: fx.Tensor;
  b: fx.Tensor;
  c: fx.Tensor;
}

t.test("objectives take it for the velocity in their targets, over groups of the whole batch", async (t) => {
  const n = 8;
  const [data, noise] = [normal(4, [n, 1]), normal(5, [n, 1])];
  const end = column(times);
  const start = column(times.map((time, i) => (i < 2 ? time : 0.5 * time)));
  const params: Linear = { a: fx.tensor(0.7, f64), b: fx.tensor(-0.4, f64), c: fx.tensor(1.3, f64) };
  const velocity = flow.stableTarget({ groupSize: 4 });
  const average: fx.models.AverageVelocityField<Linear> = {
    kind: "average-velocity",
    init: () => params,
    apply: ({ a, b, c }, z, r, time) => fx.add(fx.add(fx.mul(a, z), fx.mul(b, time)), fx.mul(c, r)),
  };
  const instant: fx.models.VelocityField<Linear> = {
    kind: "velocity",
    init: () => params,
    apply: ({ a, b }, z, time) => fx.add(fx.mul(a, z), fx.mul(b, time)),
  };
  for (const orientation of orientations) {
    const anchors = orientation === "data-to-noise" ? end : start;
    const points = { data, noise, r: start, t: end, equalCount: 2 };
    const known = velocity.estimate(orientation, { data, noise }, anchors);
    const objectives = {
      meanFlow: [flow.meanFlow({ orientation, velocity }), flow.meanFlow({ orientation })],
      improvedMeanFlow: [
        flow.improvedMeanFlow({ orientation, velocity }),
        flow.improvedMeanFlow({ orientation }),
      ],
      lagrangian: [
        flow.lagrangianSelfDistillation({ orientation, velocity }),
        flow.lagrangianSelfDistillation({ orientation }),
      ],
    } as const;
    for (const [name, [estimated, plain]] of Object.entries(objectives)) {
      const of = (objective: fx.flow.AverageVelocityObjective, at: fx.flow.IntervalPoints) => {
        const [loss, g] = fx.valueAndGrad((p: Linear) => objective.loss(average, p, at))(params);
        return [loss, g.a, g.b, g.c].map((x) => x.item());
      };
      const got = of(estimated as fx.flow.AverageVelocityObjective, points);
      const want = of(plain as fx.flow.AverageVelocityObjective, { ...points, velocity: known });
      close(t, got, want, 1e-12, `${name}, ${orientation}`);
      t.notSame(got, of(plain as fx.flow.AverageVelocityObjective, points), "which is not the pair's");
    }
    // Mean flow by hand, v being the estimate.
    const [z, v, r, s] = [
      fx.add(
        fx.mul(orientation === "data-to-noise" ? data : noise, fx.sub(1, anchors)),
        fx.mul(orientation === "data-to-noise" ? noise : data, anchors),
      ),
      known,
      start,
      end,
    ].map(flat) as [number[], number[], number[], number[]];
    const loss = z.reduce((sum, zi, i) => {
      const slope = orientation === "data-to-noise" ? 0.7 * v[i]! - 0.4 : -(0.7 * v[i]! + 1.3);
      const error = 0.7 * zi - 0.4 * s[i]! + 1.3 * r[i]! - (v[i]! - (s[i]! - r[i]!) * slope);
      return sum + error ** 2 / n;
    }, 0);
    close(t, [flow.meanFlow({ orientation, velocity }).loss(average, params, points).item()], [loss], 1e-12);
    const matching = flow
      .flowMatching({ orientation, velocity })
      .loss(instant, params, { data, noise, t: end });
    const target = velocity.estimate(orientation, { data, noise }, end);
    const plain = flow
      .flowMatching({ orientation })
      .loss(instant, params, { data, noise, t: end, velocity: target });
    close(t, [matching.item()], [plain.item()], 1e-12, "flow matching");
  }
});

t.test("a batch that does not fall into groups, other conditions, and guidance are refused", async (t) => {
  const [data, noise] = [normal(1, [8, 2]), normal(2, [8, 2])];
  const estimate = (groupSize: number, condition?: fx.models.Condition) =>
    flow.stableTarget({ groupSize }).estimate("data-to-noise", { data, noise, condition }, column(times));
  t.throws(() => estimate(3), { ...value, message: /8 rows cannot be cut into groups of 3/ });
  t.throws(() => estimate(4, { label: fx.zeros([8], { dtype: "int32" }), guidance: fx.ones([8, 1]) }), value);
  t.throws(() => estimate(4, fx.zeros([8, 2])), value);
  t.throws(() => flow.stableTarget({ groupSize: 0 }), value);
  t.throws(() => flow.stableTarget({ size: 4 } as never), value);
  t.throws(() => flow.meanFlow({ velocity: {} as never }), {
    ...value,
    message: /velocity must be an estimate/,
  });
  t.throws(() => flow.flowMatching({ velocity: 1 as never }), value);
  t.throws(() => flow.meanFlow({ velocity: flow.stableTarget(), guidance: { scale: 2, classes: 3 } }), {
    ...value,
    message: /guidance and velocity cannot be combined/,
  });
  const field = models.averageVelocityMlp({ dim: 2, hidden: 4, layers: 1, dtype: "float64" });
  const params = field.init(fx.random.key(0));
  const points = { data, noise, r: column(times), t: column(times) };
  t.throws(() => flow.meanFlow().loss(field, params, { ...points, velocity: fx.zeros([8, 1], f64) }), {
    name: "ShapeError",
  });
});
