import * as fx from "fluxion";
import t from "tap";
import { close } from "./support/close.js";
import { onEach } from "./support/each-backend.js";

const { data, flow, metrics } = fx;
const f64 = { dtype: "float64" } as const;
type Orientation = fx.flow.Orientation;
const orientations: Orientation[] = ["data-to-noise", "noise-to-data"];

const flat = (x: fx.Tensor): number[] => Array.from(x.toTypedArray());
const normal = (seed: number, shape: number[]) => fx.random.normal(fx.random.key(seed), shape, f64);
const column = (values: readonly number[]) => fx.tensor(values, { shape: [values.length, 1], ...f64 });
const constant = (n: number, value: number) => fx.full([n, 1], value, f64);
const points = (rows: readonly (readonly number[])[]) =>
  fx.tensor(
    rows.map((row) => [...row]),
    f64,
  );

const line = data.gaussianMixture({ means: [[-1.5], [0.3], [2]], weights: [2, 1, 3], deviation: 0.35 });
const plane = data.gaussianMixture({
  means: [
    [1, 0.5],
    [-1, 0.8],
    [0.2, -1.3],
  ],
  weights: [1, 4, 2],
  deviation: 0.4,
});
const space = data.gaussianMixture({
  means: [
    [1, 0, 2],
    [-1, 1, 0],
  ],
  deviation: 0.7,
});

/** The shares of data and noise in z. */
const sharesOf = (orientation: Orientation, time: number): [s: number, t: number] =>
  orientation === "data-to-noise" ? [1 - time, time] : [time, 1 - time];

/** The density of z at a time, in plain doubles: that of the convolution of the scaled data with the scaled noise. */
function density(mixture: fx.data.GaussianMixture, z: readonly number[], s: number, t: number): number {
  const variance = s ** 2 * mixture.deviation ** 2 + t ** 2;
  return mixture.means.reduce((total, mean, k) => {
    const squared = mean.reduce((sum, m, i) => sum + (z[i]! - s * m) ** 2, 0);
    const height = (2 * Math.PI * variance) ** (-mixture.dim / 2);
    return total + mixture.weights[k]! * height * Math.exp(-squared / (2 * variance));
  }, 0);
}

t.test("a mixture shows its means, probabilities and deviation", async (t) => {
  t.same(plane.means, [
    [1, 0.5],
    [-1, 0.8],
    [0.2, -1.3],
  ]);
  close(t, plane.weights, [1 / 7, 4 / 7, 2 / 7]);
  t.equal(plane.deviation, 0.4);
  const circle = data.gaussianMixture();
  close(t, circle.weights, Array(8).fill(1 / 8));
  close(t, circle.means[2]!, [0, 2]);
});

// ---- the velocity ----

onEach("the velocity is the one that the score of the density gives", async (t) => {
  // z = s x + t e. Tweedie's formula: E[e | z] = -t score, and so E[x | z] = (z + t^2 score) / s.
  for (const mixture of [line, plane, space]) {
    const n = 40;
    const z = fx.mul(normal(1, [n, mixture.dim]), 1.5);
    const times = Array.from({ length: n }, (_, i) => 0.02 + (0.96 * i) / (n - 1));
    for (const orientation of orientations) {
      const time = column(times);
      const [s, noise] = orientation === "data-to-noise" ? [fx.sub(1, time), time] : [time, fx.sub(1, time)];
      const logDensity = (at: fx.Tensor) => {
        const variance = fx.add(fx.square(fx.mul(s, mixture.deviation)), fx.square(noise));
        const modes = mixture.means.map((mean, k) => {
          const offset = fx.sub(at, fx.mul(s, points([mean])));
          const exponent = fx.div(fx.sum(fx.square(offset), 1, { keepDims: true }), fx.mul(variance, -2));
          return fx.add(exponent, Math.log(mixture.weights[k]!));
        });
        return fx.sum(fx.logsumexp(fx.concat(modes, 1), 1));
      };
      const score = fx.grad(logDensity)(z);
      const meanNoise = fx.neg(fx.mul(noise, score));
      const meanData = fx.div(fx.add(z, fx.mul(fx.square(noise), score)), s);
      const want =
        orientation === "data-to-noise" ? fx.sub(meanNoise, meanData) : fx.sub(meanData, meanNoise);
      const got = flow.mixtureVelocity(mixture, { orientation }).apply({}, z, time);
      close(t, flat(got), flat(want), 1e-11, `${mixture.dim} dimensions, ${orientation}`);
    }
  }
});

t.test("the velocity is the mean over data, weighted by how likely they make z", async (t) => {
  const n = 100_000;
  const x = plane.sample(fx.random.key(5), n, f64).toTypedArray();
  for (const [z, time] of [
    [[0.3, -0.2], 0.5],
    [[-0.8, 0.4], 0.35],
    [[1.4, 1], 0.8],
  ] as const) {
    const velocity = flat(flow.mixtureVelocity(plane).apply({}, points([z]), constant(1, time)));
    for (const axis of [0, 1]) {
      let [total, first] = [0, 0];
      const each: [weight: number, value: number][] = [];
      for (let i = 0; i < n; i++) {
        const noise = [0, 1].map((k) => (z[k]! - (1 - time) * x[2 * i + k]!) / time);
        const weight = Math.exp(-(noise[0]! ** 2 + noise[1]! ** 2) / 2);
        const value = noise[axis]! - x[2 * i + axis]!;
        each.push([weight, value]);
        total += weight;
        first += weight * value;
      }
      const mean = first / total;
      const error = Math.sqrt(each.reduce((sum, [w, v]) => sum + (w * (v - mean)) ** 2, 0)) / total;
      t.ok(error < 0.02, `the estimate is sharp (${error})`);
      close(t, [velocity[axis]!], [mean], 4 * error, `z ${z}, t ${time}, axis ${axis}`);
    }
  }
});

t.test("density and velocity satisfy the continuity equation", async (t) => {
  // dp/dt + div(p v) = 0, by central differences.
  const h = 1e-4;
  const places = [
    [-1.2, 0.4],
    [0.1, -0.7],
    [0.9, 1.1],
    [2, 0.2],
  ];
  for (const mixture of [line, plane])
    for (const orientation of orientations) {
      const field = flow.mixtureVelocity(mixture, { orientation });
      const p = (z: readonly number[], time: number) => density(mixture, z, ...sharesOf(orientation, time));
      const flux = (z: readonly number[], time: number, axis: number) =>
        p(z, time) * flat(field.apply({}, points([z]), constant(1, time)))[axis]!;
      for (const time of [0.15, 0.5, 0.9])
        for (const place of places) {
          const z = place.slice(0, mixture.dim);
          let change = (p(z, time + h) - p(z, time - h)) / (2 * h);
          t.ok(Math.abs(change) > 1e-4, "the density changes here");
          for (let axis = 0; axis < mixture.dim; axis++) {
            const moved = (by: number) => z.map((v, i) => (i === axis ? v + by : v));
            change += (flux(moved(h), time, axis) - flux(moved(-h), time, axis)) / (2 * h);
          }
          close(t, [change], [0], 2e-6, `${orientation}, z ${z}, t ${time}`);
        }
    }
});

onEach("the velocity has its limits at both ends of time", async (t) => {
  const z = normal(2, [6, 2]);
  const mean = [0, 1].map((i) => plane.means.reduce((sum, m, k) => sum + plane.weights[k]! * m[i]!, 0));
  for (const orientation of orientations) {
    const sign = orientation === "data-to-noise" ? 1 : -1;
    const [atData, atNoise] = orientation === "data-to-noise" ? [0, 1] : [1, 0];
    const field = flow.mixtureVelocity(plane, { orientation });
    // At the data z tells nothing of the noise, at the noise nothing of the data.
    close(t, flat(field.apply({}, z, constant(6, atData))), flat(fx.mul(z, -sign)), 1e-13, "data");
    const centred = fx.mul(fx.sub(z, points([mean])), sign);
    close(t, flat(field.apply({}, z, constant(6, atNoise))), flat(centred), 1e-13, "noise");
  }
  // Sharp modes: a posterior that is certain, and a velocity without overflow, also in float32.
  const sharp = flow.mixtureVelocity(data.gaussianMixture({ deviation: 1e-3 }));
  const times = fx.tensor([0, 1e-6, 1e-3, 0.1, 0.9, 1], { shape: [6, 1] });
  const far = fx.mul(fx.cast(z, "float32"), 3);
  const narrow = flat(sharp.apply({}, far, times));
  const wide = flat(sharp.apply({}, fx.cast(far, "float64"), fx.cast(times, "float64")));
  const size = Math.max(...wide.map(Math.abs));
  t.ok(Number.isFinite(size) && size > 100);
  close(
    t,
    narrow.map((v) => v / size),
    wide.map((v) => v / size),
    1e-5,
    "float32",
  );
});

t.test("modes of weight 0 count for nothing", async (t) => {
  const weighted = data.gaussianMixture({ means: [[5], [-1], [1]], weights: [0, 1, 3] });
  const without = data.gaussianMixture({ means: [[-1], [1]], weights: [1, 3] });
  const [z, time] = [fx.mul(normal(3, [8, 1]), 3), column([0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1])];
  close(
    t,
    flat(flow.mixtureVelocity(weighted).apply({}, z, time)),
    flat(flow.mixtureVelocity(without).apply({}, z, time)),
  );
  const slope = (mixture: fx.data.GaussianMixture) =>
    fx.grad((at: fx.Tensor) => fx.sum(flow.mixtureVelocity(mixture).apply({}, at, time)))(z);
  close(t, flat(slope(weighted)), flat(slope(without)), 1e-12, "derivatives");
});

t.test("data of deviation 0 have a velocity everywhere but at the data", async (t) => {
  const two = data.gaussianMixture({ means: [[-1], [1]], deviation: 0 });
  for (const orientation of orientations) {
    const field = flow.mixtureVelocity(two, { orientation });
    const sign = orientation === "data-to-noise" ? 1 : -1;
    // E[x | z] = tanh(s z / t^2), and v = (z - E[x | z]) / t.
    const [z, times] = [
      [0.2, -0.7, 1.4, 0.95],
      [0.9, 0.5, 0.8, 1e-3],
    ];
    const want = z!.map((at, i) => {
      const noise = times![i]!;
      return (sign * (at - Math.tanh(((1 - noise) * at) / noise ** 2))) / noise;
    });
    const time = column(orientation === "data-to-noise" ? times! : times!.map((noise) => 1 - noise));
    close(t, flat(field.apply({}, column(z!), time)), want, 1e-9, orientation);
    const end = constant(1, orientation === "data-to-noise" ? 0 : 1);
    const message = /mixture of deviation 0 has no velocity at its data, t = [01], got it in row 0/;
    t.throws(() => field.apply({}, column([1]), end), { name: "ValueError", message });
    const traced = fx.jit((at: fx.Tensor, when: fx.Tensor) => field.apply({}, at, when));
    t.ok(Number.isNaN(traced(column([1]), end).item()), "NaN where no value can be checked");
  }
});

// ---- the average velocity ----

/** The average velocity of data N(mean, deviation^2), whose flow is affine: (z - s m) / sqrt(c) is kept. */
function gaussianAverage(
  orientation: Orientation,
  mean: readonly number[],
  deviation: number,
  z: readonly number[],
  r: number,
  t: number,
): number[] {
  const [anchor, other] = orientation === "data-to-noise" ? [t, r] : [r, t];
  const of = (time: number) => {
    const [s, noise] = sharesOf(orientation, time);
    return { s, size: Math.hypot(s * deviation, noise) };
  };
  const [from, to] = [of(anchor), of(other)];
  return z.map((v, i) => {
    const there = to.s * mean[i]! + ((v - from.s * mean[i]!) * to.size) / from.size;
    return (there - v) / (other - anchor);
  });
}

onEach("of a single Gaussian it is that of an affine flow", async (t) => {
  const mean = [1.5, -0.5];
  const mixture = data.gaussianMixture({ means: [mean], deviation: 0.6 });
  const [r, end] = [
    [0, 0, 0.2, 0.5, 0.1],
    [1, 0.4, 0.7, 0.51, 1],
  ];
  const z = normal(7, [5, 2]);
  for (const orientation of orientations) {
    const field = flow.mixtureAverageVelocity(mixture, { orientation });
    const want = (z.toArray() as number[][]).flatMap((row, i) =>
      gaussianAverage(orientation, mean, 0.6, row, r![i]!, end![i]!),
    );
    close(t, flat(field.apply({}, z, column(r!), column(end!))), want, 1e-8, orientation);
  }
});

t.test("it carries noise to the data, quantile by quantile on a line", async (t) => {
  // In one dimension a flow keeps the order, so the noise's share below z is the data's share below its image.
  const cumulative = (x: fx.Tensor, mean: number, deviation: number) =>
    flat(fx.mul(fx.add(fx.erf(fx.div(fx.sub(x, mean), deviation * Math.SQRT2)), 1), 0.5));
  const noise = fx.reshape(fx.linspace(-3.5, 3.5, 101, f64), [101, 1]);
  const below = cumulative(noise, 0, 1);
  for (const orientation of orientations) {
    const field = flow.mixtureAverageVelocity(line, { orientation, steps: 512 });
    const images = flow.sample(field, {}, noise, flow.oneStep(), { orientation });
    const got = below.map(() => 0);
    line.means.forEach(([mean], k) => {
      cumulative(images, mean!, line.deviation).forEach((share, i) => {
        got[i]! += line.weights[k]! * share;
      });
    });
    close(t, got, below, 1e-8, orientation);
  }
});

t.test("it carries noise to data with the mixture's moments in the plane", async (t) => {
  const n = 20_000;
  const images = flow.sample(flow.mixtureAverageVelocity(plane), {}, normal(9, [n, 2]), flow.oneStep());
  const x = images.toArray() as number[][];
  const moment = (f: (p: readonly number[]) => number) => x.reduce((sum, p) => sum + f(p), 0) / n;
  const exact = (f: (mean: readonly number[]) => number) =>
    plane.means.reduce((sum, mean, k) => sum + plane.weights[k]! * f(mean), 0);
  for (const i of [0, 1]) {
    const want = exact((m) => m[i]!);
    close(t, [moment((p) => p[i]!)], [want], 4 / Math.sqrt(n), `mean ${i}`);
    for (const j of [0, 1]) {
      const second = exact((m) => m[i]! * m[j]!) + (i === j ? plane.deviation ** 2 : 0);
      close(t, [moment((p) => p[i]! * p[j]!)], [second], 6 / Math.sqrt(n), `second moment ${i}, ${j}`);
    }
  }
});

t.test("its error falls as the fourth power of the step", async (t) => {
  const z = normal(11, [50, 2]);
  for (const orientation of orientations) {
    const u = (steps: number) =>
      flow
        .mixtureAverageVelocity(plane, { orientation, steps })
        .apply({}, z, constant(50, 0), constant(50, 1));
    const reference = u(2048);
    const error = (steps: number) => Math.sqrt(fx.mean(fx.square(fx.sub(u(steps), reference))).item());
    const [coarse, middle, fine] = [error(32), error(64), error(128)];
    t.ok(middle < 1e-6, `64 steps: ${middle}`);
    for (const ratio of [coarse / middle, middle / fine])
      t.ok(ratio > 12 && ratio < 20, `halving the step divides the error by ${ratio}, about 16`);
  }
});

t.test("its errors with 64 and 256 steps are those of the documentation", async (t) => {
  const n = 500;
  const z = normal(12, [n, 2]);
  for (const deviation of [0.2, 0.05]) {
    const u = (steps: number) =>
      flow
        .mixtureAverageVelocity(data.gaussianMixture({ deviation }), { steps })
        .apply({}, z, constant(n, 0), constant(n, 1));
    const reference = u(1024);
    for (const [steps, usual, largest] of [
      [64, 1e-5, 3e-4],
      [256, 5e-8, 2e-6],
    ] as const) {
      const errors = flat(fx.abs(fx.sub(u(steps), reference))).sort((a, b) => a - b);
      t.ok(errors[Math.floor(0.99 * errors.length)]! < usual, `deviation ${deviation}, ${steps} steps`);
      t.ok(errors.at(-1)! < largest, "between modes");
    }
  }
});

onEach("over a point of time it is the velocity, and so are its limits", async (t) => {
  const z = normal(13, [6, 2]);
  const times = column([0, 0.2, 0.4, 0.6, 0.8, 1]);
  for (const orientation of orientations) {
    const velocity = flow.mixtureVelocity(plane, { orientation }).apply({}, z, times);
    const average = flow.mixtureAverageVelocity(plane, { orientation });
    close(t, flat(average.apply({}, z, times, times)), flat(velocity), 1e-13, orientation);
    const later = fx.clip(times, 1e-7, 1);
    const earlier = fx.sub(later, 1e-7);
    close(t, flat(average.apply({}, z, earlier, later)), flat(velocity), 1e-5, "a short interval");
  }
});

t.test("two jumps are as one", async (t) => {
  const n = 30;
  const z = normal(14, [n, 2]);
  const times = { r: constant(n, 0.05), s: constant(n, 0.45), t: constant(n, 1) };
  for (const orientation of orientations) {
    const field = flow.mixtureAverageVelocity(plane, { orientation, steps: 256 });
    t.ok(metrics.intervalConsistency(field, {}, { z, ...times, orientation }) < 1e-8, orientation);
  }
});

t.test("both fields are differentiable in everything", async (t) => {
  const z = normal(15, [3, 2]);
  const [r, end] = [column([0.1, 0.3, 0.6]), column([0.9, 0.5, 0.7])];
  for (const orientation of orientations) {
    const velocity = flow.mixtureVelocity(plane, { orientation });
    const average = flow.mixtureAverageVelocity(plane, { orientation, steps: 4 });
    const total = (x: fx.Tensor) => fx.sum(fx.mul(x, fx.reshape(fx.linspace(0.5, 1.5, 6, f64), [3, 2])));
    fx.checkGrads((at: fx.Tensor, time: fx.Tensor) => total(velocity.apply({}, at, time)), [z, end]);
    fx.checkGrads(
      (at: fx.Tensor, from: fx.Tensor, to: fx.Tensor) => total(average.apply({}, at, from, to)),
      [z, r, end],
    );
    t.pass(orientation);
  }
});

t.test("they are fields like others: compiled, sampled and without parameters", async (t) => {
  const velocity = flow.mixtureVelocity(plane);
  const average = flow.mixtureAverageVelocity(plane, { steps: 16 });
  t.same([velocity.kind, velocity.dim, velocity.orientation], ["velocity", 2, "data-to-noise"]);
  t.same([average.kind, average.dim], ["average-velocity", 2]);
  t.same([velocity.init(fx.random.key(0)), average.init(fx.random.key(0))], [{}, {}]);
  const z = fx.random.normal(fx.random.key(1), [5, 2]);
  const [r, end] = [fx.full([5, 1], 0.25), fx.full([5, 1], 0.75)];
  const compiled = fx.jit((at: fx.Tensor, from: fx.Tensor, to: fx.Tensor) => average.apply({}, at, from, to));
  t.equal(average.apply({}, z, r, end).dtype, "float32");
  close(t, flat(compiled(z, r, end)), flat(average.apply({}, z, r, end)), 1e-6, "compiled");
  // Euler's method with many steps comes to where the average velocity leads at once.
  const noise = normal(16, [20, 2]);
  const euler = flow.sample(velocity, {}, noise, flow.euler({ steps: 4000 }));
  const once = flow.sample(flow.mixtureAverageVelocity(plane), {}, noise, flow.oneStep());
  close(t, flat(euler), flat(once), 2e-3, "euler");
});

t.test("wrong input is named", async (t) => {
  const value = (message: RegExp) => ({ name: "ValueError", message });
  const shape = (message: RegExp) => ({ name: "ShapeError", message });
  const [z, half] = [normal(1, [4, 2]), constant(4, 0.5)];
  const velocity = flow.mixtureVelocity(plane);
  const average = flow.mixtureAverageVelocity(plane);
  t.throws(() => flow.mixtureVelocity({} as never), value(/needs a mixture by data.gaussianMixture/));
  t.throws(() => flow.mixtureVelocity(data.checkerboard() as never), value(/needs a mixture/));
  t.throws(() => flow.mixtureAverageVelocity(undefined as never), value(/needs a mixture.*undefined/));
  t.throws(
    () => flow.mixtureVelocity({ means: [[1], [2]], weights: [1], deviation: 1 }),
    value(/weights must be 2 numbers/),
  );
  t.throws(() => flow.mixtureVelocity(plane, { steps: 3 } as never), value(/unknown option "steps"/));
  t.throws(
    () => flow.mixtureVelocity(plane, { orientation: "up" as never }),
    value(/orientation must be one of/),
  );
  t.throws(() => flow.mixtureAverageVelocity(plane, { steps: 0 }), value(/steps must be a whole number/));
  t.throws(
    () => flow.mixtureAverageVelocity(data.gaussianMixture({ deviation: 0 })),
    value(/deviation must be a finite number > 0, got 0/),
  );
  t.throws(() => velocity.apply({}, normal(1, [4, 3]), half), shape(/samples of shape \[2\], z has \[3\]/));
  t.throws(() => velocity.apply({}, z, fx.zeros([4], f64)), shape(/t must be \[4, 1\], as z has 4 rows/));
  t.throws(() => velocity.apply({}, z, fx.ones([4, 1])), {
    name: "DTypeError",
    message: /t is float32, but z is float64/,
  });
  t.throws(() => velocity.apply({}, z, constant(4, 1.5)), value(/t must lie in \[0, 1\], got 1.5/));
  t.throws(() => velocity.apply({}, z, half, z), value(/got a condition/));
  t.throws(() => average.apply({}, z, half, constant(4, 0.25)), value(/r must not be above t/));
  t.throws(() => average.apply({}, z, constant(4, -1), half), value(/r must lie in \[0, 1\]/));
  t.throws(() => data.gaussianMixture({ modes: 2, weights: [1e308, 1e308] }), value(/sum of the weights/));
});
