import type { Expression, MatMulStep, View } from "../../compile/plan.js";
import type { DType } from "../../tensor/dtype.js";

/**
 * A matmul step in the form that its kernels take: C[i, j] = sum over p of A(i, p) B(j, p) for every index of `batch`,
 * then the expression over [...batch, m, n]. Both operands are matrices of rows by depth: `a` is a view over
 * [...batch, m, k], `b` over [...batch, n, k].
 */
export interface MatrixProduct {
  readonly dtype: DType;
  readonly batch: readonly number[];
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: View;
  readonly b: View;
  readonly expression: Expression;
}

/**
 * The step with as few batch axes as can be, transposed (C^T = B^T A^T) where the expression's views have neighbours
 * along m: then what kernels read and write along n is contiguous.
 */
export function matrixProduct(step: MatMulStep): MatrixProduct {
  const { dtype, batch, m, n, k, a, expression } = step;
  const b = withStrides(step.b, swapLast(step.b.strides));
  let product: MatrixProduct = { dtype, batch, m, n, k, a, b, expression };
  product = foldBatch(withoutAxes(product, (axis) => batch[axis] === 1));
  return neighboursAlongRows(product) ? transposed(product) : product;
}

/**
 * Batch axes that only one operand has become a part of m, or of n: a product of a batch of matrices by one and the
 * same matrix is one large product.
 */
function foldBatch(product: MatrixProduct): MatrixProduct {
  for (let axis = 0; axis < product.batch.length; axis++) {
    const folded = foldIntoRows(product, axis);
    if (folded) return foldBatch(folded);
    const foldedColumns = foldIntoRows(transposed(product), axis);
    if (foldedColumns) return foldBatch(transposed(foldedColumns));
  }
  return product;
}

/** Makes (axis, m) one axis of rows, where every view steps through both as through one. */
function foldIntoRows(product: MatrixProduct, axis: number): MatrixProduct | undefined {
  const { batch, m, a, b } = product;
  if (b.strides[axis] !== 0) return undefined;
  const rows = batch.length;
  const strides = [a.strides, ...stridesOf(product.expression)];
  // With one row its stride does not matter, so the axis gives the rows.
  if (m > 1 && !strides.every((s) => s[axis] === s[rows]! * m)) return undefined;
  const size = batch[axis]!;
  const take = (s: readonly number[]) => (m > 1 ? s : s.map((stride, i) => (i === rows ? s[axis]! : stride)));
  const joined: MatrixProduct = {
    ...product,
    m: m * size,
    a: withStrides(a, take(a.strides)),
    expression: mapStrides(product.expression, take),
  };
  return withoutAxes(joined, (other) => other === axis);
}

function withoutAxes(product: MatrixProduct, dropped: (axis: number) => boolean): MatrixProduct {
  const { batch, a, b } = product;
  const keep = <T>(values: readonly T[]) => values.filter((_, i) => i >= batch.length || !dropped(i));
  return {
    ...product,
    batch: keep(batch),
    a: withStrides(a, keep(a.strides)),
    b: withStrides(b, keep(b.strides)),
    expression: mapStrides(product.expression, keep),
  };
}

function transposed(product: MatrixProduct): MatrixProduct {
  const { m, n, a, b, expression } = product;
  return { ...product, m: n, n: m, a: b, b: a, expression: mapStrides(expression, swapLast) };
}

/** Whether more of the expression's views have stride 1 along m than along n. */
function neighboursAlongRows({ batch, m, n, expression }: MatrixProduct): boolean {
  const [rows, columns] = [batch.length, batch.length + 1];
  if (m === 1 || n === 1) return n === 1;
  let score = 0;
  for (const { strides } of viewsOf(expression)) {
    if (Math.abs(strides[columns]!) === 1) score++;
    else if (Math.abs(strides[rows]!) === 1) score--;
  }
  return score < 0;
}

/** The views of an expression's loads and outputs. */
export function viewsOf({ instructions, outputs }: Expression): View[] {
  const loads = instructions.flatMap((instruction) => (instruction.op === "load" ? [instruction.view] : []));
  return [...loads, ...outputs.map(({ view }) => view)];
}

function stridesOf(expression: Expression): (readonly number[])[] {
  const indices = expression.instructions.flatMap((instruction) =>
    instruction.op === "index" ? [instruction.strides] : [],
  );
  return [...viewsOf(expression).map(({ strides }) => strides), ...indices];
}

function mapStrides(
  { instructions, outputs }: Expression,
  change: (strides: readonly number[]) => readonly number[],
): Expression {
  return {
    instructions: instructions.map((instruction) => {
      if (instruction.op === "index") return { ...instruction, strides: change(instruction.strides) };
      if (instruction.op !== "load") return instruction;
      return { ...instruction, view: withStrides(instruction.view, change(instruction.view.strides)) };
    }),
    outputs: outputs.map(({ value, view }) => ({ value, view: withStrides(view, change(view.strides)) })),
  };
}

const withStrides = (view: View, strides: readonly number[]): View => ({ ...view, strides });

function swapLast(strides: readonly number[]): readonly number[] {
  const [x, y] = strides.slice(-2) as [number, number];
  return [...strides.slice(0, -2), y, x];
}
