// Matrix products on CUDA: what becomes of a step, that its kernels compile, and what they compute on a device (see support/cuda-device.ts).
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { NativeProgram } from "#lib/backend/cuda/addon.js";
import { compiled } from "#lib/backend/cuda/cache.js";
import { openCuda } from "#lib/backend/cuda/load.js";
import { Lowering, SharedSource, type Target } from "#lib/backend/cuda/lowering.js";
import { lowerMatMul } from "#lib/backend/cuda/matmul.js";
import { chooseForm, tilesFor } from "#lib/backend/cuda/product-choice.js";
import { type MatrixProduct, matrixProduct } from "#lib/backend/cuda/product-shape.js";
import type { Operation, Product } from "#lib/backend/cuda/program.js";
import type { MatmulPrecision } from "#lib/backend/precision.js";
import type { BufferSpec, Expression, MatMulStep, View } from "#lib/compile/plan.js";
import { allocate, type DType, isFloat, type TypedArray } from "#lib/tensor/dtype.js";
import { rowMajor, sizeOf } from "#lib/tensor/shape.js";
import { cudaDevice } from "./support/cuda-device.js";
import { h100 } from "./support/cuda-target.js";
import { nvccMissing, resources } from "./support/nvcc.js";

// Buffers of every step: A, B, a bias along n, a slope, and two results. The views hold [...batch, rows, columns].
const [A, B, bias, slope, result, other] = [0, 1, 2, 3, 4, 5];

type Storage = "rows" | "columns" | "padded" | "reversed" | "shared";

/** A view over `shape` on a buffer that stores its matrices like this; and the size of the buffer. */
function stored(buffer: number, shape: readonly number[], storage: Storage): { view: View; size: number } {
  const batch = shape.slice(0, -2);
  const [rows, columns] = shape.slice(-2) as [number, number];
  const pitch = storage === "padded" ? columns + 3 : columns;
  const matrix = rows * pitch;
  const items = rowMajor(batch).map((stride) => (storage === "shared" ? 0 : stride * matrix));
  const strides = storage === "columns" ? [1, rows] : [pitch, storage === "reversed" ? -1 : 1];
  const view = { buffer, offset: storage === "reversed" ? columns - 1 : 0, strides: [...items, ...strides] };
  return { view, size: (storage === "shared" ? 1 : sizeOf(batch)) * matrix };
}

type Epilogue = "product" | "bias" | "bias and slope";
const rich = { epilogue: "bias and slope" } as const;

interface Example {
  dtype?: DType;
  batch?: readonly number[];
  size: readonly [m: number, n: number, k: number];
  a?: Storage;
  b?: Storage;
  c?: Storage;
  epilogue?: Epilogue;
}

function example(options: Example): { step: MatMulStep; buffers: BufferSpec[] } {
  const { dtype = "float32", batch = [], epilogue = "product" } = options;
  const [m, n, k] = options.size;
  const views = [
    stored(A, [...batch, m, k], options.a ?? "rows"),
    stored(B, [...batch, k, n], options.b ?? "rows"),
    { view: { buffer: bias, offset: 0, strides: [...batch.map(() => 0), 0, 1] }, size: n },
    stored(slope, [...batch, m, n], "rows"),
    stored(result, [...batch, m, n], options.c ?? "rows"),
    stored(other, [...batch, m, n], "rows"),
  ];
  const view = (buffer: number) => views[buffer]!.view;
  const product: Expression = {
    instructions: [{ op: "accumulator", dtype }],
    outputs: [{ value: 0, view: view(result) }],
  };
  const withBias: Expression = {
    instructions: [
      { op: "load", dtype, view: view(bias) },
      { op: "accumulator", dtype },
      { op: "add", dtype, args: [0, 1] },
    ],
    outputs: [{ value: 2, view: view(result) }],
  };
  const withSlope: Expression = {
    instructions: [
      ...withBias.instructions,
      { op: "load", dtype, view: view(slope) },
      { op: "mul", dtype, args: [2, 3] },
      { op: "index", dtype, offset: 1, strides: [...rowMajor(batch).map((stride) => stride * m * 3), 3, 2] },
      { op: "add", dtype, args: [4, 5] },
    ],
    outputs: [...withBias.outputs, { value: 6, view: view(other) }],
  };
  const expression = { product, bias: withBias, "bias and slope": withSlope }[epilogue];
  const step: MatMulStep = { kind: "matmul", dtype, batch, m, n, k, a: view(A), b: view(B), expression };
  const buffers = views.map(({ size }, i) => ({
    kind: i === result || i === other ? ("output" as const) : ("input" as const),
    dtype,
    size,
    offset: 0,
  }));
  return { step, buffers };
}

const target = (precision: MatmulPrecision, cublas: boolean): Target => ({
  ...h100,
  sharedBytes: 163 << 10,
  architecture: 80,
  precision,
  cublas,
});

function lowered(options: Example, precision: MatmulPrecision = "float32", cublas = false): Lowering {
  const { step, buffers } = example(options);
  const lowering = new Lowering(target(precision, cublas), buffers, 0);
  lowering.beginStep(0);
  lowerMatMul(lowering, step);
  return lowering;
}

/** Names of the kernels, and "product" for cuBLASLt. */
const kinds = (operations: readonly Operation[]) =>
  operations.map((operation) =>
    operation.kind === "launch" ? operation.kernel.replace(/_\d+$/, "") : operation.kind,
  );

/** To the nearest of 10 bits of mantissa (ties away from zero), of 7 bits (ties to even). */
const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);
const rounding: Record<MatmulPrecision, (x: number) => number> = {
  float32: (x) => x,
  tf32: (x) => {
    float[0] = x;
    bits[0] = (bits[0]! + 0x1000) & ~0x1fff;
    return float[0];
  },
  bfloat16: (x) => {
    float[0] = x;
    bits[0] = (bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) & 0xffff0000;
    return float[0];
  },
};

/** How numbers are multiplied and added, and rounded before they are multiplied. */
interface Arithmetic {
  multiply(x: number, y: number): number;
  add(x: number, y: number): number;
  operand(x: number): number;
}

const exact: Arithmetic = { multiply: (x, y) => x * y, add: (x, y) => x + y, operand: (x) => x };
const wrapping: Arithmetic = { multiply: Math.imul, add: (x, y) => (x + y) | 0, operand: (x) => x };

interface Written {
  readonly buffer: number;
  readonly place: number;
  readonly value: number;
  /** The sum of |A| |B| behind the value. */
  readonly magnitude: number;
}

/** What a step, or a product (whose B is [n, k]), writes: all, or for every so many elements of C. */
function evaluated(
  product: Pick<MatrixProduct, "batch" | "m" | "n" | "k" | "a" | "b" | "expression">,
  stores: "[k, n]" | "[n, k]",
  data: readonly ArrayLike<number>[],
  { multiply, add, operand }: Arithmetic = exact,
  every = 1,
): Written[] {
  const { batch, m, n, k, a, b, expression } = product;
  const at = (view: View, index: readonly number[]) =>
    view.strides.reduce((sum, stride, axis) => sum + stride * index[axis]!, view.offset);
  const written: Written[] = [];
  const strides = rowMajor([...batch, m, n]);
  for (let i = 0; i < sizeOf(batch) * m * n; i += every) {
    const index = strides.map((stride, axis) => Math.floor(i / stride) % [...batch, m, n][axis]!);
    const items = index.slice(0, -2);
    const [row, column] = index.slice(-2) as [number, number];
    const x = at(a, [...items, row, 0]);
    const y = at(b, stores === "[k, n]" ? [...items, 0, column] : [...items, column, 0]);
    const xStep = a.strides.at(-1)!;
    const yStep = b.strides.at(stores === "[k, n]" ? -2 : -1)!;
    let accumulator = 0;
    let magnitude = 0;
    for (let p = 0; p < k; p++) {
      const left = operand(data[a.buffer]![x + p * xStep]!);
      const right = operand(data[b.buffer]![y + p * yStep]!);
      accumulator = add(accumulator, multiply(left, right));
      magnitude += Math.abs(left * right);
    }
    const values: number[] = [];
    for (const instruction of expression.instructions) {
      const { op } = instruction;
      if (op === "accumulator") values.push(accumulator);
      else if (op === "load") values.push(data[instruction.view.buffer]![at(instruction.view, index)]!);
      else if (op === "index")
        values.push(
          instruction.strides.reduce((sum, stride, axis) => sum + stride * index[axis]!, instruction.offset),
        );
      else if (op === "add") values.push(add(values[instruction.args[0]!]!, values[instruction.args[1]!]!));
      else if (op === "mul")
        values.push(multiply(values[instruction.args[0]!]!, values[instruction.args[1]!]!));
    }
    for (const { value, view } of expression.outputs)
      written.push({ buffer: view.buffer, place: at(view, index), value: values[value]!, magnitude });
  }
  return written;
}

t.test("a product with fewer batch axes, or transposed, computes the same", async (t) => {
  const storages = ["rows", "columns", "shared"] as const;
  const batches = [[], [3], [2, 3], [1, 2, 1]];
  const sizes = [
    [2, 3, 4],
    [1, 3, 2],
    [3, 1, 2],
    [1, 1, 3],
    [2, 2, 0],
  ] as const;
  const results = (written: Written[]) =>
    written
      .map(({ buffer, place, value }) => `${buffer} ${place} ${value}`)
      .sort()
      .join("; ");
  const examples = batches.flatMap((batch) =>
    sizes.flatMap((size) =>
      storages.flatMap((a) =>
        storages.flatMap((b) =>
          (["rows", "columns"] as const).map((c): Example => ({ ...rich, batch, size, a, b, c })),
        ),
      ),
    ),
  );
  const different = examples.filter((options) => {
    const { step, buffers } = example(options);
    const data = buffers.map(({ size }, which) =>
      Array.from({ length: size }, (_, i) => Math.sin(which + i)),
    );
    return (
      results(evaluated(matrixProduct(step), "[n, k]", data)) !== results(evaluated(step, "[k, n]", data))
    );
  });
  t.strictSame(different, []);
});

t.test("a batch of matrices times one matrix is one product of all their rows", async (t) => {
  const { step } = example({ batch: [2, 3], size: [10, 20, 30], b: "shared", epilogue: "bias" });
  const { batch, m, n, k } = matrixProduct(step);
  t.strictSame({ batch, m, n, k }, { batch: [], m: 60, n: 20, k: 30 });
  const vectors = matrixProduct(example({ batch: [50], size: [10, 1, 30], a: "shared" }).step);
  t.strictSame(vectors.batch, []);
  t.equal(vectors.m * vectors.n, 500);
});

t.test("results with neighbours along m are computed as transposes", async (t) => {
  const { m, n, expression } = matrixProduct(example({ size: [10, 20, 30], c: "columns" }).step);
  t.strictSame([m, n], [20, 10]);
  t.strictSame(expression.outputs[0]!.view.strides, [10, 1]);
});

t.test("the kernel and the slices of k follow from the shape", async (t) => {
  const choose = (
    m: number,
    n: number,
    k: number,
    alongDepth = true,
    precision: MatmulPrecision = "float32",
  ) => {
    const form = chooseForm({ batches: 1, m, n, k, alongDepth }, tilesFor("float32", precision));
    if (form.form === "tiles") return [`${form.tile.m}x${form.tile.n}`, form.slices, form.depth];
    return form.form === "elements" ? ["elements"] : [form.form, form.slices, form.depth];
  };
  // A layer of a small network, over a batch: about a block for each of 132 multiprocessors.
  t.strictSame(choose(4096, 128, 128), ["64x64", 1, 128]);
  t.strictSame(choose(4096, 128, 128, true, "tf32"), ["64x64", 1, 128]);
  t.strictSame(choose(4096, 4096, 512), ["128x128", 1, 512]);
  t.strictSame(choose(4096, 4096, 512, true, "tf32"), ["128x128", 1, 512]);
  // Gradients by weights: small, and long sums.
  for (const precision of ["float32", "tf32"] as const) {
    const [, slices, depth] = choose(128, 128, 4096, false, precision) as [string, number, number];
    t.ok(slices >= 8 && slices <= 64, `${slices} slices`);
    t.equal(slices, Math.ceil(4096 / depth));
  }
  t.strictSame(choose(2, 128, 4096, false), ["lanes", 16, 256]);
  t.strictSame(choose(4096, 2, 128), ["warps", 1, 128]);
  t.strictSame(choose(1, 64, 100_000)[0], "warps");
  t.ok((choose(1, 64, 100_000)[1] as number) > 1, "a long product of few rows is cut");
  t.strictSame(choose(4096, 128, 3), ["elements"]);
  t.strictSame(choose(3, 3, 3), ["elements"]);
  t.strictSame(choose(300, 300, 0), ["elements"]);
});

t.test("the slices cover k without a rest", async (t) => {
  for (const k of [5, 100, 777, 4097, 30_000, 1_000_003])
    for (const [m, n] of [
      [1, 50],
      [8, 300],
      [60, 60],
      [500, 500],
    ] as const)
      for (const alongDepth of [true, false]) {
        const form = chooseForm({ batches: 1, m, n, k, alongDepth }, tilesFor("float32", "tf32"));
        if (form.form === "elements") continue;
        t.ok(form.slices * form.depth >= k && (form.slices - 1) * form.depth < k, `${m} ${n} ${k}`);
        if (form.form === "tiles" && form.slices > 1) t.equal(form.depth % form.tile.depth, 0);
      }
});

t.test("large products go to cuBLASLt, where it is there", async (t) => {
  const large = { size: [1024, 1024, 1024] } as const;
  const isOurs = (options: Example, precision: MatmulPrecision, cublas: boolean) =>
    kinds(lowered(options, precision, cublas).operations).every((kind) => kind !== "product");
  t.strictSame(kinds(lowered(large, "float32", true).operations), ["product"]);
  t.ok(isOurs(large, "float32", false));
  t.ok(isOurs({ ...large, dtype: "int32" }, "float32", true), "integers");
  t.ok(isOurs({ size: [4096, 128, 128] }, "tf32", true), "a narrow layer");
  t.ok(isOurs({ ...large, a: "reversed" }, "float32", true), "a negative stride");
  // What the library cannot compute is a second kernel, which pays where the product is deep.
  t.strictSame(kinds(lowered({ ...large, ...rich }, "tf32", true).operations), ["product", "matmul_rest"]);
  t.ok(isOurs({ size: [4096, 1024, 256], ...rich }, "float32", true));
});

t.test("a product of cuBLASLt says how its matrices are stored", async (t) => {
  const productOf = (options: Example): Product => {
    const [operation] = lowered(options, "tf32", true).operations;
    t.equal(operation?.kind, "product");
    return operation as Product;
  };
  const plain = productOf({ size: [512, 768, 1024], a: "columns", epilogue: "bias" });
  t.match(plain, {
    dtype: "float32",
    precision: "tf32",
    batch: 1,
    m: 512,
    n: 768,
    k: 1024,
    a: { buffer: A, offset: 0, row: 512, transposed: true },
    b: { buffer: B, offset: 0, row: 768, transposed: false },
    c: { buffer: result, offset: 0, row: 768, transposed: false },
    bias: { buffer: bias, offset: 0 },
  });
  // The transposed result is the product of the transposes.
  t.match(productOf({ size: [512, 768, 1024], c: "columns" }), {
    m: 768,
    n: 512,
    a: { buffer: B, row: 768, transposed: true },
    b: { buffer: A, row: 1024, transposed: true },
    c: { buffer: result, row: 512, transposed: false },
  });
  t.match(productOf({ batch: [2, 3], size: [512, 768, 1024] }), {
    batch: 6,
    a: { step: 512 * 1024 },
    b: { step: 768 * 1024 },
    c: { step: 512 * 768 },
  });
});

t.test("what tensor cores would round stays off them unless asked", async (t) => {
  const layer = { size: [4096, 128, 128] } as const;
  t.notMatch(lowered(layer, "float32").source, /Tensor/);
  t.match(lowered(layer, "tf32").source, /TensorProduct<A, B, fluxion::gemm::Tf32/);
  t.match(lowered(layer, "bfloat16").source, /TensorProduct<A, B, fluxion::gemm::Bfloat16/);
  for (const dtype of ["float64", "int32", "uint32"] as const)
    t.notMatch(lowered({ ...layer, dtype }, "tf32").source, /Tensor/);
});

t.test("an empty result launches nothing", async (t) => {
  t.strictSame(lowered({ size: [0, 5, 3] }).operations, []);
  t.strictSame(lowered({ batch: [0], size: [2, 5, 3] }).operations, []);
});

t.test("offsets beyond 2^31 are computed in 64 bits", async (t) => {
  t.match(lowered({ size: [70_000, 40_000, 100] }).source, /Operand<float, long long, /);
  t.match(lowered({ size: [7000, 4000, 100] }).source, /Operand<float, int, /);
});

t.test(
  "the kernels compile for a device, with all that they keep in registers",
  { skip: nvccMissing ?? false },
  async (t) => {
    const sizes = [
      [4096, 4096, 700],
      [4096, 128, 128],
      [1000, 200, 99],
      [128, 128, 4096],
      [60, 70, 4095],
      [4096, 2, 128],
      [2, 128, 4096],
      [300, 200, 3],
      [70_000, 40_000, 100],
    ] as const;
    const storages = [
      ["rows", "rows"],
      ["rows", "columns"],
      ["columns", "rows"],
      ["padded", "reversed"],
    ] as const;
    const sources = new Map<string, string>();
    const add = (options: Example, precision: MatmulPrecision) =>
      sources.set(JSON.stringify({ ...options, precision }), lowered(options, precision).source);
    sizes.forEach((size, i) => {
      const [a, b] = storages[i % storages.length]!;
      for (const precision of ["float32", "tf32", "bfloat16"] as const)
        add({ size, a, b, ...rich }, precision);
    });
    for (const [a, b] of storages) {
      add({ size: [4096, 4096, 512], a, b }, "float32");
      add({ size: [4096, 4096, 512], a, b }, "tf32");
      for (const dtype of ["float64", "int32", "uint32"] as const)
        add({ dtype, batch: [2, 3], size: [100, 130, 50], a, b, ...rich }, "float32");
    }
    // One translation unit: kernels are numbered by the source that they are in.
    const renamed = [...sources.values()].map((source, i) =>
      source.replace(/\bmatmul(\w*)_(\d+)\(/g, `matmul$1_${i}_$2(`),
    );
    const headers = new Set(renamed.flatMap((source) => source.match(/^#include .*$/gm) ?? []));
    const source = [...headers, ...renamed.map((text) => text.replace(/^#include .*$/gm, ""))].join("\n");
    for (const architecture of ["sm_80", "sm_90"] as const) {
      const { failure, kernels } = resources(source, architecture);
      t.equal(failure, undefined);
      t.ok(kernels.length >= sources.size);
      t.strictSame(
        kernels.filter(({ spilled }) => spilled > 0),
        [],
      );
    }
  },
);

const missing = cudaDevice();
if (missing !== undefined) t.pass(`not run on a device: ${missing}`);
else onTheDevice();

function onTheDevice(): void {
  const cache = mkdtempSync(join(tmpdir(), "fluxion-cuda-matmul-"));
  process.env.FLUXION_CACHE = cache;
  t.teardown(() => rmSync(cache, { recursive: true, force: true }));

  /** Runs products, whose kernels are compiled together; each run has, on the emulated device, other orders of threads and blocks. */
  function check(
    t: Test,
    examples: readonly Example[],
    precision: MatmulPrecision,
    { cublas = false, runs = 2, every = 1 } = {},
  ): void {
    const { addon, device } = openCuda();
    const source = new SharedSource();
    const prepared = examples.map((options) => {
      const { step, buffers } = example(options);
      const lowering = new Lowering(target(precision, cublas), buffers, 0, source);
      lowering.beginStep(0);
      lowerMatMul(lowering, step);
      return { options, step, buffers, lowering };
    });
    const module = addon.load(compiled(addon, device, source.text()));
    for (const { options, step, buffers, lowering } of prepared) {
      const { operations, arenaBytes } = lowering;
      const numbers = buffers.map((_, i) => i);
      const [inputs, outputs] = ["input", "output"].map((kind) =>
        numbers.filter((i) => buffers[i]!.kind === kind),
      );
      const program = addon.createProgram(module, {
        buffers: lowering.buffers(),
        inputs: inputs!,
        outputs: outputs!,
        operations,
        arenaBytes,
      });
      const data = buffers.map(({ dtype, size }, i) => arbitrary(dtype, size, i));
      const uploaded = inputs!.map((i) => addon.upload(data[i]!));
      const [got, ...others] = new Array(runs).fill(program).map((program: NativeProgram) =>
        program.run(uploaded).map((buffer, i) => {
          const { dtype, size } = buffers[outputs![i]!]!;
          const values = allocate(dtype, size);
          buffer.read(values);
          return values;
        }),
      );
      const name = JSON.stringify({ ...options, precision });
      const { dtype, k } = step;
      const tensor =
        /Tensor/.test(lowered(options, precision, cublas).source) || operations[0]?.kind === "product";
      const arithmetic = !isFloat(dtype)
        ? wrapping
        : {
            ...exact,
            operand: (tensor && dtype === "float32" ? rounding[precision] : undefined) ?? exact.operand,
          };
      // Each of k products and sums is rounded by at most half of the distance to the next number.
      const unit = dtype === "float64" ? 2 ** -53 : 2 ** -24;
      const wrong = evaluated(step, "[k, n]", data, arithmetic, every).filter(
        ({ buffer, place, value, magnitude }) => {
          const result = got![outputs!.indexOf(buffer)]![place]!;
          if (!isFloat(dtype)) return (result | 0) !== value;
          return !(Math.abs(result - value) <= unit * ((k + 4) * magnitude + 8 * (Math.abs(value) + 2)));
        },
      );
      t.strictSame(wrong, [], name);
      const written = outputs!.indexOf(step.expression.outputs.length > 1 ? other : result) + 1;
      const bytes = (run: readonly TypedArray[] | undefined) =>
        run!.slice(0, written).map(({ buffer }) => Buffer.from(buffer).toString("base64"));
      for (const again of others) t.ok(bytes(again).join() === bytes(got).join(), `${name}: the same bits`);
    }
  }

  const storages = ["rows", "columns"] as const;
  const sides = storages.flatMap((a) => storages.map((b) => ({ a, b })));

  t.test("products by tiles", async (t) => {
    for (const precision of ["float32", "tf32", "bfloat16"] as const)
      check(
        t,
        [
          ...sides.flatMap((side): Example[] => [
            { ...side, size: [64, 64, 64] },
            { ...side, ...rich, size: [129, 66, 37], c: "columns" },
            { ...side, size: [16, 20, 260] },
          ]),
          { ...rich, batch: [2, 3], size: [40, 36, 50], a: "padded", b: "reversed" },
          { ...rich, batch: [2, 3], size: [40, 36, 50], a: "shared", b: "columns" },
        ],
        precision,
      );
    check(
      t,
      sides.flatMap((side): Example[] => [
        { ...side, ...rich, dtype: "float64", size: [70, 65, 37] },
        { ...side, ...rich, dtype: "int32", batch: [2], size: [40, 70, 21] },
        { ...side, dtype: "uint32", size: [33, 40, 50] },
      ]),
      "float32",
    );
  });

  t.test("the largest tiles", async (t) => {
    const once = { runs: 1, every: 7 };
    check(t, [{ size: [1350, 1408, 20], a: "columns" }], "float32", once);
    check(t, [{ size: [1350, 1408, 20], b: "columns" }], "tf32", once);
    check(t, [{ size: [1350, 1408, 20], a: "columns" }], "bfloat16", once);
  });

  t.test("products in slices of k", async (t) => {
    for (const precision of ["float32", "tf32", "bfloat16"] as const)
      check(
        t,
        [
          { ...rich, size: [60, 40, 3001] },
          { size: [64, 64, 2048], a: "columns" },
          { ...rich, batch: [2], size: [30, 20, 2000], b: "columns" },
        ],
        precision,
      );
    check(t, [{ dtype: "float64", size: [40, 30, 2000], a: "columns" }], "float32");
  });

  t.test("products of few columns, of few operations, and of none", async (t) => {
    for (const dtype of ["float32", "float64", "int32"] as const)
      check(
        t,
        [
          ...sides.flatMap((side): Example[] => [
            { ...side, dtype, size: [100, 1, 50] },
            { ...side, dtype, size: [1, 77, 200] },
            { ...side, dtype, size: [1, 1, 5000] },
            { ...side, ...rich, dtype, size: [3, 130, 700] },
            { ...side, ...rich, dtype, size: [200, 8, 90] },
            { ...side, ...rich, dtype, size: [70, 90, 3] },
          ]),
          { ...rich, dtype, batch: [5], size: [2, 3, 4] },
          { ...rich, dtype, batch: [5], size: [2, 3, 0] },
          { ...rich, dtype, size: [1100, 2, 40], batch: [4] },
          { ...rich, dtype, size: [2, 100, 2048], a: "columns" },
        ],
        "float32",
      );
  });

  t.test("products by cuBLASLt, with and without a kernel for the rest", async (t) => {
    const examples = [
      { size: [256, 1024, 1024], epilogue: "bias", b: "columns" },
      { size: [1024, 256, 1024], a: "columns", c: "columns" },
      { ...rich, size: [256, 1024, 1024], a: "columns" },
    ] as const;
    for (const precision of ["float32", "tf32"] as const)
      check(t, examples, precision, { cublas: true, runs: 1, every: 97 });
  });
}

/** Floats of the unit interval and its mirror; integers of all sizes. */
function arbitrary(dtype: DType, size: number, seed: number): TypedArray {
  const values = allocate(dtype, size);
  let state = seed + 1;
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = isFloat(dtype) ? (state / 2 ** 32) * 2 - 1 : state;
  }
  return values;
}
