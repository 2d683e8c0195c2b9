import fs from "node:fs/promises";
import { join } from "node:path";
import * as fx from "fluxion";
import t from "tap";
import { decodePng } from "./support/png.js";

const count = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].length;

/** The positions of the points that a figure draws, in the units of the picture. */
function circles(svg: string): [number, number][] {
  const marks = /<path transform="translate\((-?[\d.]+),(-?[\d.]+)\)" d="M[^"]*A[^"]*" fill=/g;
  return [...svg.matchAll(marks)].map((match) => [Number(match[1]), Number(match[2])]);
}

t.test("scatter draws a mark for each point, on equal axes", async (t) => {
  const points = fx.tensor([
    [0, 0],
    [2, 2],
    [-2, -2],
    [1, -1],
    [Number.NaN, 0],
  ]);
  const svg = await fx.plot.scatter(points, { scale: 2, size: 200, title: "Four points" }).toSVG();
  t.same(circles(svg), [
    [100, 100],
    [200, 0],
    [0, 200],
    [150, 150],
  ]);
  t.match(svg, /Four points/);
  const pairs = await fx.plot
    .scatter([
      [0, 0],
      [1, 1],
    ])
    .toSVG();
  t.equal(circles(pairs).length, 2, "pairs of numbers do as well");
});

t.test("scatter draws a fixed choice of many points", async (t) => {
  const points = Array.from({ length: 10_000 }, (_, i) => [Math.sin(i), Math.cos(i)] as const);
  const draw = () => fx.plot.scatter(points, { limit: 500 }).toSVG();
  const marks = circles(await draw());
  t.equal(marks.length, 500);
  t.same(circles(await draw()), marks, "the same picture each time");
});

t.test("a grid has a panel for each cell, with labels", async (t) => {
  const cloud = (n: number) => Array.from({ length: n }, (_, i) => [i / n - 0.5, 0.5 - i / n] as const);
  const figure = fx.plot.scatterGrid(
    [
      [cloud(3), cloud(4)],
      [cloud(5), undefined],
      [cloud(1), cloud(2)],
    ],
    { rows: ["T = 1", "T = 10", "T = 1"], columns: ['<FM> & "x"', "MF"], scale: 1, title: "Grid" },
  );
  const svg = await figure.toSVG();
  t.equal(circles(svg).length, 3 + 4 + 5 + 1 + 2);
  t.equal(count(svg, />T = 1</g), 2, "labels may repeat");
  t.match(svg, /&lt;FM&gt; &amp; "x"|&lt;FM&gt; &amp; &quot;x&quot;/);
});

t.test("twelve panels of 3,000 points are drawn in seconds", async (t) => {
  const points = Array.from({ length: 3000 }, (_, i) => [Math.sin(i * i), Math.cos(i)] as const);
  const panels = [0, 1, 2, 3].map(() => [points, points, points]);
  const start = performance.now();
  const svg = await fx.plot
    .scatterGrid(panels, { rows: ["a", "b", "c", "d"], columns: ["x", "y", "z"] })
    .toSVG();
  t.ok(performance.now() - start < 10_000);
  t.equal(circles(svg).length, 36_000);
});

t.test("loss curves show raw values, a moving average and a legend", async (t) => {
  const losses = (level: number) =>
    Float32Array.from({ length: 5000 }, (_, i) => level + 100 / (i + 1) + (i % 7) / 70);
  const histories = { FM: losses(1.7), MF: losses(3), "i<MF": losses(1.9) };
  const svg = await fx.plot.lossCurves(histories).toSVG();
  t.equal(count(svg, /stroke-width="0.7"/g), 3, "raw");
  t.equal(count(svg, /stroke-width="2"/g), 3, "smoothed");
  t.match(svg, />FM<.*>MF<.*>i&lt;MF</s);
  t.ok(svg.length < 200_000, "long histories are thinned out");
  t.match(await fx.plot.lossCurves({ FM: [1, Number.NaN, 3] }, { log: true }).toSVG(), /<svg/);
  t.match(await fx.plot.lossCurves({ FM: [] }).toSVG(), /<svg/, "an empty history is an empty figure");
});

/** A panel of curves with values 8 / evaluations, and a little more for each further name. */
function qualityPanel(title: string, names: readonly string[]): fx.plot.QualityPanel {
  const curve = (i: number) =>
    [1, 2, 8].map((evaluations) => ({ evaluations, values: [(8 * (1 + i / 10)) / evaluations] }));
  return { title, curves: Object.fromEntries(names.map((name, i) => [name, curve(i)])) };
}

/** Positions of the points on the lines of a figure of quality; the legend's own points come last. */
function qualityMarks(svg: string): [number, number][] {
  const group = /<g class="[^"]*mark-symbol[^"]*"[^>]*>(.*?)<\/g>/gs;
  const marks = [...svg.matchAll(group)].map((match) => match[1]!).join("");
  return [...marks.matchAll(/translate\((-?[\d.]+),(-?[\d.]+)\)/g)].map((m) => [Number(m[1]), Number(m[2])]);
}

t.test("quality curves have equal steps for doubled evaluations, and the mean over trainings", async (t) => {
  const curve = (...means: number[]) =>
    means.map((mean, i) => ({ evaluations: 2 ** i, values: [0.9 * mean, 1.1 * mean] }));
  const panel = { title: "moons", floor: 1e-3, curves: { MF: curve(1, 0.1, 0.01) } };
  const svg = await fx.plot.qualityCurves([panel], { log: true }).toSVG();
  const [a, b, c] = qualityMarks(svg) as [number, number][];
  const near = (x: number, y: number) => Math.abs(x - y) < 0.05;
  t.ok(near(b![0] - a![0], c![0] - b![0]), "a doubling is a step to the right");
  t.ok(near(b![1] - a![1], c![1] - b![1]), "a tenth is a step down");
  t.ok(b![0] > a![0] && b![1] > a![1]);
  for (const text of ["moons", "MF", "floor", "evaluations of the network", "0.005"])
    t.ok(svg.includes(`>${text}<`), text);
  t.equal(count(svg, /fill-opacity="0.18"|opacity="0.18"/g), 1, "a band over trainings");
  const floor = /stroke-dasharray="2,3"/g;
  t.equal(count(svg, floor), 1);

  const plain = await fx.plot.qualityCurves([qualityPanel("board", ["MF"])], { measure: "distance" }).toSVG();
  t.equal(count(plain, floor), 0);
  t.notMatch(plain, />floor</);
  t.match(plain, />distance</);
  const [first, , last] = qualityMarks(plain) as [number, number][];
  t.ok(near((250 - first![1]) / (250 - last![1]), 8), "without log the axis is plain, from 0");
});

t.test("many methods can be told apart, and are the same in each panel", async (t) => {
  const names = Array.from({ length: 23 }, (_, i) => `<method> ${i}`);
  const panels = [qualityPanel("board", names), qualityPanel("moons", names.slice(20))];
  const { spec } = fx.plot.qualityCurves(panels);
  type Range = { scale: { domain: string[]; range: unknown[] } };
  type View = { layer: { encoding: Partial<Record<"color" | "shape" | "strokeDash", Range>> }[] };
  const look = (view: View) => {
    const encodings = Object.assign({}, ...view.layer.map(({ encoding }) => encoding));
    const ranges = [encodings.color, encodings.shape, encodings.strokeDash].map((e: Range) => e.scale);
    for (const { domain } of ranges) t.same(domain, names);
    return names.map((_, i) => JSON.stringify(ranges.map(({ range }) => range[i])));
  };
  const [board, moons, legend] = (spec["hconcat"] as View[]).map(look);
  t.equal(new Set(board).size, 23);
  t.same([moons, legend], [board, board]);
  const svg = await fx.plot.qualityCurves(panels).toSVG();
  for (const i of [0, 22]) t.equal(count(svg, new RegExp(`>&lt;method&gt; ${i}<`, "g")), 1, "one legend");
  t.equal(qualityMarks(svg).length, 3 * 23 + 3 * 3 + 23);
});

/** The picture that an SVG embeds. */
function embedded(svg: string) {
  const base64 = /xlink:href="data:image\/png;base64,([^"]*)"/.exec(svg)![1]!;
  return decodePng(Buffer.from(base64, "base64"));
}
const grey = (v: number) => [v, v, v, 255];
const clear = [0, 0, 0, 0];

t.test("an image grid has the pixels of its images, row after row, with gaps", async (t) => {
  const ramp = fx.tensor([-1, 1, 0, -3, 5, -0.2, 1, 1, 1, Number.NaN, Infinity, -1], { shape: [3, 2, 2] });
  // Two pixels of 32 units each make a width of 64, and the gap is a pixel.
  for (const images of [ramp, fx.reshape(ramp, [3, 2, 2, 1]), fx.cast(ramp, "float64")]) {
    const png = embedded(await fx.plot.imageGrid(images).toSVG());
    t.same([png.width, png.height], [5, 5]);
    t.same([png.at(0, 0), png.at(1, 0), png.at(0, 1), png.at(1, 1)], [0, 255, 128, 0].map(grey));
    t.same([png.at(3, 0), png.at(4, 0), png.at(3, 1)], [255, 102, 255].map(grey), "cut off at the ends");
    t.same([png.at(2, 0), png.at(0, 2), png.at(3, 3), png.at(4, 4)], [clear, clear, clear, clear], "clear");
    const red = [0xd0, 0x4a, 0x35, 255];
    t.same([png.at(0, 3), png.at(1, 3), png.at(0, 4), png.at(1, 4)], [grey(255), red, red, grey(0)]);
  }
  const one = embedded(await fx.plot.imageGrid(ramp, { columns: 3, range: [0, 5] }).toSVG());
  t.same([one.width, one.height], [8, 2]);
  t.same([one.at(1, 0), one.at(3, 0), one.at(0, 0)], [51, 255, 0].map(grey), "another range");
  const colours = fx.tensor([1, -1, 0, -1, 1, 1], { shape: [1, 1, 2, 3] });
  const rgb = embedded(await fx.plot.imageGrid(colours).toSVG());
  t.same(
    [rgb.at(0, 0), rgb.at(1, 0)],
    [
      [255, 0, 128, 255],
      [0, 255, 255, 255],
    ],
  );
  const counts = fx.tensor([0, 255, 51, 102], { shape: [1, 2, 2], dtype: "int32" });
  const whole = embedded(await fx.plot.imageGrid(counts, { range: [0, 255] }).toSVG());
  t.same([whole.at(1, 0), whole.at(0, 1)], [255, 51].map(grey), "whole numbers");
});

t.test("the PNG of an image grid shows its pixels crisp", async (t) => {
  const board = fx.tensor([-1, 1, 1, -1, 1, 1, 1, 1], { shape: [2, 2, 2] });
  const figure = fx.plot.imageGrid(board, { size: 20 });
  // 10 units of padding, then pixels of 10 units, all of them doubled.
  const png = decodePng(await figure.toPNG());
  t.same([png.width, png.height], [2 * (10 + 20 + 10 + 20 + 10), 2 * (10 + 20 + 10)]);
  for (const offset of [0, 9, 19]) {
    const at = (x: number, y: number) => png.at(20 + 20 * x + offset, 20 + 20 * y + offset);
    t.same([at(0, 0), at(1, 0), at(0, 1), at(1, 1)], [0, 255, 255, 0].map(grey), "to the edge of a pixel");
    t.same([at(2, 0), at(3, 0)], [255, 255].map(grey), "white between images");
  }
});

t.test("an image grid has titles and labels", async (t) => {
  const images = fx.zeros([5, 16, 16, 1]);
  const titles = ["ring", "<square>", "a", "b", "triangle"];
  const svg = await fx.plot
    .imageGrid(images, {
      title: "Samples",
      titles,
      rowLabels: ["one step", 'data & "x"'],
      columnLabels: ["A", "B", "C"],
    })
    .toSVG();
  for (const text of ["Samples", "ring", "&lt;square&gt;", "triangle", "one step", "A", "B", "C"])
    t.ok(svg.includes(`>${text}<`), text);
  t.match(svg, /data &amp; ("|&quot;)x("|&quot;)/);
  t.equal(embedded(svg).width, 3 * 16 + 2, "as many columns as labels");
  const heights = (text: string) =>
    Number(new RegExp(`translate\\([\\d.-]+,([\\d.-]+)\\)"[^>]*>${text}<`).exec(svg)![1]);
  t.ok(heights("ring") < heights("triangle"));
  t.ok(heights("one step") > heights("ring"), "a title is above its image, the label of a row beside it");

  const byRows = await fx.plot.imageGrid(images, { rowLabels: ["1", "2", "3", "4", "5"] }).toSVG();
  t.equal(embedded(byRows).width, 16, "as many rows as labels");
  t.equal(embedded(await fx.plot.imageGrid(images).toSVG()).width, 3 * 16 + 2, "else about square");
});

t.test("a hundred small images are a small file", async (t) => {
  const figure = fx.plot.imageGrid(fx.data.glyphs().sample(fx.random.key(0), 100));
  t.ok((await figure.toSVG()).length < 40_000);
  const again = fx.plot.imageGrid(fx.data.glyphs().sample(fx.random.key(0), 100));
  t.equal(await again.toSVG(), await figure.toSVG(), "the same each time");
});

t.test("figures are saved by the ending of their name", async (t) => {
  const folder = t.testdir({});
  const figure = fx.plot.scatter([[0.5, 0.5]], { scale: 1, size: 100, color: "#ff0000" });
  await figure.save(join(folder, "deep", "a.svg"));
  await figure.save(join(folder, "a.png"));
  await figure.save(join(folder, "a.json"));
  t.match(await fs.readFile(join(folder, "deep", "a.svg"), "utf8"), /^<svg /);
  const png = await fs.readFile(join(folder, "a.png"));
  t.same([...png.subarray(0, 8)], [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const width = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(16);
  const single = await figure.toPNG({ scale: 1 });
  t.equal(width(png), 2 * width(single), "two pixels for each unit, unless asked otherwise");
  t.equal(JSON.parse(await fs.readFile(join(folder, "a.json"), "utf8")).width, 100);
  await t.rejects(figure.save(join(folder, "a.gif")), {
    name: "ValueError",
    message: /\.svg, \.png or \.json/,
  });
  await t.rejects(figure.toPNG({ scale: 0 }), { name: "ValueError" });
});

t.test("wrong input is named", async (t) => {
  t.throws(() => fx.plot.scatter(fx.zeros([3, 3])), {
    name: "ShapeError",
    message: /\[n, 2\], got \[3, 3\]/,
  });
  t.throws(() => fx.plot.scatter([[1, 2, 3]]), { name: "ShapeError", message: /point 0/ });
  t.throws(() => fx.plot.scatter([[1, 2]], { scale: -1 }), { name: "ValueError", message: /scale/ });
  t.throws(() => fx.plot.scatter([[1, 2]], { limit: 0 }), { name: "ValueError", message: /limit/ });
  t.throws(() => fx.plot.scatterGrid([[]], { rows: [], columns: [] }), {
    name: "ValueError",
    message: /row labels/,
  });
  t.throws(() => fx.plot.scatterGrid([[]], { rows: ["a"], columns: ["b"] }), {
    name: "ValueError",
    message: /row 0/,
  });
  t.throws(() => fx.plot.lossCurves({ a: [1] }, { window: 0.5 }), { name: "ValueError", message: /window/ });

  const quality =
    (panels: unknown, options: object = {}) =>
    () =>
      fx.plot.qualityCurves(panels as fx.plot.QualityPanel[], options);
  const points = (...values: unknown[]) => [{ title: "a", curves: { MF: [{ evaluations: 1, values }] } }];
  const at = (...evaluations: unknown[]) => [
    { title: "a", curves: { MF: evaluations.map((n) => ({ evaluations: n, values: [1] })) } },
  ];
  for (const [draw, message] of [
    [quality([]), /panels must be an array of at least one panel, got an array of 0/],
    [quality({}), /panels must be an array/],
    [quality([{ curves: {} }]), /panels\[0\]: title must be a string, got undefined/],
    [quality([{ title: "a", curves: {} }]), /panels\[0\]: there is no curve/],
    [quality([{ title: "a", curves: [] }]), /panels\[0\]: curves must be an object/],
    [
      quality([{ title: "a", curves: { MF: [] } }]),
      /panels\[0\], "MF": a curve must be an array of at least/,
    ],
    [quality([{ title: "a", curves: { MF: [1] } }]), /"MF", point 0: options must be an object/],
    [quality([...points(1), ...at(2, 0)]), /panels\[1\], "MF", point 1: evaluations must be a whole number/],
    [quality(at(4, 4)), /"MF", point 1: a point with 4 evaluations came before/],
    [quality(points()), /point 0: values must be an array of at least one number, got an array of 0/],
    [quality(points(1, Number.NaN)), /point 0: values\[1\] must be a finite number, got NaN/],
    [quality(points(0), { log: true }), /values\[0\] must be a finite number > 0, got 0/],
    [quality([{ ...points(1)[0], floor: 0 }], { log: true }), /floor must be a finite number > 0/],
    [quality([{ ...points(1)[0], floors: 0 }]), /unknown option "floors"/],
    [quality(points(1), { width: 0 }), /width must be a finite number > 0/],
    [quality(points(1), { log: "y" }), /log must be true or false/],
    [quality(points(1), { logarithmic: true }), /unknown option "logarithmic"/],
  ] as const)
    t.throws(draw, { name: "ValueError", message });

  const images = fx.zeros([4, 8, 8, 1]);
  const grid =
    (options: object, of: unknown = images) =>
    () =>
      fx.plot.imageGrid(of as fx.Tensor, options);
  const value = (message: RegExp) => ({ name: "ValueError", message });
  const shape = (message: RegExp) => ({ name: "ShapeError", message });
  t.throws(grid({}, [[1]]), value(/images must be a Tensor/));
  t.throws(grid({}, fx.zeros([8, 8])), shape(/\[n, height, width\].* got \[8, 8\]/));
  t.throws(grid({}, fx.zeros([2, 8, 8, 2])), shape(/got \[2, 8, 8, 2\]/));
  t.throws(grid({}, fx.zeros([0, 8, 8])), shape(/at least one pixel, got \[0, 8, 8\]/));
  t.throws(grid({ cols: 2 }), value(/unknown option "cols"/));
  t.throws(grid({ columns: 0 }), value(/columns must be a whole number >= 1/));
  t.throws(grid({ titles: ["a"] }), value(/titles must be one for each of 4 images, got 1/));
  t.throws(grid({ titles: "abcd" }), value(/titles must be an array of strings/));
  t.throws(grid({ columns: 2, rowLabels: ["a"] }), value(/rowLabels must be one for each of 2 rows, got 1/));
  t.throws(grid({ columns: 2, columnLabels: ["a"] }), value(/columnLabels .* 2 columns, got 1/));
  t.throws(grid({ rowLabels: [] }), value(/rowLabels/));
  t.throws(grid({ columnLabels: [] }), value(/columns/));
  t.throws(grid({ range: [1, -1] }), value(/range must be \[low, high\]/));
  t.throws(grid({ range: [1, 1] }), value(/range must have two values, got 1 twice/));
  t.throws(grid({ size: 0 }), value(/size .* > 0/));
  t.throws(grid({ size: 1e6 }), value(/too large a picture/));
  t.throws(grid({ size: 1e-3 }, fx.zeros([2, 3000, 3000])), value(/too large a picture/));
});
