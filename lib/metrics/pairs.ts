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

/**
 * A program that sums a kernel over all pairs of two blocks, in float64. Where the dimension is small, each squared
 * distance is a fused sum of squares; else it comes from |x|^2 - 2 x y + |y|^2.
 */
export function pairSum(kernel: PairKernel): (x: Tensor, y: Tensor) => Tensor {
  return jit((x: Tensor, y: Tensor) => sum(kernel(squaredDistances(x, y))));
}

function squaredDistances(x: Tensor, y: Tensor): Tensor {
  const [m, d] = x.shape as readonly [number, number];
  const n = y.shape[0]!;
  if (d > 16) {
    const norms = add(sum(square(x), 1, { keepDims: true }), reshape(sum(square(y), 1), [1, n]));
    return clip(sub(norms, mul(matmul(x, transpose(y)), 2)), 0);
  }
  const columns = Array.from({ length: d }, (_, k) =>
    square(sub(slice(x, [0, k], [m, 1]), reshape(slice(y, [0, k], [n, 1]), [1, n]))),
  );
  return columns.reduce((a, b) => add(a, b));
}

/** Both sets of points in float64, centred at the mean of y, as blocks of rows. */
export function pairBlocks(x: Tensor, y: Tensor): [Tensor[], Tensor[]] {
  const wide = cast(y, "float64");
  const centre = mean(wide, 0, { keepDims: true });
  return [blocksOf(sub(cast(x, "float64"), centre)), blocksOf(sub(wide, centre))];
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
