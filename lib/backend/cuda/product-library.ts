import type { View } from "../../compile/plan.js";
import { byteSize } from "../../tensor/dtype.js";
import { sizeOf } from "../../tensor/shape.js";
import type { MatmulPrecision } from "../precision.js";
import type { Lowering } from "./lowering.js";
import type { MatrixProduct } from "./product-shape.js";
import type { Matrix, Product } from "./program.js";

export interface LibraryProduct {
  readonly operation: Omit<Product, "step">;
  /** The buffer with C, dense, where the expression remains to be evaluated; undefined: all is done. */
  readonly rest: number | undefined;
}

/** How a result leaves the product: where it goes, and what is added to its rows. */
interface Result {
  readonly view: View;
  readonly bias: View | undefined;
}

/**
 * The product as an operation of cuBLASLt, where that is faster than kernels of our own, and its operands are such as
 * the library takes: rows (or columns) without gaps between neighbours, matrices at one distance.
 */
export function libraryProduct(lowering: Lowering, product: MatrixProduct): LibraryProduct | undefined {
  const { dtype, batch, m, n, k, a, b } = product;
  const { cublas, precision } = lowering.target;
  if (!cublas || (dtype !== "float32" && dtype !== "float64")) return undefined;
  const result = plainResult(lowering, product);
  if (!pays(product, precision, result !== undefined)) return undefined;
  const left = matrixOf(lowering, a, batch, m, k);
  const right = matrixOf(lowering, b, batch, n, k);
  if (!left || !right) return undefined;
  const batches = sizeOf(batch);
  const operation = { kind: "product", dtype, precision, batch: batches, m, n, k, a: left } as const;
  // The operation's B is [k, n], while ours is the rows of its transpose.
  const whole = { ...operation, b: { ...right, transposed: !right.transposed } };
  const c = result && matrixOf(lowering, result.view, batch, m, n);
  if (c && !c.transposed) {
    const { bias } = result;
    return {
      operation: { ...whole, c, ...(bias && { bias: { buffer: bias.buffer, offset: bias.offset } }) },
      rest: undefined,
    };
  }
  if (!pays(product, precision, false)) return undefined;
  const rest = lowering.scratch(dtype, batches * m * n);
  return {
    operation: { ...whole, c: { buffer: rest, offset: 0, row: n, step: m * n, transposed: false } },
    rest,
  };
}

/**
 * Whether the library gains more than it costs. The rates are estimates for an H100, from its peaks and the kernels'
 * instructions, not measurements.
 *
 * Below 256 rows or columns, 128 of depth or 2^28 multiply-adds a product takes no more than ten microseconds, and the
 * tiles of our own kernels are as good. Above, our float32 kernels may reach 40 of 67 TFLOP/s, and the library 50:
 * m n k 2 (1/40 - 1/50) ps = 0.01 m n k ps is gained. On tensor cores it is 250 to 450 TFLOP/s, by the products of
 * whole warp groups (0.004 m n k ps), and 25 to 55 in float64, by its tensor cores (0.04 m n k ps).
 *
 * An expression that the library cannot compute costs a kernel which reads C that the library has written: 8 m n bytes
 * at 3 TB/s, 2.7 m n ps in float32, and twice that in float64. With a margin for the launch it pays from a depth of
 * 512 on in float32, of 1024 on tensor cores, and of 256 in float64.
 */
function pays({ dtype, batch, m, n, k }: MatrixProduct, precision: MatmulPrecision, plain: boolean): boolean {
  const least = plain ? 128 : dtype === "float64" ? 256 : precision === "float32" ? 512 : 1024;
  return m >= 256 && n >= 256 && k >= least && sizeOf(batch) * m * n * k >= 2 ** 28;
}

/** The result of an expression that is the product, or the product and a vector of float32 along n. */
function plainResult(lowering: Lowering, product: MatrixProduct): Result | undefined {
  const { instructions, outputs } = product.expression;
  const [output] = outputs;
  if (!output || outputs.length > 1) return undefined;
  const instruction = instructions[output.value]!;
  if (instruction.op === "accumulator") return { view: output.view, bias: undefined };
  if (instruction.op !== "add" || product.dtype !== "float32") return undefined;
  const [x, y] = instruction.args.map((arg) => instructions[arg]!) as [Instruction, Instruction];
  const load = x.op === "accumulator" ? y : y.op === "accumulator" ? x : undefined;
  if (load?.op !== "load") return undefined;
  const alongColumns = load.view.strides.every(
    (stride, axis, all) => stride === (axis === all.length - 1 ? 1 : 0),
  );
  return alongColumns && aligned(lowering, load.view) ? { view: output.view, bias: load.view } : undefined;
}

type Instruction = MatrixProduct["expression"]["instructions"][number];

/** A view over [...batch, rows, columns] as a row-major matrix, or a transposed one; undefined where it is neither. */
function matrixOf(
  lowering: Lowering,
  view: View,
  batch: readonly number[],
  rows: number,
  columns: number,
): Matrix | undefined {
  const [rowStride, columnStride] = view.strides.slice(-2) as [number, number];
  const transposed = columnStride !== 1;
  const [row, length] = transposed ? [columnStride, rows] : [rowStride, columns];
  if ((transposed && rowStride !== 1) || row < length) return undefined;
  // One distance between matrices: each batch axis steps as far as the next one with its size.
  const steps = view.strides.slice(0, batch.length);
  const even = steps.every(
    (step, axis) => axis + 1 === batch.length || step === steps[axis + 1]! * batch[axis + 1]!,
  );
  const step = steps.at(-1) ?? 0;
  if (!even || step < 0 || !aligned(lowering, view, row, step)) return undefined;
  return { buffer: view.buffer, offset: view.offset, row, step, transposed };
}

/** Whether all rows begin at multiples of 16 bytes, which the library's fast kernels need. */
function aligned(lowering: Lowering, { buffer, offset }: View, ...distances: readonly number[]): boolean {
  const bytes = byteSize(lowering.dtypeOf(buffer));
  return [offset, lowering.sizeOf(buffer), ...distances].every((distance) => (distance * bytes) % 16 === 0);
}
