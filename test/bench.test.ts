// The bench's arithmetic and its command line, and the measurements of the machine that it relies on. No timing is
// asserted.
import * as fx from "fluxion";
import t from "tap";
import { measureBandwidth, measurePeak, setThreads, threads, workspaceBytes } from "#lib/backend/cpu.js";
import { lower } from "#lib/compile/lower.js";
import { programGraph } from "#lib/compile/program.js";
import { BackendError } from "#lib/errors.js";
import { benchAttention } from "../bench/attention.js";
import {
  type AttentionSize,
  attentionFlops,
  attentionInputs,
  attentionProgram,
  attentionWorks,
  fusedAttention,
  plainAttention,
} from "../bench/attention-work.js";
import type { Bench } from "../bench/bench.js";
import { FlagError, readFlags, sections } from "../bench/flags.js";
import { macsPerSample, objectives, stepFlops } from "../bench/floor.js";
import { engineering } from "../bench/format.js";
import { cardOf, floorOn } from "../bench/gpu/cards.js";
import { ditFlops, gpuCases, gpuSections, precisions } from "../bench/gpu/cases.js";
import { readGpuFlags } from "../bench/gpu/flags.js";
import { markdownOf, shortTime, tableOf } from "../bench/gpu/table.js";
import { alternate, fastest, type Side } from "../bench/measure.js";
import { Peak } from "../bench/peak.js";
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

t.test("attention's operations are those of its products, for the pairs that are seen", (t) => {
  const size: AttentionSize = { heads: 4, n: 4096, m: 4096, d: 64, e: 64, causal: false };
  const value = 2 * 4 * 4096 ** 2 * 128;
  const derivative = 2 * 4 * 4096 ** 2 * (3 * 64 + 2 * 64);
  t.equal(attentionFlops("value", size), value);
  t.equal(attentionFlops("jvp", size), value + derivative);
  t.equal(attentionFlops("vjp", size), value + derivative);
  t.equal(attentionFlops("hvp", size), undefined);
  const causal = (n: number, m: number) =>
    attentionFlops("value", { heads: 1, n, m, d: 2, e: 3, causal: true });
  t.equal(causal(3, 3), 2 * (1 + 2 + 3) * 5);
  t.equal(causal(4, 2), 2 * (1 + 2 + 2 + 2) * 5);
  t.equal(causal(2, 4), 2 * (1 + 2) * 5);
  t.end();
});

t.test("attention and its composition are the same work", (t) => {
  for (const causal of [false, true]) {
    const size: AttentionSize = { heads: 2, n: 5, m: 5, d: 3, e: 4, causal };
    for (const work of attentionWorks) {
      const [fused, plain] = [fusedAttention(size), plainAttention(size)].map((attend) =>
        fx.tree.leaves(fx.jit(attentionProgram(work, attend))(...attentionInputs(size))),
      ) as [fx.Tensor[], fx.Tensor[]];
      t.equal(fused.length, { value: 1, jvp: 2, vjp: 4, hvp: 6 }[work]);
      const errors = fused.map((x, i) => fx.max(fx.abs(x.sub(plain[i]!))).item() as number);
      t.ok(Math.max(...errors) < 1e-5, `${work}${causal ? ", causal" : ""}: ${errors}`);
    }
  }
  t.end();
});

t.test("attention's rows have times, ratios and memory, and a line for each side", async (t) => {
  const lines: string[] = [];
  const bench: Bench = {
    quick: true,
    rounds: 1,
    peers: {},
    peak: new Peak(),
    print: (line) => lines.push(line),
    progress: () => {},
  };
  const size: AttentionSize = { heads: 1, n: 256, m: 256, d: 8, e: 8, causal: true };
  const before = fx.backend();
  const rows = await benchAttention(bench, [size]);
  t.equal(fx.backend(), before);
  t.same(
    rows.map(({ work }) => work),
    attentionWorks,
  );
  for (const { work, seconds, shareOfPeak, memory, plain, torch, ...rest } of rows) {
    t.match(rest, size);
    t.ok(seconds.median > 0 && plain.seconds.median > 0 && plain.ratio.median > 0, work);
    t.equal(shareOfPeak === undefined, work === "hvp", "what has no count has no share");
    t.equal(torch, undefined);
    for (const { temporaries, whole } of [memory, plain.memory]) t.ok(whole >= temporaries, work);
    t.ok(plain.memory.temporaries >= 4 * 256 * 256, "the composition holds all scores");
    t.equal(plain.memoryRatio, plain.memory.whole / memory.whole);
  }
  const sides = lines.slice(2).map((line) => /fx\.attention|composition/.exec(line)?.[0]);
  t.same(sides, [undefined, ...attentionWorks.flatMap(() => ["fx.attention", "composition"])]);
});

t.test("a workspace holds the temporaries, those of loops too, and what each thread needs", (t) => {
  const planOf = (f: (x: fx.Tensor) => unknown) => {
    const { graph, memory } = fx.inspect(f, fx.zeros([64, 300]));
    return { plan: lower(programGraph(graph)), memory };
  };
  const all = threads();
  t.teardown(() => setThreads(all));
  const onThreads = (count: number, plan: Parameters<typeof workspaceBytes>[0]) => {
    setThreads(count);
    return workspaceBytes(plan);
  };
  const chain = planOf((x) => fx.softmax(fx.matmul(x, fx.softmax(fx.transpose(x)))));
  t.ok(chain.memory.arena > 0);
  t.ok(onThreads(1, chain.plan) >= chain.memory.arena);
  t.ok(onThreads(5, chain.plan) > onThreads(1, chain.plan), "each thread has a part of its own");

  const turn = (carry: fx.Tensor) => [fx.matmul(fx.matmul(carry, fx.transpose(carry)), carry), []] as const;
  const loop = planOf((x) => fx.scan(turn, x, [], { length: 3 })[0]);
  t.ok(loop.memory.local >= 4 * 64 * 64, "a turn has a temporary");
  t.ok(onThreads(1, loop.plan) >= loop.memory.arena + loop.memory.local);
  t.throws(() => workspaceBytes({ ...chain.plan, outputs: [99] }), BackendError);
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

t.test("the GPU's table is made of the lines that the bench noted", (t) => {
  const step = { section: "steps", precision: "tf32", flops: 495e6, bytes: 3.35e6 };
  const lines = [
    { device: "NVIDIA H100 80GB HBM3", versions: { JAX: "missing: no module named jax" } },
    { name: "FM, 4 x 128, batch 4096, tf32", ...step },
    { case: "FM, 4 x 128, batch 4096, tf32", side: "fluxion", turns: [2e-6, 1e-6, 3e-6] },
    { case: "FM, 4 x 128, batch 4096, tf32", side: "PyTorch eager", turns: [8e-6] },
    { name: "MF, 4 x 128, batch 4096, tf32", ...step, bytes: 6.7e6 },
    { case: "MF, 4 x 128, batch 4096, tf32", side: "fluxion", turns: [3e-6] },
    { case: "MF, 4 x 128, batch 4096, tf32", side: "PyTorch eager", failed: "out of memory" },
    { skipped: "a product", reason: "since 5 s had passed" },
  ];
  const text = lines.map((line) => JSON.stringify(line)).join("\n");
  const table = tableOf(`${text}\n{"case": "MF, 4 x`);
  t.equal(table.device, "NVIDIA H100 80GB HBM3");
  const [fm, mf] = table.rows;
  t.equal(table.rows.length, 2, "a line that is cut off is left out");
  t.match(fm, { floor: { products: 1e-6, memory: 1e-6, seconds: 1e-6 } });
  t.match(fm!.cells, [
    { side: "fluxion", seconds: { median: 2e-6 }, ratio: 1 },
    { side: "PyTorch eager", seconds: { median: 8e-6 }, ratio: 4 },
  ]);
  t.equal(mf!.floor!.seconds, 2e-6, "the memory's time is the longer one");
  t.same(mf!.cells[1], { side: "PyTorch eager", failed: "out of memory" });
  t.same(table.overhead, [{ name: "MF over FM, 4 x 128, batch 4096, tf32", sides: { fluxion: 1.5 } }]);
  const written = markdownOf(table);
  t.match(
    written,
    /FM, 4 x 128, batch 4096, tf32 +\| 495 MFLOP, 3.35 MB \| 1.00 us .*2.00 us ± 25 % \| 2.00 /,
  );
  t.match(written, /8.00 us ± 0 %, 4.00x/);
  t.match(written, /2.00 us \(memory\).*failed/);
  t.match(written, /- PyTorch eager, MF, .*: out of memory/);
  t.match(written, /- JAX: missing: no module named jax/);
  t.match(written, /- a product: not measured, since 5 s had passed/);
  t.same(tableOf("").rows, [], "a run that noted nothing has an empty table");
  const elsewhere = tableOf(text.replace("H100", "A100")).rows[0]!;
  t.equal(elsewhere.floor, undefined, "a card that is not known has no floor");
  t.equal(shortTime(1.5), "1.50 s");
  t.equal(shortTime(0.0123), "12.3 ms");
  t.end();
});

t.test("the floor on a card is that of its data sheet", (t) => {
  const [h100, h200] = ["NVIDIA H100 80GB HBM3", "NVIDIA H200"].map((name) => cardOf(name)!);
  const work = { precision: "float32", flops: 67e9, bytes: 4.8e9 } as const;
  t.same(floorOn(h200!, work), { products: 1e-3, memory: 1e-3, seconds: 1e-3 });
  t.equal(floorOn(h100!, work).seconds, 4.8e9 / 3.35e12);
  t.equal(cardOf("NVIDIA A100-SXM4-80GB"), undefined);
  t.end();
});

t.test("the GPU's cases have names of their own, and count their products", (t) => {
  const cases = gpuCases(gpuSections, precisions, false);
  t.equal(new Set(cases.map(({ name }) => name)).size, cases.length);
  t.equal(cases.filter(({ section }) => section === "steps").length, 4 * 4 * 3);
  t.match(gpuCases(["steps"], precisions, false)[0], { precision: "tf32", flops: 2 * 49_792 * 3 * 4096 });
  // One sample of one token, 4 wide: 4 products with 4 x 4 weights, 3 with 4 x 8, modulation, and attention's.
  const block = { task: "dit", batch: 1, tokens: 1, width: 4, heads: 1, mlp: 8 } as const;
  const [linear, attention] = [4 * 16 + 3 * 32 + 6 * 16, 2 * 4];
  t.equal(ditFlops({ ...block, work: "gradients" }), 2 * (3 * linear + 3 * attention));
  t.equal(ditFlops({ ...block, work: "jvp" }), 2 * (2 * linear + 3 * attention));
  t.end();
});

t.test("the GPU bench's flags are read, and a wrong one says what would be right", (t) => {
  t.match(readGpuFlags([]), { only: gpuSections, precision: precisions, seconds: 480, backend: "cuda" });
  t.match(readGpuFlags(["--quick"]), { quick: true, precision: ["float32", "tf32"] });
  t.match(readGpuFlags(["--only", "gemm,steps", "--precision", "tf32"]), { only: ["steps", "gemm"] });
  t.equal(readGpuFlags(["--help"]), "help");
  const wrong: [string[], RegExp][] = [
    [["--only", "gem"], /--only: there is no "gem"; use tutorial, steps, dit, gemm/],
    [["--precision", "fp16"], /--precision: there is no "fp16"; use float32, tf32, bfloat16/],
    [["--backend", "gpu"], /--backend: there is no "gpu"; use cuda/],
    [["--seconds", "0"], /--seconds: needs a number above 0, got 0/],
    [["--seconds", "soon"], /--seconds: needs a number above 0, got soon/],
    [["--fast"], /Unknown option '--fast'/],
  ];
  for (const [args, message] of wrong)
    t.throws(() => readGpuFlags(args), { constructor: FlagError, message }, args.join(" "));
  t.end();
});
