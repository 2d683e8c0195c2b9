import type { MatMulStep, View } from "../../compile/plan.js";
import { type DType, isFloat, type TypedArray } from "../../tensor/dtype.js";
import { sizeOf } from "../../tensor/shape.js";
import { mapKernel } from "./map.js";
import { compileSource } from "./sources.js";
import type { PreparedStep, StepContext } from "./steps.js";

// The product is computed in tiles of tileRows x tileColumns, whose accumulators live in registers. A and B are
// copied ("packed") into panels as high or wide as a tile, in the order in which the tiles read them. Floats are
// packed as doubles and accumulated in double: a float32 product is rounded once, at the end.
const tileRows = 3;
const tileColumns = 4;
/** Rows of C that are finished, epilogue included, at once; steps of k between two visits to a tile. */
const blockRows = 48;
const blockDepth = 256;
/** Elements of B that are packed at once (8 MiB of doubles), whole columns at least one panel wide. */
const packedElements = 1 << 20;

type Packed = Float64Array | Int32Array;

/** Packs rows start .. start + count - 1, and `depth` steps of k, into panels of `width` rows; missing rows are 0. */
type Pack = (
  source: TypedArray,
  offset: number,
  rowStride: number,
  depthStride: number,
  count: number,
  depth: number,
  target: Packed,
) => void;

/** Adds the product of a panel of A and a panel of B to a tile of C. */
type Tile = (
  a: Packed,
  aStart: number,
  b: Packed,
  bStart: number,
  depth: number,
  c: Packed,
  cStart: number,
  cStride: number,
) => void;

export function prepareMatMul(step: MatMulStep, context: StepContext): PreparedStep {
  const { batch, m, n, k, a, b, dtype } = step;
  const batches = sizeOf(batch);
  if (batches === 0 || m === 0 || n === 0) return () => {};
  const array = isFloat(dtype) ? Float64Array : Int32Array;
  const padded = Math.ceil(n / tileColumns) * tileColumns;
  const fitting = Math.floor(packedElements / Math.max(k, 1) / tileColumns) * tileColumns;
  const stripColumns = Math.min(padded, Math.max(tileColumns, fitting));
  const rows = Math.min(blockRows, Math.ceil(m / tileRows) * tileRows);
  const packedA = new array(rows * Math.min(k, blockDepth));
  const packedB = new array(k * stripColumns);
  const block = new array(rows * stripColumns);

  const packA = packer(context.dtype(a.buffer), tileRows);
  const packB = packer(context.dtype(b.buffer), tileColumns);
  const tile = tileKernel(isFloat(dtype));

  // The epilogue runs over a block of C at a time, which it loads from scratch memory.
  const rank = batch.length;
  const accumulator: View = {
    buffer: context.scratch(block),
    offset: 0,
    strides: [...batch.map(() => 0), stripColumns, 1],
  };
  const epilogue = mapKernel({
    axes: [rank, rank + 1],
    sizes: [rows, stripColumns],
    expression: step.expression,
    accumulator: { view: accumulator, dtype: isFloat(dtype) ? "float64" : "int32" },
  });

  const [aRow, aDepth] = a.strides.slice(rank) as [number, number];
  const [bDepth, bColumn] = b.strides.slice(rank) as [number, number];

  return (buffers) => {
    const A = buffers[a.buffer]!;
    const B = buffers[b.buffer]!;
    const origin = new Array<number>(rank + 2).fill(0);
    let packedFrom = -1; // where in B the packed strip begins: a batch that shares B finds it packed
    for (let item = 0; item < batches; item++) {
      unravel(item, batch, origin);
      const aItem = offsetAt(a, origin, rank);
      const bItem = offsetAt(b, origin, rank);
      for (let j = 0; j < n; j += stripColumns) {
        const width = Math.min(stripColumns, n - j);
        const from = bItem + j * bColumn;
        if (from !== packedFrom || stripColumns < n) packB(B, from, bColumn, bDepth, width, k, packedB);
        packedFrom = from;
        for (let i = 0; i < m; i += rows) {
          const height = Math.min(rows, m - i);
          block.fill(0);
          for (let p = 0; p < k; p += blockDepth) {
            const depth = Math.min(blockDepth, k - p);
            packA(A, aItem + i * aRow + p * aDepth, aRow, aDepth, height, depth, packedA);
            for (let y = 0; y < width; y += tileColumns)
              for (let x = 0; x < height; x += tileRows)
                tile(
                  packedA,
                  x * depth,
                  packedB,
                  y * k + p * tileColumns,
                  depth,
                  block,
                  x * stripColumns + y,
                  stripColumns,
                );
          }
          origin[rank] = i;
          origin[rank + 1] = j;
          epilogue.resize(0, height);
          epilogue.resize(1, width);
          epilogue.move(origin);
          epilogue.run(buffers);
        }
      }
    }
  };
}

/** Writes the row-major index of a batch item into the front of `index`. */
function unravel(item: number, batch: readonly number[], index: number[]): void {
  for (let axis = batch.length - 1; axis >= 0; axis--) {
    index[axis] = item % batch[axis]!;
    item = Math.floor(item / batch[axis]!);
  }
}

function offsetAt(view: View, index: readonly number[], rank: number): number {
  let offset = view.offset;
  for (let axis = 0; axis < rank; axis++) offset += index[axis]! * view.strides[axis]!;
  return offset;
}

/** A packer for arrays of a dtype. Its source names the dtype, so that each array type has a function of its own. */
function packer(dtype: DType, width: number): Pack {
  return compileSource<Pack>(`// packs ${dtype}
return function pack(source, offset, rowStride, depthStride, count, depth, target) {
  for (let row = 0, at = 0; row < count; row += ${width}) {
    const height = Math.min(${width}, count - row);
    const start = offset + row * rowStride;
    for (let p = 0, from = start; p < depth; p++, from += depthStride) {
      let r = 0;
      for (let q = from; r < height; r++, q += rowStride) target[at++] = source[q];
      for (; r < ${width}; r++) target[at++] = 0;
    }
  }
};`);
}

/** The inner product loop with every element of the tile in a variable. */
function tileKernel(float: boolean): Tile {
  const rows = Array.from({ length: tileRows }, (_, i) => i);
  const columns = Array.from({ length: tileColumns }, (_, j) => j);
  const cells = rows.flatMap((i) => columns.map((j) => [i, j] as const));
  const add = ([i, j]: readonly [number, number]) =>
    float ? `c${i}${j} += a${i} * b${j};` : `c${i}${j} = (c${i}${j} + Math.imul(a${i}, b${j})) | 0;`;
  return compileSource<Tile>(`// a tile of ${float ? "doubles" : "integers"}
return function tile(A, p, B, q, depth, C, at, stride) {
  let ${cells.map(([i, j]) => `c${i}${j} = 0`).join(", ")};
  for (const end = p + depth * ${tileRows}; p < end; p += ${tileRows}, q += ${tileColumns}) {
    const ${columns.map((j) => `b${j} = B[q + ${j}]`).join(", ")};
    ${rows.map((i) => `const a${i} = A[p + ${i}]; ${columns.map((j) => add([i, j])).join(" ")}`).join("\n    ")}
  }
  ${rows.map((i) => columns.map((j) => `C[at + ${j}] += c${i}${j};`).join(" ")).join("\n  at += stride;\n  ")}
};`);
}
