import * as fx from "fluxion";
import t, { type Test } from "tap";
import { close } from "./support/close.js";
import { onEach } from "./support/each-backend.js";

const { data, flow, metrics, models } = fx;
const f64 = { dtype: "float64" } as const;
type Orientation = fx.flow.Orientation;
type NoParams = fx.models.NoParams;
const orientations: Orientation[] = ["data-to-noise", "noise-to-data"];

const flat = (x: fx.Tensor): number[] => Array.from(x.toTypedArray());
const normal = (seed: number, shape: number[]) => fx.random.normal(fx.random.key(seed), shape, f64);
const column = (values: readonly number[]) => fx.tensor(values, { shape: [values.length, 1], ...f64 });
const constant = (n: number, value: number) => fx.full([n, 1], value, f64);
const rms = (values: readonly number[]) => Math.sqrt(values.reduce((s, v) => s + v * v, 0) / values.length);

/** u(z, r, t) = a z + b t + c r, with a = 0.7, b = -0.4, c = 1.3. */
const [a, b, c] = [0.7, -0.4, 1.3];
const linear: fx.models.AverageVelocityField<null> = {
  kind: "average-velocity",
  init: () => null,
  apply: (_, z, r, time) => fx.add(fx.mul(z, a), fx.add(fx.mul(time, b), fx.mul(r, c))),
};
/** v(z, t) = 0.5 z + t. */
const simple: fx.models.VelocityField<NoParams> = {
  kind: "velocity",
  init: () => ({}),
  apply: (_, z, time) => fx.add(fx.mul(z, 0.5), time),
};

/** A network without symmetries, and points for it. */
const network = models.averageVelocityMlp({ dim: 2, hidden: 8, layers: 2, dtype: "float64" });
const params = network.init(fx.random.key(21));
const mixture = data.gaussianMixture({ modes: 3, radius: 1.5, deviation: 0.4, weights: [1, 2, 3] });

function intervals(n: number): { r: fx.Tensor; t: fx.Tensor } {
  const [first, second] = [4, 5].map((seed) => flat(fx.random.uniform(fx.random.key(seed), [n], f64)));
  return {
    r: column(first!.map((v, i) => Math.min(v, second![i]!))),
    t: column(first!.map((v, i) => Math.max(v, second![i]!))),
  };
}

/** The anchored end of the intervals and the signed way to the other one. */
function ends(orientation: Orientation, { r, t }: { r: fx.Tensor; t: fx.Tensor }) {
  const [anchor, other] = orientation === "data-to-noise" ? [t, r] : [r, t];
  return { anchor, length: fx.sub(other, anchor) };
}

/** The derivative of the network along (tangent, the anchored end) by a central difference. */
function slope(
  orientation: Orientation,
  z: fx.Tensor,
  { r, t }: { r: fx.Tensor; t: fx.Tensor },
  tangent: fx.Tensor,
): fx.Tensor {
  const h = 1e-5;
  const at = (by: number) => {
    const moved = fx.add(z, fx.mul(tangent, by));
    return orientation === "data-to-noise"
      ? network.apply(params, moved, r, fx.add(t, by))
      : network.apply(params, moved, fx.add(r, by), t);
  };
  return fx.div(fx.sub(at(h), at(-h)), 2 * h);
}

// ---- errors against the truth ----

onEach("the error of a velocity is the root mean square of the difference", async (t) => {
  const [z, time] = [normal(1, [5, 3]), column([0, 0.3, 0.5, 0.8, 1])];
  const want = flat(z).map((v, i) => {
    const at = flat(time)[Math.floor(i / 3)]!;
    return a * v + (b + c) * at - (0.5 * v + at);
  });
  // An average velocity stands for its boundary u(z, t, t).
  const points = { z, t: time, exact: simple };
  close(t, flat(metrics.velocityResidual(linear, null, points)), want, 1e-14);
  close(t, [metrics.velocityError(linear, null, points)], [rms(want)], 1e-14);
  const target = simple.apply({}, z, time);
  close(t, [metrics.velocityError(linear, null, { z, t: time, target })], [rms(want)], 1e-14, "values");
  t.equal(metrics.velocityError(simple, {}, points), 0, "a velocity field, against itself");
  const off = {
    ...simple,
    apply: (_: NoParams, at: fx.Tensor, when: fx.Tensor) => fx.add(simple.apply({}, at, when), 2),
  };
  close(t, [metrics.velocityError(off, {}, points)], [2], 1e-14, "a velocity field");
});

t.test("an average velocity of a mixture has its velocity as the boundary", async (t) => {
  const z = normal(2, [9, 2]);
  for (const orientation of orientations) {
    const average = flow.mixtureAverageVelocity(mixture, { orientation });
    const exact = flow.mixtureVelocity(mixture, { orientation });
    t.ok(metrics.velocityError(average, {}, { z, t: intervals(9).t, exact }) < 1e-13, orientation);
  }
});

t.test("the error of an average velocity is the root mean square of the difference", async (t) => {
  const z = normal(3, [6, 2]);
  const times = intervals(6);
  for (const orientation of orientations) {
    const exact = flow.mixtureAverageVelocity(mixture, { orientation });
    const points = { z, ...times, orientation };
    t.equal(metrics.averageVelocityError(exact, {}, exact, points), 0);
    const truth = flat(exact.apply({}, z, times.r, times.t));
    const want = flat(network.apply(params, z, times.r, times.t)).map((v, i) => v - truth[i]!);
    close(t, flat(metrics.averageVelocityResidual(network, params, exact, points)), want, 1e-14);
    close(t, [metrics.averageVelocityError(network, params, exact, points)], [rms(want)], 1e-14);
  }
});

t.test("the condition goes to both fields", async (t) => {
  const shifted = (factor: number): fx.models.VelocityField<NoParams> => ({
    kind: "velocity",
    init: () => ({}),
    apply: (_, z, _time, condition) => fx.add(z, fx.mul(condition as fx.Tensor, factor)),
  });
  const [z, time, condition] = [normal(4, [3, 1]), constant(3, 0.5), column([1, 2, -2])];
  const points = { z, t: time, exact: shifted(1), condition };
  close(t, flat(metrics.velocityResidual(shifted(3), {}, points)), [2, 4, -4], 1e-14);
});

// ---- the mean-flow identity ----

onEach("the residual of the identity is that of its definition, for a linear field", async (t) => {
  const z = normal(5, [4, 2]);
  const times = intervals(4);
  const [r, end] = [flat(times.r), flat(times.t)];
  for (const orientation of orientations)
    for (const velocity of [undefined, simple]) {
      const want = flat(z).map((at, i) => {
        const [from, to] = [r[i >> 1]!, end[i >> 1]!];
        const anchor = orientation === "data-to-noise" ? to : from;
        const v = velocity === undefined ? a * at + (b + c) * anchor : 0.5 * at + anchor;
        const u = a * at + b * to + c * from;
        return orientation === "data-to-noise"
          ? u - (v - (to - from) * (a * v + b))
          : u - (v + (to - from) * (a * v + c));
      });
      const points = { z, ...times, orientation, velocity };
      const title = `${orientation}, ${velocity === undefined ? "its own velocity" : "a given one"}`;
      close(t, flat(metrics.identityDefect(linear, null, points)), want, 1e-14, title);
      close(t, [metrics.identityResidual(linear, null, points)], [rms(want)], 1e-14, title);
    }
});

t.test("the residual of the identity agrees with differences, for a network", async (t) => {
  const z = normal(6, [8, 2]);
  const times = intervals(8);
  for (const orientation of orientations) {
    const velocity = flow.mixtureVelocity(mixture, { orientation });
    const { anchor, length } = ends(orientation, times);
    const v = velocity.apply({}, z, anchor);
    const target = fx.add(v, fx.mul(length, slope(orientation, z, times, v)));
    const want = fx.sub(network.apply(params, z, times.r, times.t), target);
    const got = metrics.identityDefect(network, params, { z, ...times, orientation, velocity });
    close(t, flat(got), flat(want), 1e-8, orientation);
  }
});

t.test("an exact average velocity satisfies the identity, with the exact velocity and its own", async (t) => {
  const z = normal(7, [20, 2]);
  const times = intervals(20);
  for (const orientation of orientations) {
    const exact = flow.mixtureAverageVelocity(mixture, { orientation, steps: 256 });
    const velocity = flow.mixtureVelocity(mixture, { orientation });
    for (const given of [velocity, undefined]) {
      const residual = metrics.identityResidual(exact, {}, { z, ...times, orientation, velocity: given });
      t.ok(residual < 1e-7, `${orientation}: ${residual}`);
    }
    const other = orientation === "data-to-noise" ? "noise-to-data" : "data-to-noise";
    const wrong = metrics.identityResidual(exact, {}, { z, ...times, orientation: other });
    t.ok(wrong > 0.1, `but not when it is read as anchored at its other end: ${wrong}`);
  }
});

t.test("with the conditional velocity the residual is the error of the mean-flow loss", async (t) => {
  const [x, e] = [normal(8, [6, 2]), normal(9, [6, 2])];
  const times = intervals(6);
  for (const orientation of orientations) {
    const [from, to] = orientation === "data-to-noise" ? [x, e] : [e, x];
    const { anchor } = ends(orientation, times);
    const z = fx.add(fx.mul(from, fx.sub(1, anchor)), fx.mul(to, anchor));
    const velocity: fx.models.VelocityField<NoParams> = {
      kind: "velocity",
      init: () => ({}),
      apply: () => fx.sub(to, from),
    };
    const loss = flow.meanFlow({ orientation }).loss(network, params, { data: x, noise: e, ...times });
    const residual = metrics.identityResidual(network, params, { z, ...times, orientation, velocity });
    close(t, [residual ** 2], [loss.item()], 1e-12, orientation);
  }
});

// ---- the variance of the target ----

t.test("spread and bias are the departure of the target, pair by pair", async (t) => {
  const n = 7;
  const [x, e] = [mixture.sample(fx.random.key(10), n, f64), normal(11, [n, 2])];
  const times = intervals(n);
  for (const orientation of orientations) {
    const velocity = flow.mixtureVelocity(mixture, { orientation });
    const [from, to] = orientation === "data-to-noise" ? [x, e] : [e, x];
    const { anchor, length } = ends(orientation, times);
    const z = fx.add(fx.mul(from, fx.sub(1, anchor)), fx.mul(to, anchor));
    const conditional = fx.sub(to, from);
    const marginal = velocity.apply({}, z, anchor);
    const own = network.apply(params, z, anchor, anchor);
    /** The target that regresses on v, with this tangent of z. */
    const target = (v: fx.Tensor, tangent: fx.Tensor) =>
      fx.add(v, fx.mul(length, slope(orientation, z, times, tangent)));
    const exact = target(marginal, marginal);
    for (const weight of [1, 0.3, 0]) {
      const blend = (v: fx.Tensor) => fx.add(fx.mul(v, weight), fx.mul(own, 1 - weight));
      const points = { data: x, noise: e, ...times, velocity, orientation };
      const options = weight === 1 ? {} : { conditionalTangentWeight: weight };
      const { spread, bias } = metrics.targetDeparture(network, params, { ...points, ...options });
      const drawn = target(conditional, blend(conditional));
      // The target is linear in v, so its mean given z has the mean of v in its place.
      const expected = target(marginal, blend(marginal));
      const title = `${orientation}, weight ${weight}`;
      close(t, flat(spread), flat(fx.sub(drawn, expected)), 1e-8, `${title}: spread`);
      close(t, flat(bias), flat(fx.sub(expected, exact)), 1e-8, `${title}: bias`);
      const sizes = metrics.targetVariance(network, params, { ...points, ...options });
      close(t, [sizes.variance], [rms(flat(spread)) ** 2], 1e-12, `${title}: variance`);
      close(t, [sizes.bias], [rms(flat(bias)) ** 2], 1e-12, `${title}: squared bias`);
      if (weight === 1) t.equal(sizes.bias, 0, "mean flow has no bias");
      else t.ok(sizes.bias > 1e-4, "the network's own velocity is not exact");
    }
  }
});

/** Pairs of data N(mean, deviation^2) on the line with noise, and what is known of them at a time. */
function gaussianPairs(orientation: Orientation, anchor: number) {
  const [mean, deviation] = [0.8, 0.5];
  const [s, noise] = orientation === "data-to-noise" ? [1 - anchor, anchor] : [anchor, 1 - anchor];
  const total = (s * deviation) ** 2 + noise ** 2;
  // v = +-(noise - data) given z: the slope of its mean by covariances, and its variance by the rest.
  const sign = orientation === "data-to-noise" ? 1 : -1;
  return {
    mixture: data.gaussianMixture({ means: [[mean]], deviation }),
    meanOfZ: s * mean,
    varianceOfZ: total,
    slopeOfV: (sign * (noise - s * deviation ** 2)) / total,
    meanOfV: -sign * mean,
    varianceOfV: 1 + deviation ** 2 - (noise - s * deviation ** 2) ** 2 / total,
    sizeAt: (time: number) =>
      orientation === "data-to-noise"
        ? Math.hypot((1 - time) * deviation, time)
        : Math.hypot(time * deviation, 1 - time),
  };
}

function expectNear(t: Test, got: number, want: number, title: string): void {
  t.ok(Math.abs(got - want) < 0.05 * want, `${title}: ${got}, want ${want}`);
}

t.test("variance and bias of a linear field on Gaussian data are in closed form", async (t) => {
  const n = 20_000;
  const [r, end] = [0.25, 0.85];
  for (const orientation of orientations) {
    const [anchor, other] = orientation === "data-to-noise" ? [end, r] : [r, end];
    const known = gaussianPairs(orientation, anchor);
    const points = {
      data: known.mixture.sample(fx.random.key(12), n, f64),
      noise: normal(13, [n, 1]),
      r: constant(n, r),
      t: constant(n, end),
      velocity: flow.mixtureVelocity(known.mixture, { orientation }),
      orientation,
    };
    const h = other - anchor;
    // The error of the field's own velocity is linear in z: (a - slope) z + ..., at the mean of z its mean.
    const slopeOfError = a - known.slopeOfV;
    const meanOfError = a * known.meanOfZ + (b + c) * anchor - known.meanOfV;
    const squaredError = meanOfError ** 2 + slopeOfError ** 2 * known.varianceOfZ;
    for (const weight of [1, 0.5, 0]) {
      const title = `${orientation}, weight ${weight}`;
      const got = metrics.targetVariance(linear, null, { ...points, conditionalTangentWeight: weight });
      expectNear(t, got.variance, (1 + h * weight * a) ** 2 * known.varianceOfV, `${title}, variance`);
      const bias = (h * (1 - weight) * a) ** 2 * squaredError;
      if (weight < 1) expectNear(t, got.bias, bias, `${title}, bias`);
    }
    // For the exact field 1 + h J is the Jacobian of the flow, here the ratio of the sizes of z.
    const exact = flow.mixtureAverageVelocity(known.mixture, { orientation });
    const jacobian = known.sizeAt(other) / known.sizeAt(anchor);
    const meanFlow = metrics.targetVariance(exact, {}, points);
    expectNear(t, meanFlow.variance, jacobian ** 2 * known.varianceOfV, `${orientation}, exact`);
    const improved = metrics.targetVariance(exact, {}, { ...points, conditionalTangentWeight: 0 });
    expectNear(t, improved.variance, known.varianceOfV, `${orientation}, exact, improved`);
    t.ok(improved.bias < 1e-20, "an exact field has no bias");
  }
});

// ---- all of them ----

t.test("the residuals are differentiable by the parameters", async (t) => {
  const n = 3;
  const small = models.averageVelocityMlp({ dim: 2, hidden: 3, layers: 1, dtype: "float64" });
  const start = small.init(fx.random.key(14));
  const [z, noise] = [normal(15, [n, 2]), normal(16, [n, 2])];
  const times = intervals(n);
  const velocity = flow.mixtureVelocity(mixture);
  const exact = flow.mixtureAverageVelocity(mixture, { steps: 4 });
  type Params = typeof start;
  const size = (x: fx.Tensor) => fx.mean(fx.square(x));
  const numbers: Record<string, (p: Params) => fx.Tensor> = {
    velocity: (p) => size(metrics.velocityResidual(small, p, { z, t: times.t, exact: velocity })),
    average: (p) => size(metrics.averageVelocityResidual(small, p, exact, { z, ...times })),
    identity: (p) => size(metrics.identityDefect(small, p, { z, ...times })),
    spread: (p) => size(metrics.targetDeparture(small, p, { data: z, noise, ...times, velocity }).spread),
    bias: (p) =>
      size(
        metrics.targetDeparture(small, p, {
          data: z,
          noise,
          ...times,
          velocity,
          conditionalTangentWeight: 0,
        }).bias,
      ),
  };
  for (const [name, f] of Object.entries(numbers)) {
    fx.checkGrads(f, [start], { order: 1 });
    t.pass(name);
  }
});

t.test("wrong input is named", async (t) => {
  const value = (message: RegExp) => ({ name: "ValueError", message });
  const shape = (message: RegExp) => ({ name: "ShapeError", message });
  const n = 4;
  const z = normal(17, [n, 2]);
  const [r, end] = [constant(n, 0.25), constant(n, 0.75)];
  const exact = flow.mixtureVelocity(mixture);
  const average = flow.mixtureAverageVelocity(mixture);
  const reversed = flow.mixtureVelocity(mixture, { orientation: "noise-to-data" });
  const velocityOf = (points: object) => () =>
    metrics.velocityError(network, params, { z, t: end, ...points } as never);
  t.throws(velocityOf({}), value(/velocityError: give either exact, a field, or target/));
  t.throws(velocityOf({ exact, target: z }), value(/give either exact/));
  t.throws(velocityOf({ exact: average }), value(/velocityError, exact: needs a field of kind "velocity"/));
  t.throws(velocityOf({ target: end }), shape(/z is \[4, 2\], but target is \[4, 1\]/));
  t.throws(velocityOf({ exact, t: constant(n, 2) }), value(/t must lie in \[0, 1\], got 2 in row 0/));
  t.throws(velocityOf({ exact, r }), value(/unknown option "r"/));
  t.throws(velocityOf({ exact, z: normal(1, [n, 3]) }), shape(/samples of shape \[2\], z has \[3\]/));
  t.throws(
    () => metrics.velocityError({} as never, {}, { z, t: end, exact }),
    value(/needs a field of kind/),
  );

  const points = { z, r, t: end };
  const averageOf = (field: unknown, extra: object) => () =>
    metrics.averageVelocityError(network, params, field as typeof average, { ...points, ...extra });
  t.throws(
    averageOf(exact, {}),
    value(/averageVelocityError, exact: needs a field of kind "average-velocity"/),
  );
  t.throws(
    averageOf(average, { orientation: "noise-to-data" }),
    value(/the points are noise-to-data, but exact is "data-to-noise"/),
  );
  t.throws(averageOf(average, { r: end, t: r }), value(/r must not be above t, got r = 0.75 and t = 0.25/));
  t.throws(averageOf(average, { r: fx.zeros([n, 1]) }), {
    name: "DTypeError",
    message: /r is float32, but z/,
  });

  const identityOf = (extra: object) => () =>
    metrics.identityResidual(network, params, { ...points, ...extra });
  t.throws(identityOf({ velocity: reversed }), value(/but velocity is "noise-to-data"/));
  t.throws(identityOf({ velocity: average }), value(/identityResidual, velocity: needs a field of kind/));
  t.throws(identityOf({ orientation: "up" }), value(/orientation must be one of/));
  t.throws(identityOf({ condition: normal(1, [3, 1]) }), shape(/condition must be \[4, ...\]/));

  const varianceOf = (extra: object) => () =>
    metrics.targetVariance(network, params, {
      data: z,
      noise: z,
      r,
      t: end,
      velocity: exact,
      ...extra,
    } as never);
  t.throws(varianceOf({ velocity: undefined }), value(/targetVariance, velocity: needs a field/));
  t.throws(varianceOf({ conditionalTangentWeight: 2 }), value(/conditionalTangentWeight must be/));
  t.throws(varianceOf({ noise: r }), shape(/data is \[4, 2\], but noise is \[4, 1\]/));
  t.throws(varianceOf({ data: fx.div(z, 0) }), value(/data must be finite/));

  const inside = fx.jit((at: fx.Tensor) => {
    metrics.identityResidual(network, params, { ...points, z: at });
    return at;
  });
  t.throws(() => inside(z), { name: "TraceError", message: /symbolic/ });
});
