// The C++ addon under the plan contract: it must not crash, must not depend on threads, and must be accurate.
import * as fx from "fluxion";
import t from "tap";
import { cpuBackend, instructionSets, setInstructionSet, setThreads, threads } from "#lib/backend/cpu.js";
import { erf, gelu, geluSlope, sigmoid, softplus } from "#lib/backend/typescript/functions.js";
import { lower } from "#lib/compile/lower.js";
import type { BufferSpec, Instruction, Plan, ScalarOp, Step, StripStep, View } from "#lib/compile/plan.js";
import { stripMine } from "#lib/compile/strip.js";
import { BackendError } from "#lib/errors.js";
import { allocate, type DType, type TypedArray } from "#lib/tensor/dtype.js";
import { mutated } from "./support/mutated.js";

const cpu = cpuBackend();
const defaultThreads = threads();

const view = (buffer: number, strides: readonly number[], offset = 0): View => ({ buffer, offset, strides });
const buffer = (kind: BufferSpec["kind"], dtype: DType, size: number): BufferSpec => ({
  kind,
  dtype,
  size,
  offset: 0,
});
const load = (dtype: DType, v: View): Instruction => ({ op: "load", dtype, view: v });
const apply = (op: ScalarOp, dtype: DType, ...args: number[]): Instruction => ({ op, dtype, args });
const constant = (dtype: DType, value: number): Instruction => ({ op: "constant", dtype, value });

/** A plan of one step: the first buffers are inputs, the last one the output. */
function planOf(inputs: readonly [DType, number][], output: readonly [DType, number], step: Step): Plan {
  const buffers = [...inputs.map(([d, n]) => buffer("input", d, n)), buffer("output", output[0], output[1])];
  return { buffers, steps: [step], inputs: inputs.map((_, i) => i), outputs: [inputs.length], arenaBytes: 0 };
}

function mapPlan(dtype: DType, size: number, op: ScalarOp, result = dtype): Plan {
  const instructions = [load(dtype, view(0, [1])), apply(op, result, 0)];
  const expression = { instructions, outputs: [{ value: 1, view: view(1, [1]) }] };
  return planOf([[dtype, size]], [result, size], { kind: "map", shape: [size], expression });
}

function matmulPlan(dtype: DType, m: number, k: number, n: number): Plan {
  const expression = {
    instructions: [{ op: "accumulator", dtype } as const],
    outputs: [{ value: 0, view: view(2, [n, 1]) }],
  };
  const [a, b] = [view(0, [k, 1]), view(1, [n, 1])];
  const step: Step = { kind: "matmul", dtype, batch: [], m, n, k, a, b, expression };
  return planOf(
    [
      [dtype, m * k],
      [dtype, k * n],
    ],
    [dtype, m * n],
    step,
  );
}

function sumPlan(dtype: DType, kept: number, reduced: number, strides: readonly [number, number]): Plan {
  const instructions = [load(dtype, view(0, strides)), apply("mul", dtype, 0, 0)];
  const expression = { instructions, outputs: [{ value: 1, view: view(1, [1]) }] };
  const step: Step = { kind: "reduce", shape: [kept, reduced], reducedRank: 1, reducer: "sum", expression };
  return planOf([[dtype, kept * reduced]], [dtype, kept], step);
}

/** Two layers of 300 samples and their gradients, as a strip. */
function strippedPlan(): Plan {
  const loss = (w1: fx.Tensor, b: fx.Tensor, w2: fx.Tensor) =>
    fx.mean(fx.square(fx.matmul(fx.gelu(fx.add(fx.matmul(fx.ones([300, 3]), w1), b)), w2)));
  const gradients = (...p: [fx.Tensor, fx.Tensor, fx.Tensor]) => fx.grad(loss, { argnums: [0, 1, 2] })(...p);
  const { graph } = fx.inspect(gradients, fx.ones([3, 4]), fx.ones([4]), fx.ones([4, 2]));
  return stripMine(lower(graph)) as Plan; // a backend takes a plan that has strips already as it is
}

/** Reproducible numbers between -2 and 2. */
function numbers(dtype: DType, size: number): TypedArray {
  let state = size;
  return allocate(dtype, size).map(() => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return dtype === "int32" || dtype === "uint32" ? state >>> 8 : state / 2 ** 30 - 2;
  });
}

const bits = (array: TypedArray) =>
  Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");
/** A NaN has many bit patterns. */
const bitsButNaN = (array: TypedArray) => bits(array.map((x) => (Number.isNaN(x) ? NaN : x)));
const first = (arrays: TypedArray[]): TypedArray => arrays[0]!;

t.afterEach(() => {
  setThreads(defaultThreads);
  setInstructionSet(instructionSets()[0]!);
});

t.test("a plan with one number changed is run or refused, and never crashes", async (t) => {
  const plans = [
    mapPlan("float32", 40, "exp"),
    sumPlan("float32", 5, 8, [8, 1]),
    matmulPlan("float32", 4, 10, 3),
    planOf(
      [
        ["float32", 12],
        ["int32", 2],
      ],
      ["float32", 8],
      { kind: "gather", outer: 2, size: 3, inner: 2, count: 2, input: 0, indices: 1, output: 2, site: 0 },
    ),
    planOf([["float32", 12]], ["int32", 12], { kind: "sort", rows: 3, size: 4, input: 0, output: 1 }),
    planOf([["float32", 12]], ["float32", 12], {
      kind: "cumsum",
      outer: 2,
      size: 3,
      inner: 2,
      reverse: false,
      input: 0,
      output: 1,
    }),
    strippedPlan(),
  ];
  let refused = 0;
  let passed = 0;
  for (const plan of plans) {
    for (const changed of mutated(plan)) {
      try {
        const executable = cpu.compile(changed);
        if (changed.buffers.some((b) => b.size > 1e6)) continue;
        executable.run(
          changed.inputs.map((i) => allocate(changed.buffers[i]!.dtype, changed.buffers[i]!.size)),
        );
        passed++;
      } catch (error) {
        if (!(error instanceof BackendError)) throw error;
        refused++;
      }
    }
  }
  t.ok(refused > passed, `${refused} refused, ${passed} ran`);
});

t.test("a strip's chunks are its rows, in whole blocks, and add to some of them", async (t) => {
  const plan = strippedPlan();
  const strip = plan.steps.find(({ kind }) => (kind as string) === "strip") as unknown as StripStep;
  t.ok(strip, "there is one");
  const { rows, block, chunks } = strip;
  t.doesNotThrow(() => cpu.compile(plan));
  const changed = (change: Partial<StripStep>): Plan => ({
    ...plan,
    steps: plan.steps.map((step) =>
      (step as unknown) === strip ? ({ ...strip, ...change } as never) : step,
    ),
  });
  const refused: [Partial<StripStep>, RegExp][] = [
    [{ chunks: [] }, /the chunks of a strip are not its rows/],
    [{ chunks: [rows - block] }, /the chunks of a strip are not its rows/],
    [{ chunks: [...chunks, block] }, /chunk/],
    [{ chunks: [block - 1, rows - block + 1] }, /a chunk is not a whole number of blocks/],
    [{ chunks: [rows, 0] }, /chunk of a strip/],
    [{ sums: 0 }, /number of a strip's sums/],
    [{ sums: chunks.length + 1 }, /number of a strip's sums/],
  ];
  for (const [change, message] of refused)
    t.throws(() => cpu.compile(changed(change)), { name: "BackendError", message }, JSON.stringify(change));
});

t.test("a running sum's buffers have its size and one dtype of numbers", async (t) => {
  const cumsum = { kind: "cumsum", outer: 2, size: 3, inner: 2, reverse: true, input: 0, output: 1 } as const;
  const compile = (input: [DType, number], output: [DType, number], step: Partial<Step> = {}) =>
    cpu.compile(planOf([input], output, { ...cumsum, ...step } as Step));
  t.doesNotThrow(() => compile(["int32", 12], ["int32", 12]));
  const refused: [() => unknown, RegExp][] = [
    [() => compile(["float32", 11], ["float32", 12]), /cumsum: wrong size/],
    [() => compile(["float32", 12], ["float32", 13]), /cumsum: wrong size/],
    [() => compile(["float32", 12], ["float64", 12]), /cumsum: input and output differ in dtype/],
    [() => compile(["bool", 12], ["bool", 12]), /cumsum of dtype bool/],
    [() => compile(["float32", 12], ["float32", 12], { output: 0 }), /output writes to an input/],
    [() => compile(["float32", 0], ["float32", 0], { outer: 0, size: 2 ** 40, inner: 2 ** 40 }), /too large/],
  ];
  for (const [make, message] of refused) t.throws(make, { name: "BackendError", message });
});

t.test("a scatter of wide rows adds in the order of its indices, on any number of threads", async (t) => {
  const [outer, size, inner, count] = [2, 5, 300, 400];
  const step: Step = { kind: "scatter", outer, size, inner, count, input: 0, indices: 1, output: 2 };
  const inputs: [DType, number][] = [
    ["float32", outer * count * inner],
    ["int32", count],
  ];
  const plan = cpu.compile(planOf(inputs, ["float32", outer * size * inner], step));
  const x = numbers("float32", outer * count * inner);
  const at = Int32Array.from({ length: count }, (_, j) => ((j * j) % (2 * size)) - size);
  const expected = new Float32Array(outer * size * inner);
  for (let o = 0; o < outer; o++)
    for (let j = 0; j < count; j++)
      for (let i = 0; i < inner; i++)
        expected[(o * size + ((at[j]! + size) % size)) * inner + i]! += x[(o * count + j) * inner + i]!;
  for (const n of [1, 2, 5]) {
    setThreads(n);
    t.equal(bits(first(plan.run([x, at]))), bits(expected), `${n} threads`);
  }
});

t.test("running sums have the same bits for any number of threads", async (t) => {
  for (const dtype of ["float32", "float64", "int32"] as const)
    for (const [outer, size, inner] of [
      [1, 5000, 700],
      [300, 257, 1],
      [3, 1, 5000],
      [40, 60, 3],
    ] as const) {
      const n = outer * size * inner;
      const step: Step = { kind: "cumsum", outer, size, inner, reverse: inner === 1, input: 0, output: 1 };
      const plan = cpu.compile(planOf([[dtype, n]], [dtype, n], step));
      const results = [1, 2, 5].map((count) => {
        setThreads(count);
        return bits(first(plan.run([numbers(dtype, n)])));
      });
      t.ok(
        results.every((r) => r === results[0]),
        `${dtype} ${outer} x ${size} x ${inner}`,
      );
    }
});

t.test("inputs that do not fit are errors that say what was expected", async (t) => {
  const plan = cpu.compile(mapPlan("float32", 12, "exp"));
  const detached = new Float32Array(12);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  const expected = /^input 0: expected float32 array of 12 elements, got /;
  t.throws(() => plan.run([detached]), {
    name: "BackendError",
    message: /got 0 \(detached\?\)( \(at .*\))?$/,
  });
  t.throws(() => plan.run([new Float32Array(11)]), { name: "BackendError", message: expected });
  t.throws(() => plan.run([new Float64Array(12)]), { name: "BackendError", message: expected });
  t.throws(() => plan.run([]), { name: "BackendError", message: "expected 1 inputs, got 0" });
  t.throws(() => plan.run([[1, 2] as unknown as Float32Array]), { name: "BackendError", message: expected });
  await t.rejects(plan.runAsync([detached]), { name: "BackendError", message: expected });
});

t.test("an index out of range is an error, also off the main thread", async (t) => {
  const step: Step = {
    kind: "gather",
    outer: 1,
    size: 5,
    inner: 1,
    count: 2,
    input: 0,
    indices: 1,
    output: 2,
  };
  const inputs: [DType, number][] = [
    ["float32", 5],
    ["int32", 2],
  ];
  const plan = cpu.compile(planOf(inputs, ["float32", 2], step));
  const x = Float32Array.of(1, 2, 3, 4, 5);
  t.same(first(plan.run([x, Int32Array.of(-1, 0)])), Float32Array.of(5, 1));
  const message = "index 7 is out of range for an axis of size 5";
  t.throws(() => plan.run([x, Int32Array.of(0, 7)]), { name: "BackendError", message });
  await t.rejects(plan.runAsync([x, Int32Array.of(0, 7)]), { name: "BackendError", message });
});

t.test("runAsync copies its inputs before it returns", async (t) => {
  const plan = cpu.compile(mapPlan("float64", 3, "neg"));
  const x = Float64Array.of(1, 2, 3);
  const result = plan.runAsync([x]);
  x.fill(0);
  t.same(first(await result), Float64Array.of(-1, -2, -3));
});

t.test("the bits of a result are the same for any number of threads, on every instruction set", async (t) => {
  const cases: [string, Plan][] = [
    ["matmul", matmulPlan("float32", 300, 200, 70)],
    ["matmul over a long k", matmulPlan("float32", 20, 5000, 20)],
    ["sum of rows", sumPlan("float32", 7, 70000, [70000, 1])],
    ["sum of columns", sumPlan("float32", 300, 900, [1, 300])],
    ["map", mapPlan("float32", 100003, "gelu")],
  ];
  for (const [name, plan] of cases) {
    const inputs = plan.inputs.map((i) => numbers(plan.buffers[i]!.dtype, plan.buffers[i]!.size));
    for (const set of instructionSets()) {
      setInstructionSet(set);
      const results = [1, 2, 3, 8].map((count) => {
        setThreads(count);
        return bits(first(cpu.compile(plan).run(inputs)));
      });
      t.equal(new Set(results).size, 1, `${name}, ${set}`);
    }
  }
});

// ---- What a product's kernel does besides the product.

const shapes: readonly (readonly [number, number, number])[] = [
  [1, 1, 1],
  [5, 0, 7], // an empty sum
  [9, 3, 33], // an edge of rows and of columns
  [70, 130, 128],
  [70, 600, 200], // k in two parts, C in several
  [3, 1500, 20], // k long enough to be cut
  [64, 40, 3], // dot products
  [64, 7, 2],
];
const drawn = (i: number, shape: number[], dtype: "float32" | "float64") =>
  fx.random.normal(fx.random.foldIn(fx.random.key(3), i), shape, { dtype });

/** The largest magnitude, at least 1, and the largest difference of two arrays. */
const largest = (x: TypedArray) => Array.from(x, Number).reduce((most, v) => Math.max(most, Math.abs(v)), 1);
const apart = (x: TypedArray, y: TypedArray) =>
  Array.from(x, Number).reduce((most, v, i) => Math.max(most, Math.abs(v - Number(y[i]))), 0);

/** Endings of a product p, given a row, an array like p, and a second product. */
const endings: { readonly [name: string]: (p: fx.Tensor, b: fx.Tensor, s: fx.Tensor) => fx.Tensor } = {
  "a bias": (p, b) => fx.add(p, b),
  "a bias first": (p, b) => fx.add(b, p),
  "a bias used twice": (p, b) => fx.mul(fx.add(p, b), fx.exp(b)),
  "a factor": (p, _, s) => fx.mul(s, p),
  "a bias and a factor": (p, b, s) => fx.mul(fx.add(p, b), s),
  "a bias, gelu and a factor": (p, b, s) => fx.mul(fx.gelu(fx.add(p, b)), s),
  "the product twice": (p, b) => fx.mul(fx.add(p, b), p),
  "a row as factor": (p, b) => fx.mul(p, b),
  "its square": (p) => fx.mul(p, p),
};

for (const [name, ending] of Object.entries(endings)) {
  t.test(
    `a product with ${name} is right for every shape, and its bits on any number of threads`,
    async (t) => {
      for (const [m, k, n] of shapes) {
        for (const dtype of ["float32", "float64"] as const) {
          for (const batch of [[], [3]]) {
            const [a, b] = [drawn(1, [...batch, m, k], dtype), drawn(2, [k, n], dtype)];
            const [row, like] = [drawn(3, [n], dtype), drawn(4, [...batch, m, n], dtype)];
            const f = (...[x, w, r, l]: fx.Tensor[]) => ending(fx.matmul(x!, w!), r!, l!);
            fx.setBackend("typescript");
            const want = fx.jit(f)(a, b, row, like).toTypedArray();
            fx.setBackend("cpu");
            const bound = (dtype === "float32" ? 4e-6 : 1e-14) * largest(want);
            for (const set of instructionSets()) {
              setInstructionSet(set);
              const got = [1, 3].map((count) => {
                setThreads(count);
                return fx.jit(f)(a, b, row, like).toTypedArray();
              });
              const worst = apart(got[0]!, want);
              if (!(worst <= bound)) t.fail(`${dtype}, ${set}, ${[...batch, m, k, n]}: off by ${worst}`);
              if (bits(got[0]!) !== bits(got[1]!))
                t.fail(`${dtype}, ${set}, ${[...batch, m, k, n]}: other bits`);
            }
          }
        }
      }
      t.pass("for all shapes, dtypes, batches and instruction sets");
    },
  );
}

t.test("a factor that is not finite, and an empty sum", async (t) => {
  fx.setBackend("cpu");
  const f = fx.jit((a: fx.Tensor, b: fx.Tensor, s: fx.Tensor) => fx.mul(fx.matmul(a, b), s));
  const s = fx.tensor([[Infinity, NaN, -Infinity, 0]]);
  t.same(f(fx.ones([1, 2]), fx.ones([2, 4]), s).toArray(), [[Infinity, NaN, -Infinity, 0]]);
  t.same(f(fx.ones([1, 0]), fx.ones([0, 4]), s).toArray(), [[NaN, NaN, NaN, 0]]);
});

t.test("sides that lie turned or a page apart in memory are multiplied alike", async (t) => {
  for (const [m, k, n] of [
    [50, 1100, 70],
    [300, 40, 600],
    [40, 300, 1040],
  ] as const) {
    const [a, b] = [drawn(1, [m, k], "float64"), drawn(2, [k, n], "float64")];
    fx.setBackend("typescript");
    const want = fx.matmul(a, b).toTypedArray();
    fx.setBackend("cpu");
    for (const set of instructionSets()) {
      setInstructionSet(set);
      const f = fx.jit((x: fx.Tensor, w: fx.Tensor) => fx.matmul(fx.transpose(x), fx.transpose(w)));
      for (const got of [fx.jit(fx.matmul)(a, b), f(fx.transpose(a), fx.transpose(b))]) {
        const worst = apart(got.toTypedArray(), want);
        t.ok(worst < 1e-12, `${set}, ${m} x ${k} x ${n}: off by ${worst}`);
      }
    }
  }
});

t.test("additions, products and integers have the same bits on every instruction set", async (t) => {
  const two: [DType, number][] = [
    ["float32", 5000],
    ["float32", 5000],
  ];
  const instructions = [
    load("float32", view(0, [1])),
    load("float32", view(1, [1])),
    apply("mul", "float32", 0, 1),
    apply("add", "float32", 2, 0), // a contraction to a fused multiply-add would change bits
  ];
  const expression = { instructions, outputs: [{ value: 3, view: view(2, [1]) }] };
  const plans = [
    planOf(two, ["float32", 5000], { kind: "map", shape: [5000], expression }),
    sumPlan("int32", 30, 1000, [1000, 1]),
    matmulPlan("uint32", 30, 50, 40),
  ];
  for (const plan of plans) {
    const inputs = plan.inputs.map((i) => numbers(plan.buffers[i]!.dtype, plan.buffers[i]!.size));
    const results = instructionSets().map((set) => {
      setInstructionSet(set);
      return bits(first(cpu.compile(plan).run(inputs)));
    });
    t.equal(new Set(results).size, 1);
  }
});

t.test("Threefry-2x32-20 gives the known answers of Random123", async (t) => {
  const answers: [number[], number[]][] = [
    [
      [0, 0, 0, 0],
      [0x6b200159, 0x99ba4efe],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0x1cb996fc, 0xbb002be7],
    ],
    [
      [0x13198a2e, 0x03707344, 0x243f6a88, 0x85a308d3],
      [0xc4923a9c, 0x483df7a0],
    ],
  ];
  const ops = ["threefry0", "threefry1", "threefryXor"] as const;
  for (const set of instructionSets()) {
    setInstructionSet(set);
    const results = ops.map((op) => {
      const instructions = [0, 1, 2, 3].map((i) => load("uint32", view(0, [4], i)));
      instructions.push(apply(op, "uint32", 0, 1, 2, 3));
      const expression = { instructions, outputs: [{ value: 4, view: view(1, [1]) }] };
      const plan = planOf([["uint32", 12]], ["uint32", 3], { kind: "map", shape: [3], expression });
      return first(cpu.compile(plan).run([Uint32Array.from(answers.flatMap(([words]) => words))]));
    });
    answers.forEach(([, [x, y]], i) => {
      t.same([results[0]![i], results[1]![i], results[2]![i]], [x!, y!, (x! ^ y!) >>> 0], set);
    });
  }
});

t.test("casts truncate toward zero, saturate and take NaN to 0", async (t) => {
  const x = Float32Array.of(1.9, -1.9, 3e9, -3e9, 1e20, Number.NaN, Infinity, -Infinity);
  for (const set of instructionSets()) {
    setInstructionSet(set);
    const cast = (to: DType) => first(cpu.compile(mapPlan("float32", 8, "cast", to)).run([x]));
    const [high, low] = [2 ** 31 - 1, -(2 ** 31)];
    t.same(cast("int32"), Int32Array.of(1, -1, high, low, high, 0, high, low), set);
    t.same(cast("uint32"), Uint32Array.of(1, 0, 3e9, 0, 2 ** 32 - 1, 0, 2 ** 32 - 1, 0), set);
    t.same(cast("bool"), Uint8Array.of(1, 1, 1, 1, 1, 1, 1, 1), set);
  }
});

/** Units in the last place of float32 between a result and the true value. */
function ulps(result: number, truth: number): number {
  if (Object.is(result, Math.fround(truth)) || result === truth) return 0;
  const size = Math.max(Math.abs(truth), 2 ** -126);
  return Math.abs(result - truth) / 2 ** (Math.floor(Math.log2(size)) - 23);
}

/** Of every sign and exponent, 256 significands: denormals, infinities and NaN among them. */
function everyExponent(): Float32Array {
  const words = Uint32Array.from({ length: 512 * 256 }, (_, i) => {
    const place = i & 255;
    const significand = place === 0 ? 0 : place === 1 ? 0x7fffff : Math.imul(i, 2654435761) >>> 9;
    return (((i >>> 8) << 23) | significand) >>> 0;
  });
  return new Float32Array(words.buffer);
}

/** [operation, truth in float64, bound in ulp]; the measured maxima stand in native/cpu/math32.h. */
const bounds: [ScalarOp, (x: number) => number, number][] = [
  ["exp", Math.exp, 2],
  ["expm1", Math.expm1, 2],
  ["log", Math.log, 2],
  ["log1p", Math.log1p, 2],
  ["erf", erf, 2],
  ["tanh", Math.tanh, 2],
  ["sin", Math.sin, 2],
  ["cos", Math.cos, 2],
  ["sigmoid", sigmoid, 2],
  ["softplus", softplus, 2],
  ["rsqrt", (x) => 1 / Math.sqrt(x), 2],
  ["gelu", gelu, 8],
];

t.test("float32 functions keep to their bounds over their whole range", async (t) => {
  const size = 1 << 17;
  const near = Float32Array.from({ length: size }, (_, i) => (i / size - 0.5) * 40);
  for (const set of instructionSets()) {
    setInstructionSet(set);
    for (const [op, truth, limit] of bounds) {
      const executable = cpu.compile(mapPlan("float32", size, op));
      let worst = 0;
      let at = 0;
      for (const x of [everyExponent(), near]) {
        const y = first(executable.run([x]));
        for (let i = 0; i < size; i++) {
          const want = truth(x[i]!);
          let error = Number.isNaN(want) ? (Number.isNaN(y[i]!) ? 0 : Infinity) : ulps(y[i]!, want);
          if (want === 0 && op !== "gelu" && !Object.is(y[i], want)) error = Infinity; // the sign of zero
          if (!(error <= worst)) [worst, at] = [error, x[i]!];
        }
      }
      t.ok(worst <= limit, `${op}, ${set}: ${worst.toFixed(2)} ulp at ${at}`);
    }
  }
});

t.test("gelu and its slope are closer where they are not tiny", async (t) => {
  const size = 1 << 17;
  const everywhere = everyExponent();
  const near = Float32Array.from({ length: size }, (_, i) => -6 + (i / size) * 12);
  const [value, slope] = (["gelu", "geluSlope"] as const).map((op) => mapPlan("float32", size, op));
  for (const set of instructionSets()) {
    setInstructionSet(set);
    const y = first(cpu.compile(value!).run([near]));
    let worst = 0;
    near.forEach((x, i) => {
      worst = Math.max(worst, ulps(y[i]!, gelu(x)));
    });
    t.ok(worst <= 5.5, `gelu from -6 on, ${set}: ${worst.toFixed(2)} ulp`);
    // The slope has a zero near -0.7518, where only an absolute bound makes sense.
    worst = 0;
    for (const xs of [near, everywhere]) {
      const y = first(cpu.compile(slope!).run([xs]));
      xs.forEach((x, i) => {
        const want = geluSlope(x);
        if (Number.isNaN(want) && Number.isNaN(y[i]!)) return;
        const error = Math.min(ulps(y[i]!, want) / 4, Math.abs(y[i]! - want) / 1e-7);
        worst = error > worst || Number.isNaN(error) ? error : worst;
        if (x < -1.5) worst = Math.max(worst, ulps(y[i]!, want) / 8);
      });
    }
    t.ok(worst <= 1, `slope, ${set}: ${worst.toFixed(2)} of the bound`);
  }
});

t.test("the bits of an element do not depend on its place in a tile or on the tile's length", async (t) => {
  const size = 512;
  const x = Float32Array.from({ length: size }, (_, i) => (i % 37) * 0.41 - 7.5 + i / 1000);
  x.set([NaN, 0, -0, 1e-40, -1e-40, Infinity, -Infinity, 1e7, -3e30, 95, -100], 100);
  for (const set of instructionSets()) {
    setInstructionSet(set);
    for (const op of [...bounds.map(([op]) => op), "geluSlope"] as const) {
      const whole = first(cpu.compile(mapPlan("float32", size, op)).run([x]));
      let same = true;
      for (let n = 1; n <= 40; n++) {
        const executable = cpu.compile(mapPlan("float32", n, op));
        for (const start of [0, 90, 101, size - n]) {
          const part = first(executable.run([x.slice(start, start + n)]));
          same &&= bitsButNaN(part) === bitsButNaN(whole.slice(start, start + n));
        }
      }
      t.ok(same, `${op}, ${set}`);
    }
  }
});

t.test("two operations computed in one pass have the bits that each has alone", async (t) => {
  const size = 5003;
  const pairs: [DType, ScalarOp, ScalarOp, number][] = [
    ["float32", "gelu", "geluSlope", 1],
    ["float32", "sin", "cos", 1],
    ["uint32", "threefry0", "threefry1", 4],
  ];
  for (const [dtype, a, b, count] of pairs) {
    const inputs = Array.from({ length: count }, (_, i) => numbers(dtype, size).map((x) => x + i));
    if (dtype === "float32") inputs[0]!.set([NaN, Infinity, -Infinity, -0, 3e7, -1e30, 1e-40], 600);
    const types = inputs.map((): [DType, number] => [dtype, size]);
    const loads = inputs.map((_, i) => load(dtype, view(i, [1])));
    const args = inputs.map((_, i) => i);
    const alone = (op: ScalarOp): Plan => {
      const outputs = [{ value: count, view: view(count, [1]) }];
      const expression = { instructions: [...loads, apply(op, dtype, ...args)], outputs };
      return planOf(types, [dtype, size], { kind: "map", shape: [size], expression });
    };
    /**
     * In either order, between arguments that are registers and later uses: their sum, one of the two, which is
     * used again after other instructions, and the other, written backwards.
     */
    const together = (first: ScalarOp, second: ScalarOp): Plan => {
      const copies = args.map((i) => apply("maximum", dtype, i, i));
      const copied = args.map((i) => count + i);
      const at = 2 * count;
      const instructions = [
        ...loads,
        ...copies,
        apply(first, dtype, ...copied),
        apply("add", dtype, at, at),
        apply("mul", dtype, at + 1, at + 1),
        apply(second, dtype, ...copied),
        apply("add", dtype, at, at + 3),
        apply("sub", dtype, at + 2, at + 4),
      ];
      const outputs = [
        { value: at, view: view(count, [1]) },
        { value: at + 3, view: view(count + 1, [-1], size - 1) },
        { value: at + 4, view: view(count + 2, [1]) },
        { value: at + 5, view: view(count + 3, [1]) },
      ];
      const buffers = [
        ...types.map(([d, n]) => buffer("input", d, n)),
        ...outputs.map(() => buffer("output", dtype, size)),
      ];
      return {
        buffers,
        steps: [{ kind: "map", shape: [size], expression: { instructions, outputs } }],
        inputs: args,
        outputs: outputs.map((_, i) => count + i),
        arenaBytes: 0,
      };
    };
    for (const set of instructionSets()) {
      setInstructionSet(set);
      for (const [one, other] of [[a, b] as const, [b, a] as const]) {
        const x = first(cpu.compile(alone(one)).run(inputs));
        const y = first(cpu.compile(alone(other)).run(inputs));
        const round = (f: (i: number) => number) => allocate(dtype, size).map((_, i) => f(i));
        const sum = round((i) => x[i]! + y[i]!);
        const doubled = round((i) => x[i]! + x[i]!);
        const square = round((i) =>
          dtype === "uint32" ? Math.imul(doubled[i]!, doubled[i]!) : doubled[i]! ** 2,
        );
        const expected = [x, y.slice().reverse(), sum, round((i) => square[i]! - sum[i]!)];
        const results = cpu.compile(together(one, other)).run(inputs);
        t.same(results.map(bitsButNaN), expected.map(bitsButNaN), `${one}, ${other}, ${set}`);
      }
    }
  }
});

/** x <- x - c. The guard is log x, which is not finite once x is 0. */
function loopPlan(): Plan {
  const instructions = [
    load("float32", view(0, [1])),
    load("float32", view(1, [0])),
    apply("sub", "float32", 0, 1),
    apply("log", "float32", 2),
  ];
  const outputs = [
    { value: 2, view: view(2, [1]) },
    { value: 3, view: view(3, [1]) },
  ];
  return {
    buffers: [
      buffer("input", "float32", 1),
      buffer("input", "float32", 1),
      buffer("output", "float32", 1),
      buffer("output", "float32", 1),
    ],
    steps: [{ kind: "map", shape: [1], expression: { instructions, outputs } }],
    inputs: [0, 1],
    outputs: [2, 3],
    arenaBytes: 0,
  };
}

t.test(
  "a loop carries its state, observes every step and stops before a step whose guard is not finite",
  async (t) => {
    const loop = cpu.compile(loopPlan()).loop([Float32Array.of(4), Float32Array.of(1)], 1);
    const { completed, observed } = await loop.run(2);
    t.equal(completed, 2);
    t.same(first(observed), Float32Array.of(Math.log(3), Math.log(2)));
    t.same(loop.read(0), Float32Array.of(2));
    const rest = await loop.run(10);
    t.equal(rest.completed, 1, "4 - 1 - 1 - 1 - 1 = 0 has no finite logarithm");
    t.same(first(rest.observed), Float32Array.of(0, -Infinity));
    t.same(loop.read(0), Float32Array.of(1), "the last step was not committed");
    loop.write(0, Float32Array.of(100));
    const running = loop.run(50);
    t.throws(() => loop.read(0), { name: "BackendError" }, "no reading while it runs");
    await t.rejects(loop.run(1), { name: "BackendError" }, "one run at a time");
    t.equal((await running).completed, 50);
    t.same(loop.read(0), Float32Array.of(50));
    loop.dispose();
    t.throws(() => loop.read(0), { name: "BackendError", message: /disposed/ });
  },
);

t.test("settings that make no sense are refused", async (t) => {
  t.throws(() => setThreads(0), { name: "BackendError" });
  t.throws(() => setThreads(257), { name: "BackendError" });
  t.throws(() => setInstructionSet("mmx"), { name: "BackendError", message: /this machine has .*baseline/ });
});

t.test("a constant is what it says, in every dtype", async (t) => {
  for (const dtype of ["float32", "float64", "int32", "uint32", "bool"] as const) {
    const expression = { instructions: [constant(dtype, 1)], outputs: [{ value: 0, view: view(0, [1]) }] };
    const plan = planOf([], [dtype, 1000], { kind: "map", shape: [1000], expression });
    t.ok(
      first(cpu.compile(plan).run([])).every((x) => x === 1),
      dtype,
    );
  }
});
