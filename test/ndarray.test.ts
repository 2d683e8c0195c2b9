import * as fx from "fluxion";
import ndarray, { type NdArray } from "ndarray";
import t from "tap";

type Any = NdArray<fx.TypedArray>;

/** The elements of an ndarray by its own indexing, row-major. */
function elements(array: Any): number[] {
  const out: number[] = [];
  const visit = (index: number[]) => {
    if (index.length === array.shape.length) out.push(array.get(...index) as number);
    else for (let i = 0; i < array.shape[index.length]!; i++) visit([...index, i]);
  };
  visit([]);
  return out;
}

const counting = (n: number) => Float32Array.from({ length: n }, (_, i) => i);

t.test("a dense row-major ndarray is shared, not copied", async (t) => {
  const dense: [string, Float32Array, (data: Float32Array) => Any, number][] = [
    ["a whole array", counting(6), (d) => ndarray(d, [2, 3]) as Any, 0],
    ["a part at an offset", counting(10), (d) => ndarray(d, [2, 3], [3, 1], 4) as Any, 4],
    ["leading rows", counting(12), (d) => ndarray(d, [4, 3]).hi(2, 3) as Any, 0],
    ["a row", counting(12), (d) => ndarray(d, [4, 3]).pick(2, null) as Any, 6],
    ["a scalar", counting(1), (d) => ndarray(d, []) as Any, 0],
    ["strides of axes of size 1 are free", counting(3), (d) => ndarray(d, [1, 3], [99, 1]) as Any, 0],
  ];
  for (const [title, data, view, first] of dense) {
    const array = view(data);
    const x = fx.tensor(array);
    t.same([...x.toTypedArray()], elements(array), title);
    t.same(x.shape, array.shape, title);
    data[first] = 77;
    t.equal(x.toTypedArray()[0], 77, `${title}: shares memory`);
  }
  for (const Type of [Float64Array, Int32Array, Uint32Array]) {
    const data = Type.of(1, 2, 3);
    const x = fx.tensor(ndarray(data, [3]) as Any);
    data[1] = 9;
    t.same(x.toArray(), [1, 9, 3], `${x.dtype} is shared`);
  }
});

t.test("strided, transposed and reversed ndarrays are copied in their own order", async (t) => {
  const base = () => ndarray(counting(24), [2, 3, 4]) as Any;
  const views: [string, Any][] = [
    ["transpose", base().transpose(2, 0, 1)],
    ["transpose of the last axes", base().transpose(0, 2, 1)],
    ["step", base().step(1, 2, 3)],
    ["step backwards", base().step(-1, -2, -1)],
    ["lo and hi", base().lo(1, 1, 1).hi(1, 2, 2)],
    ["pick of the last axis", base().pick(null, null, 2)],
    ["pick of the middle", base().pick(null, 1, null)],
    ["a chain of them", base().step(-1, 1, -1).transpose(1, 2, 0).lo(1, 0, 0).step(1, 2, 1)],
    ["a broadcast (stride 0)", ndarray(counting(3), [4, 3], [0, 1]) as Any],
    ["empty", ndarray(counting(0), [0, 3]) as Any],
    ["empty and strided", base().hi(2, 0, 4)],
  ];
  for (const [title, view] of views) {
    const x = fx.tensor(view);
    t.same(x.shape, view.shape, title);
    t.same([...x.toTypedArray()], elements(view), title);
    t.equal(x.dtype, "float32");
  }
  const strided = base().transpose(2, 1, 0);
  const x = fx.tensor(strided);
  strided.set(0, 0, 0, 55);
  t.equal(x.toTypedArray()[0], 0, "a copy does not share memory");
});

t.test("another dtype or shape makes a copy", async (t) => {
  const data = counting(6);
  const x = fx.tensor(ndarray(data, [2, 3]) as Any, { dtype: "int32" });
  t.equal(x.dtype, "int32");
  const y = fx.tensor(ndarray(data, [2, 3]) as Any, { shape: [3, 2] });
  data[1] = 50;
  t.same(x.toArray(), [
    [0, 1, 2],
    [3, 4, 5],
  ]);
  t.same(y.shape, [3, 2]);
  t.same(fx.tensor(ndarray([1, 2, 3], [3]) as unknown as Any).toArray(), [1, 2, 3], "plain arrays");
  t.same(
    fx.tensor(ndarray(Int16Array.of(-1, 2), [2]) as unknown as Any).toArray(),
    [-1, 2],
    "int16 is float32",
  );
  const bool = fx.tensor(ndarray(Uint8Array.of(1, 0), [2]) as Any);
  t.equal(bool.dtype, "bool");
  t.same(bool.toArray(), [true, false]);
});

t.test("toNdarray gives an ndarray over the tensor's elements", async (t) => {
  const x = fx.tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  const array = x.toNdarray();
  t.same(array.shape, [2, 3]);
  t.equal(array.get(1, 0), 4);
  t.equal(array.dtype, "float32");
  t.equal(fx.tensor(array).toNdarray().data.buffer, array.data.buffer, "there and back without a copy");
  for (const [dtype, name] of [
    ["float64", "float64"],
    ["int32", "int32"],
    ["uint32", "uint32"],
    ["bool", "uint8"],
  ] as const)
    t.equal(fx.ones([2], { dtype }).toNdarray().dtype, name);
  t.same(fx.tensor(3).toNdarray().shape, []);
  t.equal(fx.tensor(3).toNdarray().get(), 3);
  t.same(fx.zeros([0, 2]).toNdarray().shape, [0, 2]);
  const transposed = fx.transpose(x).toNdarray();
  t.same(elements(transposed), [1, 4, 2, 5, 3, 6]);
});

t.test("values that do not fit the dtype are refused", async (t) => {
  t.throws(() => fx.tensor(ndarray(Float32Array.of(0, 1.5), [2]) as Any, { dtype: "int32" }), {
    name: "DTypeError",
    message: /element 1 is 1.5.*int32/,
  });
  t.throws(() => fx.tensor(ndarray(Float64Array.of(-1), [1]) as Any, { dtype: "uint32" }), {
    name: "DTypeError",
    message: /-1.*uint32/,
  });
  t.throws(() => fx.tensor(ndarray(counting(6), [2, 3]) as Any, { shape: [4] }), {
    name: "ShapeError",
    message: /\[4\].*4.*6/,
  });
});

t.test("an ndarray whose shape, stride or offset leave its data is refused", async (t) => {
  const bad: [string, Any][] = [
    ["too large a shape", ndarray(counting(4), [2, 3]) as Any],
    ["too large an offset", ndarray(counting(6), [2, 3], [3, 1], 1) as Any],
    ["strides beyond the end", ndarray(counting(6), [2, 3], [1, 3]) as Any],
    ["a negative position", ndarray(counting(6), [6], [-1], 3) as Any],
  ];
  for (const [title, array] of bad)
    t.throws(() => fx.tensor(array), { name: /ShapeError|ValueError/ }, title);
});
