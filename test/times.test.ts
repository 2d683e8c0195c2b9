import * as fx from "fluxion";
import t from "tap";
import { close } from "./support/close.js";

const { flow } = fx;
const f64 = { dtype: "float64" } as const;
const orientations = ["data-to-noise", "noise-to-data"] as const;
const orders = ["direct", "sort-then-mask", "mask-then-min"] as const;

const flat = (x: fx.Tensor): number[] => Array.from(x.toTypedArray());
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const share = (x: readonly number[], below: number) => x.filter((v) => v < below).length / x.length;
/** Four standard deviations of a share of n. */
const spread = (n: number) => 4 * Math.sqrt(0.25 / n);

// Quantiles of the standard normal distribution, from tables.
const normalQuantiles = [
  [-1.2815515655, 0.1],
  [-0.6744897502, 0.25],
  [0, 0.5],
  [0.6744897502, 0.75],
  [1.2815515655, 0.9],
] as const;
/** The standard normal distribution at x, by Simpson's rule. */
function normalBelow(x: number): number {
  const [steps, from] = [2000, -9];
  const h = (x - from) / steps;
  const density = (z: number) => Math.exp(-z * z * 0.5) / Math.sqrt(2 * Math.PI);
  let sum = density(from) + density(x);
  for (let i = 1; i < steps; i++) sum += density(from + i * h) * (i % 2 === 1 ? 4 : 2);
  return (sum * h) / 3;
}
const logit = (s: number) => Math.log(s / (1 - s));
const logitNormalBelow = (x: number, mean: number, std: number) => normalBelow((logit(x) - mean) / std);

/** The distribution that always gives the first n of these numbers. */
const fixed = (values: readonly number[]): fx.flow.TimeDistribution => ({
  name: "fixed",
  sample: (_, n, dtype) => fx.tensor(values.slice(0, n), { shape: [n, 1], dtype }),
});

// The times of the mean flow paper for CIFAR-10.
const later = { mean: -0.6, std: 1.6 };
const earlier = { mean: -4, std: 1.6 };
const cifar = { r: flow.logitNormalTimes(earlier), t: flow.logitNormalTimes(later) };

t.test("logit-normal times have the quantiles sigmoid(mean + std z)", async (t) => {
  const n = 20_000;
  for (const { mean, std } of [later, earlier, { mean: 0.7, std: 0.5 }]) {
    const times = flat(flow.logitNormalTimes({ mean, std }).sample(fx.random.key(3), n, "float64"));
    for (const [z, p] of normalQuantiles)
      t.ok(Math.abs(share(times, sigmoid(mean + std * z)) - p) < spread(n), `${mean}, ${std}: ${p}`);
  }
});

t.test("each order makes intervals of the two draws as it says, at the anchored end", async (t) => {
  const times = { r: fixed([0.1, 0.8, 0.3, 0.6, 0.5]), t: fixed([0.4, 0.2, 0.9, 0.1, 0.7]) };
  const want = {
    // Rows with r = t have draws of their own, of the anchored end; the others are sorted.
    direct: [
      { r: [0.4, 0.2, 0.1, 0.2, 0.3], t: [0.4, 0.2, 0.4, 0.8, 0.9] },
      { r: [0.1, 0.8, 0.1, 0.2, 0.3], t: [0.1, 0.8, 0.4, 0.8, 0.9] },
    ],
    // Sorted, then both at the maximum (the minimum, noise to data).
    "sort-then-mask": [
      { r: [0.4, 0.8, 0.3, 0.1, 0.5], t: [0.4, 0.8, 0.9, 0.6, 0.7] },
      { r: [0.1, 0.2, 0.3, 0.1, 0.5], t: [0.1, 0.2, 0.9, 0.6, 0.7] },
    ],
    // The anchored draw stays as it is; the fourth row becomes a point, too.
    "mask-then-min": [
      { r: [0.4, 0.2, 0.3, 0.1, 0.5], t: [0.4, 0.2, 0.9, 0.1, 0.7] },
      { r: [0.1, 0.8, 0.3, 0.6, 0.5], t: [0.1, 0.8, 0.9, 0.6, 0.7] },
    ],
  };
  for (const order of orders)
    orientations.forEach((orientation, i) => {
      const objective = flow.meanFlow({
        orientation,
        times: flow.intervalTimes({ ...times, order }),
        equalTimeFraction: 0.4,
      });
      const { r, t: end, equalCount } = objective.sampleTimes(fx.random.key(0), 5, f64);
      t.same([flat(r), flat(end), equalCount], [want[order][i]!.r, want[order][i]!.t, 2], order);
    });
});

t.test("swapped and mirrored distributions give the mirror image in the other orientation", async (t) => {
  const [r, s] = [
    [0.1, 0.8, 0.3, 0.6, 0.5],
    [0.4, 0.2, 0.9, 0.1, 0.7],
  ];
  const mirror = (values: readonly number[]) => values.map((v) => 1 - v);
  const pair = [
    { r: fixed(r!), t: fixed(s!) },
    { r: fixed(mirror(s!)), t: fixed(mirror(r!)) },
  ];
  for (const order of orders) {
    const [there, back] = orientations.map((orientation, i) =>
      flow
        .improvedMeanFlow({
          orientation,
          times: flow.intervalTimes({ ...pair[i]!, order }),
          equalTimeFraction: 0.4,
        })
        .sampleTimes(fx.random.key(0), 5, f64),
    );
    close(t, flat(back!.r), mirror(flat(there!.t)), 1e-15, order);
    close(t, flat(back!.t), mirror(flat(there!.r)), 1e-15, order);
  }
});

t.test("intervals with ends of their own have the distributions of their order", async (t) => {
  const n = 20_000;
  const draw = (order: (typeof orders)[number]) => {
    const objective = flow.meanFlow({
      times: flow.intervalTimes({ ...cifar, order }),
      equalTimeFraction: 0.5,
    });
    const { t: end, r } = objective.sampleTimes(fx.random.key(7), n, f64);
    return { t: flat(end), r: flat(r) };
  };
  const half = n / 2;
  for (const x of [0.02, 0.1, 0.3, 0.6, 0.9]) {
    const [a, b] = [
      logitNormalBelow(x, earlier.mean, earlier.std),
      logitNormalBelow(x, later.mean, later.std),
    ];
    // Of a maximum: both are below; of a minimum: not both are above.
    const [max, min] = [a * b, 1 - (1 - a) * (1 - b)];
    const near = (got: readonly number[], p: number, name: string) =>
      t.ok(Math.abs(share(got, x) - p) < spread(half), `${name} below ${x}: ${share(got, x)}, ${p}`);
    const direct = draw("direct");
    near(direct.t.slice(0, half), b, "direct, points");
    near(direct.t.slice(half), max, "direct, t");
    near(direct.r.slice(half), min, "direct, r");
    const sorted = draw("sort-then-mask");
    near(sorted.t.slice(0, half), max, "sort-then-mask, points");
    near(sorted.t.slice(half), max, "sort-then-mask, t");
    near(sorted.r.slice(half), min, "sort-then-mask, r");
    const masked = draw("mask-then-min");
    near(masked.t.slice(0, half), b, "mask-then-min, points");
    near(masked.t.slice(half), b, "mask-then-min, t");
    near(masked.r.slice(half), min, "mask-then-min, r");
  }
});

t.test("r = t in exactly the promised rows come first, whatever the order; a loss takes them", async (t) => {
  const field = fx.models.averageVelocityMlp({ dim: 1, hidden: 3, layers: 1 });
  const params = field.init(fx.random.key(1));
  const ends = fx.random.normal(fx.random.key(2), [9, 1]);
  for (const order of orders)
    for (const orientation of orientations)
      for (const equalTimeFraction of [0, 0.3, 1]) {
        const times = flow.intervalTimes({ ...cifar, order });
        const objective = flow.meanFlow({ orientation, times, equalTimeFraction });
        const drawn = objective.sampleTimes(fx.random.key(3), 9);
        t.equal(drawn.equalCount, Math.round(9 * equalTimeFraction));
        const [r, end] = [flat(drawn.r), flat(drawn.t)];
        t.ok(r.every((v, i) => v >= 0 && v <= end[i]! && end[i]! <= 1));
        t.ok(r.slice(0, drawn.equalCount).every((v, i) => v === end[i]!));
        const loss = objective.loss(field, params, { data: ends, noise: ends, ...drawn });
        t.ok(Number.isFinite(loss.item()), `${order}, ${orientation}, ${equalTimeFraction}`);
        const compiled = fx.jit((k: fx.Tensor) => objective.sampleTimes(k, 9))(fx.random.key(3));
        t.same([flat(compiled.r), flat(compiled.t)], [r, end], "the same bits inside of a compiled step");
      }
});

t.test("one distribution of times is that of both ends, in direct order", async (t) => {
  const key = fx.random.key(9);
  const times = flow.logitNormalTimes();
  const draw = (given: fx.flow.TimeDistribution | fx.flow.IntervalDistribution) =>
    flow.meanFlow({ times: given, equalTimeFraction: 0.5 }).sampleTimes(key, 6);
  const one = draw(times);
  const both = draw(flow.intervalTimes({ r: times, t: times }));
  t.same([flat(both.r), flat(both.t)], [flat(one.r), flat(one.t)]);
  // Three keys: of one end, of the other, of the points.
  const [a, b, points] = fx.random.split(key, 3).map((k) => flat(times.sample(k, 3, "float32")));
  t.same(flat(one.r), [...points!, ...a!.map((v, i) => Math.min(v, b![i]!))]);
  t.same(flat(one.t), [...points!, ...a!.map((v, i) => Math.max(v, b![i]!))]);
});

t.test("anyone's distribution of intervals is one", async (t) => {
  const whole: fx.flow.IntervalDistribution = {
    name: "whole",
    sampleIntervals: (_, n, { dtype, equalCount }) => ({
      r: fx.cast(fx.reshape(fx.less(fx.arange(n), equalCount), [n, 1]), dtype),
      t: fx.ones([n, 1], { dtype }),
    }),
  };
  const { r, t: end } = flow
    .meanFlow({ times: whole, equalTimeFraction: 0.25 })
    .sampleTimes(fx.random.key(0), 4);
  t.same(
    [flat(r), flat(end)],
    [
      [1, 0, 0, 0],
      [1, 1, 1, 1],
    ],
  );
});

t.test("times that are none are refused", async (t) => {
  t.throws(() => flow.meanFlow({ times: {} as never }), {
    name: "ValueError",
    message: /meanFlow: times must be a distribution/,
  });
  t.throws(() => flow.intervalTimes({ r: 3 as never }), {
    name: "ValueError",
    message: /intervalTimes: r must be a distribution { name, sample }, got 3/,
  });
  t.throws(() => flow.intervalTimes({ order: "sorted" as never }), { message: /order must be one of/ });
  t.throws(() => flow.intervalTimes({ s: flow.uniformTimes() } as never), { message: /unknown option "s"/ });
  t.throws(() => flow.flowMatching({ times: flow.intervalTimes() as never }), {
    message: /flowMatching: times must be a distribution { name, sample }/,
  });
});

t.test("a distribution with an atom is at it with its probability, and else as without it", async (t) => {
  const n = 20_000;
  for (const dtype of ["float32", "float64"] as const) {
    const times = flow.withAtom(flow.uniformTimes(), { at: 0, probability: 0.3 });
    const drawn = times.sample(fx.random.key(1), n, dtype);
    t.equal(drawn.dtype, dtype);
    t.same(drawn.shape, [n, 1]);
    const values = flat(drawn);
    const rest = values.filter((x) => x !== 0);
    t.ok(Math.abs(rest.length / n - 0.7) < 0.015, `${rest.length} of ${n} elsewhere`);
    t.ok(Math.abs(rest.reduce((a, b) => a + b, 0) / rest.length - 0.5) < 0.015, "uniform elsewhere");
  }
  const always = flow.withAtom(flow.uniformTimes(), { at: 1, probability: 1 });
  t.same(flat(always.sample(fx.random.key(2), 4, "float64")), [1, 1, 1, 1]);
  const never = flow.withAtom(flow.uniformTimes(), { at: 1, probability: 0 });
  t.ok(flat(never.sample(fx.random.key(2), 100, "float64")).every((x) => x < 1));
  const { r } = flow
    .meanFlow({
      times: flow.intervalTimes({ r: flow.withAtom(flow.uniformTimes(), { at: 0, probability: 0.5 }) }),
    })
    .sampleTimes(fx.random.key(3), n);
  const share = flat(r).filter((x) => x === 0).length / n;
  t.ok(Math.abs(share - 0.5) < 0.015, `${share} of the intervals reach the data`);
  for (const options of [
    { at: 2, probability: 0.5 },
    { at: 0, probability: -1 },
    { at: 0 },
    { at: 0, probability: 1, n: 1 },
  ])
    t.throws(() => flow.withAtom(flow.uniformTimes(), options as never), { name: "ValueError" });
  t.throws(() => flow.withAtom({} as never, { at: 0, probability: 0.5 }), { name: "ValueError" });
});

t.test(
  "scaled intervals keep the anchored end's distribution, and scale the other one's draw to it",
  async (t) => {
    const n = 20_000;
    const share = flow.withAtom(flow.uniformTimes(), { at: 0, probability: 0.5 });
    const end = flow.withAtom(flow.uniformTimes(), { at: 1, probability: 0.5 });
    const mean = (x: readonly number[]) => x.reduce((a, b) => a + b, 0) / x.length;
    for (const orientation of ["data-to-noise", "noise-to-data"] as const) {
      const toNoise = orientation === "data-to-noise";
      const times = flow.intervalTimes({ ...(toNoise ? { r: share } : { t: end }), order: "scaled" });
      const {
        r,
        t: later,
        equalCount,
      } = flow
        .meanFlow({ orientation, times, equalTimeFraction: 0.25 })
        .sampleTimes(fx.random.key(4), n, { dtype: "float64" });
      t.equal(equalCount, n / 4);
      const [starts, ends] = [flat(r), flat(later)];
      // As distances from the data, the anchored one first.
      const [far, near] = toNoise ? [ends, starts] : [starts.map((x) => 1 - x), ends.map((x) => 1 - x)];
      t.ok(
        Math.abs(mean(far) - 0.5) < 0.01 && Math.abs(mean(far.map((x) => x * x)) - 1 / 3) < 0.01,
        "uniform",
      );
      t.ok(far.every((x, i) => near[i]! <= x && (i >= equalCount || near[i] === x)));
      const shares = near.slice(equalCount).map((x, i) => x / far[i + equalCount]!);
      t.ok(
        Math.abs(shares.filter((x) => x < 1e-12).length / shares.length - 0.5) < 0.015,
        "half reach the data",
      );
      const others = shares.filter((x) => x >= 1e-12);
      t.ok(Math.abs(mean(others) - 0.5) < 0.015 && Math.abs(mean(others.map((x) => x * x)) - 1 / 3) < 0.015);
    }
  },
);
