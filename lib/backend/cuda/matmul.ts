import type { MatMulStep, View } from "../../compile/plan.js";
import { byteSize } from "../../tensor/dtype.js";
import { sizeOf } from "../../tensor/shape.js";
import type { MatmulPrecision } from "../precision.js";
import { elementAt, emitExpression, emitStores, expressionHeaders, sum } from "./expression.js";
import { cTypes, type Lowering } from "./lowering.js";
import { chooseForm, type ProductForm, type Tile, tilesFor, warpsOfThinProduct } from "./product-choice.js";
import { libraryProduct } from "./product-library.js";
import { type MatrixProduct, matrixProduct, viewsOf } from "./product-shape.js";

type Pointer = (buffer: number) => string;

/**
 * A product by cuBLASLt where that pays (product-library.ts), else by kernels of our own: by tiles, by thin forms, or
 * an element a thread (product-choice.ts). A product in slices of k puts partial results into scratch memory; a
 * second kernel adds them in order.
 */
export function lowerMatMul(lowering: Lowering, step: MatMulStep): void {
  const product = matrixProduct(step);
  const { dtype, batch, m, n, k } = product;
  const batches = sizeOf(batch);
  const results = batches * m * n;
  if (results === 0) return;

  const library = libraryProduct(lowering, product);
  if (library) {
    lowering.add(library.operation);
    if (library.rest !== undefined) lowerSum(lowering, product, library.rest, 1);
    return;
  }

  const tiles = tilesFor(dtype, lowering.target.precision).filter(
    (tile) => sharedBytes(product, tile, lowering.target.precision) <= lowering.target.sharedBytes,
  );
  const wide = m >= n ? operand(lowering, product, "a") : operand(lowering, product, "b");
  const form = chooseForm({ batches, m, n, k, alongDepth: wide.order === "depth" }, tiles);
  const slices = form.form === "elements" ? 1 : form.slices;
  const partial = slices > 1 ? lowering.scratch(dtype, slices * results) : undefined;
  lowerProduct(lowering, product, form, partial);
  if (partial !== undefined) lowerSum(lowering, product, partial, slices);
}

/** The kernel that multiplies. It finishes with the expression, or stores partial results where `partial` is given. */
function lowerProduct(
  lowering: Lowering,
  product: MatrixProduct,
  form: ProductForm,
  partial: number | undefined,
): void {
  const { dtype, batch, m, n, k, expression } = product;
  const batches = sizeOf(batch);
  const count = partial === undefined ? batches * m * n : lowering.sizeOf(partial);
  const index = indexType(product, count);
  const items = batch.map((_, axis) => `i${axis}`);
  const [a, b] = [operand(lowering, product, "a"), operand(lowering, product, "b")];

  const operands = (pointer: Pointer) => [
    ...declareOperand("A", "a", a, dtype, index, pointer, items),
    ...declareOperand("B", "b", b, dtype, index, pointer, items),
  ];
  const slice = form.form === "elements" || form.slices === 1 ? undefined : form;
  const depth = slice
    ? [`const int begin = slice * ${slice.depth};`, `const int end = min(begin + ${slice.depth}, ${k});`]
    : ["const int begin = 0;", `const int end = ${k};`];
  // Where partial results of a slice of k lie: [slices, ...batch, m, n].
  const slab =
    batch.length > 0 ? `(static_cast<${index}>(slice) * ${batches} + item)` : `static_cast<${index}>(slice)`;
  const finish = (pointer: Pointer) =>
    partial === undefined
      ? finishing(product, index, pointer, items)
      : [
          `const auto finish = [&](${index} row, ${index} column, ${cTypes[dtype]} accumulator) {`,
          `  ${pointer(partial)}[(${slab} * ${m} + row) * ${n} + column] = accumulator;`,
          "};",
        ];
  const common = {
    writes: partial === undefined ? expression.outputs.map(({ view }) => view.buffer) : [partial],
    name: "matmul",
  };

  if (form.form === "elements") {
    const threads = 256;
    lowering.launch({
      ...common,
      threads,
      grid: [Math.ceil((batches * m * n) / threads), 1, 1],
      includes: ["gemm_thin.cuh", ...expressionHeaders],
      body: (pointer) => [
        `const ${index} element = static_cast<${index}>(blockIdx.x) * ${threads} + int(threadIdx.x);`,
        `if (element >= ${batches * m * n}) return;`,
        `const int column = int(element % ${n});`,
        `const int row = int(element / ${n} % ${m});`,
        ...(batch.length > 0 ? [`const int item = int(element / ${n} / ${m});`] : []),
        ...unravel(batch, index),
        ...operands(pointer),
        ...finish(pointer),
        "finish(row, column, fluxion::gemm::productElement(a, b, row, column));",
      ],
    });
    return;
  }

  /** The block's number, taken apart: its tile by `across`, by `down`, its item of the batch, its slice of k. */
  const place = (down: number, across: number) => [
    "const int block = int(blockIdx.x);",
    ...(batch.length > 0 ? [`const int item = block / ${down * across} % ${batches};`] : []),
    ...(slice ? [`const int slice = block / ${down * across * batches};`] : []),
    ...unravel(batch, index),
    ...depth,
  ];
  const grid = (down: number, across: number) => [down * across * batches * form.slices, 1, 1] as const;

  if (form.form === "tiles") {
    const { tile } = form;
    const [down, across] = [Math.ceil(m / tile.m), Math.ceil(n / tile.n)];
    const format =
      lowering.target.precision === "bfloat16" ? "fluxion::gemm::Bfloat16" : "fluxion::gemm::Tf32";
    const parameters = [tile.m, tile.n, tile.depth, ...tile.part, tile.stages].join(", ");
    const shared = sharedBytes(product, tile, lowering.target.precision);
    lowering.launch({
      ...common,
      threads: tile.threads,
      blocks: tile.blocks,
      grid: grid(down, across),
      sharedBytes: shared,
      includes: [tile.kind === "tensor" ? "gemm_tensor.cuh" : "gemm_simt.cuh", ...expressionHeaders],
      body: (pointer) => [
        ...place(down, across),
        `const int firstRow = block / ${across} % ${down} * ${tile.m};`,
        `const int firstColumn = block % ${across} * ${tile.n};`,
        ...operands(pointer),
        ...finish(pointer),
        tile.kind === "tensor"
          ? `using Product = fluxion::gemm::TensorProduct<A, B, ${format}, ${parameters}>;`
          : `using Product = fluxion::gemm::SimtProduct<A, B, ${parameters}>;`,
        `static_assert(Product::threads == ${tile.threads} && Product::sharedBytes == ${shared});`,
        "Product::run(a, b, firstRow, firstColumn, begin, end, finish);",
      ],
    });
    return;
  }

  // Thin: W has the rows, and V the few vectors. The kernels finish elements of W V^T.
  const wideA = m >= n;
  const rows = Math.max(m, n);
  const rowsOfBlock = form.form === "warps" ? form.rows * warpsOfThinProduct : 32;
  const down = Math.ceil(rows / rowsOfBlock);
  const swapped = `[&](int row, int column, ${cTypes[dtype]} sum) { finish(column, row, sum); }`;
  const name =
    form.form === "warps" ? `productByWarps<${form.rows}>` : `productByLanes<${warpsOfThinProduct}>`;
  lowering.launch({
    ...common,
    threads: 32 * warpsOfThinProduct,
    grid: grid(down, 1),
    includes: ["gemm_thin.cuh", ...expressionHeaders],
    body: (pointer) => [
      ...place(down, 1),
      `const int firstRow = block % ${down} * ${rowsOfBlock};`,
      ...operands(pointer),
      ...finish(pointer),
      wideA
        ? `fluxion::gemm::${name}(a, b, firstRow, begin, end, finish);`
        : `fluxion::gemm::${name}(b, a, firstRow, begin, end, ${swapped});`,
    ],
  });
}

/** The kernel that adds partial results [slices, ...batch, m, n] in order and evaluates the expression. */
function lowerSum(lowering: Lowering, product: MatrixProduct, partial: number, slices: number): void {
  const { batch, m, n, expression } = product;
  const results = sizeOf(batch) * m * n;
  const index = indexType(product, slices * results);
  const threads = 256;
  lowering.launch({
    name: slices > 1 ? "matmul_sum" : "matmul_rest",
    threads,
    grid: [Math.ceil(results / threads), 1, 1],
    includes: ["gemm_thin.cuh", ...expressionHeaders],
    writes: expression.outputs.map(({ view }) => view.buffer),
    body: (pointer) => [
      `const ${index} element = static_cast<${index}>(blockIdx.x) * ${threads} + int(threadIdx.x);`,
      `if (element >= ${results}) return;`,
      `const int column = int(element % ${n});`,
      `const int row = int(element / ${n} % ${m});`,
      ...(batch.length > 0 ? [`const int item = int(element / ${n} / ${m});`] : []),
      ...unravel(batch, index),
      ...finishing(
        product,
        index,
        pointer,
        batch.map((_, axis) => `i${axis}`),
      ),
      `finish(row, column, fluxion::gemm::sumSlices<${slices}>(${pointer(partial)} + element, ${literal(results, index)}));`,
    ],
  });
}

/** `finish(row, column, accumulator)`: the product's expression. */
function finishing(
  { dtype, expression }: MatrixProduct,
  index: string,
  pointer: Pointer,
  items: readonly string[],
): string[] {
  const coordinates = [...items, "row", "column"];
  const scope = {
    coordinates,
    accumulator: "accumulator",
    element: (view: View) => elementAt(pointer(view.buffer), view, coordinates),
  };
  const emitted = emitExpression(expression, scope);
  return [
    `const auto finish = [&](${index} row, ${index} column, ${cTypes[dtype]} accumulator) {`,
    ...[...emitted.lines, ...emitStores(expression, emitted, scope)].map((line) => `  ${line}`),
    "};",
  ];
}

/** The coordinates i0, i1, ... of an item of the batch. */
function unravel(batch: readonly number[], index: string): string[] {
  return batch.map((size, axis) => {
    const inner = sizeOf(batch.slice(axis + 1));
    return `const ${index} i${axis} = item / ${inner} % ${size};`;
  });
}

/** How an operand lies in memory: see fluxion::gemm::Operand. */
interface Layout {
  readonly view: View;
  readonly rows: number;
  readonly depth: number;
  readonly rowStride: number;
  readonly depthStride: number;
  readonly order: "depth" | "rows";
  readonly vector: number;
}

function operand(lowering: Lowering, product: MatrixProduct, name: "a" | "b"): Layout {
  const view = product[name];
  const [rowStride, depthStride] = view.strides.slice(-2) as [number, number];
  const order = orderOf(view);
  const [along, across] = order === "depth" ? [depthStride, rowStride] : [rowStride, depthStride];
  // The beginnings of vectors of `count` elements are multiples of their size: buffers begin at multiples of 16 bytes,
  // but for slices of a loop's buffers, which lie at multiples of their own size.
  const bytes = byteSize(product.dtype);
  const distances = [view.offset, across, lowering.sizeOf(view.buffer), ...view.strides.slice(0, -2)];
  const fits = (count: number) =>
    along === 1 && count * bytes <= 16 && distances.every((distance) => distance % count === 0);
  const vector = [4, 2].find(fits) ?? 1;
  const rows = name === "a" ? product.m : product.n;
  return { view, rows, depth: product.k, rowStride, depthStride, order, vector };
}

/** The axis with neighbours, or with the shorter way to the next element. */
function orderOf({ strides }: View): "depth" | "rows" {
  const [row, depth] = strides.slice(-2).map(Math.abs) as [number, number];
  if (depth === 1) return "depth";
  return row === 1 || row < depth ? "rows" : "depth";
}

function declareOperand(
  type: string,
  name: string,
  { view, rows, depth, rowStride, depthStride, order, vector }: Layout,
  dtype: MatrixProduct["dtype"],
  index: string,
  pointer: Pointer,
  items: readonly string[],
): string[] {
  const parameters = [
    cTypes[dtype],
    index,
    rowStride,
    depthStride,
    rows,
    depth,
    `fluxion::gemm::Along::${order}`,
    vector,
  ];
  return [
    `using ${type} = fluxion::gemm::Operand<${parameters.join(", ")}>;`,
    `const ${type} ${name}{${pointer(view.buffer)} + (${sum(view.offset, view.strides.slice(0, -2), items)})};`,
  ];
}

/** Shared memory of a block: SimtProduct::sharedBytes and TensorProduct::sharedBytes, which the kernel asserts. */
function sharedBytes({ dtype, a, b }: MatrixProduct, tile: Tile, precision: MatmulPrecision): number {
  const bytes = byteSize(dtype);
  const chunk = 16 / bytes;
  const simt = tile.kind === "simt";
  const [depthPad, rowsPad] = precision === "bfloat16" ? [8, 4] : [4, 8];
  const elements = (view: View, rows: number) => {
    if (simt) return (rows + chunk) * tile.depth;
    return orderOf(view) === "depth" ? rows * (tile.depth + depthPad) : (rows + rowsPad) * tile.depth;
  };
  const stage = elements(a, tile.m) + elements(b, tile.n);
  const result = tile.m * (tile.n + (simt ? chunk : 8));
  return bytes * Math.max(tile.stages * stage, result);
}

/** A count as a literal of an index type. */
const literal = (count: number, index: string) => (index === "int" ? `${count}` : `${count}ll`);

/** int where no element of a view, nor `count`, is 2^31 or further away; tiles reach a little beyond the matrices. */
function indexType({ batch, m, n, k, a, b, expression }: MatrixProduct, count: number): string {
  const beyond = 128;
  const reach = (view: View, extents: readonly number[]) =>
    view.strides.reduce(
      (sum, stride, axis) => sum + Math.abs(stride) * extents[axis]!,
      Math.abs(view.offset),
    );
  const reaches = [
    count,
    reach(a, [...batch, m + beyond, k + beyond]),
    reach(b, [...batch, n + beyond, k + beyond]),
    ...viewsOf(expression).map((view) => reach(view, [...batch, m, n])),
  ];
  return Math.max(...reaches) < 2 ** 31 - 1024 ? "int" : "long long";
}
