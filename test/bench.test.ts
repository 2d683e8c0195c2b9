// The bench's arithmetic and its command line, and the measurements of the machine that it relies on. No timing is
// asserted.
import t from "tap";
import { measureBandwidth, measurePeak } from "#lib/backend/cpu.js";
import { BackendError } from "#lib/errors.js";
import { FlagError, readFlags, sections } from "../bench/flags.js";
import { macsPerSample, objectives, stepFlops } from "../bench/floor.js";
import { engineering } from "../bench/format.js";
import { alternate, fastest, type Side } from "../bench/measure.js";
import { threadCounts } from "../bench/scaling.js";
import { ratio, summarize } from "../bench/statistics.js";

t.test("median and spread are those of the middle half", (t) => {
  t.same(summarize([5, 1, 3, 2, 4]), { median: 3, spread: 1 / 3 });
  t.same(summarize([1, 2]), { median: 1.5, spread: 0.25 / 1.5 });
  t.same(summarize([7]), { median: 7, spread: 0 });
  t.throws(() => summarize([]), RangeError);
  t.end();
});

t.test("ratios are taken round by round, as far as both sides went", (t) => {
  // The machine slows down threefold: within each round the ratio is still 2.
  t.same(ratio([2, 4, 6], [1, 2, 3]), { median: 2, spread: 0 });
  t.same(ratio([2, 4], [1, 2, 100]), { median: 2, spread: 0 });
  t.end();
});

t.test("the floor counts the multiply-adds of the layers", (t) => {
  t.equal(macsPerSample(4, 128, 4), 49_920);
  t.equal(macsPerSample(3, 128, 4), 49_920 - 128);
  t.equal(stepFlops("fm", 128, 4, 4096), 2 * 49_792 * 3 * 4096);
  t.equal(stepFlops("mf", 128, 4, 4096), 2 * 49_920 * 4 * 4096);
  t.equal(stepFlops("mf75", 128, 4, 4096), 2 * 49_920 * 3.25 * 4096);
  t.equal(stepFlops("imf", 128, 4, 1), 2 * 49_920 * 5);
  t.equal(objectives.length, 4);
  t.end();
});

t.test("numbers are written with three digits and a prefix", (t) => {
  t.equal(engineering(1.2345e11, "FLOP/s"), "123 GFLOP/s");
  t.equal(engineering(0.5, "s"), "0.500 s");
  t.same(threadCounts(1), [1]);
  t.same(threadCounts(6), [1, 2, 4, 6]);
  t.same(threadCounts(8), [1, 2, 4, 8]);
  t.end();
});

t.test("sides take turns, and a peer that fails is left out with its reason", async (t) => {
  const order: string[] = [];
  const side = (label: string, more: Partial<Side> = {}): Side => ({
    label,
    turn: async () => order.push(label),
    ...more,
  });
  const broken = side("c", {
    peer: true,
    turn: () => Promise.reject(new Error("no such thing")),
  });
  const [a, b, c] = await alternate([side("a"), side("b", { rounds: 1 }), broken], 2);
  t.equal(order.join(""), "ababa");
  t.equal(a.turns.length, 2, "the first turn is not measured");
  t.equal(b.turns.length, 1);
  t.equal(c.failed, "no such thing");
  const { peer: _, ...ours } = broken;
  await t.rejects(alternate([ours], 1), /no such thing/, "what is ours must not fail");
});

t.test("the fastest way that works is taken", async (t) => {
  const way = (label: string, seconds: number): Side => ({ label, turn: async () => seconds });
  const fails: Side = { label: "fails", turn: () => Promise.reject(new Error("cannot")) };
  t.equal((await fastest([way("slow", 2), fails, way("quick", 1)], true)).label, "quick");
  await t.rejects(fastest([fails], false), /cannot/);
});

t.test("flags are read, and a wrong one says what would be right", (t) => {
  t.same(readFlags([]), { only: [...sections], quick: false });
  t.same(readFlags(["--only", "steps, gemm", "--quick"]), { only: ["gemm", "steps"], quick: true });
  t.equal(readFlags(["--help"]), "help");
  const wrong: [string[], RegExp][] = [
    [["--only", "gem"], /there is no section "gem"; use peak, gemm/],
    [["--only", ""], /there is no section ""/],
    [["--fast"], /Unknown option '--fast'/],
    [["--json"], /argument missing/],
    [["more"], /Unexpected argument 'more'/],
    [["--svg", "figure.png"], /must end in \.svg/],
    [["--json", "no/such/folder/out.json"], /there is no folder .*no.such.folder/],
    [["--peers", "no/such/folder"], /there is no folder no.such.folder/],
  ];
  for (const [args, message] of wrong)
    t.throws(() => readFlags(args), { constructor: FlagError, message }, args.join(" "));
  t.end();
});

t.test("the machine's limits are positive numbers, and faulty arguments are refused", (t) => {
  for (const threads of [1, 2, 5]) {
    const rates = [
      measurePeak(threads, 0.001),
      measureBandwidth(threads, 4096),
      measureBandwidth(threads, 4),
    ];
    for (const rate of rates) t.ok(Number.isFinite(rate) && rate > 0, `${rate} on ${threads} threads`);
  }
  for (const threads of [0, -1, 257, 1.5, Number.NaN, "2"] as number[]) {
    t.throws(() => measurePeak(threads, 0.001), BackendError, `${threads} threads`);
    t.throws(() => measureBandwidth(threads, 4096), BackendError, `${threads} threads`);
  }
  for (const seconds of [0, -1, 61, Number.NaN, Number.POSITIVE_INFINITY, "1"] as number[])
    t.throws(() => measurePeak(1, seconds), BackendError, `${seconds} seconds`);
  for (const bytes of [0, 3, -4, 4.5, Number.NaN, 1e13] as number[])
    t.throws(() => measureBandwidth(1, bytes), BackendError, `${bytes} bytes`);
  t.end();
});
