// The attention step of the plan, on every backend, against its formulas computed plainly in float64.
import * as fx from "fluxion";
import t, { type Test } from "tap";
import { instructionSets, setInstructionSet, setThreads, threads } from "#lib/backend/cpu.js";
import { backendOf } from "#lib/backend/index.js";
import { lower } from "#lib/compile/lower.js";
import type { AttentionPart, AttentionStep, BufferSpec, Plan, View } from "#lib/compile/plan.js";
import { stripMine } from "#lib/compile/strip.js";
import { BackendError } from "#lib/errors.js";
import { allocate, type TypedArray } from "#lib/tensor/dtype.js";
import { rowMajor, sizeOf } from "#lib/tensor/shape.js";
import { onHost } from "#lib/tensor/storage.js";
import { mutated } from "./support/mutated.js";

type Float = "float32" | "float64";

const available = fx.backends().filter((b) => b.available && b.name !== "cuda");
const cpu = fx.backends().find((b) => b.name === "cpu")!;
const onCpu = cpu.available ? {} : { skip: cpu.reason ?? "not available" };

// ---- Cases: an array with a view on it that reads it as [...batch, rows, columns].

interface Operand {
  readonly data: TypedArray;
  readonly strides: readonly number[];
  readonly offset: number;
}

let state = 1;
const random = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
};
/** About standard normal. */
const normal = () => (random() + random() + random() - 1.5) * 2;

/** How the axes of an operand lie in memory. */
type Layout = (shape: readonly number[]) => { size: number; offset: number; strides: number[] };

const dense: Layout = (shape) => ({ size: sizeOf(shape), offset: 0, strides: rowMajor(shape) });
/** [samples, heads, n, d] as it comes from a projection: [samples, n, heads, d], after 5 other elements. */
const headSplit: Layout = ([samples, heads, n, d]) => ({
  size: 5 + samples! * n! * heads! * d!,
  offset: 5,
  strides: [n! * heads! * d!, d!, heads! * d!, 1],
});
/** The last two axes turned, and read backwards. */
const turned: Layout = (shape) => {
  const [rows, columns] = shape.slice(-2) as [number, number];
  const strides = rowMajor([...shape.slice(0, -2), columns, rows]);
  const batch = strides.slice(0, -2);
  const size = sizeOf(shape);
  return { size, offset: Math.max(0, rows - 1), strides: [...batch, -1, rows] };
};
/** The same for all of the batch. */
const shared: Layout = (shape) => {
  const own = shape.slice(-2);
  return { size: sizeOf(own), offset: 0, strides: [...shape.slice(0, -2).map(() => 0), ...rowMajor(own)] };
};

function operand(dtype: Float | "bool", shape: readonly number[], layout: Layout, draw = normal): Operand {
  const { size, offset, strides } = layout(shape);
  return { data: allocate(dtype, size).map(() => draw()), offset, strides };
}

interface Case {
  readonly part: AttentionPart;
  readonly dtype: Float;
  readonly batch: readonly number[];
  readonly n: number;
  readonly m: number;
  readonly d: number;
  readonly e: number;
  readonly scale: number;
  readonly causal: boolean;
  readonly q: Operand;
  readonly k: Operand;
  readonly v: Operand;
  readonly mask: Operand | undefined;
  readonly o: Operand | undefined;
  readonly l: Operand | undefined;
  readonly directions: readonly (Operand | undefined)[];
  readonly wanted: readonly boolean[];
}

interface Options {
  readonly batch?: readonly number[];
  readonly sizes?: readonly [n: number, m: number, d: number, e: number];
  readonly scale?: number;
  readonly causal?: boolean;
  readonly layout?: Layout;
  readonly mask?: Operand;
  /** Which directions there are, and which outputs are wanted; all, unless said otherwise. */
  readonly given?: readonly boolean[];
  readonly wanted?: readonly boolean[];
  readonly draw?: () => number;
}

function makeCase(part: AttentionPart, dtype: Float, options: Options = {}): Case {
  const { batch = [], sizes = [7, 5, 3, 4], causal = false, layout = dense, mask, draw } = options;
  const [n, m, d, e] = sizes;
  const scale = options.scale ?? 1 / Math.sqrt(Math.max(d, 1));
  const make = (...own: number[]) =>
    operand(dtype, [...batch, ...own], own.length === 1 ? dense : layout, draw);
  const [q, k, v] = [make(n, d), make(m, d), make(m, e)];
  const forward: Case = {
    ...{ part: "value", dtype, batch, n, m, d, e, scale, causal, q, k, v, mask },
    ...{ o: undefined, l: undefined, directions: [], wanted: options.wanted ?? [true, true] },
  };
  if (part === "value") return forward;
  const [o, l] = expected({ ...forward, wanted: [true, true] }).map((values, i): Operand => {
    const { size, offset, strides } = dense([...batch, n, ...(i === 0 ? [e] : [])]);
    const data = allocate(dtype, size);
    data.set(values);
    return { data, offset, strides };
  });
  const all = part === "tangent" ? [make(n, d), make(m, d), make(m, e)] : [make(n, e), make(n)];
  const given = options.given ?? all.map(() => true);
  const directions = all.map((direction, i) => (given[i] ? direction : undefined));
  const wanted = options.wanted ?? (part === "tangent" ? [true, true] : [true, true, true]);
  return { ...forward, part, o, l, directions, wanted };
}

const outputShapes = ({ part, batch, n, m, d, e }: Case): number[][] => {
  const forward = [
    [...batch, n, e],
    [...batch, n],
  ];
  const backward = [
    [...batch, n, d],
    [...batch, m, d],
    [...batch, m, e],
  ];
  return part === "cotangent" ? backward : forward;
};

function planOf(c: Case): { plan: Plan; inputs: TypedArray[] } {
  const inputs: TypedArray[] = [];
  const view = (o: Operand | undefined): View | undefined =>
    o && { buffer: inputs.push(o.data) - 1, offset: o.offset, strides: o.strides };
  const [q, k, v, mask, o, l] = [c.q, c.k, c.v, c.mask, c.o, c.l].map(view);
  const directions = c.directions.map(view);
  const buffers: BufferSpec[] = inputs.map((data) => ({
    kind: "input",
    dtype: data instanceof Uint8Array ? "bool" : c.dtype,
    size: data.length,
    offset: 0,
  }));
  const outputs = outputShapes(c).map((shape, i) =>
    c.wanted[i]
      ? buffers.push({ kind: "output", dtype: c.dtype, size: sizeOf(shape), offset: 0 }) - 1
      : undefined,
  );
  const { part, dtype, batch, n, m, d, e, scale, causal } = c;
  const step: AttentionStep = {
    ...{ kind: "attention", part, dtype, batch, n, m, d, e, scale, causal },
    ...{ q: q!, k: k!, v: v!, mask, o, l, directions, outputs },
  };
  const plan = {
    buffers,
    steps: [step],
    inputs: inputs.map((_, i) => i),
    outputs: outputs.filter((output) => output !== undefined),
    arenaBytes: 0,
  };
  return { plan, inputs };
}

// ---- The formulas.

type Matrix = number[][];
const matrix = (rows: number, columns: number, at: (i: number, j: number) => number): Matrix =>
  Array.from({ length: rows }, (_, i) => Array.from({ length: columns }, (_, j) => at(i, j)));
const sum = (row: readonly number[]) => row.reduce((total, x) => total + x, 0);
/** A B^T. */
const timesTransposed = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => b.map((other) => sum(row.map((x, c) => x * other[c]!))));
/** A B, B with so many columns. */
const times = (a: Matrix, b: Matrix, columns: number): Matrix =>
  a.map((row) => Array.from({ length: columns }, (_, c) => sum(row.map((x, j) => x * b[j]![c]!))));
const transposed = (a: Matrix, columns: number): Matrix => matrix(columns, a.length, (j, i) => a[i]![j]!);

function* entries(batch: readonly number[]): Generator<number[]> {
  if (batch.length === 0) yield [];
  else for (let i = 0; i < batch[0]!; i++) for (const rest of entries(batch.slice(1))) yield [i, ...rest];
}

/** The outputs of a case, one after another: those that are wanted. */
function expected(c: Case): number[][] {
  const outputs: number[][] = outputShapes(c).map(() => []);
  for (const index of entries(c.batch)) {
    entryResults(c, index).forEach((result, i) => {
      outputs[i]!.push(...result.flat());
    });
  }
  return outputs.filter((_, i) => c.wanted[i]);
}

function entryResults(c: Case, index: readonly number[]): (Matrix | number[])[] {
  const { n, m, d, e, scale, causal, mask } = c;
  const at = (x: Operand, ...own: number[]) =>
    Number(x.data[x.offset + sum([...index, ...own].map((i, axis) => i * x.strides[axis]!))]);
  const read = (x: Operand, rows: number, columns: number) => matrix(rows, columns, (i, j) => at(x, i, j));
  const zero = (rows: number, columns: number) => matrix(rows, columns, () => 0);
  const [q, k, v] = [read(c.q, n, d), read(c.k, m, d), read(c.v, m, e)];
  const hidden = (i: number, j: number) => (causal && j > i) || (mask !== undefined && at(mask, i, j) === 0);
  const product = timesTransposed(q, k);
  const s = matrix(n, m, (i, j) => (hidden(i, j) ? -Infinity : scale * product[i]![j]!));
  const logSums = s.map((row) => {
    const largest = Math.max(...row);
    return largest === -Infinity ? Infinity : largest + Math.log(sum(row.map((x) => Math.exp(x - largest))));
  });
  const l = c.l ? Array.from({ length: n }, (_, i) => at(c.l!, i)) : logSums;
  const p = matrix(n, m, (i, j) => Math.exp(s[i]![j]! - l[i]!));
  if (c.part === "value") return [times(p, v, e), l];
  const o = read(c.o!, n, e);
  if (c.part === "tangent") {
    const [dq, dk, dv] = c.directions;
    const fromQ = timesTransposed(dq ? read(dq, n, d) : zero(n, d), k);
    const fromK = timesTransposed(q, dk ? read(dk, m, d) : zero(m, d));
    const a = matrix(n, m, (i, j) => p[i]![j]! * scale * (fromQ[i]![j]! + fromK[i]![j]!));
    const dL = a.map(sum);
    const [first, second] = [times(a, v, e), times(p, dv ? read(dv, m, e) : zero(m, e), e)];
    return [matrix(n, e, (i, j) => first[i]![j]! - dL[i]! * o[i]![j]! + second[i]![j]!), dL];
  }
  const [cOView, cLView] = c.directions;
  const cO = cOView ? read(cOView, n, e) : zero(n, e);
  const back = timesTransposed(cO, v);
  const shift = cO.map((row, i) => (cLView ? at(cLView, i) : 0) - sum(row.map((x, j) => x * o[i]![j]!)));
  const g = matrix(n, m, (i, j) => p[i]![j]! * (back[i]![j]! + shift[i]!));
  const scaled = (a: Matrix) => a.map((row) => row.map((x) => scale * x));
  return [scaled(times(g, k, d)), scaled(times(transposed(g, m), q, d)), times(transposed(p, m), cO, e)];
}

// ---- Comparing.

/** Runs a case everywhere: on each backend, with each instruction set, on 1 and 3 threads. */
function check(t: Test, c: Case, name: string, tolerance?: number): void {
  const { plan, inputs } = planOf(c);
  const want = expected(c);
  const ulps = (c.dtype === "float32" ? 2 ** -24 : 2 ** -53) * 16;
  const bound = tolerance ?? ulps * Math.sqrt(Math.max(c.n, c.m, c.d, c.e, 16));
  const compare = (got: readonly TypedArray[], where: string) => {
    want.forEach((values, i) => {
      const largest = values.reduce(
        (most, x) => (Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most),
        1,
      );
      const result = got[i]!;
      const worst = values.reduce((most, x, at) => {
        const y = Number(result[at]);
        return Object.is(x, y) || x === y
          ? most
          : Math.max(most, Math.abs(x - y), Number.isNaN(x - y) ? Infinity : 0);
      }, 0);
      if (!(result.length === values.length && worst <= bound * largest))
        t.fail(`${name}, ${where}: output ${i} is off by ${worst} where the largest is ${largest}`);
    });
  };
  for (const { name: backend } of available) {
    if (backend === "typescript") {
      compare(backendOf(backend).compile(plan).run(inputs).map(onHost), backend);
      continue;
    }
    for (const set of instructionSets()) {
      setInstructionSet(set);
      const results = [1, 3].map((count) => {
        setThreads(count);
        return backendOf(backend).compile(plan).run(inputs).map(onHost);
      });
      compare(results[0]!, `${backend} ${set}`);
      if (results[0]!.some((array, i) => bits(array) !== bits(results[1]![i]!)))
        t.fail(`${name}, ${backend} ${set}: other bits on 3 threads`);
    }
  }
}

const bits = (array: TypedArray) =>
  Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");

const defaultThreads = cpu.available ? threads() : 1;
t.afterEach(() => {
  if (!cpu.available) return;
  setThreads(defaultThreads);
  setInstructionSet(instructionSets()[0]!);
});

const parts: readonly AttentionPart[] = ["value", "tangent", "cotangent"];
const floats: readonly Float[] = ["float32", "float64"];

for (const part of parts) {
  t.test(`the ${part} is its formula, for sizes of all kinds`, async (t) => {
    const sizes: [number, number, number, number][] = [
      [1, 1, 1, 1],
      [3, 1, 2, 5],
      [1, 130, 8, 3],
      [65, 63, 16, 33],
      [63, 257, 7, 32],
      [130, 300, 33, 64],
      [257, 65, 3, 1],
    ];
    for (const dtype of floats)
      for (const size of sizes)
        for (const causal of [false, true])
          check(
            t,
            makeCase(part, dtype, { sizes: size, causal }),
            `${dtype} ${size} ${causal ? "causal" : ""}`,
          );
    // So many blocks of queries that they are computed some entries at a time.
    if (part !== "cotangent")
      check(t, makeCase(part, "float32", { batch: [16], sizes: [400, 110, 3, 3] }), "many blocks");
    t.pass("for all sizes");
  });

  t.test(`the ${part} of operands that lie in any way`, async (t) => {
    const layouts = { headSplit, turned, shared };
    for (const dtype of floats)
      for (const [name, layout] of Object.entries(layouts))
        for (const batch of [
          [2, 3],
          [9, 4],
        ])
          check(
            t,
            makeCase(part, dtype, { batch, sizes: [18, 21, 4, 6], layout }),
            `${dtype} ${name} [${batch}]`,
          );
    t.pass("for all layouts");
  });

  t.test(`the ${part} with keys hidden`, async (t) => {
    const batch = [2, 3];
    const sizes = [70, 67, 5, 6] as const;
    const shape = [...batch, 70, 67];
    const masks: { readonly [name: string]: Operand } = {
      "of each head": operand("bool", shape, dense, () => (random() < 0.6 ? 1 : 0)),
      "of each sample": {
        ...operand("bool", [2, 70, 67], dense, () => (random() < 0.6 ? 1 : 0)),
        strides: [70 * 67, 0, 67, 1],
      },
      "of keys, for all queries": {
        ...operand("bool", [2, 67], dense, () => (random() < 0.6 ? 1 : 0)),
        strides: [67, 0, 0, 1],
      },
      "of queries: rows without a key": {
        ...operand("bool", [70], dense, () => (random() < 0.6 ? 1 : 0)),
        strides: [0, 0, 1, 0],
      },
      turned: operand("bool", shape, turned, () => (random() < 0.1 ? 1 : 0)),
      "of all": { data: Uint8Array.of(0), offset: 0, strides: [0, 0, 0, 0] },
    };
    for (const dtype of floats)
      for (const [name, mask] of Object.entries(masks))
        for (const causal of [false, true])
          check(
            t,
            makeCase(part, dtype, { batch, sizes, mask, causal }),
            `${dtype} mask ${name}, causal ${causal}`,
          );
    t.pass("for all masks");
  });

  t.test(`the ${part} where something is empty`, async (t) => {
    for (const dtype of floats) {
      for (const sizes of [
        [0, 3, 2, 2],
        [3, 0, 2, 2],
        [3, 4, 0, 2],
        [3, 4, 2, 0],
        [0, 0, 0, 0],
      ] as [number, number, number, number][])
        for (const batch of [[], [2], [40]])
          check(t, makeCase(part, dtype, { batch, sizes }), `${dtype} ${sizes}`);
      check(t, makeCase(part, dtype, { batch: [0, 3] }), `${dtype}, an empty batch`);
      const countless = planOf(makeCase(part, dtype, { batch: [0], sizes: [0, 0, 2, 3] }));
      for (const { name } of available)
        backendOf(name)
          .compile(changed(countless.plan, { batch: [2 ** 50] }))
          .run(countless.inputs);
    }
    t.pass("for all that can be empty");
  });
}

t.test("a direction that is not there is zero, and what is not wanted is left out", async (t) => {
  const options: Options = { batch: [2], sizes: [40, 50, 8, 9] };
  const choices = (count: number) =>
    Array.from({ length: 2 ** count }, (_, choice) =>
      Array.from({ length: count }, (_, i) => ((choice >> i) & 1) === 1),
    );
  for (const dtype of floats) {
    for (const wanted of choices(2)) check(t, makeCase("value", dtype, { ...options, wanted }), `${wanted}`);
    for (const [part, directions, outputs] of [
      ["tangent", 3, 2],
      ["cotangent", 2, 3],
    ] as const)
      for (const given of choices(directions))
        for (const wanted of choices(outputs))
          check(
            t,
            makeCase(part, dtype, { ...options, given, wanted }),
            `${part} of ${given}, wanted ${wanted}`,
          );
  }
  t.pass("for all choices");
});

t.test("scores of hundreds neither overflow nor lose the sum", async (t) => {
  // Whole numbers, so that the scores are exact in float32, too.
  const draw = () => Math.round(random() * 60 - 30);
  for (const part of parts)
    for (const dtype of floats)
      for (const scale of [0.5, -0.5])
        check(
          t,
          makeCase(part, dtype, { sizes: [70, 530, 3, 5], scale, draw }),
          `${part} ${dtype} ${scale}`,
          dtype === "float32" ? 4e-4 : 1e-12,
        );
  t.pass("in all parts");
});

t.test("a row that is not finite is NaN, and leaves the others as they are", async (t) => {
  for (const bad of [Number.NaN, Infinity, -Infinity]) {
    for (const dtype of floats) {
      const c = makeCase("value", dtype, { sizes: [50, 40, 2, 3], draw: () => 0.5 + random() });
      const clean = planOf(c);
      const data = c.q.data.slice();
      data[2 * 7] = bad; // query 7
      const { plan, inputs } = planOf({ ...c, q: { ...c.q, data } });
      for (const { name } of available) {
        const backend = backendOf(name);
        const [o, l] = backend.compile(plan).run(inputs) as [TypedArray, TypedArray];
        const [wantO, wantL] = backend.compile(clean.plan).run(clean.inputs) as [TypedArray, TypedArray];
        if (bad === -Infinity) t.same([o[21], l[7]], [0, Infinity], `${name}: all scores are -Infinity`);
        else t.ok(Number.isNaN(o[21]) && Number.isNaN(l[7]), `${name} ${dtype}: ${bad}`);
        t.same([...o.slice(0, 21), ...o.slice(24)], [...wantO.slice(0, 21), ...wantO.slice(24)]);
        t.same([...l.slice(0, 7), ...l.slice(8)], [...wantL.slice(0, 7), ...wantL.slice(8)]);
      }
    }
  }
});

t.test("a hidden key's score may be anything", async (t) => {
  const mask: Operand = {
    data: Uint8Array.from({ length: 40 }, (_, j) => (j === 11 ? 0 : 1)),
    offset: 0,
    strides: [0, 1],
  };
  for (const bad of [Number.NaN, Infinity, -Infinity]) {
    for (const dtype of floats) {
      const c = makeCase("value", dtype, { sizes: [50, 40, 2, 3], mask });
      const want = planOf(c);
      const data = c.k.data.slice();
      data[2 * 11] = bad;
      const got = planOf({ ...c, k: { ...c.k, data } });
      for (const { name } of available) {
        const backend = backendOf(name);
        t.same(
          backend.compile(got.plan).run(got.inputs),
          backend.compile(want.plan).run(want.inputs),
          `${name} ${bad}`,
        );
      }
    }
  }
});

t.test("the bits are the same for any number of threads", onCpu, async (t) => {
  const backend = backendOf("cpu");
  for (const part of parts) {
    for (const [batch, sizes] of [
      [[], [310, 300, 16, 16]],
      [[3], [200, 300, 8, 40]],
      [[40], [20, 30, 8, 8]],
    ] as const) {
      for (const dtype of floats) {
        for (const causal of [false, true]) {
          const { plan, inputs } = planOf(makeCase(part, dtype, { batch, sizes, causal }));
          const results = [1, 2, 3, 8].map((count) => {
            setThreads(count);
            return backend.compile(plan).run(inputs).map(onHost).map(bits).join();
          });
          t.equal(new Set(results).size, 1, `${part} ${dtype} [${batch}] ${sizes} ${causal}`);
        }
      }
    }
  }
});

t.test("a loop and a run off the main thread give what a run gives", async (t) => {
  const { plan, inputs } = planOf(makeCase("cotangent", "float32", { batch: [2], sizes: [30, 40, 4, 4] }));
  for (const { name } of available) {
    const executable = backendOf(name).compile(plan);
    t.same(await executable.runAsync(inputs), executable.run(inputs), name);
  }
});

// ---- Plans that break the contract.

function changed(plan: Plan, change: Partial<AttentionStep>): Plan {
  return { ...plan, steps: [{ ...(plan.steps[0] as AttentionStep), ...change }] };
}

t.test("a plan that breaks the contract is refused", async (t) => {
  const value = planOf(makeCase("value", "float32")).plan;
  const tangent = planOf(makeCase("tangent", "float32")).plan;
  const step = value.steps[0] as AttentionStep;
  const { q, l } = tangent.steps[0] as AttentionStep;
  const refused: [string, Plan][] = [
    ["an integer dtype", changed(value, { dtype: "int32" })],
    ["another dtype", changed(value, { dtype: "float64" })],
    ["more keys than there are", changed(value, { m: 6 })],
    ["more queries than there are", changed(value, { n: 8 })],
    ["more features than there are", changed(value, { d: 4 })],
    ["more features of v than there are", changed(value, { e: 5 })],
    ["a fraction of a query", changed(value, { n: 6.5 })],
    ["a batch that is not there", changed(value, { batch: [2] })],
    ["a scale that is no number", changed(value, { scale: Number.NaN })],
    ["an unknown part", changed(value, { part: "hessian" as AttentionPart })],
    ["a view outside of its buffer", changed(value, { k: { ...step.k, offset: 1 } })],
    ["a view of too few axes", changed(value, { v: { ...step.v, strides: [1] } })],
    ["a mask that is not bool", changed(value, { mask: { buffer: 0, offset: 0, strides: [0, 0] } })],
    ["results given to the value", changed(value, { o: q, l: l! })],
    ["directions of the value", changed(value, { directions: [undefined] })],
    ["too few outputs", changed(value, { outputs: [3] })],
    ["an output that is an input", changed(value, { outputs: [0, 4] })],
    ["an output of another size", changed(value, { outputs: [4, 3] })],
    ["no such output", changed(value, { outputs: [3, 9] })],
    ["no results for the tangent", changed(tangent, { o: undefined })],
    ["no L for the tangent", changed(tangent, { l: undefined })],
    ["too few directions", changed(tangent, { directions: [undefined, undefined] })],
  ];
  const square = planOf(makeCase("cotangent", "float32", { sizes: [4, 4, 3, 3] })).plan;
  const [cQ, , cV] = (square.steps[0] as AttentionStep).outputs;
  refused.push(["one buffer for two outputs", changed(square, { outputs: [cQ, cQ, cV] })]);
  const temporary: Plan = {
    ...value,
    buffers: [...value.buffers, { kind: "temporary", dtype: "float32", size: 28, offset: 0 }],
    arenaBytes: 128,
  };
  refused.push([
    "a buffer that is read and written",
    changed(temporary, { outputs: [5, undefined], q: { buffer: 5, offset: 0, strides: [3, 1] } }),
  ]);
  for (const { name } of available)
    for (const [what, plan] of refused)
      t.throws(() => backendOf(name).compile(plan), BackendError, `${name}: ${what}`);
});

t.test("a plan with one number changed is run or refused, and never crashes", async (t) => {
  const mask = operand("bool", [2, 4, 5], dense, () => (random() < 0.5 ? 1 : 0));
  let [refused, ran] = [0, 0];
  for (const part of parts) {
    const { plan } = planOf(makeCase(part, "float32", { batch: [2], sizes: [4, 5, 3, 2], mask }));
    for (const other of mutated(plan)) {
      for (const { name } of available) {
        try {
          const executable = backendOf(name).compile(other);
          if (other.buffers.some((b) => b.size > 1e6)) continue;
          executable.run(other.inputs.map((i) => allocate(other.buffers[i]!.dtype, other.buffers[i]!.size)));
          ran++;
        } catch (error) {
          if (!(error instanceof BackendError)) throw error;
          refused++;
        }
      }
    }
  }
  t.ok(refused > ran, `${refused} refused, ${ran} ran`);
});

t.test("attention stays a step of its own beside a strip", async (t) => {
  const rows = 600;
  const project = (x: fx.Tensor, w: fx.Tensor) => fx.matmul(fx.gelu(fx.matmul(x, w)), w);
  const { graph } = fx.inspect(project, fx.ones([rows, 4]), fx.ones([4, 4]));
  const plan = lower(graph);
  const output = plan.outputs[0]!;
  const { buffers } = plan;
  const size = rows * 4;
  const view: View = { buffer: output, offset: 0, strides: [4, 1] };
  const step: AttentionStep = {
    ...{ kind: "attention", part: "value", dtype: "float32", batch: [], n: rows, m: rows, d: 4, e: 4 },
    ...{ scale: 0.5, causal: false, q: view, k: view, v: view, mask: undefined, o: undefined, l: undefined },
    ...{ directions: [], outputs: [buffers.length, undefined] },
  };
  const longer: Plan = {
    ...plan,
    buffers: [...buffers, { kind: "output", dtype: "float32", size, offset: 0 }],
    steps: [...plan.steps, step],
    outputs: [...plan.outputs, buffers.length],
  };
  t.same(
    stripMine(longer).steps.map(({ kind }) => kind),
    ["strip", "attention"],
  );
  const inputs = longer.inputs.map((i) => allocate("float32", longer.buffers[i]!.size).map(normal));
  const results = available.map(({ name }) => onHost(backendOf(name).compile(longer).run(inputs)[1]!));
  for (const result of results) t.ok(result.every((x, i) => Math.abs(x - results[0]![i]!) < 1e-4));
});
