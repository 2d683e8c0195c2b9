import * as fx from "fluxion";
import t from "tap";

const { data } = fx;
const f64 = { dtype: "float64" } as const;
const flat = (x: fx.Tensor): number[] => Array.from(x.toTypedArray());
const key = (seed: number) => fx.random.key(seed);
const points = (x: fx.Tensor) => x.toArray() as number[][];
const mean = (values: number[]) => values.reduce((a, v) => a + v, 0) / values.length;

t.test("the checkerboard is uniform on its dark tiles, the lower left one among them", async (t) => {
  for (const [gridSize, scale] of [
    [4, 2],
    [3, 1.5],
    [5, 1],
    [6, 3],
    [7, 2],
    [1, 1],
    [2, 0.5],
  ] as const) {
    const n = 8000;
    const counts = new Map<string, number>();
    const inside: number[] = [];
    const samples = points(data.checkerboard({ gridSize, scale }).sample(key(gridSize), n, f64));
    for (const point of samples) {
      const place = point.map((v) => ((v + scale) / (2 * scale)) * gridSize);
      const tile = place.map(Math.floor);
      counts.set(tile.join(), (counts.get(tile.join()) ?? 0) + 1);
      inside.push(place[0]! - tile[0]!, place[1]! - tile[1]!);
    }
    const tiles = [...counts.keys()].map((name) => name.split(",").map(Number));
    t.ok(
      tiles.every(([i, j]) => (i! + j!) % 2 === 0 && i! >= 0 && j! >= 0 && i! < gridSize && j! < gridSize),
      "only dark tiles",
    );
    const dark = Math.ceil(gridSize ** 2 / 2);
    t.equal(counts.size, dark, `all ${dark} dark tiles of ${gridSize} x ${gridSize}`);
    t.ok(counts.has("0,0"));
    const expected = n / dark;
    const chi = [...counts.values()].reduce((a, c) => a + (c - expected) ** 2 / expected, 0);
    t.ok(chi < dark + 4 * Math.sqrt(2 * dark) + 1, `even between tiles (chi-squared ${chi} for ${dark - 1})`);
    t.ok(Math.abs(mean(inside) - 1 / 2) < 0.01, "even within tiles");
    t.ok(Math.abs(mean(inside.map((u) => u * u)) - 1 / 3) < 0.01);
  }
});

t.test("a draw is decided by its key, inside of a compiled function and outside", async (t) => {
  const table = fx.tensor([
    [1, 2],
    [3, 4],
    [5, 6],
  ]);
  for (const source of [
    data.checkerboard(),
    data.gaussianMixture(),
    data.gaussianMixture({ weights: [1, 2, 3, 4, 0, 0, 1, 1] }),
    data.twoMoons(),
    data.spiral(),
    data.rings(),
    data.fromTensor(table),
  ]) {
    const x = source.sample(key(1), 50);
    t.same([x.shape, x.dtype, source.dim], [[50, 2], "float32", 2], source.name);
    t.ok(flat(x).every(Number.isFinite));
    t.same(flat(source.sample(key(1), 50)), flat(x));
    t.notSame(flat(source.sample(key(2), 50)), flat(x));
    const compiled = fx.jit((k: fx.Tensor) => source.sample(k, 50))(key(1));
    const worst = Math.max(...flat(compiled).map((v, i) => Math.abs(v - flat(x)[i]!)));
    t.ok(worst < 1e-5, `${source.name}: the same inside of jit (${worst})`);
    t.equal(source.sample(key(1), 5, f64).dtype, "float64");
  }
});

t.test("a Gaussian mixture has its means, deviation and weights", async (t) => {
  const means = [
    [-5, 0, 1],
    [5, 2, 1],
  ];
  const samples = points(
    data.gaussianMixture({ means, deviation: 0.5, weights: [1, 3] }).sample(key(3), 8000, f64),
  );
  const [left, right] = [samples.filter((p) => p[0]! < 0), samples.filter((p) => p[0]! >= 0)];
  t.ok(Math.abs(right.length / 8000 - 0.75) < 0.02, `share ${right.length / 8000} of 3/4`);
  for (const [cluster, centre] of [
    [left, means[0]!],
    [right, means[1]!],
  ] as const)
    centre.forEach((c, i) => {
      const values = cluster.map((p) => p[i]!);
      t.ok(Math.abs(mean(values) - c) < 0.05);
      t.ok(Math.abs(Math.sqrt(mean(values.map((v) => (v - c) ** 2))) - 0.5) < 0.03);
    });
  const circle = points(data.gaussianMixture({ modes: 5, radius: 3, deviation: 0 }).sample(key(4), 500, f64));
  t.ok(
    circle.every(([x, y]) => Math.abs(Math.hypot(x!, y!) - 3) < 1e-12),
    "without deviation on the circle",
  );
  const angles = new Set(
    circle.map(([x, y]) => ((Math.round((Math.atan2(y!, x!) * 5) / (2 * Math.PI)) % 5) + 5) % 5),
  );
  t.equal(angles.size, 5);
});

t.test("without noise the curves are met exactly", async (t) => {
  const moons = points(data.twoMoons({ noise: 0, scale: 2 }).sample(key(5), 2000, f64));
  const upper = moons.filter(([x, y]) => Math.abs(Math.hypot(x! + 1, y! + 0.5) - 2) < 1e-12 && y! >= -0.5);
  const lower = moons.filter(([x, y]) => Math.abs(Math.hypot(x! - 1, y! - 0.5) - 2) < 1e-12 && y! <= 0.5);
  t.equal(upper.length + lower.length, 2000, "every point on one of the half circles");
  t.ok(Math.abs(upper.length - 1000) < 100, "equally likely");

  const spiral = points(data.spiral({ noise: 0, turns: 1.5, scale: 3 }).sample(key(6), 2000, f64));
  const off = spiral.map(([x, y]) => {
    const angle = (Math.hypot(x!, y!) / 3) * 3 * Math.PI;
    return Math.hypot(x! - Math.hypot(x!, y!) * Math.cos(angle), y! - Math.hypot(x!, y!) * Math.sin(angle));
  });
  t.ok(Math.max(...off) < 1e-12, "radius = scale s at the angle 2 pi turns s");

  const radii = points(data.rings({ noise: 0, radii: [1, 2.5] }).sample(key(7), 2000, f64)).map(([x, y]) =>
    Math.hypot(x!, y!),
  );
  const inner = radii.filter((r) => Math.abs(r - 1) < 1e-12).length;
  t.equal(inner + radii.filter((r) => Math.abs(r - 2.5) < 1e-12).length, 2000);
  t.ok(Math.abs(inner - 1000) < 100);
});

t.test("noise has the deviation that was asked for", async (t) => {
  const radii = points(data.rings({ noise: 0.1, radii: [50] }).sample(key(8), 8000, f64)).map(
    ([x, y]) => Math.hypot(x!, y!) - 50,
  );
  t.ok(Math.abs(Math.sqrt(mean(radii.map((r) => r * r))) - 0.1) < 0.005);
});

t.test("fromTensor draws rows with replacement, all of them alike", async (t) => {
  const rows = fx.tensor(
    Array.from({ length: 12 }, (_, i) => i),
    { shape: [3, 2, 2], ...f64 },
  );
  const source = data.fromTensor(rows);
  t.same(source.dim, [2, 2]);
  const drawn = source.sample(key(9), 3000);
  t.same([drawn.shape, drawn.dtype], [[3000, 2, 2], "float64"]);
  const counts = [0, 0, 0];
  for (const row of drawn.toArray() as number[][][]) {
    const first = row[0]![0]!;
    counts[first / 4]!++;
  }
  t.ok(
    counts.every((c) => Math.abs(c - 1000) < 120),
    `about a third each: ${counts}`,
  );
});

t.test("wrong input is named", async (t) => {
  const value = (message: RegExp) => ({ name: "ValueError", message });
  t.throws(
    () => data.checkerboard({ size: 4 } as never),
    value(/unknown option "size"; known options: gridSize, scale/),
  );
  t.throws(
    () => data.checkerboard({ gridSize: 2.5 }),
    value(/gridSize must be a whole number >= 1, got 2.5/),
  );
  t.throws(() => data.checkerboard({ scale: 0 }), value(/scale .* > 0, got 0/));
  t.throws(() => data.checkerboard().sample(key(0), 0), value(/n must be a whole number >= 1/));
  t.throws(
    () => data.checkerboard().sample(key(0), 5, { dtype: "int32" as never }),
    value(/dtype must be one of/),
  );
  t.throws(() => data.gaussianMixture({ means: [[1, 2]], modes: 3 }), value(/either means, or modes/));
  t.throws(() => data.gaussianMixture({ means: [[1, 2], [1]] }), {
    name: "ShapeError",
    message: /means\[0\] has 2 numbers, means\[1\] 1/,
  });
  t.throws(() => data.gaussianMixture({ means: [] }), value(/at least one point/));
  t.throws(() => data.gaussianMixture({ weights: [1] }), value(/8 numbers/));
  t.throws(() => data.gaussianMixture({ modes: 2, weights: [0, 0] }), value(/not all be 0/));
  t.throws(() => data.rings({ radii: [] }), value(/at least one number/));
  t.throws(() => data.spiral({ turns: -1 }), value(/turns/));
  t.throws(() => data.twoMoons({ noise: -1 }), value(/noise/));
  t.throws(() => data.fromTensor([[1]] as never), value(/expected a Tensor/));
  t.throws(() => data.fromTensor(fx.zeros([0, 2])), {
    name: "ShapeError",
    message: /at least one row, got \[0, 2\]/,
  });
});
