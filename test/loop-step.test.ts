// The plan's loop step, under the contract, on both backends.
import { spawnSync } from "node:child_process";
import * as fx from "fluxion";
import t, { type Test } from "tap";
import type { Backend } from "#lib/backend/backend.js";
import { cpuBackend } from "#lib/backend/cpu.js";
import { typescriptBackend } from "#lib/backend/typescript/index.js";
import { lower } from "#lib/compile/lower.js";
import type { BufferSpec, LoopStep, MapStep, Plan, Step, StrippedPlan, View } from "#lib/compile/plan.js";
import { stripMine } from "#lib/compile/strip.js";
import { BackendError } from "#lib/errors.js";
import { allocate, type DType } from "#lib/tensor/dtype.js";
import { mutated } from "./support/mutated.js";

const hasCpu = fx.backends().some((b) => b.name === "cpu" && b.available);

function onEach(title: string, body: (t: Test, backend: Backend) => void | Promise<void>): void {
  t.test(`${title} (typescript)`, (t) => Promise.resolve(body(t, typescriptBackend)));
  t.test(`${title} (cpu)`, { skip: !hasCpu }, (t) => Promise.resolve(body(t, cpuBackend())));
}

const buffer = (kind: BufferSpec["kind"], dtype: DType, size: number): BufferSpec => ({
  kind,
  dtype,
  size,
  offset: 0,
});
const view = (buffer: number, strides: readonly number[] = [1], offset = 0): View => ({
  buffer,
  offset,
  strides,
});

/** One turn: with k two consts, c a carry and x a slice of two: c' = c k + x, y = c' and n' = n + 1, an integer. */
function turn(): Plan {
  const load = (dtype: DType, at: number) => ({ op: "load", dtype, view: view(at) }) as const;
  const f = "float64" as const;
  const steps: Step[] = [
    {
      kind: "map",
      shape: [2],
      expression: {
        instructions: [
          load(f, 0),
          load(f, 1),
          load(f, 3),
          { op: "mul", dtype: f, args: [1, 0] },
          { op: "add", dtype: f, args: [3, 2] },
        ],
        outputs: [
          { value: 4, view: view(4) },
          { value: 4, view: view(6) },
        ],
      },
    },
    {
      kind: "map",
      shape: [1],
      expression: {
        instructions: [
          load("int32", 2),
          { op: "constant", dtype: "int32", value: 1 },
          { op: "add", dtype: "int32", args: [0, 1] },
        ],
        outputs: [{ value: 2, view: view(5) }],
      },
    },
  ];
  return {
    buffers: [
      buffer("input", f, 2),
      buffer("input", f, 2),
      buffer("input", "int32", 1),
      buffer("input", f, 2),
      buffer("output", f, 2),
      buffer("output", "int32", 1),
      buffer("output", f, 2),
    ],
    steps,
    inputs: [0, 1, 2, 3],
    outputs: [4, 5, 6],
    arenaBytes: 0,
  };
}

/** The loop around it: inputs k, c, n and xs; outputs c, n and ys. */
function loopPlan(length: number, reverse = false, change: Partial<LoopStep> = {}): Plan {
  const f = "float64" as const;
  const step: LoopStep = {
    kind: "loop",
    plan: turn(),
    length,
    reverse,
    consts: [0],
    inits: [1, 2],
    xs: [3],
    carries: [4, 5],
    ys: [6],
    ...change,
  };
  return {
    buffers: [
      buffer("input", f, 2),
      buffer("input", f, 2),
      buffer("input", "int32", 1),
      buffer("input", f, 2 * length),
      buffer("output", f, 2),
      buffer("output", "int32", 1),
      buffer("output", f, 2 * length),
    ],
    steps: [step],
    inputs: [0, 1, 2, 3],
    outputs: [4, 5, 6],
    arenaBytes: 0,
  };
}

onEach("a loop runs its plan for every slice, forwards or from the last", async (t, backend) => {
  for (const length of [0, 1, 2, 3, 8])
    for (const reverse of [false, true]) {
      const executable = backend.compile(loopPlan(length, reverse));
      const k = Float64Array.of(0.5, -2);
      const xs = Float64Array.from({ length: 2 * length }, (_, i) => i + 1);
      let [a, b] = [3, 5];
      const ys = new Float64Array(2 * length);
      for (let i = 0; i < length; i++) {
        const at = reverse ? length - 1 - i : i;
        [a, b] = [a * 0.5 + xs[2 * at]!, b * -2 + xs[2 * at + 1]!];
        ys.set([a, b], 2 * at);
      }
      const want = [Float64Array.of(a, b), Int32Array.of(7 + length), ys];
      const inputs = [k, Float64Array.of(3, 5), Int32Array.of(7), xs];
      t.same(executable.run(inputs), want, `${length} turns, reverse ${reverse}`);
      t.same(executable.run(inputs), want, "again");
      t.same(await executable.runAsync(inputs), want, "off the main thread");
    }
});

onEach("a loop that breaks the contract is refused", async (t, backend) => {
  const firstStep = turn().steps[0] as MapStep;
  const refused: [string, Partial<LoopStep>][] = [
    ["more turns than slices", { length: 4 }],
    ["fewer turns than slices", { length: 2 }],
    ["no turns, but slices", { length: 0 }],
    ["a negative number of turns", { length: -1 }],
    ["half a turn", { length: 0.5 }],
    ["no number of turns", { length: Number.NaN }],
    ["a buffer that does not exist", { consts: [9] }],
    ["no buffer", { xs: [-1] }],
    ["a const of another size", { consts: [3] }],
    ["a const of another dtype", { consts: [2] }],
    ["too few consts", { consts: [] }],
    ["too many consts", { consts: [0, 0] }],
    ["fewer inits than carries", { inits: [1] }],
    ["more inits than carries", { inits: [1, 2, 2] }],
    ["inits in another order", { inits: [2, 1] }],
    ["carries in another order", { carries: [5, 4] }],
    ["a carry in an input", { carries: [1, 5] }],
    ["ys in an input", { ys: [3] }],
    ["ys of another size", { ys: [4] }],
    ["no ys", { ys: [] }],
    ["no xs", { xs: [] }],
    ["a plan without steps' buffers", { plan: { ...turn(), buffers: [] } }],
    ["a plan with other inputs", { plan: { ...turn(), inputs: [0, 1, 2] } }],
    ["a plan with other outputs", { plan: { ...turn(), outputs: [4, 5] } }],
    ["a plan whose carry changes its size", { plan: { ...turn(), outputs: [5, 4, 6] } }],
    ["a plan that reads past a buffer's end", { plan: { ...turn(), steps: [{ ...firstStep, shape: [3] }] } }],
  ];
  t.doesNotThrow(() => backend.compile(loopPlan(3)));
  for (const [what, change] of refused)
    t.throws(
      () => backend.compile(loopPlan(3, false, change)),
      { name: "BackendError", message: /^(malformed|invalid) plan: / },
      what,
    );
});

/** Whether a plan would need much memory or time, so that it is not run. */
const isLarge = ({ buffers, arenaBytes, steps }: Plan): boolean =>
  arenaBytes > 1e7 ||
  buffers.some(({ size }) => size > 1e6) ||
  steps.some((step) => step.kind === "loop" && (step.length > 1e6 || isLarge(step.plan as Plan)));

/** A loop in a loop, with indices, a product and a sum, as the compiler makes it. */
function nestedPlan(rows: number): Plan {
  const f = (w: fx.Tensor, c: fx.Tensor, is: fx.Tensor) =>
    fx.scan(
      (c: fx.Tensor, i: fx.Tensor) => {
        const [h, norms] = fx.scan(
          (h: fx.Tensor, j: fx.Tensor) => [fx.gelu(fx.matmul(h, fx.take(w, fx.stack([i, j]), 0))), fx.sum(h)],
          c,
          is,
        );
        return [h, norms];
      },
      c,
      is,
    );
  return lower(fx.inspect(f, fx.ones([3, 2]), fx.ones([rows, 2]), fx.zeros([2], { dtype: "int32" })).graph);
}

/** A loop of gradient steps of two layers over 300 samples, which are strips. */
function strippedLoop(): Plan {
  const loss = (w1: fx.Tensor, w2: fx.Tensor) =>
    fx.mean(fx.square(fx.matmul(fx.gelu(fx.matmul(fx.ones([300, 3]), w1)), w2)));
  const f = (w1: fx.Tensor, w2: fx.Tensor) =>
    fx.scan(
      ([w1, w2]: readonly [fx.Tensor, fx.Tensor]) => {
        const [value, gradients] = fx.valueAndGrad(loss, { argnums: [0, 1] })(w1, w2);
        return [gradients, value];
      },
      [w1, w2] as const,
      undefined,
      { length: 2 },
    );
  return stripMine(lower(fx.inspect(f, fx.ones([3, 4]), fx.ones([4, 2])).graph)) as Plan;
}

onEach("a loop with one number changed is run or refused, and never crashes", async (t, backend) => {
  const plans = [loopPlan(3), nestedPlan(2)];
  if (backend.name === "cpu") {
    const stripped = strippedLoop();
    const inside = (stripped.steps[0] as LoopStep).plan as StrippedPlan;
    t.ok(
      inside.steps.some((step) => step.kind === "strip"),
      "a strip in a loop",
    );
    plans.push(stripped);
  }
  for (const [number, plan] of plans.entries()) {
    let refused = 0;
    let passed = 0;
    for (const changed of mutated(plan)) {
      try {
        if (backend.name === "typescript" && isLarge(changed)) continue;
        const executable = backend.compile(changed);
        if (isLarge(changed)) continue;
        executable.run(
          changed.inputs.map((i) => allocate(changed.buffers[i]!.dtype, changed.buffers[i]!.size)),
        );
        passed++;
      } catch (error) {
        if (!(error instanceof BackendError)) throw error;
        refused++;
      }
    }
    t.ok(refused > passed, `plan ${number}: ${refused} refused, ${passed} ran`);
  }
});

t.test("loops inside of each other without end are refused", { skip: !hasCpu }, async (t) => {
  const around = (plan: Plan): Plan => ({
    buffers: [buffer("input", "float64", 1), buffer("output", "float64", 1)],
    steps: [
      { kind: "loop", plan, length: 1, reverse: false, consts: [], inits: [0], carries: [1], xs: [], ys: [] },
    ],
    inputs: [0],
    outputs: [1],
    arenaBytes: 0,
  });
  let plan: Plan = {
    ...around(turn()),
    steps: [
      {
        kind: "map",
        shape: [1],
        expression: {
          instructions: [{ op: "load", dtype: "float64", view: view(0) }],
          outputs: [{ value: 0, view: view(1) }],
        },
      },
    ],
  };
  for (let depth = 1; depth <= 64; depth++) plan = around(plan);
  t.same(
    cpuBackend()
      .compile(plan)
      .run([Float64Array.of(3)]),
    [Float64Array.of(3)],
    "64 deep",
  );
  t.throws(() => cpuBackend().compile(around(plan)), { name: "BackendError", message: /more than 64 deep/ });
});

if (hasCpu)
  t.test("a process ends at once, however long a loop that it runs still is", async (t) => {
    const code = `
      import * as fx from "fluxion";
      const endless = fx.jit((x) => fx.forLoop(0, 2 ** 30, (_, v) => fx.sin(v), x));
      endless.async(fx.ones([4096])).catch(() => {});
      setTimeout(() => process.exit(3), 50);`;
    const child = spawnSync(process.execPath, ["--input-type=module", "-e", code], { timeout: 30_000 });
    t.equal(child.signal, null, "it was not stopped from outside");
    t.equal(child.status, 3);
  });
