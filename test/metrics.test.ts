import * as fx from "fluxion";
import t, { type Test } from "tap";

const { metrics } = fx;
const f64 = { dtype: "float64" } as const;
const normal = (seed: number, shape: number[]) => fx.random.normal(fx.random.key(seed), shape, f64);
const rows = (x: fx.Tensor) => x.toArray() as number[][];
const board = (seed: number, n: number) => fx.data.checkerboard().sample(fx.random.key(seed), n);

function close(t: Test, got: number, want: number, tolerance = 1e-12, name = "value"): void {
  t.ok(Math.abs(got - want) <= tolerance, `${name}: ${got}, want ${want}`);
}

/** The mean of f over all pairs, in plain doubles. */
function pairMean(x: fx.Tensor, y: fx.Tensor, f: (squared: number) => number): number {
  const [a, b] = [rows(x), rows(y)];
  let total = 0;
  for (const p of a) for (const q of b) total += f(p.reduce((s, v, i) => s + (v - q[i]!) ** 2, 0));
  return total / (a.length * b.length);
}

t.test("the energy distance is that of its definition, over all pairs", async (t) => {
  for (const [n, m, d] of [
    [5, 8, 1],
    [30, 20, 2],
    [7, 7, 3],
    [9, 6, 20],
  ] as const) {
    const [x, y] = [fx.add(normal(1, [n, d]), 3), normal(2, [m, d])];
    const want = 2 * pairMean(x, y, Math.sqrt) - pairMean(x, x, Math.sqrt) - pairMean(y, y, Math.sqrt);
    close(t, metrics.energyDistance(x, y), want, d > 16 ? 1e-6 : 1e-12, `${n} x ${m} in ${d} dimensions`);
    close(t, metrics.energyDistance(y, x), want, d > 16 ? 1e-6 : 1e-12, "symmetric");
  }
  close(t, metrics.energyDistance(fx.tensor([[0, 0]]), fx.tensor([[3, 4]])), 10, 1e-12, "two points");
  const x = board(3, 100);
  close(t, metrics.energyDistance(x, x), 0, 1e-12, "equal sets");
});

t.test("blocks of pairs join without a seam", async (t) => {
  const [x, y] = [normal(4, [2500, 2]), fx.mul(normal(5, [2100, 2]), 1.1)];
  const want = 2 * pairMean(x, y, Math.sqrt) - pairMean(x, x, Math.sqrt) - pairMean(y, y, Math.sqrt);
  close(t, metrics.energyDistance(x, y), want, 1e-11);
});

t.test("two samples of one distribution are as far apart as theory says", async (t) => {
  // E|x - x'| (1/n + 1/m) for the V-statistic.
  const n = 3000;
  const [x, y] = [board(6, n), board(7, n)];
  const expected = pairMean(fx.cast(x, "float64"), fx.cast(y, "float64"), Math.sqrt) * (2 / n);
  const got = metrics.energyDistance(x, y);
  t.ok(got > 0.3 * expected && got < 3 * expected, `${got} is near ${expected}`);
  t.ok(
    metrics.energyDistance(fx.random.normal(fx.random.key(1), [n, 2]), y) > 20 * expected,
    "noise is far away",
  );
});

t.test("the maximum mean discrepancy is that of its definition", async (t) => {
  const [x, y] = [fx.add(normal(8, [40, 2]), 0.5), normal(9, [30, 2])];
  const bandwidths = [0.5, 2];
  const k = (s: number) => bandwidths.reduce((a, h) => a + Math.exp(-s / (2 * h * h)), 0) / 2;
  const want = Math.sqrt(pairMean(x, x, k) - 2 * pairMean(x, y, k) + pairMean(y, y, k));
  close(t, metrics.maximumMeanDiscrepancy(x, y, { bandwidths }), want, 1e-12);
  close(t, metrics.maximumMeanDiscrepancy(x, x), 0, 1e-7);
});

t.test("the sliced Wasserstein distance of a line is the distance of quantiles", async (t) => {
  const x = fx.tensor([[3], [1], [2]], f64);
  close(t, metrics.slicedWasserstein(x, fx.add(x, 2.5)), 2.5, 1e-12, "a shift");
  close(
    t,
    metrics.slicedWasserstein(x, fx.tensor([[1], [2], [6]], f64)),
    Math.sqrt(9 / 3),
    1e-12,
    "sorted pairs",
  );
  // Quantile functions of {0, 1} and {0, 3, 6}: differences 0, 3 (1/6), 2 (1/6), 5 (1/3).
  const want = Math.sqrt(9 / 6 + 4 / 6 + 25 / 3);
  close(
    t,
    metrics.slicedWasserstein(fx.tensor([[0], [1]]), fx.tensor([[0], [3], [6]])),
    want,
    1e-12,
    "other counts",
  );
});

t.test("the sliced Wasserstein distance averages over directions", async (t) => {
  const x = normal(10, [200, 2]);
  const shifted = fx.add(x, fx.tensor([[3, 4]], f64));
  const got = metrics.slicedWasserstein(x, shifted, { projections: 4000 });
  t.ok(Math.abs(got - 5 / Math.SQRT2) < 0.08, `a shift by 5 in the plane is 5 / sqrt(2): ${got}`);
  const stacked = fx.concat([x, x, x], 0);
  close(
    t,
    metrics.slicedWasserstein(stacked, shifted),
    metrics.slicedWasserstein(x, shifted),
    1e-12,
    "copies change nothing",
  );
  t.equal(
    metrics.slicedWasserstein(x, shifted),
    metrics.slicedWasserstein(x, shifted),
    "directions are fixed",
  );
  t.not(metrics.slicedWasserstein(x, shifted, { seed: 1 }), metrics.slicedWasserstein(x, shifted));
});

t.test("validity and tile variation count what they say", async (t) => {
  // Dark tiles of the 2 x 2 board on [-1, 1]^2: lower left and upper right.
  const options = { gridSize: 2, scale: 1 };
  const samples = fx.tensor([
    [-0.5, -0.5],
    [-0.1, -0.9],
    [-0.2, -0.3],
    [0.5, 0.5],
    [0.5, -0.5],
    [3, 0.5],
    [-1.5, -1.5],
    [0.9, 0.1],
  ]);
  close(t, metrics.checkerboardValidity(samples, options), 5 / 8);
  close(
    t,
    metrics.tileTotalVariation(samples, options),
    (1 / 8 + 2 / 8 + 3 / 8) / 2,
    1e-12,
    "outside counts",
  );
  close(
    t,
    metrics.tileTotalVariation(samples, { ...options, outside: "ignore" }),
    0.1,
    1e-12,
    "3 : 2 against 1 : 1",
  );
  t.equal(metrics.tileTotalVariation(fx.tensor([[9, 9]]), { outside: "ignore" }), 1);
  const x = board(11, 10_000);
  t.equal(metrics.checkerboardValidity(x), 1);
  t.ok(metrics.tileTotalVariation(x) < 0.03);
  const noise = fx.random.normal(fx.random.key(2), [10_000, 2]);
  const share = metrics.checkerboardValidity(noise);
  t.ok(Math.abs(share - 0.455) < 0.03, `noise: half of the mass on the board (${share})`);
  t.ok(metrics.tileTotalVariation(noise) >= 1 - share);
});

t.test("interval consistency is 0 for an exact field and the residual's size otherwise", async (t) => {
  const l = 1.3;
  const z = normal(12, [5, 2]);
  const column = (value: number) => fx.full([5, 1], value, f64);
  const times = { r: column(0.1), s: column(0.4), t: column(0.9) };
  const exact = (sign: number): fx.models.AverageVelocityField<null> => ({
    kind: "average-velocity",
    init: () => null,
    // dz/dt = l z: z (1 - exp(-l h)) / h from the later end, z (exp(l h) - 1) / h from the earlier one.
    apply: (_, at, r, time) => {
      const h = fx.sub(time, r);
      return fx.mul(at, fx.div(fx.mul(fx.expm1(fx.mul(h, sign * l)), sign), h));
    },
  });
  close(t, metrics.intervalConsistency(exact(-1), null, { z, ...times }), 0, 1e-14);
  close(
    t,
    metrics.intervalConsistency(exact(1), null, { z, ...times, orientation: "noise-to-data" }),
    0,
    1e-14,
  );
  // u = z, one whole step 0.8 z against 0.5 z and then 0.3 of z - 0.5 z: the residual is 0.15 z.
  const wrong: fx.models.AverageVelocityField<null> = {
    kind: "average-velocity",
    init: () => null,
    apply: (_, at) => at,
  };
  const size = Math.sqrt(fx.mean(fx.square(z)).item());
  close(t, metrics.intervalConsistency(wrong, null, { z, ...times }), 0.15 * size);
  // From the earlier end: 0.3 z, then 0.5 of z + 0.3 z: 0.8 z - 0.7 z - ... = -0.15 z.
  close(
    t,
    metrics.intervalConsistency(wrong, null, { z, ...times, orientation: "noise-to-data" }),
    0.15 * size,
  );
  t.same(metrics.intervalResidual(wrong, null, { z, ...times }).shape, [5, 2]);
});

t.test("wrong input is named", async (t) => {
  const x = normal(1, [4, 2]);
  const shape = (message: RegExp) => ({ name: "ShapeError", message });
  const value = (message: RegExp) => ({ name: "ValueError", message });
  t.throws(() => metrics.energyDistance(x, normal(1, [4, 3])), shape(/x has points of 2 dimensions, y of 3/));
  t.throws(() => metrics.energyDistance(x, normal(1, [4])), shape(/y must be points \[n, d\].* got \[4\]/));
  t.throws(() => metrics.energyDistance(fx.zeros([0, 2]), x), shape(/got \[0, 2\]/));
  t.throws(() => metrics.energyDistance(fx.div(x, 0), x), value(/x must be finite/));
  t.throws(() => metrics.energyDistance([[1]] as never, x), value(/x must be a Tensor/));
  t.throws(() => fx.jit((z: fx.Tensor) => fx.mul(z, metrics.energyDistance(z, z)))(x), {
    name: "TraceError",
    message: /symbolic/,
  });
  t.throws(
    () => metrics.slicedWasserstein(x, x, { directions: 3 } as never),
    value(/unknown option "directions"/),
  );
  t.throws(() => metrics.maximumMeanDiscrepancy(x, x, { bandwidths: [0] }), value(/bandwidths\[0\]/));
  t.throws(() => metrics.checkerboardValidity(normal(1, [4, 3])), shape(/\[n, 2\], got \[4, 3\]/));
  t.throws(
    () => metrics.tileTotalVariation(x, { outside: "drop" as never }),
    value(/outside must be one of/),
  );
  const column = fx.zeros([4, 1], f64);
  const field = fx.models.averageVelocityMlp({ dim: 2, hidden: 3, layers: 1, dtype: "float64" });
  const params = field.init(fx.random.key(0));
  t.throws(
    () => metrics.intervalConsistency(field, params, { z: x, r: fx.ones([4, 1], f64), s: column, t: column }),
    value(/r <= s <= t/),
  );
  t.throws(
    () => metrics.intervalConsistency(field, params, { z: x, r: column, s: fx.zeros([4], f64), t: column }),
    shape(/s must be \[4, 1\]/),
  );
  t.throws(
    () =>
      metrics.intervalConsistency({ kind: "velocity" } as never, params, {
        z: x,
        r: column,
        s: column,
        t: column,
      }),
    value(/"average-velocity"/),
  );
});
