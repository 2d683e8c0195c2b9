import { inspect } from "node:util";
import * as fx from "fluxion";
import t from "tap";
import { onEach } from "./support/each-backend.js";

const dtypes: readonly fx.DType[] = ["float32", "float64", "int32", "uint32", "bool"];
const arrayTypes = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  uint32: Uint32Array,
  bool: Uint8Array,
} as const;

t.test("tensor takes nested arrays, and infers shape and dtype", async (t) => {
  const cases: [fx.NestedArray, number[], fx.DType, number[]][] = [
    [5, [], "float32", [5]],
    [true, [], "bool", [1]],
    [[], [0], "float32", []],
    [[[], []], [2, 0], "float32", []],
    [[1, 2, 3], [3], "float32", [1, 2, 3]],
    [
      [
        [1, 2],
        [3, 4],
        [5, 6],
      ],
      [3, 2],
      "float32",
      [1, 2, 3, 4, 5, 6],
    ],
    [[[[1]], [[2]]], [2, 1, 1], "float32", [1, 2]],
    [[true, false], [2], "bool", [1, 0]],
    [[true, 2], [2], "float32", [1, 2]],
    [[0.1], [1], "float32", [Math.fround(0.1)]],
    [[Number.NaN, Number.POSITIVE_INFINITY, -0], [3], "float32", [Number.NaN, Number.POSITIVE_INFINITY, -0]],
  ];
  for (const [data, shape, dtype, flat] of cases) {
    const x = fx.tensor(data);
    t.same(x.shape, shape);
    t.equal(x.dtype, dtype);
    t.equal(x.size, flat.length);
    t.equal(x.rank, shape.length);
    t.notOk(x.isSymbolic);
    const values = [...x.toTypedArray()];
    t.ok(
      values.length === flat.length && values.every((v, i) => Object.is(v, flat[i])),
      `${values} is ${flat}`,
    );
  }
});

t.test("tensor takes typed arrays by copy, and keeps their dtype", async (t) => {
  for (const dtype of dtypes) {
    const data = new arrayTypes[dtype]([1, 0, 1, 1, 0, 0]);
    const x = fx.tensor(data);
    t.equal(x.dtype, dtype);
    t.same(x.shape, [6]);
    t.ok(x.toTypedArray() instanceof arrayTypes[dtype]);
    data[0] = 0;
    t.equal(Number(x.toTypedArray()[0]), 1, "later writes do not show");
    t.same(fx.tensor(data, { shape: [2, 3] }).shape, [2, 3]);
    for (const target of dtypes) {
      const y = fx.tensor(data, { dtype: target });
      t.equal(y.dtype, target);
      t.same([...y.toTypedArray()], [0, 0, 1, 1, 0, 0]);
    }
  }
  t.same([...fx.tensor(Uint8Array.of(0, 5, 255)).toTypedArray()], [0, 1, 1], "bool is stored as 0 or 1");
  const part = new Float64Array([1, 2, 3, 4]).subarray(1, 3);
  t.same(fx.tensor(part).toArray(), [2, 3], "a view of a larger buffer");
});

t.test("tensor takes a shape and a dtype", async (t) => {
  t.same(fx.tensor([1, 2, 3, 4, 5, 6], { shape: [2, 3] }).toArray(), [
    [1, 2, 3],
    [4, 5, 6],
  ]);
  t.same(fx.tensor(7, { shape: [1, 1] }).toArray(), [[7]]);
  t.same(fx.tensor([7], { shape: [] }).toArray(), 7);
  t.same(fx.tensor([], { shape: [3, 0, 2] }).toArray(), [[], [], []]);
  t.equal(fx.tensor(0.1, { dtype: "float64" }).item(), 0.1);
  t.equal(fx.tensor(0.1).item(), Math.fround(0.1));
  t.same(fx.tensor([1, 0], { dtype: "bool" }).toArray(), [true, false]);
  t.same(fx.tensor([-(2 ** 31), 2 ** 31 - 1], { dtype: "int32" }).toArray(), [-(2 ** 31), 2 ** 31 - 1]);
  t.same(fx.tensor([2 ** 32 - 1], { dtype: "uint32" }).toArray(), [2 ** 32 - 1]);
});

onEach("zeros, ones and full fill any shape of any dtype", (t) => {
  for (const dtype of dtypes)
    for (const shape of [[], [1], [4], [2, 3], [0], [2, 0, 3], [1, 1, 1, 1, 2]]) {
      const size = shape.reduce((a, b) => a * b, 1);
      for (const [make, value] of [
        [fx.zeros, 0],
        [fx.ones, 1],
      ] as const) {
        const eager = make(shape, { dtype });
        for (const x of [eager, fx.jit(() => make(shape, { dtype }))()]) {
          t.same(x.shape, shape);
          t.equal(x.dtype, dtype);
          t.same([...x.toTypedArray()], Array(size).fill(value));
        }
      }
    }
  t.equal(fx.zeros([2]).dtype, "float32");
  t.equal(fx.ones([2]).dtype, "float32");
  t.equal(fx.full([2], 3).dtype, "float32");
  for (const value of [2.5, -0, Number.NaN, Number.POSITIVE_INFINITY, 1e-30])
    for (const dtype of ["float32", "float64"] as const)
      for (const x of [fx.full([3], value, { dtype }), fx.jit(() => fx.full([3], value, { dtype }))()])
        t.ok(
          x.toTypedArray().every((v) => Object.is(v, dtype === "float32" ? Math.fround(value) : value)),
          `full with ${Object.is(value, -0) ? "-0" : value} in ${dtype}: ${x}`,
        );
  t.same(fx.full([2], -7, { dtype: "int32" }).toArray(), [-7, -7]);
  t.same(fx.full([2], 4e9, { dtype: "uint32" }).toArray(), [4e9, 4e9]);
});

onEach("eye has ones where row and column agree", (t) => {
  for (const [rows, columns] of [
    [3, undefined],
    [2, 4],
    [4, 2],
    [0, 3],
    [1, 1],
  ] as const)
    for (const dtype of dtypes) {
      const x = fx.eye(rows, columns, { dtype });
      const n = columns ?? rows;
      t.same(x.shape, [rows, n]);
      t.equal(x.dtype, dtype);
      t.same(
        [...x.toTypedArray()],
        Array.from({ length: rows * n }, (_, i) => Number(Math.floor(i / n) === i % n)),
      );
    }
  t.equal(fx.eye(2).dtype, "float32");
});

onEach("arange counts as NumPy's does", (t) => {
  const cases: [Parameters<typeof fx.arange>, fx.DType, number[]][] = [
    [[5], "int32", [0, 1, 2, 3, 4]],
    [[0], "int32", []],
    [[-3], "int32", []],
    [[2, 5], "int32", [2, 3, 4]],
    [[5, 2], "int32", []],
    [[5, 2, -1], "int32", [5, 4, 3]],
    [[0, 10, 3], "int32", [0, 3, 6, 9]],
    [[0, 9, 3], "int32", [0, 3, 6]],
    [[0, 1, 0.25], "float32", [0, 0.25, 0.5, 0.75]],
    [[1, -1, -0.5], "float32", [1, 0.5, 0, -0.5]],
    [[0.5, 3], "float32", [0.5, 1.5, 2.5]],
    [[3, undefined, 1, { dtype: "float64" }], "float64", [0, 1, 2]],
    [[3, undefined, 1, { dtype: "uint32" }], "uint32", [0, 1, 2]],
    [[-2, 2, 1, { dtype: "float32" }], "float32", [-2, -1, 0, 1]],
  ];
  for (const [args, dtype, expected] of cases) {
    const x = fx.arange(...args);
    t.equal(x.dtype, dtype);
    t.same(x.toArray(), expected, `arange(${args})`);
  }
});

onEach("linspace meets both ends exactly", (t) => {
  t.same(fx.linspace(0, 1, 5).toArray(), [0, 0.25, 0.5, 0.75, 1]);
  t.same(fx.linspace(3, -3, 3).toArray(), [3, 0, -3]);
  t.same(fx.linspace(2, 9, 1).toArray(), [2]);
  t.same(fx.linspace(2, 9, 0).toArray(), []);
  t.equal(fx.linspace(0, 1, 2).dtype, "float32");
  for (const [start, stop, count] of [
    [0.1, 0.7, 7],
    [-1e3, 1e-3, 101],
    [1 / 3, 2 / 3, 1000],
  ] as const) {
    const x = fx.linspace(start, stop, count, { dtype: "float64" }).toTypedArray();
    t.equal(x[0], start);
    t.equal(x[count - 1], stop);
    for (let i = 0; i < count; i++)
      if (Math.abs(x[i]! - (start + ((stop - start) * i) / (count - 1))) > 1e-15 * Math.abs(stop - start) * 4)
        t.fail(`linspace(${start}, ${stop}, ${count})[${i}] is ${x[i]}`);
  }
});

t.test("item, toArray, toTypedArray and read give the elements", async (t) => {
  t.equal(fx.tensor([[3]]).item(), 3);
  t.equal(fx.tensor(true).item(), 1);
  t.equal(fx.tensor(4e9, { dtype: "uint32" }).item(), 4e9);
  const nested = [
    [
      [1, 2],
      [3, 4],
      [5, 6],
    ],
  ];
  t.same(fx.tensor(nested).toArray(), nested);
  t.same(fx.tensor([[true], [false]]).toArray(), [[true], [false]]);
  t.same(fx.zeros([0, 3]).toArray(), []);
  t.same(fx.zeros([2, 0]).toArray(), [[], []]);
  t.equal(fx.tensor(2).toArray(), 2);
  const x = fx.tensor([1, 2]);
  const copy = x.toTypedArray();
  copy[0] = 9;
  t.same(x.toArray(), [1, 2], "toTypedArray gives a copy");
  const read = await x.read();
  t.same([...read], [1, 2]);
  read[0] = 9;
  t.same(x.toArray(), [1, 2], "read gives a copy");
  t.same(fx.tensor([1.5, 2]).shape, [2]);
});

t.test("a tensor's text names dtype, shape and, when few, the elements", async (t) => {
  const x = fx.tensor([
    [1, 2],
    [3, 4],
  ]);
  for (const text of [String(x.toString()), inspect(x)]) {
    t.match(text, "float32");
    t.match(text, "[2, 2]");
    t.match(text, "[[1,2],[3,4]]");
  }
  t.match(fx.zeros([1000], { dtype: "int32" }).toString(), /int32.*1000/);
  t.ok(fx.zeros([100000]).toString().length < 200, "a large tensor has a short text");
  t.match(fx.tensor([Number.NaN, Number.POSITIVE_INFINITY]).toString(), /NaN.*Infinity/);
  t.match(fx.tensor(true).toString(), /bool\[\].*true/);
  let symbolic = "";
  fx.jit((y: fx.Tensor) => {
    symbolic = y.toString();
    return y;
  })(x);
  t.match(symbolic, /symbolic.*float32\[2, 2\]/);
});

t.test("a symbolic tensor has no values to read or to branch on", async (t) => {
  const x = fx.tensor([1]);
  const uses: [string, (y: fx.Tensor) => unknown][] = [
    ["item", (y) => y.item()],
    ["toArray", (y) => y.toArray()],
    ["toTypedArray", (y) => y.toTypedArray()],
    ["symbolic", (y) => y.toNdarray()],
    ["not a number", (y) => (Number(y) > 0 ? 1 : 2)],
    ["not a number", (y) => Number(y) + 1],
  ];
  for (const [needle, use] of uses)
    t.throws(
      () =>
        fx.jit((y: fx.Tensor) => {
          use(y);
          return y;
        })(x),
      { name: "TraceError", message: new RegExp(needle) },
    );
  await t.rejects(fx.jit((y: fx.Tensor) => fx.full([1], y.item())).async(x), { name: "TraceError" });
  let leaked: fx.Tensor | undefined;
  fx.jit((y: fx.Tensor) => (leaked = fx.exp(y)))(x);
  t.throws(() => fx.add(leaked!, 1), { name: "TraceError", message: /float32\[1\]/ });
  t.throws(() => fx.jit(() => fx.add(leaked!, 1))(), { name: "TraceError" });
  t.equal(fx.add(x, 1).item(), 2, "and the engine still works afterwards");
});

onEach("a tensor that was disposed of has no elements any more", async (t) => {
  const x = fx.add(fx.tensor([1, 2, 3]), 1);
  const y = fx.mul(x, 2);
  x.dispose();
  x.dispose();
  t.equal(String(x), "Tensor(float32[3], disposed)");
  for (const use of [() => x.toArray(), () => x.toTypedArray(), () => x.toNdarray(), () => fx.add(x, 1)])
    t.throws(use, { name: "ValueError", message: /disposed of/ });
  await t.rejects(x.read(), { name: "ValueError", message: /read: the tensor .* was disposed of/ });
  await t.rejects(fx.jit(fx.sin).async(x), { name: "ValueError", message: /disposed of/ });
  t.same(y.toArray(), [4, 6, 8], "what was computed of it stays");
  t.throws(() => fx.jit((z: fx.Tensor) => z.dispose())(y), { name: "TraceError", message: /symbolic/ });
});
