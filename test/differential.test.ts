import * as fx from "fluxion";
import t from "tap";
import { setThreads, threads } from "#lib/backend/cpu.js";
import { type Graph, liveNodes, type Node } from "#lib/graph/graph.js";
import { emit, evaluate } from "#lib/graph/trace.js";
import { rules } from "#lib/ops/rules.js";
import { backends, hasCpu } from "./support/backends.js";
import { difference, eachSeed, sameBits, total } from "./support/compare.js";
import { type RandomProgram, randomProgram } from "./support/random-program.js";

type T = fx.Tensor;

/** The outputs; then a float64 number that depends on all float outputs, and its gradient by all float inputs. */
function withGradient({ f, floats }: RandomProgram): (...inputs: T[]) => T[] {
  const loss = (...xs: T[]): [T, T[]] => {
    const outputs = f(...xs);
    return [total(outputs), outputs];
  };
  return (...xs) => {
    const [[value, outputs], gradients] = fx.valueAndGrad(loss, { argnums: floats, hasAux: true })(...xs);
    return [...outputs, value, ...(gradients as T[])];
  };
}

/** Every node of a graph by itself: nothing fused, nothing planned. */
function oneByOne(graph: Graph, inputs: readonly T[]): T[] {
  const all = [...inputs, ...graph.captured];
  const values = new Map<Node, T>(graph.inputs.map((node, i) => [node, all[i]!]));
  for (const node of liveNodes(graph.nodes, graph.outputs)) {
    if (node.op === "input") continue;
    const operands = node.inputs.map((input) => values.get(input)!);
    values.set(node, evaluate(operands, (xs) => [emit(node.op, xs, node.attrs)])[0]!);
  }
  return graph.outputs.map((node) => values.get(node)!);
}

const on = <R>(backend: fx.BackendName, work: () => R): R => {
  fx.setBackend(backend);
  return work();
};
const onTypescript = <R>(work: () => R): R => on("typescript", work);
const onCpu = <R>(work: () => R): R => on("cpu", work);

/** What is wrong with a program, in words: how its values differ between the ways to compute them. */
function disagreements(program: RandomProgram): string[] {
  const { inputs, f } = program;
  const outputs = onTypescript(() => f(...inputs));
  const g = withGradient(program);
  const { graph } = fx.inspect(g, ...inputs);
  const single = liveNodes(graph.nodes, graph.outputs).some((node) => node.dtype === "float32");
  const reference = onTypescript(() => oneByOne(graph, inputs));
  const wrong: string[] = [];
  const compare = (how: string, got: readonly T[], want: readonly T[]) => {
    if (got.length !== want.length) wrong.push(`${how}: ${got.length} results, expected ${want.length}`);
    want.forEach((x, i) => {
      const isGradient = i >= outputs.length;
      const whole = x.dtype !== "float32" && x.dtype !== "float64";
      // Gradients divide and multiply by more than values do.
      const tolerance = whole ? 0 : single ? (isGradient ? 1e-3 : 2e-4) : 1e-9;
      const found = difference(got[i]!, x, tolerance);
      if (found !== "") wrong.push(`${how}, ${isGradient ? "gradient" : "output"} ${i}: ${found}`);
    });
  };
  compare("operations at once, typescript", outputs, reference.slice(0, outputs.length));
  // Each operation by itself is a kernel to compile on cuda, where only whole programs run.
  if (hasCpu)
    compare(
      "operations at once, cpu",
      onCpu(() => f(...inputs)),
      reference.slice(0, outputs.length),
    );
  for (const name of backends)
    compare(
      `jit, ${name}`,
      on(name, () => fx.jit(g)(...inputs)),
      reference,
    );
  return wrong;
}

const perBatch = 40;
for (let batch = 0; batch < 9; batch++) {
  const first = batch * perBatch;
  t.test(
    `random programs ${first} to ${first + perBatch - 1} give the same values and gradients by every way`,
    async (t) => {
      t.same(
        eachSeed(first, perBatch, (seed) => disagreements(randomProgram(seed))),
        [],
      );
    },
  );
}

t.test("deep random programs give the same values and gradients by every way", async (t) => {
  t.same(
    eachSeed(50_300, 60, (seed) => disagreements(randomProgram(seed, undefined, 30))),
    [],
  );
});

t.test("together the random programs meet every primitive, and gradients that are not zero", async (t) => {
  const met = new Set<string>();
  let slopes = 0;
  for (let seed = 0; seed < 9 * perBatch; seed++) {
    const program = randomProgram(seed);
    const { graph } = fx.inspect(withGradient(program), ...program.inputs);
    const live = liveNodes(graph.nodes, graph.outputs);
    for (const node of live) met.add(node.op);
    if (
      graph.outputs
        .slice(-program.floats.length)
        .some((node) => node.op !== "constant" && node.op !== "input")
    )
      slopes++;
  }
  // Barriers come from checkpoints alone: test/checkpoint.test.ts.
  t.same(
    Object.keys(rules).filter((name) => name !== "barrier" && !met.has(name)),
    [],
  );
  t.ok(slopes > 4.5 * perBatch, `${slopes} programs have a gradient that is computed`);
});

t.test("random programs over larger tensors give the same values and gradients by every way", async (t) => {
  t.same(
    eachSeed(10_000, 30, (seed) => disagreements(randomProgram(seed, [0, 1, 17, 33, 64], 10))),
    [],
  );
});

t.test("forward and reverse mode of random programs are each other's transpose", async (t) => {
  const check = (seed: number): string[] => {
    const program = randomProgram(seed);
    const { inputs, floats, f } = program;
    const { graph } = fx.inspect(f, ...inputs);
    if (liveNodes(graph.nodes, graph.outputs).some((node) => node.dtype === "float32")) return [];
    const g = (...xs: T[]) => {
      const all = [...inputs];
      floats.forEach((at, i) => {
        all[at] = xs[i]!;
      });
      return f(...all).filter((y) => y.dtype === "float64");
    };
    const primals = floats.map((i) => inputs[i]!);
    const random = (x: T, salt: number) =>
      fx.random.normal(fx.random.key(1000 * seed + salt), x.shape, { dtype: "float64" });
    const v = primals.map((x, i) => random(x, i));
    const [y, dy] = fx.jvp(g, primals, v);
    const [value, pullback] = fx.vjp(g, ...primals);
    const w = y.map((x, i) => random(x, 100 + i));
    const dx = pullback(w);
    const dot = (a: readonly T[], b: readonly T[]) =>
      a.reduce((sum, x, i) => sum + fx.sum(fx.mul(x, b[i]!)).item(), 0);
    const [forward, reverse] = [dot(w, dy), dot(dx, v)];
    const wrong = y.map((x, i) => difference(value[i]!, x, 1e-9)).filter((found) => found !== "");
    if (!(Math.abs(forward - reverse) <= 1e-9 * (1 + Math.abs(forward))))
      wrong.push(`<w, jvp(v)> = ${forward}, <vjp(w), v> = ${reverse}`);
    return wrong;
  };
  t.same(
    onTypescript(() => eachSeed(20_000, 80, check)),
    [],
  );
  if (hasCpu)
    t.same(
      onCpu(() => eachSeed(20_080, 80, check)),
      [],
    );
});

t.test("on cpu the bits do not depend on the number of threads", { skip: !hasCpu }, async (t) => {
  const before = threads();
  t.teardown(() => setThreads(before));
  const check = (seed: number): string[] => {
    const program = randomProgram(seed, [1, 16, 33, 64, 130], 10);
    const run = fx.jit(withGradient(program));
    setThreads(1);
    const one = run(...program.inputs);
    return [2, 3, 8].flatMap((count) => {
      setThreads(count);
      return run(...program.inputs).flatMap((x, i) =>
        sameBits(x, one[i]!) ? [] : [`output ${i} differs with ${count} threads`],
      );
    });
  };
  t.same(
    onCpu(() => eachSeed(30_000, 40, check)),
    [],
  );
  const large = fx.jit((x: T, w: T) => fx.grad((w: T) => fx.mean(fx.gelu(fx.matmul(x, w))))(w));
  onCpu(() => {
    const [x, w] = [
      fx.random.normal(fx.random.key(1), [700, 300]),
      fx.random.normal(fx.random.key(2), [300, 257]),
    ];
    setThreads(1);
    const one = large(x, w);
    for (const count of [2, 3, 8]) {
      setThreads(count);
      t.ok(sameBits(large(x, w), one), `a large product with ${count} threads`);
    }
  });
});
