// What the attention step becomes for a CUDA device: kernels that compile, keep their numbers in registers, and stay
// within the device's shared memory.
import * as fx from "fluxion";
import t from "tap";
import { lowerAttention } from "#lib/backend/cuda/attention.js";
import { Lowering, type Target } from "#lib/backend/cuda/lowering.js";
import type { AttentionPart, AttentionStep, BufferSpec, View } from "#lib/compile/plan.js";
import { BackendError } from "#lib/errors.js";
import type { DType } from "#lib/tensor/dtype.js";
import { rowMajor, sizeOf } from "#lib/tensor/shape.js";
import { cudaDevice } from "./support/cuda-device.js";
import { h100 } from "./support/cuda-target.js";
import { compiles, nvccMissing, resources } from "./support/nvcc.js";

type Float = "float32" | "float64";

const a100: Target = { ...h100, multiprocessors: 108, sharedBytes: 166912, architecture: 80 };
const ada: Target = { ...h100, multiprocessors: 128, sharedBytes: 101376, architecture: 89 };
const tf32 = (target: Target): Target => ({ ...target, precision: "tf32" });

interface Options {
  readonly dtype?: Float;
  readonly batch?: readonly number[];
  /** n, m, d, e. */
  readonly sizes?: readonly [number, number, number, number];
  readonly causal?: boolean;
  readonly masked?: boolean;
  /** Operands are read as the transposes of what lies in memory. */
  readonly turned?: boolean;
  readonly given?: readonly boolean[];
  readonly wanted?: readonly boolean[];
}

const parts: readonly AttentionPart[] = ["value", "tangent", "cotangent"];
const directionCounts = { value: 0, tangent: 3, cotangent: 2 } as const;
const outputCounts = { value: 2, tangent: 2, cotangent: 3 } as const;

/** Adds a step, with buffers of its own, to a list of steps. */
function makeStep(buffers: BufferSpec[], part: AttentionPart, options: Options = {}): AttentionStep {
  const { dtype = "float32", batch = [2, 3], sizes = [80, 72, 16, 16], causal = false } = options;
  const [n, m, d, e] = sizes;
  const buffer = (kind: "input" | "output", size: number, type: DType = dtype) =>
    buffers.push({ kind, dtype: type, size, offset: 0 }) - 1;
  const view = (own: readonly number[], type?: DType): View => {
    const shape = [...batch, ...own];
    const strides = rowMajor(shape);
    if (options.turned && own.length === 2) strides.splice(-2, 2, 1, own[0]!);
    return { buffer: buffer("input", sizeOf(shape), type), offset: 0, strides };
  };
  const forward = [[n, e], [n]];
  const operands = [
    [n, d],
    [m, d],
    [m, e],
  ];
  const directions = part === "value" ? [] : part === "tangent" ? operands : forward;
  const results = part === "cotangent" ? operands : forward;
  return {
    ...{ kind: "attention", part, dtype, batch, n, m, d, e, causal, scale: 1 / Math.sqrt(Math.max(d, 1)) },
    ...{ q: view([n, d]), k: view([m, d]), v: view([m, e]) },
    mask: options.masked ? view([n, m], "bool") : undefined,
    o: part === "value" ? undefined : view([n, e]),
    l: part === "value" ? undefined : view([n]),
    directions: directions.map((own, i) => ((options.given?.[i] ?? true) ? view(own) : undefined)),
    outputs: results.map((own, i) =>
      (options.wanted?.[i] ?? true) ? buffer("output", sizeOf([...batch, ...own])) : undefined,
    ),
  };
}

/** The steps in one source. */
function lowered(cases: readonly [AttentionPart, Options][], target = h100): Lowering {
  const buffers: BufferSpec[] = [];
  const steps = cases.map(([part, options]) => makeStep(buffers, part, options));
  const lowering = new Lowering(target, buffers, 0);
  steps.forEach((step, i) => {
    lowering.beginStep(i);
    lowerAttention(lowering, step);
  });
  return lowering;
}

const launches = (lowering: Lowering) =>
  lowering.operations.flatMap((operation) => (operation.kind === "launch" ? [operation] : []));

const choices = (count: number) =>
  Array.from({ length: 2 ** count }, (_, choice) =>
    Array.from({ length: count }, (_, i) => ((choice >> i) & 1) === 1),
  );

t.test("shared memory stays within what a block may have", async (t) => {
  for (const target of [h100, a100, ada, tf32(h100), tf32(ada)])
    for (const part of parts)
      for (const dtype of ["float32", "float64"] as const)
        for (const d of [0, 1, 16, 40, 64, 72, 128, 129, 300])
          for (const e of [0, 8, 64, 128, 500])
            for (const n of [1, 60, 5000]) {
              const lowering = lowered([[part, { dtype, sizes: [n, 100, d, e] }]], target);
              for (const { kernel, sharedBytes, threads } of launches(lowering))
                if (sharedBytes > target.sharedBytes || threads % 32 !== 0)
                  t.fail(`${kernel} of ${dtype} ${[n, d, e]}: ${sharedBytes} bytes, ${threads} threads`);
            }
  t.pass("on all devices");
});

t.test("memory beside the results is linear in the number of queries", async (t) => {
  const bytes = (n: number) =>
    lowered(parts.map((part) => [part, { batch: [4], sizes: [n, n, 64, 64] }])).arenaBytes;
  t.equal(bytes(4096), 4 * 4096 * 4);
  t.equal(bytes(8192), 2 * bytes(4096));
});

t.test("a part is one kernel, and the cotangent has another for the sums of each query", async (t) => {
  const names = (part: AttentionPart, options?: Options) =>
    launches(lowered([[part, options ?? {}]])).map(({ kernel }) => kernel);
  t.same(names("value"), ["attention_value_0"]);
  t.same(names("tangent"), ["attention_tangent_0"]);
  t.same(names("cotangent"), ["attention_shift_0", "attention_cotangent_0"]);
  t.same(names("cotangent", { wanted: [false, false, true] }), ["attention_cotangent_0"]);
});

t.test("equal steps share a kernel", async (t) => {
  const lowering = lowered([
    ["value", {}],
    ["value", {}],
    ["value", { causal: true }],
  ]);
  t.same(
    launches(lowering).map(({ kernel }) => kernel),
    ["attention_value_0", "attention_value_0", "attention_value_1"],
  );
});

t.test(
  "tensor cores multiply float32 where the precision allows it and there are rows for them",
  async (t) => {
    const cores = (target: Target, options: Options) =>
      parts.map((part) => /Tf32Cores|FmaCores/.exec(lowered([[part, options]], target).source)![0]);
    const same = (name: string) => parts.map(() => name);
    t.same(cores(h100, {}), same("FmaCores"));
    t.same(cores(tf32(h100), {}), same("Tf32Cores"));
    t.same(cores({ ...h100, precision: "bfloat16" }, {}), same("Tf32Cores"));
    t.same(cores(tf32(h100), { dtype: "float64" }), same("FmaCores"));
    t.same(cores(tf32(h100), { sizes: [16, 16, 64, 64] }), same("FmaCores"));
  },
);

t.test("nothing is launched where no result has an element", async (t) => {
  for (const part of parts) {
    t.same(launches(lowered([[part, { batch: [0, 3] }]])), []);
    t.same(launches(lowered([[part, { wanted: [false, false, false] }]])), []);
  }
  t.same(launches(lowered([["value", { sizes: [0, 5, 4, 4] }]])), []);
  t.same(launches(lowered([["tangent", { batch: [2 ** 40], sizes: [0, 5, 4, 4] }]])), []);
});

t.test("more than 32-bit numbers count is refused", async (t) => {
  const step = makeStep([], "value", { batch: [], sizes: [4, 4, 4, 4] });
  const specs: BufferSpec[] = [0, 1, 2, 3, 4].map((i) => {
    const kind = i < 3 ? "input" : "output";
    return { kind, dtype: "float32", size: 16, offset: 0 };
  });
  t.throws(() => lowerAttention(new Lowering(h100, specs, 0), { ...step, m: 2 ** 31 }), BackendError);
  t.throws(() => lowerAttention(new Lowering(h100, specs, 0), { ...step, batch: [2 ** 31] }), BackendError);
});

const withCompiler = nvccMissing === undefined ? {} : { skip: nvccMissing };
const devices = [
  ["sm_90", h100],
  ["sm_80", a100],
  ["sm_90", tf32(h100)],
  ["sm_80", tf32(a100)],
] as const;

for (const part of parts) {
  t.test(
    `the usual sizes of ${part} need no memory for what belongs in registers`,
    withCompiler,
    async (t) => {
      for (const [architecture, target] of devices) {
        const cases = [16, 64, 128].map((d): [AttentionPart, Options] => [
          part,
          { batch: [32, 8], sizes: [256, 256, d, d] },
        ]);
        const { failure, kernels } = resources(lowered(cases, target).source, architecture);
        t.equal(failure, undefined);
        t.same(
          kernels.filter(({ spilled }) => spilled > 0),
          [],
          `${architecture}, ${target.precision}: all of it stays in registers`,
        );
      }
    },
  );

  t.test(`${part} compiles for sizes and layouts of all kinds`, withCompiler, async (t) => {
    const all: Options[] = [
      { causal: true, sizes: [80, 72, 96, 96] },
      { masked: true, causal: true, sizes: [33, 65, 5, 7] },
      { turned: true, masked: true, sizes: [20, 20, 24, 40] },
      { sizes: [70, 130, 300, 300] },
      { masked: true, batch: [], sizes: [1, 9, 20, 300] },
      { sizes: [4, 0, 0, 3] },
    ];
    const cases = (["float32", "float64"] as const).flatMap((dtype) =>
      all.map((options): [AttentionPart, Options] => [part, { ...options, dtype }]),
    );
    t.equal(
      compiles(lowered(cases).source, "sm_90"),
      undefined,
      "and the shared memory is what the source counts on",
    );
    t.equal(compiles(lowered(cases.slice(0, 4), ada).source, "sm_80"), undefined);
    t.equal(compiles(lowered(cases.slice(0, 6), tf32(h100)).source, "sm_90"), undefined);
  });

  t.test(`${part} compiles without any of its directions and results`, withCompiler, async (t) => {
    const cases = choices(directionCounts[part]).flatMap((given) =>
      choices(outputCounts[part])
        .slice(1)
        .map((wanted): [AttentionPart, Options] => [part, { batch: [], sizes: [9, 7, 3, 4], given, wanted }]),
    );
    t.equal(compiles(lowered(cases).source, "sm_90"), undefined, `${cases.length} choices`);
  });
}

// ---- What it computes, on a device.

const missing = cudaDevice();

/** Value, jvp, gradient and jvp of the gradient, as numbers. */
function derivatives(backend: fx.BackendName, inputs: fx.Tensor[], options: fx.AttentionOptions): number[][] {
  fx.setBackend(backend);
  const [q, k, v] = inputs as [fx.Tensor, fx.Tensor, fx.Tensor];
  const tangents = [fx.sin(q), fx.cos(k), fx.sin(v)];
  const loss = (...x: fx.Tensor[]) => fx.sum(fx.square(fx.attention(x[0]!, x[1]!, x[2]!, options)));
  const gradient = fx.grad(loss, { argnums: [0, 1, 2] }) as (...x: fx.Tensor[]) => fx.Tensor[];
  const all = fx.jit((...x: fx.Tensor[]) => [
    ...fx.jvp((...y: fx.Tensor[]) => fx.attention(y[0]!, y[1]!, y[2]!, options), x, tangents),
    ...gradient(...x),
  ]);
  return all(q, k, v).map((x) => Array.from(x.toTypedArray()));
}

t.test(
  "attention and its derivatives are those of the TypeScript backend",
  missing ? { skip: missing } : {},
  async (t) => {
    const mask = fx.greater(fx.random.uniform(fx.random.key(9), [2, 1, 37, 41]), 0.3);
    const cases: [number[], number[], number, fx.AttentionOptions, fx.DType][] = [
      [[2, 3, 37, 16], [2, 3, 41, 16], 24, {}, "float32"],
      [[2, 3, 37, 64], [2, 3, 41, 64], 64, { mask }, "float32"],
      [[3, 70, 128], [3, 70, 128], 128, { causal: true }, "float32"],
      [[2, 20, 150], [2, 33, 150], 140, {}, "float32"],
      [[2, 37, 9], [2, 41, 9], 5, { causal: true }, "float64"],
    ];
    for (const precision of ["float32", "tf32"] as const) {
      fx.setMatmulPrecision(precision);
      for (const [query, key, features, options, dtype] of cases) {
        fx.setBackend("typescript");
        const draw = (seed: number, shape: number[]) =>
          fx.random.normal(fx.random.key(seed), shape, { dtype });
        const inputs = [draw(1, query), draw(2, key), draw(3, [...key.slice(0, -1), features])];
        const want = derivatives("typescript", inputs, options);
        const got = derivatives("cuda", inputs, options);
        const tolerance = dtype === "float64" ? 1e-12 : precision === "tf32" ? 2e-2 : 2e-5;
        want.forEach((values, i) => {
          const largest = Math.max(...values.map(Math.abs));
          const worst = Math.max(...values.map((x, j) => Math.abs(x - got[i]![j]!)));
          t.ok(
            worst <= tolerance * largest,
            `${precision}, [${query}] ${dtype}, result ${i}: off by ${worst} of ${largest}`,
          );
        });
      }
    }
    fx.setMatmulPrecision("float32");
  },
);
