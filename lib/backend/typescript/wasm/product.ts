import type { DType, TypedArray } from "../../../tensor/dtype.js";
import type { Panels } from "../panels.js";
import {
  add,
  type Code,
  get,
  i32,
  integer,
  lessThan,
  load,
  loadSplat32,
  loadSplat64,
  multiply,
  set,
  simd,
  store,
  subtract,
  v128,
  vector,
  type WasmFunction,
  whileLoop,
} from "./encoder.js";
import { instantiate, type Layout } from "./memory.js";

/** The vector instructions for the elements of a product. */
const kinds = {
  float32: { bytes: 4, add: 0xe4, mul: 0xe6, splat: loadSplat32 },
  float64: { bytes: 8, add: 0xf0, mul: 0xf2, splat: loadSplat64 },
  int32: { bytes: 4, add: 0xae, mul: 0xb5, splat: loadSplat32 },
};
type Kind = keyof typeof kinds;

// A tile of C is 4 rows of 2 vectors. With more rows or vectors, or an unrolled loop, the engine moves accumulators
// to memory, at half the speed.
const tileRows = 4;
const vectors = 2;
const vectorBytes = 16;

/** Panels in vectors, in the thread's memory. float32 products are added in float32. */
export function vectorPanels(dtype: DType, layout: Layout): Panels {
  const kind = dtype === "uint32" || dtype === "bool" ? "int32" : dtype;
  const { bytes } = kinds[kind];
  const product = productOf(kind);
  return {
    rows: tileRows,
    columns: (vectors * vectorBytes) / bytes,
    open(aSize, bSize, cSize) {
      const [a, b, c] = [aSize, bSize, cSize].map((size) => layout.place(kind, size)!) as [
        TypedArray,
        TypedArray,
        TypedArray,
      ];
      return {
        a,
        b,
        c,
        multiply(aStart, bStart, depth, cStart, stride, panels) {
          const at = (array: TypedArray, start: number) => array.byteOffset + start * bytes;
          product(at(a, aStart), at(b, bStart), depth, at(c, cStart), stride * bytes, panels);
        },
      };
    },
  };
}

const products = new Map<Kind, (...numbers: number[]) => void>();

function productOf(kind: Kind): (...numbers: number[]) => void {
  let product = products.get(kind);
  if (!product) products.set(kind, (product = instantiate(productCode(kind))));
  return product;
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** The arguments are those of `PanelMemory.multiply`, in bytes. */
function productCode(kind: Kind): WasmFunction {
  const { bytes, splat } = kinds[kind];
  const [a, b, depth, c, stride, panels] = [0, 1, 2, 3, 4, 5] as const;
  const [p, end] = [6, 7] as const;
  const column = (v: number) => 8 + v;
  const row = 8 + vectors;
  const cell = (r: number, v: number) => row + 1 + r * vectors + v;
  const cells = range(tileRows).flatMap((r) => range(vectors).map((v) => cell(r, v)));
  const plus = (x: Code, y: Code) => simd(kinds[kind].add, x, y);
  const times = (x: Code, y: Code) => simd(kinds[kind].mul, x, y);

  const oneStep: Code = [
    ...range(vectors).flatMap((v) => set(column(v), load(get(p), v * vectorBytes))),
    ...range(tileRows).flatMap((r) => [
      ...set(row, splat(get(a), r * bytes)),
      ...range(vectors).flatMap((v) =>
        set(cell(r, v), plus(get(cell(r, v)), times(get(row), get(column(v))))),
      ),
    ]),
    ...set(a, add(get(a), integer(tileRows * bytes))),
    ...set(p, add(get(p), integer(vectors * vectorBytes))),
  ];
  const addTile: Code = range(tileRows).flatMap((r) => [
    ...range(vectors).flatMap((v) =>
      store(get(c), plus(load(get(c), v * vectorBytes), get(cell(r, v))), v * vectorBytes),
    ),
    ...set(c, add(get(c), get(stride))),
  ]);
  const onePanel: Code = [
    ...cells.flatMap((i) => set(i, vector(new Int32Array(4)))),
    ...set(p, get(b)),
    ...whileLoop(lessThan(get(p), get(end)), oneStep),
    ...addTile,
    ...set(panels, subtract(get(panels), integer(1))),
  ];
  return {
    name: "product",
    parameters: 6,
    locals: [i32, i32, ...range(vectors + 1 + cells.length).map(() => v128 as typeof v128)],
    body: [
      ...set(end, add(get(b), multiply(get(depth), integer(vectors * vectorBytes)))),
      ...whileLoop(lessThan(integer(0), get(panels)), onePanel),
    ],
  };
}
