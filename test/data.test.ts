import * as fx from "fluxion";
import t from "tap";
import { close } from "./support/close.js";
import { onEach } from "./support/each-backend.js";

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

const images = [data.shapes(), data.shapes({ size: 9 }), data.glyphs(), data.glyphs({ size: 12 })];
const int32 = (values: number[]) => fx.tensor(values, { dtype: "int32" });
/** Whether the numbers are the same; t.same would be slow for images. */
const alike = (a: fx.Tensor, b: fx.Tensor) =>
  Buffer.from(a.toTypedArray().buffer).equals(Buffer.from(b.toTypedArray().buffer));
/** The ink of each image in pixels: 1 is ink, -1 ground. */
const inkOf = (x: fx.Tensor) => flat(fx.sum(fx.mul(fx.add(x, 1), 0.5), [1, 2, 3]));

onEach("unusual sizes give images as well", (t) => {
  for (const source of [
    data.shapes({ size: 1 }),
    data.shapes({ size: 3 }),
    data.glyphs({ size: 1 }),
    data.glyphs({ height: [1e-30, 1e-30] }),
    data.glyphs({ strokeWidth: [1, 1], rotation: 1e6, shift: 1 }),
  ])
    t.ok(
      flat(source.sample(key(0), 50)).every((v) => v >= -1 && v <= 1),
      source.name,
    );
});

onEach("images and their labels are decided by the key, inside of a compiled function and outside", (t) => {
  for (const source of images) {
    const [size] = source.dim;
    t.same(source.dim, [size, size, 1]);
    t.equal(source.classNames.length, source.classes);
    t.ok(data.isLabelled(source));
    const { data: x, label } = source.sampleLabelled(key(1), 60);
    t.same([x.shape, x.dtype], [[60, size, size, 1], "float32"], source.name);
    t.same([label.shape, label.dtype], [[60], "int32"]);
    t.ok(
      flat(x).every((v) => v >= -1 && v <= 1),
      "between ground and ink",
    );
    t.same([Math.min(...flat(x)), Math.max(...flat(x))], [-1, 1]);
    t.ok(alike(source.sample(key(1), 60), x), "sample gives the same data");
    t.notOk(alike(source.sample(key(2), 60), x));
    t.notSame(flat(source.sampleLabelled(key(2), 60).label), flat(label));
    const compiled = fx.jit((k: fx.Tensor) => source.sampleLabelled(k, 60))(key(1));
    t.same(flat(compiled.label), flat(label));
    close(t, flat(compiled.data), flat(x), 1e-4, "inside of jit");

    const double = source.sampleLabelled(key(1), 20, f64);
    t.equal(double.data.dtype, "float64");
    t.equal(double.label.dtype, "int32");
    t.ok(flat(double.data).every((v) => v >= -1 && v <= 1));
  }
});

t.test("the backends draw the same images", async (t) => {
  const available = fx.backends().filter((b) => b.available && b.name !== "cuda");
  for (const source of images)
    for (const dtype of ["float32", "float64"] as const) {
      const drawn = available.map(({ name }) => {
        fx.setBackend(name);
        return source.sampleLabelled(key(3), 40, { dtype });
      });
      for (const other of drawn.slice(1)) {
        t.same(flat(other.label), flat(drawn[0]!.label));
        close(t, flat(other.data), flat(drawn[0]!.data), dtype === "float32" ? 1e-4 : 1e-12, source.name);
      }
    }
});

t.test("all classes are equally likely, and can be chosen", async (t) => {
  for (const source of images) {
    const n = 4000;
    const counts = new Array<number>(source.classes).fill(0);
    const { data: x, label } = source.sampleLabelled(key(4), n);
    for (const k of flat(label)) counts[k]!++;
    const expected = n / source.classes;
    const chi = counts.reduce((a, c) => a + (c - expected) ** 2 / expected, 0);
    t.ok(chi < source.classes + 4 * Math.sqrt(2 * source.classes), `${source.name}: ${counts}`);

    const again = source.sampleLabelled(key(4), n, { labels: label });
    t.ok(alike(again.data, x), "the labels that were drawn give what was drawn");
    const labels = int32([1, 1, 0, source.classes - 1]);
    const chosen = source.sampleLabelled(key(5), 4, { labels });
    t.same(flat(chosen.label), flat(labels));
    t.same(chosen.data.shape.slice(0, 1), [4]);
    const inside = fx.jit((k: fx.Tensor, l: fx.Tensor) => source.sampleLabelled(k, 4, { labels: l }));
    close(t, flat(inside(key(5), labels).data), flat(chosen.data), 1e-4, "also inside of jit");
    t.throws(
      () => inside(key(5), int32([0, 0, 0, source.classes])),
      { name: /Error/ },
      "which knows the classes",
    );
  }
});

t.test("a shape covers the area that its radius says, wherever it lies", async (t) => {
  // For the radius 1 of the circle around it.
  const long = Math.sqrt(1 - 0.26 ** 2);
  const areas: Record<fx.data.ShapeName, number> = {
    circle: Math.PI,
    ring: Math.PI * (1 - 0.6 ** 2),
    square: 2,
    frame: 2 - (Math.SQRT2 - 0.64) ** 2,
    triangle: (3 * Math.sqrt(3)) / 4,
    diamond: 1,
    cross: 2 * (2 * 0.26) * (2 * long) - (2 * 0.26) ** 2,
    // Ten triangles between the centre, a tip and a notch, where two of the pentagram's lines meet.
    star: 5 * (Math.cos((2 * Math.PI) / 5) / Math.cos(Math.PI / 5)) * Math.sin(Math.PI / 5),
  };
  t.same(Object.keys(areas), data.shapes().classNames);
  for (const share of [0.3, 0.375]) {
    const source = data.shapes({ size: 64, radius: [share, share] });
    for (const [k, name] of source.classNames.entries()) {
      const labels = int32(new Array(24).fill(k));
      const ink = inkOf(source.sampleLabelled(key(6), 24, { labels, ...f64 }).data);
      const want = areas[name as fx.data.ShapeName] * (64 * share) ** 2;
      const worst = Math.max(...ink.map((area) => Math.abs(area / want - 1)));
      t.ok(worst < 0.01, `${name}: about ${want.toFixed(1)} pixels (${worst})`);
    }
  }
  const small = data.shapes({ classes: ["star", "circle"], radius: [0.25, 0.25] });
  t.same([small.classes, small.classNames], [2, ["star", "circle"]]);
  const circles = small.sampleLabelled(key(7), 500, { labels: int32(new Array(500).fill(1)), ...f64 }).data;
  // The ink falls from 1 to 0 over the radii r - 1/2 to r + 1/2.
  const wide = Math.PI * (4 ** 2 + 1 / 12);
  t.ok(Math.abs(mean(inkOf(circles)) / wide - 1) < 0.01, "also where pixels are large");
  const centre = flat(fx.mean(fx.add(circles, 1), [0, 3]));
  const sides = [0, 1, 2, 3].map((side) =>
    mean(centre.filter((_, i) => (side < 2 ? i % 16 : Math.floor(i / 16)) < 8 === (side % 2 === 0))),
  );
  t.ok(Math.max(...sides) / Math.min(...sides) < 1.15, "no side is preferred");
  const still = data.shapes({ size: 11, radius: [0.5, 0.5], rotation: 0, classes: ["cross"] });
  const cross = still.sample(key(8), 1, f64);
  close(t, flat(fx.flip(cross, 1)), flat(cross), 1e-9, "an upright cross is its mirror image");
  close(t, flat(fx.transpose(cross, [0, 2, 1, 3])), flat(cross), 1e-9);
});

t.test("glyphs have the height, the stroke and the place that were asked for", async (t) => {
  const still = { size: 40, rotation: 0, shift: 0, strokeWidth: [0.1, 0.1], height: [0.6, 0.6] } as const;
  const upright = data.glyphs(still);
  const digits = Array.from({ length: 10 }, (_, digit) => digit);
  const x = upright.sampleLabelled(key(9), 10, { labels: int32(digits), ...f64 }).data;
  const ink = fx.mul(fx.add(x, 1), 0.5).toArray() as number[][][][];
  const rows = ink.map((image) => image.map((row) => row.reduce((a, [v]) => a + v!, 0)));
  // 24 pixels from stroke to stroke, which are 4 wide, around the middle of 40 pixels.
  for (const digit of digits)
    t.same(
      rows[digit]!.flatMap((amount, y) => (amount > 0.5 ? [y] : [])),
      Array.from({ length: 28 }, (_, i) => i + 6),
      `${digit} has its height`,
    );
  close(t, rows[1]!.slice(20, 31), new Array(11).fill(4), 1e-9, "the stem of the one is 4 pixels wide");
  const flipped = fx.flip(fx.flip(x, 1), 2);
  const image = (of: fx.Tensor, digit: number) => flat(fx.slice(of, [digit, 0, 0, 0], [1, 40, 40, 1]));
  close(t, image(flipped, 9), image(x, 6), 1e-9, "a nine is a six upside down");
  close(t, image(flipped, 0), image(x, 0), 1e-9, "and a zero a zero");

  const wide = inkOf(data.glyphs({ ...still, strokeWidth: [0.15, 0.15] }).sample(key(9), 200, f64));
  const thin = inkOf(data.glyphs({ ...still, strokeWidth: [0.05, 0.05] }).sample(key(9), 200, f64));
  const ratio = mean(wide) / mean(thin);
  t.ok(
    ratio > 2.4 && ratio < 3,
    `strokes of three times the width have nearly three times the ink (${ratio})`,
  );
  const ordinary = mean(flat(data.glyphs().sample(key(10), 500)));
  t.ok(ordinary > -0.85 && ordinary < -0.5, `most of an image is ground (mean ${ordinary})`);
});

t.test("labels say what is in an image", async (t) => {
  // The class whose mean image is nearest; a guess would be right once in ten or eight times.
  for (const [source, least] of [
    [data.glyphs(), 0.85],
    [data.shapes({ rotation: 0, radius: [0.4, 0.45] }), 0.85],
  ] as const) {
    const average = (k: number) =>
      flat(fx.mean(source.sampleLabelled(key(11), 200, { labels: int32(new Array(200).fill(k)) }).data, 0));
    const averages = source.classNames.map((_, k) => average(k));
    const drawn = source.sampleLabelled(key(12), 400);
    const pixels = fx.reshape(drawn.data, [400, 256]).toArray() as number[][];
    const distance = (a: number[], b: number[]) => a.reduce((sum, v, i) => sum + (v - b[i]!) ** 2, 0);
    const right = flat(drawn.label).filter((label, i) => {
      const distances = averages.map((image) => distance(image, pixels[i]!));
      return distances.indexOf(Math.min(...distances)) === label;
    });
    t.ok(right.length / 400 > least, `${source.name}: ${right.length} of 400 are told by their class`);
  }
});

t.test("fromTensor keeps each row with its label", async (t) => {
  const values = [2, 0, 1, 0, 2, 2];
  const x = fx.tensor(
    values.map((label, row) => [label, row]),
    { dtype: "float64" },
  );
  const source = data.fromTensor(x, { labels: int32(values) });
  t.same([source.classes, source.classNames, source.dim], [3, ["0", "1", "2"], 2]);
  t.ok(data.isLabelled(source));
  t.notOk(data.isLabelled(data.fromTensor(x)));
  const { data: drawn, label } = source.sampleLabelled(key(13), 3000);
  t.same([drawn.dtype, label.dtype, label.shape], ["float64", "int32", [3000]]);
  t.same(
    points(drawn).map(([of]) => of),
    flat(label),
  );
  t.same(flat(source.sample(key(13), 3000)), flat(drawn));
  t.same(flat(data.fromTensor(x).sample(key(13), 3000)), flat(drawn), "as without labels");
  const twos = flat(label).filter((k) => k === 2).length;
  t.ok(Math.abs(twos - 1500) < 120, `half of the rows have label 2: ${twos}`);

  const labels = int32(Array.from({ length: 3000 }, (_, i) => i % 3));
  const inside = fx.jit((k: fx.Tensor, l: fx.Tensor) => source.sampleLabelled(k, 3000, { labels: l }));
  for (const chosen of [source.sampleLabelled(key(14), 3000, { labels }), inside(key(14), labels)]) {
    t.same(flat(chosen.label), flat(labels));
    const counts = new Array<number>(6).fill(0);
    const rows = points(chosen.data).map(([, row]) => row!);
    for (const row of rows) counts[row]!++;
    t.same(
      rows.map((row) => values[row]),
      flat(labels),
    );
    t.same(
      points(chosen.data).map(([of]) => of),
      flat(labels),
    );
    const expected = [1000 / 3, 500, 1000, 500, 1000 / 3, 1000 / 3];
    t.ok(
      counts.every((c, row) => Math.abs(c - expected[row]!) < 90),
      `the rows of a class are alike: ${counts}`,
    );
  }
  t.throws(() => inside(key(14), int32(new Array(3000).fill(3))), { name: /Error/ });
  const named = data.fromTensor(x, { labels: int32(values), classNames: ["a", "b", "c"] });
  t.same(named.classNames, ["a", "b", "c"]);
  t.equal(named.sampleLabelled(key(0), 2, { dtype: "float32" }).data.dtype, "float32");
});

t.test("wrong options and labels of images and labelled data are named", async (t) => {
  const value = (message: RegExp) => ({ name: "ValueError", message });
  t.throws(() => data.shapes({ width: 3 } as never), value(/shapes: unknown option "width"/));
  t.throws(() => data.shapes({ size: 0 }), value(/size must be a whole number >= 1/));
  t.throws(() => data.glyphs({ size: 2000 }), value(/size must be a finite number <= 1024, got 2000/));
  t.throws(() => data.shapes({ classes: [] }), value(/classes must be an array of at least one name/));
  t.throws(() => data.shapes({ classes: ["blob"] as never }), value(/classes\[0\] must be one of "circle"/));
  t.throws(() => data.shapes({ classes: ["ring", "ring"] }), value(/"ring" twice/));
  t.throws(() => data.shapes({ radius: [0.3, 0.6] }), value(/radius\[1\] .* <= 0.5, got 0.6/));
  t.throws(
    () => data.shapes({ radius: [0.4, 0.3] }),
    value(/radius must be \[low, high\], got \[0.4, 0.3\]/),
  );
  t.throws(
    () => data.shapes({ radius: 0.3 as never }),
    value(/radius must be a pair \[low, high\], got 0.3/),
  );
  t.throws(() => data.shapes({ rotation: Number.NaN }), value(/rotation/));
  t.throws(() => data.glyphs({ strokeWidth: [0, 0.1] }), value(/strokeWidth\[0\] .* > 0/));
  t.throws(() => data.glyphs({ height: [0.5, 2] }), value(/height\[1\]/));
  t.throws(() => data.glyphs({ shift: -0.1 }), value(/shift/));
  t.throws(() => data.glyphs({ classes: ["0"] } as never), value(/unknown option "classes"/));

  const source = data.glyphs();
  const draw = (options: object, n = 2) => source.sampleLabelled(key(0), n, options);
  t.throws(
    () => source.sample(key(0), 2, { labels: int32([0, 1]) } as never),
    value(/unknown option "labels"/),
  );
  t.throws(() => draw({ labels: [0, 1] }), value(/labels must be a Tensor, got an array of 2/));
  t.throws(() => draw({ labels: fx.zeros([2]) }), {
    name: "DTypeError",
    message: /labels must be int32, got float32/,
  });
  t.throws(() => draw({ labels: int32([0, 1, 2]) }), {
    name: "ShapeError",
    message: /labels must be \[2\], one for each row, got \[3\]/,
  });
  t.throws(() => draw({ labels: int32([0, 10]) }), value(/labels must be from 0 to 9, got 10 in row 1/));
  t.throws(() => draw({ labels: int32([-1, 0]) }), value(/got -1 in row 0/));
  t.throws(() => draw({ dtype: "int32" }), value(/dtype must be one of/));
  t.throws(() => draw({}, 0), value(/n must be a whole number >= 1/));

  const x = fx.zeros([3, 2]);
  const labelled = (options: object) => data.fromTensor(x, options);
  t.throws(() => labelled({ label: int32([0, 0, 0]) }), value(/unknown option "label"/));
  t.throws(() => labelled({ labels: int32([0, 0]) }), {
    name: "ShapeError",
    message: /labels must be \[3\]/,
  });
  t.throws(() => labelled({ labels: fx.zeros([3]) }), { name: "DTypeError", message: /int32/ });
  t.throws(() => labelled({ labels: int32([0, -2, 1]) }), value(/0 or more, got -2 in row 1/));
  t.throws(() => labelled({ labels: int32([0, 2, 2]) }), value(/no row has label 1, of 3 classes/));
  t.throws(() => labelled({ labels: int32([0, 1, 2 ** 31 - 1]) }), value(/no row has label 2/));
  t.throws(() => labelled({ classNames: ["a"] }), value(/classNames need labels/));
  const labels = int32([0, 1, 1]);
  t.throws(
    () => labelled({ labels, classNames: ["a"] }),
    value(/label 1 has no name: there are 1 classNames/),
  );
  t.throws(() => labelled({ labels, classNames: ["a", "b", "c"] }), value(/no row has label 2/));
  t.throws(() => labelled({ labels, classNames: "ab" }), value(/array of strings/));
  t.throws(
    () => fx.jit((l: fx.Tensor) => data.fromTensor(x, { labels: l }).sample(key(0), 2))(labels),
    value(/labels must be known numbers/),
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
