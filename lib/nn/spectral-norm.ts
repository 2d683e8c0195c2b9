import {
  add,
  div,
  exp,
  eye,
  log,
  matmul,
  maximum,
  mul,
  square,
  stopGradient,
  sub,
  sum,
  transpose,
} from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";

/** Keeps a weight of zero from a division of zero by zero. */
const tiny = 1e-30;

/**
 * W min(1, bound / s), where s is not below the largest singular value sigma of W [in, out], so that no singular value
 * of the result is above the bound. It is a function of W alone, without state.
 *
 * s comes from the power method, whose powers of G = W W^T (or W^T W, the smaller one) are made by squaring. With
 * p = 2^iterations, it is the Schatten norm of W of order 2p,
 *
 *     s = (tr G^p)^(1 / 2p) = (sum_i sigma_i^(2p))^(1 / 2p),    sigma <= s <= sigma min(in, out)^(1 / 2p);
 *
 * for 8 iterations and layers 128 wide s is at most 1 % too large. Powers of vectors, the usual way (Miyato et al. 2018,
 * "Spectral normalization for generative adversarial networks"), give an estimate that is too small by 10 % and more
 * after as many iterations where singular values lie close together, as they do in a new layer.
 *
 * The derivative is that of sigma^2 = tr(P G) with P = G^p / tr G^p, the projector on the first singular vector, held
 * fixed: sigma is stationary in its vectors, so the first derivative is right as far as p makes P that projector, and
 * the second is not.
 */
export function boundedWeight(weight: Tensor, bound: number, iterations: number): Tensor {
  const [into, out] = weight.shape as [number, number];
  const transposed = transpose(weight);
  const gram = into <= out ? matmul(weight, transposed) : matmul(transposed, weight);
  const fixed = stopGradient(gram);

  // P = G^p / tr G^p, divided by its trace at each squaring, and the logarithm of (tr G^p)^(1 / p).
  let trace = maximum(traceOf(fixed), tiny);
  let logRoot = log(trace);
  let projector = div(fixed, trace);
  for (let i = 1; i <= iterations; i++) {
    // The trace of the square of a symmetric matrix is the sum of its squares.
    trace = maximum(sum(square(projector)), tiny);
    logRoot = add(logRoot, div(log(trace), 2 ** i));
    projector = div(matmul(projector, projector), trace);
  }
  const value = exp(div(logRoot, 2));
  const squared = sum(mul(projector, gram));
  const start = stopGradient(squared);
  const change = div(sub(squared, start), mul(maximum(start, tiny), 2));
  return mul(weight, div(bound, maximum(mul(value, add(change, 1)), bound)));
}

function traceOf(x: Tensor): Tensor {
  return sum(mul(x, eye(x.shape[0]!, x.shape[0]!, { dtype: x.dtype })));
}
