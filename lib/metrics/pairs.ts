import { jit } from "../compile/jit.js";
import {
  add,
  cast,
  clip,
  matmul,
  mean,
  mul,
  reshape,
  slice,
  square,
  sub,
  sum,
  transpose,
} from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";

/** What is summed over pairs: a function of the squared distances [m, n] of two blocks of points, elementwise. */
export type PairKernel = (squaredDistances: Tensor) => Tensor;

/** Points in a block: 2048^2 pairs at a time, so that memory stays bounded where a backend does not fuse the sum. */
const blockSize = 2048;

/** The dimension up to which squared distances are sums of squares of differences. */
const mostColumns = 16;

/**
 * A program that sums a kernel over all pairs of two blocks. Where the dimension is small, each squared distance is a
 * fused sum of squares, in the dtype of the points; else it comes from |x|^2 - 2 x y + |y|^2. The sum is float64.
 */
export function pairSum(kernel: PairKernel): (x: Tensor, y: Tensor) => Tensor {
  return jit((x: Tensor, y: Tensor) => sum(cast(kernel(squaredDistances(x, y)), "float64")));
}

function squaredDistances(x: Tensor, y: Tensor): Tensor {
  const [m, d] = x.shape as readonly [number, number];
  const n = y.shape[0]!;
  if (d > mostColumns) {
    const norms = add(sum(square(x), 1, { keepDims: true }), reshape(sum(square(y), 1), [1, n]));
    return clip(sub(norms, mul(matmul(x, transpose(y)), 2)), 0);
  }
  const columns = Array.from({ length: d }, (_, k) =>
    square(sub(slice(x, [0, k], [m, 1]), reshape(slice(y, [0, k], [n, 1]), [1, n]))),
  );
  return columns.reduce((a, b) => add(a, b));
}

/**
 * Both sets of points, centred at the mean of y, as blocks of rows: in float32 where both are and the dimension is
 * small, else in float64.
 */
export function pairBlocks(x: Tensor, y: Tensor): [Tensor[], Tensor[]] {
  const narrow = x.dtype === "float32" && y.dtype === "float32" && x.shape[1]! <= mostColumns;
  const centre = mean(cast(y, "float64"), 0, { keepDims: true });
  const centred = (points: Tensor) =>
    cast(sub(cast(points, "float64"), centre), narrow ? "float32" : "float64");
  return [blocksOf(centred(x)), blocksOf(centred(y))];
}

function blocksOf(x: Tensor): Tensor[] {
  const [n, d] = x.shape as readonly [number, number];
  return Array.from({ length: Math.ceil(n / blockSize) }, (_, i) =>
    slice(x, [i * blockSize, 0], [Math.min(blockSize, n - i * blockSize), d]),
  );
}

/** The sum over all pairs (a in x, b in y). */
export function sumOver(
  program: (x: Tensor, y: Tensor) => Tensor,
  x: readonly Tensor[],
  y: readonly Tensor[],
): number {
  let total = 0;
  for (const a of x) for (const b of y) total += program(a, b).item();
  return total;
}

/** The sum over all ordered pairs of points of x, each with itself included. */
export function sumWithin(program: (x: Tensor, y: Tensor) => Tensor, x: readonly Tensor[]): number {
  let total = 0;
  x.forEach((a, i) => {
    total += program(a, a).item();
    for (const b of x.slice(i + 1)) total += 2 * program(a, b).item();
  });
  return total;
}
