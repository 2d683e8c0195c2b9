import type { MatMulStep, View } from "../../compile/plan.js";
import { type DType, dtypeOf, type TypedArray } from "../../tensor/dtype.js";
import { sizeOf } from "../../tensor/shape.js";
import { mapKernel } from "./map.js";
import { scalarPanels } from "./panels.js";
import { compileSource } from "./sources.js";
import type { PreparedStep, StepContext } from "./steps.js";
import { hasVectors, Layout } from "./wasm/memory.js";
import { vectorPanels } from "./wasm/product.js";

// C is computed in blocks, each of which is finished, epilogue included, before the next. A block of A and a strip of
// B are copied ("packed") into panels, in the order in which the products read them, so that every transposition and
// broadcast costs the same.
const blockElements = 1 << 14;
const blockRows = 256;
/** Steps of k between two visits to a tile of C. */
const blockDepth = 256;
/** Elements of B that are packed at once. */
const stripElements = 1 << 19;
const stripColumns = 512;
/** Where B is so deep that a narrower strip would be needed to pack all of k, it is packed again for each block of C. */
const narrowest = 64;

/** Packs rows start .. start + count - 1, and `depth` steps of k, into panels; missing rows are 0. */
type Pack = (
  source: TypedArray,
  offset: number,
  rowStride: number,
  depthStride: number,
  count: number,
  depth: number,
  target: TypedArray,
) => void;

export function prepareMatMul(step: MatMulStep, context: StepContext): PreparedStep {
  const { batch, m, n, k, a, b, dtype } = step;
  const batches = sizeOf(batch);
  if (batches === 0 || m === 0 || n === 0) return () => {};
  const panels = hasVectors() ? vectorPanels(dtype, new Layout()) : scalarPanels(dtype);
  const whole = (size: number, tile: number) => Math.ceil(size / tile) * tile;
  const fitting = Math.floor(stripElements / Math.max(k, 1) / panels.columns) * panels.columns;
  const stripWidth = Math.min(whole(n, panels.columns), Math.max(narrowest, Math.min(stripColumns, fitting)));
  /** Whether a strip is packed with all of k, once for all blocks of C beside it. */
  const kept = k * stripWidth <= stripElements;
  const rows = Math.min(
    whole(m, panels.rows),
    whole(Math.min(blockRows, blockElements / stripWidth), panels.rows),
  );
  const depthStep = Math.min(k, blockDepth);
  const memory = panels.open(rows * depthStep, stripWidth * (kept ? k : depthStep), rows * stripWidth);

  const packA = packer(context.dtype(a.buffer), panels.rows);
  const packB = packer(context.dtype(b.buffer), panels.columns);

  // The epilogue runs over a block of C at a time, which it loads from scratch memory.
  const rank = batch.length;
  const accumulator: View = {
    buffer: context.scratch(memory.c),
    offset: 0,
    strides: [...batch.map(() => 0), stripWidth, 1],
  };
  const epilogue = mapKernel({
    axes: [rank, rank + 1],
    sizes: [rows, stripWidth],
    expression: step.expression,
    accumulator: { view: accumulator, dtype: dtypeOf(memory.c)! },
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
      for (let j = 0; j < n; j += stripWidth) {
        const width = Math.min(stripWidth, n - j);
        const from = bItem + j * bColumn;
        if (kept && (from !== packedFrom || stripWidth < n))
          packB(B, from, bColumn, bDepth, width, k, memory.b);
        packedFrom = from;
        for (let i = 0; i < m; i += rows) {
          const height = Math.min(rows, m - i);
          memory.c.fill(0);
          for (let p = 0; p < k; p += depthStep) {
            const depth = Math.min(depthStep, k - p);
            packA(A, aItem + i * aRow + p * aDepth, aRow, aDepth, height, depth, memory.a);
            if (!kept) packB(B, from + p * bDepth, bColumn, bDepth, width, depth, memory.b);
            const [panelDepth, start] = kept ? [k, p * panels.columns] : [depth, 0];
            for (let y = 0; y < width; y += panels.columns)
              memory.multiply(
                0,
                y * panelDepth + start,
                depth,
                y,
                stripWidth,
                Math.ceil(height / panels.rows),
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
