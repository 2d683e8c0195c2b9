// npm run compare: its arithmetic, its command line, and a short comparison from end to end.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import fs from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as fx from "fluxion";
import t from "tap";
import { compare } from "../examples/compare/comparison.js";
import { dataSets } from "../examples/compare/data-sets.js";
import { Yardstick } from "../examples/compare/measures.js";
import { methods } from "../examples/compare/methods.js";
import { type Options, readOptions } from "../examples/compare/options.js";
import type { Run } from "../examples/compare/results.js";
import { summarize } from "../examples/compare/summary.js";
import { markdownComparison, plainComparison } from "../examples/compare/table.js";
import { optimization } from "../examples/compare/training.js";
import { UsageError } from "../examples/support/flags.js";

const options = (...args: string[]) => readOptions(args) as Options;

/** What a comparison prints. */
async function printed(asked: Options): Promise<string> {
  const lines: string[] = [];
  await compare(asked, { print: (line) => lines.push(line), progress: false });
  return lines.join("\n");
}

t.test("a short comparison writes table, numbers and figure, and goes on with what is missing", async (t) => {
  const out = join(t.testdir({}), "deep", "compare");
  const short = ["--quick", "--steps", "8", "--batch", "32", "--samples", "100", "--out", out];
  const gaussians = [...short, "--data", "eight-gaussians"];
  const first = await printed(options(...gaussians, "--objectives", "fm,mf-0.75"));
  t.match(first, /2 runs of 8 steps, batch 32/);
  t.match(first, /1 of 2: eight Gaussians, FM, seed 0: loss .*\n2 of 2: eight Gaussians, MF-0.75, seed 0/);
  t.notMatch(first, /Kept from before/);
  const json = async () => JSON.parse(await fs.readFile(join(out, "compare.json"), "utf8"));
  const { settings, floors, runs, summary } = await json();
  t.match(settings, { steps: 8, batchSize: 32, samples: 100, backend: fx.backend() });
  t.ok(floors["eight-gaussians"].energyDistance > 0);
  t.same(
    runs.map(({ data, method, seed }: Run) => [data, method, seed]),
    [
      ["eight-gaussians", "FM", 0],
      ["eight-gaussians", "MF-0.75", 0],
    ],
  );
  t.same(Object.keys(runs[0].fieldErrors), ["velocity"]);
  t.same(Object.keys(runs[1].fieldErrors), ["velocity", "averageVelocity", "oneStep"]);
  for (const error of Object.values(runs[1].fieldErrors)) t.ok(Number.isFinite(error));
  type Points = { evaluations: number; energyDistance: number }[];
  const counts = Object.entries(runs[0].curves as Record<string, Points>).map(([name, points]) => [
    name,
    ...points.map(({ evaluations }) => evaluations),
  ]);
  t.same(counts, [
    ["FM, Euler", 1, 2, 4, 8, 16],
    ["FM, Heun", 2, 4, 8, 16],
  ]);
  t.equal(summary.length, 3);
  const markdown = await fs.readFile(join(out, "compare.md"), "utf8");
  for (const text of [first, markdown])
    for (const row of ["FM, Euler", "FM, Heun", "MF-0.75", "data"]) t.ok(text.includes(row), row);
  t.match(await fs.readFile(join(out, "compare.svg"), "utf8"), />eight Gaussians<.*>MF-0.75</s);
  t.same([...(await fs.readFile(join(out, "compare.png"))).subarray(1, 4)], [...Buffer.from("PNG")]);

  const more = await printed(options(...gaussians, "--objectives", "fm,mf-0.75", "--seeds", "2"));
  t.match(more, /Kept from before, and not done again: 2, /);
  t.match(more, /1 of 2: eight Gaussians, FM, seed 1: .*\n2 of 2: eight Gaussians, MF-0.75, seed 1/);
  const grown = await json();
  t.same(grown.runs.slice(0, 2), runs, "what was there stays");
  t.same(grown.summary[0].seeds, [0, 1]);

  const again = await printed(options(...gaussians, "--objectives", "fm", "--seed-from", "1"));
  t.notMatch(again, /1 of /, "nothing is left to do");
  t.notMatch(
    await fs.readFile(join(out, "compare.md"), "utf8"),
    /MF-0.75/,
    "the table has what is asked for",
  );
  t.equal((await json()).runs.length, 4, "and all runs are kept");

  await t.rejects(printed(options(...gaussians, "--steps", "9")), {
    constructor: UsageError,
    message: /compare\.json holds runs with other settings \(steps 8, now 9.*choose another --out/,
  });
  await fs.writeFile(join(out, "compare.json"), "[1, 2");
  await t.rejects(printed(options(...gaussians)), { constructor: UsageError, message: /cannot be read/ });
  await fs.writeFile(join(out, "compare.json"), "[]");
  await t.rejects(printed(options(...gaussians)), {
    constructor: UsageError,
    message: /holds no comparison/,
  });
});

t.test("a training that diverged is named and left out, and the others are shown", async (t) => {
  const out = t.testdir({});
  const asked = options(
    ..."--quick --steps 4 --batch 16 --samples 50 --data two-moons".split(" "),
    "--out",
    out,
  );
  const [fm, mf] = methods;
  await printed({ ...asked, methods: [fm!] });
  const diverges = { ...mf!, run: () => Promise.reject(new fx.NonFiniteError("step 3 failed")) };
  const text = await printed({ ...asked, methods: [fm!, diverges] });
  t.match(text, /1 of 1: two moons, MF, seed 0: diverged\. step 3 failed/);
  t.match(text, /MF diverged on two moons with seed 0, which is left out/);
  t.match(text, /FM, Euler/);
  const svg = await fs.readFile(join(out, "compare.svg"), "utf8");
  t.match(svg, />FM, Heun</);
  t.notMatch(svg, />MF</);
  const breaks = { ...mf!, name: "other", run: () => Promise.reject(new TypeError("a mistake")) };
  const interrupted = printed({ ...asked, seeds: [1], methods: [fm!, breaks] });
  await t.rejects(interrupted, { name: "TypeError" }, "a mistake ends it");
  t.match(
    await printed({ ...asked, seeds: [1], methods: [fm!] }),
    /not done again: 1, /,
    "what was done is kept",
  );

  const alone = t.testdir({});
  t.match(await printed({ ...asked, out: alone, methods: [diverges] }), /there is no figure/);
  t.notOk(existsSync(join(alone, "compare.svg")));
});

/** A run as it is kept, with numbers that are easy to sum up. */
function run(method: string, seed: number, energyDistance: number, millisecondsPerStep: number): Run {
  const names = methods.find(({ name }) => name === method)!.curves;
  const point = { evaluations: 1, energyDistance, validity: 0.5, tileTotalVariation: 0.25 };
  const curves = Object.fromEntries(names.map((name) => [name, [point]]));
  return { data: "checkerboard", method, seed, loss: 1, millisecondsPerStep, curves };
}

t.test("rows have means, ranges, and the median of costs by seed", (t) => {
  const runs = [
    run("FM", 0, 0.1, 2),
    run("FM", 1, 0.3, 20),
    run("MF", 0, 0.01, 3),
    run("MF", 1, 0.03, 10),
    run("MF", 2, 0.08, 1),
    run("iMF", 7, 0.08, 1),
  ];
  const asked = options("--seeds", "3", "--data", "checkerboard", "--objectives", "FM,MF,iMF");
  const rows = summarize(runs, asked);
  t.same(
    rows.map(({ curve, seeds, cost }) => [curve, seeds, cost]),
    [
      ["FM, Euler", [0, 1], 1],
      ["FM, Heun", [0, 1], 1],
      ["MF", [0, 1, 2], 1],
    ],
    "(3 / 2 + 10 / 20) / 2 = 1; a seed without FM has no cost; seeds that are not asked for are left out",
  );
  const { energyDistance } = rows[2]!.points[0]!;
  t.ok(Math.abs(energyDistance.mean - 0.04) < 1e-15);
  t.same([energyDistance.least, energyDistance.greatest], [0.01, 0.08]);
  t.equal(summarize(runs, { ...asked, seeds: [2] })[0]!.cost, undefined);

  const floors = { checkerboard: { energyDistance: 4e-4, validity: 1, tileTotalVariation: 0.0123 } };
  const plain = plainComparison(rows, floors, asked.dataSets).split("\n");
  t.match(plain[6], /^ {14}MF +40\.0 +- +- +- +- +0\.500 +- +0\.250 +-( +-){3} +1\.00$/);
  t.match(plain[7], /^ +10\.0-80\.0 +0\.500-0\.500 +0\.250-0\.250$/);
  t.match(plain[8], /data( +0\.40){5}( +1\.000){2}( +0\.012){2}( +-){4}$/);
  const markdown = markdownComparison(rows, floors, asked.dataSets).split("\n");
  t.match(markdown[4], /^\| {2}\| MF \| 40\.0 \(10\.0 to 80\.0\) \| - \|/);
  t.equal(new Set(markdown.map((line) => line.split("|").length)).size, 1);
  t.end();
});

t.test("fields are held against the exact ones", (t) => {
  const gaussians = dataSets.find(({ mixture }) => mixture !== undefined)!;
  const yardstick = new Yardstick(gaussians, 200);
  const exact = fx.flow.mixtureAverageVelocity(gaussians.mixture!);
  const none = yardstick.fieldErrors(exact, {})!;
  t.ok(
    none.velocity < 1e-5 && none.averageVelocity === 0 && none.oneStep === 0,
    "the exact one has no error",
  );
  const off = {
    ...exact,
    apply: (...args: Parameters<typeof exact.apply>) => fx.add(exact.apply(...args), 0.5),
  };
  const half = yardstick.fieldErrors(off, {})!;
  for (const error of Object.values(half))
    t.ok(Math.abs(error - 0.5) < 1e-4, `${error} is the root of 0.5^2`);
  t.equal(new Yardstick(dataSets[0]!, 50).fieldErrors(exact, {}), undefined);
  t.end();
});

t.test("the schedule fits in short trainings too", (t) => {
  t.same(optimization(5001), { peak: 3e-3, warmupSteps: 100, ema: 0.999 });
  t.same(optimization(200), { peak: 3e-3, warmupSteps: 50, ema: 0.975 });
  t.same(optimization(1), { peak: 3e-3, warmupSteps: 0, ema: 0 });
  t.end();
});

t.test("flags are read, and a wrong one says what would be right", (t) => {
  const all = options();
  t.match(all, { seeds: [0], steps: 5001, batchSize: 1024, samples: 10_000, out: "runs/compare" });
  t.same([all.dataSets, all.methods], [dataSets, methods]);
  const some = options("--seeds", "2", "--seed-from", "5", "--objectives", "IMF, fm", "--data", "two-moons");
  t.same(some.seeds, [5, 6]);
  t.same(
    some.methods.map(({ name }) => name),
    ["FM", "iMF"],
    "in the order of the table",
  );
  t.equal(options("--quick").out, "runs/compare-quick");
  t.equal(readOptions(["--help"]), undefined);
  const wrong: [string[], RegExp][] = [
    [["--data", "moons"], /--data: there is no "moons"; use checkerboard, two-moons, eight-gaussians/],
    [["--objectives", "fm,"], /--objectives: there is no ""; use FM, MF/],
    [["--seeds", "0"], /--seeds takes a whole number from 1/],
    [["--batch", "1e3"], /--batch takes a whole number/],
    [["--backend", "tpu"], /--backend: unknown backend "tpu"/],
    [["--fast"], /Unknown option '--fast'/],
    [["more"], /Unexpected argument 'more'/],
  ];
  for (const [args, message] of wrong)
    t.throws(() => readOptions(args), { constructor: UsageError, message }, args.join(" "));
  t.end();
});

t.test("the command ends with a message and a status", (t) => {
  const program = fileURLToPath(new URL("../examples/compare.js", import.meta.url));
  const call = (...args: string[]) => spawnSync(process.execPath, [program, ...args], { encoding: "utf8" });
  const wrong = call("--steps", "none");
  t.equal(wrong.status, 2);
  t.match(wrong.stderr, /^--steps takes a whole number .*\nSee npm run compare -- --help\n$/);
  const help = call("--help");
  t.equal(help.status, 0);
  t.match(help.stdout, /usage: npm run compare/);
  t.end();
});
