import { setTimeout as delay } from "node:timers/promises";
import t, { type Test } from "tap";
import type { Loop } from "#lib/backend/backend.js";
import { typescriptBackend } from "#lib/backend/typescript/index.js";
import type {
  BufferSpec,
  Expression,
  Instruction,
  Plan,
  Reducer,
  ScalarOp,
  Step,
  View,
} from "#lib/compile/plan.js";
import { BackendError } from "#lib/errors.js";
import { allocate, type DType, dtypes, isFloat, type TypedArray } from "#lib/tensor/dtype.js";
import { rowMajor, sizeOf } from "#lib/tensor/shape.js";

// ---- Plans by hand: buffers as [dtype, size], numbered inputs first, then outputs, then temporaries.

type Spec = readonly [DType, number];

function makePlan(inputs: Spec[], outputs: Spec[], temporaries: Spec[], steps: Step[]): Plan {
  let arenaBytes = 0;
  const spec = (kind: BufferSpec["kind"], [dtype, size]: Spec): BufferSpec => {
    const offset = kind === "temporary" ? arenaBytes : 0;
    if (kind === "temporary") arenaBytes += Math.ceil((size * 8) / 64) * 64;
    return { kind, dtype, size, offset };
  };
  return {
    buffers: [
      ...inputs.map((s) => spec("input", s)),
      ...outputs.map((s) => spec("output", s)),
      ...temporaries.map((s) => spec("temporary", s)),
    ],
    steps,
    inputs: inputs.map((_, i) => i),
    outputs: outputs.map((_, i) => inputs.length + i),
    arenaBytes,
  };
}

const run = (plan: Plan, inputs: TypedArray[]) => typescriptBackend.compile(plan).run(inputs);
const dense = (buffer: number, shape: readonly number[], offset = 0): View => ({
  buffer,
  offset,
  strides: rowMajor(shape),
});
const load = (dtype: DType, view: View): Instruction => ({ op: "load", dtype, view });
const scalar = (op: ScalarOp, dtype: DType, ...args: number[]): Instruction => ({ op, dtype, args });
const filled = (dtype: DType, values: readonly number[]): TypedArray => {
  const array = allocate(dtype, values.length);
  array.set(values);
  return array;
};

/** One scalar operation on columns of arguments. */
function apply(op: ScalarOp, dtype: DType, columns: TypedArray[], types: DType[]): TypedArray {
  const n = columns[0]!.length;
  const instructions = [
    ...columns.map((_, i) => load(types[i]!, dense(i, [n]))),
    scalar(op, dtype, ...columns.map((_, i) => i)),
  ];
  const expression = { instructions, outputs: [{ value: columns.length, view: dense(columns.length, [n]) }] };
  const plan = makePlan(
    types.map((type): Spec => [type, n]),
    [[dtype, n]],
    [],
    [{ kind: "map", shape: [n], expression }],
  );
  return run(plan, columns)[0]!;
}

const unary = (op: ScalarOp, dtype: DType, values: number[], result = dtype) => [
  ...apply(op, result, [filled(dtype, values)], [dtype]),
];
const binary = (op: ScalarOp, dtype: DType, pairs: number[][], result = dtype) => [
  ...apply(
    op,
    result,
    [0, 1].map((i) =>
      filled(
        dtype,
        pairs.map((p) => p[i]!),
      ),
    ),
    [dtype, dtype],
  ),
];

// ---- The same semantics, naively: every index visited, every instruction evaluated in turn.

let seed = 1;
const random = () => {
  seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
  return (seed >>> 0) / 2 ** 32;
};
const randomInt = (low: number, high: number) => low + Math.floor(random() * (high - low + 1));

function randomArray(dtype: DType, size: number): TypedArray {
  const array = allocate(dtype, size);
  for (let i = 0; i < size; i++)
    array[i] =
      dtype === "bool"
        ? randomInt(0, 1)
        : isFloat(dtype)
          ? random() * 4 - 2
          : randomInt(-2147483648, 2147483647);
  return array;
}

const stored = (dtype: DType, x: number) => filled(dtype, [x])[0]!;

function* indices(shape: readonly number[]): Generator<number[]> {
  const size = sizeOf(shape);
  for (let i = 0; i < size; i++) {
    const index: number[] = [];
    let rest = i;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index.unshift(rest % shape[axis]!);
      rest = Math.floor(rest / shape[axis]!);
    }
    yield index;
  }
}

const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
const place = (view: View, index: readonly number[]) => view.offset + dot(index, view.strides);

function evaluate(
  expression: Expression,
  index: number[],
  buffers: TypedArray[],
  accumulator?: number,
): number[] {
  const values: number[] = [];
  for (const instruction of expression.instructions) {
    const { op, dtype } = instruction;
    if (op === "load") values.push(buffers[instruction.view.buffer]![place(instruction.view, index)]!);
    else if (op === "constant") values.push(stored(dtype, instruction.value));
    else if (op === "index") values.push(stored(dtype, instruction.offset + dot(index, instruction.strides)));
    else if (op === "accumulator") values.push(stored(dtype, accumulator!));
    else {
      const [x, y, z] = instruction.args.map((a) => values[a]!) as [number, number, number];
      const exact: Partial<Record<ScalarOp, () => number>> = {
        add: () => x + y,
        sub: () => x - y,
        mul: () => (isFloat(dtype) ? x * y : Number(BigInt.asIntN(32, BigInt(x) * BigInt(y)))),
        neg: () => -x,
        maximum: () => Math.max(x, y),
        minimum: () => Math.min(x, y),
        greater: () => Number(x > y),
        notEqual: () => Number(x !== y),
        where: () => (x ? y : z),
        tanh: () => Math.tanh(x),
        cast: () => x,
      };
      values.push(stored(dtype, exact[op]!()));
    }
  }
  return values;
}

/** A view over `shape` that is broadcast, flipped, transposed or sliced at random, and the buffer size that it needs. */
function randomView(
  buffer: number,
  shape: readonly number[],
  broadcast = true,
): { view: View; size: number } {
  const order = shape.map((_, axis) => axis).sort(() => random() - 0.5);
  const strides = shape.map(() => 0);
  let stride = 1;
  let offset = randomInt(0, 3);
  for (const axis of order) {
    if (broadcast && random() < 0.25) continue;
    const skip = randomInt(1, 2);
    const flip = random() < 0.3;
    strides[axis] = stride * skip * (flip ? -1 : 1);
    const extent = Math.max(shape[axis]!, 1);
    if (flip) offset += stride * skip * (extent - 1);
    stride *= skip * extent;
  }
  return { view: { buffer, offset, strides }, size: stride + offset + 3 };
}

const randomShape = (rank: number) =>
  Array.from({ length: rank }, () => [1, 2, 3, 5, 7, 11][randomInt(0, 5)]!);

/** Two loads, a constant, an index and a few operations on them, of one dtype. */
function randomExpression(dtype: DType, shape: readonly number[], views: View[]): Instruction[] {
  const instructions: Instruction[] = views.map((view) => load(dtype, view));
  if (dtype === "bool") return [...instructions, scalar("notEqual", "bool", 0, 1)];
  instructions.push({
    op: "constant",
    dtype,
    value: dtype === "uint32" ? 7 : -1.5 + (isFloat(dtype) ? 0 : 0.5),
  });
  instructions.push({ op: "index", dtype, offset: 3, strides: shape.map(() => randomInt(0, 4)) });
  const n = instructions.length;
  instructions.push(
    scalar("mul", dtype, 0, n - 2),
    scalar("add", dtype, n, 1),
    scalar("sub", dtype, n + 1, n - 1),
    scalar("greater", "bool", n + 2, 1),
    scalar("where", dtype, n + 3, n, n + 2),
    scalar("maximum", dtype, n + 4, 0),
  );
  return instructions;
}

t.test("a map over any strided views, of every dtype, is what naive loops give", async (t) => {
  for (const dtype of dtypes) {
    for (let trial = 0; trial < 40; trial++) {
      const shape = randomShape(trial % 5);
      const [a, b] = [randomView(0, shape), randomView(1, shape)];
      const [c, d] = [randomView(2, shape, false), randomView(3, shape, false)];
      const instructions = randomExpression(dtype, shape, [a.view, b.view]);
      const outputs = [
        { value: instructions.length - 1, view: c.view },
        { value: 0, view: d.view },
      ];
      const plan = makePlan(
        [a, b].map(({ size }): Spec => [dtype, size]),
        [c, d].map(({ size }): Spec => [dtype, size]),
        [],
        [{ kind: "map", shape, expression: { instructions, outputs } }],
      );
      const inputs = [randomArray(dtype, a.size), randomArray(dtype, b.size)];
      const expected = [...inputs, allocate(dtype, c.size), allocate(dtype, d.size)];
      for (const index of indices(shape)) {
        const values = evaluate({ instructions, outputs }, index, inputs);
        for (const { value, view } of outputs) expected[view.buffer]![place(view, index)] = values[value]!;
      }
      t.same(run(plan, inputs), expected.slice(2), `${dtype} [${shape}]`);
    }
  }
});

t.test("a reduction over any strided views is what naive loops give", async (t) => {
  const reducers: Reducer[] = ["sum", "max", "min", "argmax", "argmin"];
  for (const dtype of dtypes) {
    for (const reducer of reducers) {
      if (dtype === "bool" && reducer === "sum") continue;
      for (let trial = 0; trial < 24; trial++) {
        const shape = randomShape(trial % 5);
        if (trial % 6 === 5) shape.splice(0, shape.length, 1030, 3); // a long axis, in blocks where it is kept
        const reducedRank = randomInt(0, shape.length);
        const kept = shape.slice(0, shape.length - reducedRank);
        const [a, b] = [randomView(0, shape), randomView(1, shape)];
        if (trial % 6 === 5) a.view = { ...a.view, offset: 0, strides: [1, 1030] };
        a.size = Math.max(a.size, 3090);
        const c = randomView(2, kept, false);
        const instructions = randomExpression(dtype, shape, [a.view, b.view]);
        const expression = { instructions, outputs: [{ value: instructions.length - 1, view: c.view }] };
        const result = reducer.startsWith("arg") ? "int32" : dtype;
        const plan = makePlan(
          [
            [dtype, a.size],
            [dtype, b.size],
          ],
          [[result, c.size]],
          [],
          [{ kind: "reduce", shape, reducedRank, reducer, expression }],
        );
        const inputs = [randomArray(dtype, a.size), randomArray(dtype, b.size)];
        const expected = allocate(result, c.size);
        const tolerance = allocate("float64", c.size);
        for (const index of indices(kept)) {
          const values = [...indices(shape.slice(kept.length))].map(
            (rest) => evaluate(expression, [...index, ...rest], inputs).at(-1)!,
          );
          const at = place(c.view, index);
          const best = (reducer.endsWith("max") ? Math.max : Math.min)(...values);
          expected[at] =
            reducer === "sum"
              ? values.reduce((x, y) => x + y, 0)
              : reducer.startsWith("arg")
                ? values.indexOf(best)
                : best;
          const epsilon = { float32: 2 ** -23, float64: 2 ** -45, int32: 0, uint32: 0, bool: 0 }[dtype];
          if (reducer === "sum") tolerance[at] = epsilon * values.reduce((x, y) => x + Math.abs(y), 0);
        }
        const [actual] = run(plan, inputs);
        const fits = expected.every((x, i) => Math.abs(x - actual![i]!) <= tolerance[i]!);
        t.ok(fits, `${reducer} of ${dtype} [${shape}] over ${reducedRank} axes`);
      }
    }
  }
});

function reduceRow(reducer: Reducer, dtype: DType, values: number[], shape = [1, values.length]): number[] {
  const kept = shape.slice(0, 1);
  const result: DType = reducer.startsWith("arg") ? "int32" : dtype;
  const expression = {
    instructions: [load(dtype, dense(0, shape))],
    outputs: [{ value: 0, view: dense(1, kept) }],
  };
  const step: Step = { kind: "reduce", shape, reducedRank: shape.length - 1, reducer, expression };
  return [
    ...run(makePlan([[dtype, values.length]], [[result, sizeOf(kept)]], [], [step]), [
      filled(dtype, values),
    ])[0]!,
  ];
}

t.test("reductions: NaN, infinities, ties, nothing", async (t) => {
  for (const dtype of ["float32", "float64"] as const) {
    t.same(reduceRow("max", dtype, [1, NaN, 3]), [NaN]);
    t.same(reduceRow("min", dtype, [1, NaN, 3]), [NaN]);
    t.same(reduceRow("argmax", dtype, [1, 3, NaN, 9, NaN]), [2]);
    t.same(reduceRow("argmin", dtype, [NaN, -Infinity]), [0]);
    t.same(reduceRow("argmax", dtype, [-Infinity, -Infinity]), [0]);
    t.same(reduceRow("argmax", dtype, [2, 5, 5]), [1]);
    t.same(reduceRow("sum", dtype, [1, Infinity, 3]), [Infinity]);
    t.same(reduceRow("sum", dtype, [Infinity, -Infinity]), [NaN]);
    t.same(reduceRow("sum", dtype, [], [3, 0]), [0, 0, 0]);
  }
  t.same(reduceRow("argmin", "int32", [2147483647, 2147483647]), [0]);
  t.same(reduceRow("sum", "int32", [2147483647, 1]), [-2147483648]);
  t.same(reduceRow("sum", "uint32", [4294967295, 3]), [2]);
});

t.test("sums lose no small terms, and do not depend on the loop order", async (t) => {
  const values = new Array<number>(1 << 16).fill(1e-16);
  t.equal(reduceRow("sum", "float64", [1, ...values])[0], 1 + 65536e-16);
  t.equal(reduceRow("sum", "float32", [1, ...values.fill(2 ** -25)])[0], 1 + 2 ** -9);
  // The sums of the columns of a matrix, and those of the rows of its transpose in memory.
  for (const dtype of ["float32", "float64"] as const) {
    const [rows, columns] = [517, 600];
    const x = randomArray(dtype, rows * columns);
    const transposed = allocate(dtype, x.length);
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++) transposed[j * rows + i] = x[i * columns + j]!;
    const sum = (strides: number[], data: TypedArray) => {
      const expression = {
        instructions: [load(dtype, { buffer: 0, offset: 0, strides })],
        outputs: [{ value: 0, view: dense(1, [columns]) }],
      };
      const step: Step = {
        kind: "reduce",
        shape: [columns, rows],
        reducedRank: 1,
        reducer: "sum",
        expression,
      };
      return run(makePlan([[dtype, x.length]], [[dtype, columns]], [], [step]), [data]);
    };
    t.same(sum([1, columns], x), sum([rows, 1], transposed));
  }
});

async function productBehaviour(t: Test): Promise<void> {
  const cases = [
    { batch: [], m: 1, n: 1, k: 1 },
    { batch: [], m: 7, n: 5, k: 3 },
    { batch: [3], m: 50, n: 9, k: 11 },
    { batch: [2, 2], m: 4, n: 3, k: 300 },
    { batch: [], m: 97, n: 33, k: 0 },
    { batch: [0], m: 2, n: 2, k: 2 },
    { batch: [], m: 300, n: 70, k: 5 }, // several blocks of C
    { batch: [], m: 5, n: 530, k: 4 }, // several strips of B
    { batch: [], m: 3, n: 9, k: 40_000 }, // B is packed again and again
  ];
  for (const dtype of ["float32", "float64", "int32", "uint32"] as const) {
    for (const { batch, m, n, k } of cases) {
      const shape = [...batch, m, n];
      const large = k > 1000;
      const a = randomView(0, [...batch, m, k], !large);
      const b = randomView(1, [...batch, k, n], !large);
      const bias = randomView(2, shape);
      const c = randomView(3, shape, false);
      const instructions: Instruction[] = [
        { op: "accumulator", dtype },
        load(dtype, bias.view),
        { op: "index", dtype, offset: 1, strides: shape.map((_, i) => i + 1) },
        scalar("mul", dtype, 0, 2),
        scalar("add", dtype, 3, 1),
      ];
      const expression: Expression = {
        instructions,
        outputs: [
          { value: 4, view: c.view },
          { value: 0, view: dense(4, shape) },
        ],
      };
      const step: Step = { kind: "matmul", dtype, batch, m, n, k, a: a.view, b: b.view, expression };
      const sizes = [a, b, bias].map(({ size }): Spec => [dtype, size]);
      const plan = makePlan(
        sizes,
        [
          [dtype, c.size],
          [dtype, sizeOf(shape)],
        ],
        [],
        [step],
      );
      const inputs = sizes.map(([, size]) => randomArray(dtype, size));
      const [mapped, product] = run(plan, inputs);
      let worst = 0;
      let exact = true;
      for (const index of indices(shape)) {
        const [i, j] = index.slice(-2) as [number, number];
        const head = index.slice(0, -2);
        let sum = 0;
        let size = 0;
        for (let p = 0; p < k; p++) {
          const x = inputs[0]![place(a.view, [...head, i, p])]!;
          const y = inputs[1]![place(b.view, [...head, p, j])]!;
          sum = isFloat(dtype) ? sum + x * y : (sum + Math.imul(x, y)) | 0;
          size += Math.abs(x * y);
        }
        const got = product![place(dense(4, shape), index)]!;
        if (isFloat(dtype)) worst = Math.max(worst, Math.abs(got - sum) / (size || 1));
        else exact &&= got === stored(dtype, sum);
        const value = evaluate(expression, index, inputs, got)[4]!;
        exact &&= mapped![place(c.view, index)] === value;
      }
      t.ok(exact, `${dtype} [${batch}] ${m} x ${k} x ${n}: integers, and the epilogue`);
      // In vectors, products of float32 are rounded and added in float32, by blocks of k.
      t.ok(worst <= (dtype === "float32" ? 2 ** -22 : 1e-13), `${dtype} ${m} x ${k} x ${n}: error ${worst}`);
    }
  }
}

/** A test of both ways to compute: in vectors, and in JavaScript alone. */
function testBothWays(name: string, behaviour: (t: Test) => Promise<void>): void {
  t.test(name, behaviour);
  t.test(`${name}, without WebAssembly`, async (t) => {
    t.intercept(globalThis, "WebAssembly" as never, { value: undefined });
    await behaviour(t);
  });
}

testBothWays("a product with any strided operands and epilogue is what naive loops give", productBehaviour);

t.test("gather and scatter", async (t) => {
  const [outer, size, inner, count] = [2, 5, 3, 4];
  const at = [4, -1, 0, -5];
  for (const wide of [inner, 40]) {
    for (const dtype of dtypes) {
      const shared = { outer, size, inner: wide, count, input: 0, indices: 1, output: 2 };
      const whole: Spec = [dtype, outer * size * wide];
      const part: Spec = [dtype, outer * count * wide];
      const gather = makePlan([whole, ["int32", count]], [part], [], [{ kind: "gather", ...shared }]);
      const x = randomArray(dtype, whole[1]);
      const expected = allocate(dtype, part[1]);
      for (const [o, j, i] of indices([outer, count, wide]) as Generator<[number, number, number]>)
        expected[(o * count + j) * wide + i] = x[(o * size + ((at[j]! + size) % size)) * wide + i]!;
      t.same(run(gather, [x, Int32Array.from(at)]), [expected]);

      if (dtype === "bool") continue;
      const scatter = makePlan([part, ["int32", count]], [whole], [], [{ kind: "scatter", ...shared }]);
      const y = randomArray(dtype, part[1]);
      const sums = allocate(dtype, whole[1]);
      for (const [o, j, i] of indices([outer, count, wide]) as Generator<[number, number, number]>)
        sums[(o * size + ((at[j]! + size) % size)) * wide + i]! += y[(o * count + j) * wide + i]!;
      t.same(run(scatter, [y, Int32Array.from(at)]), [sums]);

      const wrong = { name: "BackendError", message: "index 7 is out of range for an axis of size 5" };
      t.throws(() => run(gather, [x, Int32Array.from([0, 7, 0, 0])]), wrong);
      t.throws(() => run(scatter, [y, Int32Array.from([0, 7, 0, 0])]), wrong);
      t.throws(() => run(gather, [x, Int32Array.from([0, -6, 0, 0])]), {
        message: /index -6 is out of range/,
      });
    }
  }
});

t.test("sort is a stable argsort with NaN last", async (t) => {
  const sort = (dtype: DType, rows: number, size: number, data: TypedArray) =>
    run(
      makePlan(
        [[dtype, rows * size]],
        [["int32", rows * size]],
        [],
        [{ kind: "sort", rows, size, input: 0, output: 1 }],
      ),
      [data],
    )[0]!;
  t.same(
    [...sort("float32", 1, 7, Float32Array.of(3, NaN, -0, 0, -Infinity, NaN, Infinity))],
    [4, 2, 3, 0, 6, 1, 5],
  );
  t.same([...sort("float64", 2, 0, new Float64Array(0))], []);
  for (const dtype of dtypes) {
    for (const size of [1, 8, 9, 31, 500]) {
      const x = randomArray(dtype, 3 * size);
      if (size === 31) for (let i = 0; i < x.length; i++) x[i] = randomInt(0, dtype === "bool" ? 1 : 5); // ties
      const expected = [0, 1, 2].flatMap((row) => {
        const keys = [...x.subarray(row * size, (row + 1) * size)];
        return keys.map((_, i) => i).sort((i, j) => keys[i]! - keys[j]! || i - j);
      });
      t.same([...sort(dtype, 3, size, x)], expected, `${dtype} ${size}`);
    }
  }
});

t.test("cumsum adds in float64 along the middle axis, from either end", async (t) => {
  for (const dtype of ["float32", "float64", "int32", "uint32"] as const)
    for (const [outer, size, inner] of [
      [2, 5, 3],
      [1, 7, 600],
      [3, 40, 1],
      [2, 0, 4],
    ] as const)
      for (const reverse of [false, true]) {
        const n = outer * size * inner;
        const step: Step = { kind: "cumsum", outer, size, inner, reverse, input: 0, output: 1 };
        const x = randomArray(dtype, n);
        const expected = allocate(dtype, n);
        for (let o = 0; o < outer; o++)
          for (let i = 0; i < inner; i++) {
            let sum = 0; // of integers of 32 bits, exact
            for (let l = 0; l < size; l++) {
              const at = (o * size + (reverse ? size - 1 - l : l)) * inner + i;
              sum += x[at]!;
              expected[at] = sum;
            }
          }
        t.same(run(makePlan([[dtype, n]], [[dtype, n]], [], [step]), [x]), [expected], `${dtype} ${inner}`);
      }
});

t.test("integers wrap modulo 2^32", async (t) => {
  t.same(binary("add", "int32", [[2147483647, 1]]), [-2147483648]);
  t.same(binary("sub", "uint32", [[0, 1]]), [4294967295]);
  t.same(binary("mul", "int32", [[65537, 65537]]), [131073]);
  t.same(binary("mul", "uint32", [[0xffffffff, 0xffffffff]]), [1]);
  t.same(unary("neg", "int32", [-2147483648, 5]), [-2147483648, -5]);
  t.same(unary("neg", "uint32", [1]), [4294967295]);
  t.same(unary("abs", "int32", [-2147483648, -5]), [-2147483648, 5]);
  t.same(unary("abs", "uint32", [4294967295]), [4294967295]);
  t.same(unary("sign", "int32", [-7, 0, 9]), [-1, 0, 1]);
  t.same(binary("maximum", "uint32", [[4294967295, 1]]), [4294967295]);
  t.same(binary("minimum", "int32", [[-1, 1]]), [-1]);
  t.same(binary("shiftRight", "uint32", [[0xffffffff, 9]]), [0x7fffff]);
});

t.test("float32 rounds after every instruction", async (t) => {
  const one = load("float32", dense(0, [1]));
  const instructions: Instruction[] = [
    one,
    { op: "constant", dtype: "float32", value: 2 ** -24 },
    scalar("add", "float32", 0, 1),
    scalar("add", "float32", 2, 1),
    { op: "constant", dtype: "float32", value: 0.1 },
  ];
  const outputs = [
    { value: 3, view: dense(1, [1]) },
    { value: 4, view: dense(2, [1]) },
  ];
  const plan = makePlan(
    [["float32", 1]],
    [
      ["float32", 1],
      ["float32", 1],
    ],
    [],
    [{ kind: "map", shape: [1], expression: { instructions, outputs } }],
  );
  t.same(run(plan, [Float32Array.of(1)]), [Float32Array.of(1), Float32Array.of(0.1)]);
});

t.test("casts truncate toward zero and saturate, NaN gives 0", async (t) => {
  const floats = [1.9, -1.9, NaN, Infinity, -Infinity, 3e9, -3e9, 5e9, 0.5, -0.5];
  for (const dtype of ["float32", "float64"] as const) {
    const cast = (to: DType) => unary("cast", dtype, floats, to);
    t.same(cast("int32"), [1, -1, 0, 2147483647, -2147483648, 2147483647, -2147483648, 2147483647, 0, 0]);
    t.same(cast("uint32"), [1, 0, 0, 4294967295, 0, 3e9, 0, 4294967295, 0, 0]);
    t.same(cast("bool"), [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
  }
  t.same(unary("cast", "float64", [0, -0, 0.1], "bool"), [0, 0, 1]);
  t.same(unary("cast", "float64", [0.1], "float32"), [Math.fround(0.1)]);
  t.same(unary("cast", "int32", [-1, 16777217], "float32"), [-1, 16777216]);
  t.same(unary("cast", "int32", [-1], "uint32"), [4294967295]);
  t.same(unary("cast", "uint32", [4294967295], "int32"), [-1]);
  t.same(unary("cast", "uint32", [4294967295], "float64"), [4294967295]);
  t.same(unary("cast", "int32", [-5, 0], "bool"), [1, 0]);
  t.same(unary("cast", "bool", [1, 0], "float32"), [1, 0]);
});

t.test("the rules for NaN, remainders, rounding and powers", async (t) => {
  for (const dtype of ["float32", "float64"] as const) {
    t.same(
      binary("maximum", dtype, [
        [NaN, 1],
        [1, NaN],
        [2, 1],
      ]),
      [NaN, NaN, 2],
    );
    t.same(
      binary("minimum", dtype, [
        [NaN, 1],
        [1, NaN],
        [2, 1],
      ]),
      [NaN, NaN, 1],
    );
    const pairs = [
      [NaN, NaN],
      [1, 1],
      [1, 2],
      [0, -0],
    ];
    t.same(binary("equal", dtype, pairs, "bool"), [0, 1, 0, 1]);
    t.same(binary("notEqual", dtype, pairs, "bool"), [1, 0, 1, 0]);
    t.same(binary("less", dtype, pairs, "bool"), [0, 0, 1, 0]);
    t.same(binary("lessEqual", dtype, pairs, "bool"), [0, 1, 1, 1]);
    t.same(binary("greater", dtype, pairs, "bool"), [0, 0, 0, 0]);
    t.same(binary("greaterEqual", dtype, pairs, "bool"), [0, 1, 0, 1]);
    t.same(
      binary("remainder", dtype, [
        [5, 3],
        [-5, 3],
        [5, -3],
        [-5, -3],
        [6, -3],
        [1, 0],
        [-1, Infinity],
      ]),
      [2, 1, -1, -2, -0, NaN, Infinity],
    );
    t.same(unary("round", dtype, [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 2.4, -2.6, Infinity]), [
      0,
      2,
      2,
      -0,
      -2,
      -2,
      2,
      -3,
      Infinity,
    ]);
    t.same(unary("floor", dtype, [1.5, -1.5]), [1, -2]);
    t.same(unary("sign", dtype, [-3, 0, 2, NaN]), [-1, 0, 1, NaN]);
    t.same(
      binary("pow", dtype, [
        [1, NaN],
        [-1, Infinity],
        [-1, -Infinity],
        [NaN, 0],
        [2, 10],
        [-2, 0.5],
        [0, -1],
      ]),
      [1, 1, 1, 1, 1024, NaN, Infinity],
    );
    t.same(unary("rsqrt", dtype, [4, 0]), [0.5, Infinity]);
    t.same(
      binary("div", dtype, [
        [1, 0],
        [0, 0],
      ]),
      [Infinity, NaN],
    );
  }
  t.same(
    binary("remainder", "int32", [
      [5, 3],
      [-5, 3],
      [5, -3],
      [-5, -3],
      [6, -3],
      [1, 0],
      [-2147483648, -1],
    ]),
    [2, 1, -1, -2, 0, 0, 0],
  );
  t.same(
    binary("remainder", "uint32", [
      [4294967295, 7],
      [5, 0],
    ]),
    [3, 0],
  );
  t.same(
    binary("logicalAnd", "bool", [
      [1, 1],
      [1, 0],
    ]),
    [1, 0],
  );
  t.same(
    binary("logicalOr", "bool", [
      [0, 0],
      [1, 0],
    ]),
    [0, 1],
  );
  t.same(unary("logicalNot", "bool", [0, 1]), [1, 0]);
  t.same(
    binary("equal", "bool", [
      [0, 0],
      [1, 0],
    ]),
    [1, 0],
  );
});

t.test("a power with a constant exponent is the same power", async (t) => {
  for (const exponent of [2, 3, 0.5]) {
    const instructions: Instruction[] = [
      load("float64", dense(0, [4])),
      { op: "constant", dtype: "float64", value: exponent },
      scalar("pow", "float64", 0, 1),
    ];
    const expression = { instructions, outputs: [{ value: 2, view: dense(1, [4]) }] };
    const plan = makePlan([["float64", 4]], [["float64", 4]], [], [{ kind: "map", shape: [4], expression }]);
    const x = [3, 0.25, 0, 16];
    t.same(
      [...run(plan, [Float64Array.from(x)])[0]!],
      x.map((v) => v ** exponent),
    );
  }
});

// Values to 50 digits by mpmath 1.3, rounded to double.
const references: [ScalarOp, number, [number, number][]][] = [
  [
    "erf",
    4e-16,
    [
      [0, 0],
      [1e-300, 1.1283791670955126e-300],
      [1e-10, 1.1283791670955126e-10],
      [0.125, 0.1403162048013338],
      [0.5, 0.5204998778130465],
      [0.64, 0.6345858291221413],
      [0.66, 0.6493766879629542],
      [0.84375, 0.7672256612323416],
      [-1, -0.8427007929497149],
      [1.25, 0.9229001282564583],
      [-1.5, -0.9661051464753108],
      [2, 0.9953222650189527],
      [3, 0.9999779095030014],
      [4, 0.9999999845827421],
      [5, 0.9999999999984626],
      [7, 1],
      [-Infinity, -1],
      [NaN, NaN],
    ],
  ],
  [
    "gelu",
    2e-15,
    [
      [-37.5, -1.7270073785932332e-306],
      [-30.123456789, -3.598389620314566e-198],
      [-20, -5.507248237212468e-88],
      [-10.1, -2.789730566482162e-23],
      [-6, -5.9195258702261885e-9],
      [-5.7, -3.414511698606211e-8],
      [-5, -0.0000014332578593959695],
      [-3.3, -0.0015952996698664658],
      [-2, -0.04550026389635842],
      [-1, -0.15865525393145705],
      [-0.92, -0.16448346924522197],
      [-0.91, -0.16508424195153548],
      [-0.5, -0.15426876936299344],
      [-1e-9, -4.999999996010577e-10],
      [0, 0],
      [0.3, 0.1853734266566858],
      [1, 0.8413447460685429],
      [2.5, 2.4844758366855597],
      [8, 7.999999999999995],
      [Infinity, Infinity],
      [-Infinity, 0],
      [-50, 0],
      [NaN, NaN],
    ],
  ],
  [
    "geluSlope",
    2e-15,
    [
      [-37.123, -8.239594489618722e-299],
      [-30.5, -1.2120552074078686e-201],
      [-10.123456789, -2.227518031366086e-22],
      [-5, -0.000007146946001792295],
      [-1.7, -0.11531796878216473],
      [-1, -0.0833154705876863],
      [-0.5, 0.13250487534383715],
      [-1e-9, 0.49999999920211546],
      [0, 0.5],
      [0.3, 0.7323277668271099],
      [1, 1.0833154705876864],
      [2.5, 1.037611085908145],
      [8, 1.0000000000000397],
      [Infinity, 1],
      [-Infinity, 0],
      [NaN, NaN],
    ],
  ],
  [
    "sigmoid",
    4e-16,
    [
      [0, 0.5],
      [-40, 4.248354255291589e-18],
      [800, 1],
      [-Infinity, 0],
    ],
  ],
  [
    "softplus",
    4e-16,
    [
      [0, Math.LN2],
      [-40, 4.248354255291589e-18],
      [800, 800],
      [Infinity, Infinity],
      [-Infinity, 0],
    ],
  ],
  ["expm1", 4e-16, [[1e-10, 1.00000000005e-10]]],
  ["log1p", 4e-16, [[1e-10, 9.9999999995e-11]]],
  ["exp", 4e-16, [[1, Math.E]]],
  ["log", 4e-16, [[2, Math.LN2]]],
  ["sqrt", 0, [[2, Math.SQRT2]]],
  ["sin", 4e-16, [[Math.PI / 6, 0.49999999999999994]]],
  ["cos", 4e-16, [[Math.PI / 3, 0.5000000000000001]]],
  ["tanh", 4e-16, [[Math.log(2), 0.6]]],
];

t.test("scalar functions have the published values", async (t) => {
  for (const [op, tolerance, table] of references) {
    const x = table.map(([at]) => at);
    const close = (values: number[], expected: number[], limit: number) =>
      values.every(
        (v, i) => Object.is(v, expected[i]) || Math.abs(v - expected[i]!) <= limit * Math.abs(expected[i]!),
      );
    t.ok(
      close(
        unary(op, "float64", x),
        table.map(([, y]) => y),
        tolerance,
      ),
      op,
    );
    // In float32, at arguments that it represents: the double rounded.
    const exact = table.filter(([at]) => Object.is(Math.fround(at), at));
    const single = unary(
      op,
      "float32",
      exact.map(([at]) => at),
    );
    t.ok(
      close(
        single,
        exact.map(([, y]) => Math.fround(y)),
        2 ** -23,
      ),
      `${op}, float32`,
    );
  }
});

t.test("Threefry-2x32-20 gives the words of Random123's known answers", async (t) => {
  // Columns: k0, k1, c0, c1.
  const input = [
    [0, 0xffffffff, 0x13198a2e],
    [0, 0xffffffff, 0x03707344],
    [0, 0xffffffff, 0x243f6a88],
    [0, 0xffffffff, 0x85a308d3],
  ].map((column) => Uint32Array.from(column));
  const types: DType[] = ["uint32", "uint32", "uint32", "uint32"];
  const first = apply("threefry0", "uint32", input, types);
  const second = apply("threefry1", "uint32", input, types);
  t.same([...first], [0x6b200159, 0x1cb996fc, 0xc4923a9c]);
  t.same([...second], [0x99ba4efe, 0xbb002be7, 0x483df7a0]);
  t.same(
    [...apply("threefryXor", "uint32", input, types)],
    [...first].map((x, i) => (x ^ second[i]!) >>> 0),
  );
});

t.test(
  "an index is an arithmetic progression: integers wrap, fractions do not accumulate errors",
  async (t) => {
    const shape = [300, 5];
    const index = (dtype: DType, offset: number, strides: number[]) => {
      const instructions: Instruction[] = [{ op: "index", dtype, offset, strides }];
      const expression = { instructions, outputs: [{ value: 0, view: dense(0, shape) }] };
      return [...run(makePlan([], [[dtype, 1500]], [], [{ kind: "map", shape, expression }]), [])[0]!];
    };
    const all = [...indices(shape)] as [number, number][];
    t.same(
      index("uint32", 4294967290, [5, 1]),
      all.map(([i, j]) => (4294967290 + 5 * i + j) >>> 0),
    );
    t.same(
      index("int32", 2147483640, [5, -1]),
      all.map(([i, j]) => (2147483640 + 5 * i - j) | 0),
    );
    t.same(
      index("float64", 0.25, [0.5, 0.1]),
      all.map(([i, j]) => 0.25 + i * 0.5 + j * 0.1),
    );
    t.same(
      index("float32", 0, [0.5, 0.1]),
      all.map(([i, j]) => Math.fround(i * 0.5 + j * 0.1)),
    );
  },
);

// ---- Running

/** y = x + 1 by way of a temporary, then the sum of y. */
function chain(n: number): Plan {
  const increment: Expression = {
    instructions: [
      load("float32", dense(0, [n])),
      { op: "constant", dtype: "float32", value: 1 },
      scalar("add", "float32", 0, 1),
    ],
    outputs: [{ value: 2, view: dense(2, [n]) }],
  };
  const sum: Expression = {
    instructions: [load("float32", dense(2, [n]))],
    outputs: [{ value: 0, view: dense(1, []) }],
  };
  return makePlan(
    [["float32", n]],
    [["float32", 1]],
    [["float32", n]],
    [
      { kind: "map", shape: [n], expression: increment },
      { kind: "reduce", shape: [n], reducedRank: 1, reducer: "sum", expression: sum },
    ],
  );
}

t.test("a plan runs many times, and gives new arrays each time", async (t) => {
  const executable = typescriptBackend.compile(JSON.parse(JSON.stringify(chain(12))) as Plan);
  const first = executable.run([new Float32Array(12)]);
  const second = executable.run([new Float32Array(12).fill(1)]);
  t.same([first, second], [[Float32Array.of(12)], [Float32Array.of(24)]]);
});

t.test("inputs that do not fit are errors that say what was given", async (t) => {
  const executable = typescriptBackend.compile(chain(12));
  const detached = new Float32Array(12);
  structuredClone(detached, { transfer: [detached.buffer] });
  const message = "input 0: expected float32 of 12 elements, got float32 of 0 (is its buffer detached?)";
  t.throws(() => executable.run([detached]), { name: "BackendError", message });
  await t.rejects(executable.runAsync([detached]), { name: "BackendError", message });
  t.throws(() => executable.loop([detached], 0), { name: "BackendError", message });
  t.throws(() => executable.run([new Float64Array(12)]), { message: /got float64 of 12\b/ });
  t.throws(() => executable.run([new Int16Array(12) as never]), { message: /got Int16Array of 12\b/ });
  t.throws(() => executable.run([]), { message: "expected 1 inputs, got 0" });
});

t.test("a plan that breaks the contract is refused", async (t) => {
  const good = chain(12);
  const map = good.steps[0] as Extract<Step, { kind: "map" }>;
  const broken = (change: Partial<Expression>): Plan => ({
    ...good,
    steps: [{ ...map, expression: { ...map.expression, ...change } }],
  });
  const refuses = (plan: Plan, message: RegExp) =>
    t.throws(() => typescriptBackend.compile(plan), { name: "BackendError", message });
  refuses(
    broken({ outputs: [{ value: 2, view: dense(2, [12], 1) }] }),
    /step 0 \(map\): a view reaches from 1 to 12 in buffer 2/,
  );
  refuses(broken({ outputs: [{ value: 2, view: dense(0, [12]) }] }), /writes input buffer 0/);
  refuses(broken({ outputs: [{ value: 2, view: dense(9, [12]) }] }), /no buffer 9/);
  refuses(broken({ instructions: [load("float64", dense(0, [12]))] }), /is float32, not float64/);
  refuses(broken({ instructions: [scalar("neg", "float32", 0)] }), /takes value 0/);
  refuses(broken({ instructions: [{ op: "accumulator", dtype: "float32" }] }), /accumulator/);
  refuses({ ...good, arenaBytes: 0 }, /does not lie in the arena/);
  refuses({ ...good, outputs: [0] }, /listed as an output/);
});

t.test("memory that cannot be had is an error", async (t) => {
  const size = 2 ** 46;
  const plan: Plan = { ...makePlan([], [["float64", size]], [], []), steps: [] };
  t.throws(() => run(plan, []), { name: "BackendError", message: /cannot allocate 70368744177664 elements/ });
  await t.rejects(typescriptBackend.compile(plan).runAsync([]), {
    name: "BackendError",
    message: /cannot allocate/,
  });
});

/** A product that takes some hundred milliseconds. */
function slow(n: number): Plan {
  const expression: Expression = {
    instructions: [{ op: "accumulator", dtype: "float64" }],
    outputs: [{ value: 0, view: dense(1, [n, n]) }],
  };
  const square = dense(0, [n, n]);
  const step: Step = {
    kind: "matmul",
    dtype: "float64",
    batch: [],
    m: n,
    n,
    k: n,
    a: square,
    b: square,
    expression,
  };
  return makePlan([["float64", n * n]], [["float64", n * n]], [], [step]);
}

t.test("runAsync computes elsewhere: the event loop stays free, the inputs are copied first", async (t) => {
  const n = 1000;
  const executable = typescriptBackend.compile(slow(n));
  await typescriptBackend.compile(chain(1)).runAsync([new Float32Array(1)]); // starts the thread
  const pool = new Float64Array(2 * n * n);
  const input = pool.subarray(n * n); // a part of a larger buffer
  for (let i = 0; i < n; i++) input[i * n + i] = 2;
  let turns = 0;
  let done = false;
  const result = executable.runAsync([input]).finally(() => (done = true));
  input.fill(NaN);
  while (!done) {
    turns++;
    await delay(1);
  }
  const [output] = await result;
  t.ok(turns > 5, `${turns} turns of the event loop`);
  t.equal(output![n + 1], 4);
  t.equal(
    output!.every((x, i) => x === (i % (n + 1) === 0 ? 4 : 0)),
    true,
  );
  t.equal(input.length, n * n, "the input is not detached");
});

t.test("errors of the worker thread come back as they are", async (t) => {
  const step: Step = {
    kind: "gather",
    outer: 1,
    size: 3,
    inner: 1,
    count: 1,
    input: 0,
    indices: 1,
    output: 2,
  };
  const plan = makePlan(
    [
      ["bool", 3],
      ["int32", 1],
    ],
    [["bool", 1]],
    [],
    [step],
  );
  const executable = typescriptBackend.compile(plan);
  const bad = executable.runAsync([Uint8Array.of(1, 0, 1), Int32Array.of(9)]);
  const good = executable.runAsync([Uint8Array.of(1, 0, 1), Int32Array.of(-1)]);
  await t.rejects(bad, { name: "BackendError", message: "index 9 is out of range for an axis of size 3" });
  t.ok(await bad.catch((error) => error instanceof BackendError));
  t.same(await good, [Uint8Array.of(1)]);
});

// ---- Loops

/** State x (float32 [3]) and counter n (int32); x' = x * factor, n' = n + 1; observes x'[0] and, as guard, max x'. */
function growth(): Plan {
  const times: Expression = {
    instructions: [
      load("float32", dense(0, [3])),
      load("float32", { buffer: 2, offset: 0, strides: [0] }),
      scalar("mul", "float32", 0, 1),
    ],
    outputs: [{ value: 2, view: dense(3, [3]) }],
  };
  const count: Expression = {
    instructions: [
      load("int32", dense(1, [])),
      { op: "constant", dtype: "int32", value: 1 },
      scalar("add", "int32", 0, 1),
    ],
    outputs: [
      { value: 2, view: dense(4, []) },
      { value: 2, view: dense(5, []) },
    ],
  };
  const most: Expression = {
    instructions: [load("float32", dense(3, [3]))],
    outputs: [{ value: 0, view: dense(6, []) }],
  };
  return makePlan(
    [
      ["float32", 3],
      ["int32", 1],
      ["float32", 1],
    ],
    [
      ["float32", 3],
      ["int32", 1],
      ["int32", 1],
      ["float32", 1],
    ],
    [],
    [
      { kind: "map", shape: [3], expression: times },
      { kind: "map", shape: [], expression: count },
      { kind: "reduce", shape: [3], reducedRank: 1, reducer: "max", expression: most },
    ],
  );
}

const growthLoop = (factor: number): Loop =>
  typescriptBackend
    .compile(growth())
    .loop([Float32Array.of(1, 2, 3), Int32Array.of(0), Float32Array.of(factor)], 2);

async function loopBehaviour(t: Test): Promise<void> {
  const loop = growthLoop(2);
  t.same(await loop.run(3), { completed: 3, observed: [Int32Array.of(1, 2, 3), Float32Array.of(6, 12, 24)] });
  t.same(loop.read(0), Float32Array.of(8, 16, 24));
  t.same(await loop.run(0), { completed: 0, observed: [new Int32Array(0), new Float32Array(0)] });
  loop.read(0).fill(0);
  loop.write(1, Int32Array.of(40));
  t.same(await loop.run(2), { completed: 2, observed: [Int32Array.of(41, 42), Float32Array.of(48, 96)] });
  t.same(loop.read(0), Float32Array.of(32, 64, 96), "read gives a copy");

  const running = loop.run(1);
  t.throws(() => loop.read(0), { name: "BackendError", message: /under way/ });
  t.throws(() => loop.write(1, Int32Array.of(1)), { message: /under way/ });
  await t.rejects(loop.run(1), { name: "BackendError", message: /under way/ });
  await running;
  t.equal(loop.read(1)[0], 43);
  t.throws(() => loop.write(0, new Float32Array(2)), {
    message: /expected float32 of 3 elements, got float32 of 2/,
  });
  t.throws(() => loop.read(2), { message: /no carried state 2; there are 2/ });
  await t.rejects(loop.run(-1), { message: /whole number/ });

  const last = loop.run(1);
  loop.dispose();
  loop.dispose();
  t.equal((await last).completed, 1, "a run under way ends as usual");
  t.throws(() => loop.read(0), { name: "BackendError", message: /disposed/ });
  await t.rejects(loop.run(1), { message: /disposed/ });

  // 3 * 1e20 * 1e20 overflows: the second step runs, is observed, and is not committed.
  const diverging = growthLoop(1e20);
  const result = await diverging.run(10);
  t.equal(result.completed, 1);
  t.same(result.observed, [Int32Array.of(1, 2), Float32Array.of(Math.fround(3e20), Infinity)]);
  t.same(diverging.read(1), Int32Array.of(1));
  t.equal(diverging.read(0)[2], Math.fround(3e20));
  diverging.dispose();
}

t.test("a loop carries its state, observes, and stops at its guard", loopBehaviour);

t.test("without shared memory a loop does the same on the main thread", async (t) => {
  t.intercept(globalThis, "SharedArrayBuffer", { value: undefined });
  await loopBehaviour(t);
});

t.test("a step of a loop that throws leaves the state of the last committed one", async (t) => {
  // The index goes in, is looked up in [1, 2, 7], and becomes the next index; observed as a float it is the guard.
  const gather: Step = {
    kind: "gather",
    outer: 1,
    size: 3,
    inner: 1,
    count: 1,
    input: 1,
    indices: 0,
    output: 2,
  };
  const cast: Step = {
    kind: "map",
    shape: [1],
    expression: {
      instructions: [load("int32", dense(2, [1])), scalar("cast", "float32", 0)],
      outputs: [{ value: 1, view: dense(3, [1]) }],
    },
  };
  const plan = makePlan(
    [
      ["int32", 1],
      ["int32", 3],
    ],
    [
      ["int32", 1],
      ["float32", 1],
    ],
    [],
    [gather, cast],
  );
  const loop = typescriptBackend.compile(plan).loop([Int32Array.of(0), Int32Array.of(1, 2, 7)], 1);
  await t.rejects(loop.run(5), {
    name: "BackendError",
    message: "index 7 is out of range for an axis of size 3",
  });
  t.same(loop.read(0), Int32Array.of(7));
  loop.write(0, Int32Array.of(0));
  t.equal((await loop.run(2)).completed, 2);
  loop.dispose();
});

t.test("a loop that does not fit its plan is refused", async (t) => {
  const executable = typescriptBackend.compile(growth());
  const inputs = [Float32Array.of(1, 2, 3), Int32Array.of(0), Float32Array.of(1)];
  t.throws(() => executable.loop(inputs, 3), { name: "BackendError", message: /state 2 goes in as float32/ });
  t.throws(() => executable.loop(inputs, 4), { message: /4 carried states of 3 inputs/ });
  const vector = typescriptBackend.compile(slow(2));
  t.throws(() => vector.loop([new Float64Array(4)], 0), { message: /the guard has 4 elements/ });
});
