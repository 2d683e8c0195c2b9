import fs from "node:fs/promises";
import { join } from "node:path";
import * as fx from "fluxion";
import t from "tap";

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
});
