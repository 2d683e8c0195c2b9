import { add, expandDims, matmul, mul, reshape, transpose, zeros } from "../ops/index.js";
import { checkCount, checkOptions } from "../options.js";
import { normal, split } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import { sizeOf } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { type AverageVelocityField, type Dim, sampleShape, type VelocityField } from "./field.js";
import { checkDim, checkNoCondition, flatState, timeColumn } from "./inputs.js";
import { timePolynomials } from "./time-polynomials.js";

export interface AffineFieldOptions {
  /** Size of a sample: a number of features, or a shape, which the field sees flattened. */
  readonly dim: Dim;
  /** Highest total degree of the polynomials in the times. Default 3. */
  readonly degree?: number;
  /** Dtype of the parameters. Default float32. */
  readonly dtype?: DType;
}

/**
 * One entry for each polynomial of the times: the Legendre polynomials P_j(2t - 1), j = 0 .. degree, or the products
 * P_i(2r - 1) P_j(2t - 1) with i + j <= degree, by the total degree and then by j.
 */
export interface AffineFieldParams {
  /** [polynomials, features of the input, features of the output], zeros at first. */
  matrix: Tensor;
  /** [polynomials, features], zeros at first. */
  offset: Tensor;
}

export interface LowRankFieldOptions extends AffineFieldOptions {
  /** Rank of the matrices. */
  readonly rank: number;
}

/** One entry for each polynomial, as in AffineFieldParams. */
export interface LowRankFieldParams {
  /** U, [features, rank], N(0, 1/features) at first. */
  left: Tensor;
  /** V, [features, rank], N(0, 1/features) at first. */
  right: Tensor;
  /** Coefficients of the diagonal, [polynomials, rank], zeros at first. */
  diagonal: Tensor;
  /** [polynomials, features], zeros at first. */
  offset: Tensor;
}

/**
 * The velocity field v(z, t) = A(t) z + b(t), whose A and b are polynomials in t with learned coefficients: a baseline
 * that one can see through. The velocity of a Gaussian's flow is affine in z, so that for Gaussian data the polynomials
 * are all that is not exact.
 *
 * `apply(params, z, t)`: z [batch, ...dim], t [batch, 1]; it takes no condition. Errors: ValueError for options and for
 * a condition; ShapeError for inputs that do not fit.
 */
export function velocityAffine(
  options: AffineFieldOptions,
): VelocityField<AffineFieldParams> & { readonly dim: Dim } {
  return velocityOf("velocityAffine", options, affine);
}

/**
 * The average-velocity field u(z, r, t) = A(r, t) z + b(r, t), whose A and b are polynomials in r and t: see
 * `velocityAffine`. A Gaussian's flow map is affine in z, and with it the average velocity.
 */
export function averageVelocityAffine(
  options: AffineFieldOptions,
): AverageVelocityField<AffineFieldParams> & { readonly dim: Dim } {
  return averageVelocityOf("averageVelocityAffine", options, affine);
}

/**
 * The velocity field v(z, t) = U diag(g(t)) V^T z + b(t) with learned U and V of a low rank and polynomials g and b: see
 * `velocityAffine`.
 */
export function velocityLowRank(
  options: LowRankFieldOptions,
): VelocityField<LowRankFieldParams> & { readonly dim: Dim } {
  return velocityOf("velocityLowRank", options, lowRank);
}

/** The average-velocity field u(z, r, t) = U diag(g(r, t)) V^T z + b(r, t): see `velocityLowRank`. */
export function averageVelocityLowRank(
  options: LowRankFieldOptions,
): AverageVelocityField<LowRankFieldParams> & { readonly dim: Dim } {
  return averageVelocityOf("averageVelocityLowRank", options, lowRank);
}

/** A field of flat states [batch, features] and the polynomials of the times, [batch, polynomials]. */
interface Linear<P> {
  init(key: Tensor): P;
  apply(params: P, z: Tensor, polynomials: Tensor): Tensor;
}

type MakeLinear<O extends AffineFieldOptions, P> = {
  readonly optionNames: readonly string[];
  make(where: string, options: O, features: number, polynomials: number): Linear<P>;
};

const affine: MakeLinear<AffineFieldOptions, AffineFieldParams> = {
  optionNames: ["dim", "degree", "dtype"],
  make(_where, { dtype = "float32" }, features, polynomials) {
    return {
      init: () => ({
        matrix: zeros([polynomials, features, features], { dtype }),
        offset: zeros([polynomials, features], { dtype }),
      }),
      apply({ matrix, offset }, z, times) {
        // All products of a polynomial and a feature, [batch, polynomials * features]: one matmul for all matrices.
        const products = mul(expandDims(times, 2), expandDims(z, 1));
        const size = polynomials * features;
        const rows = reshape(products, [z.shape[0]!, size]);
        return add(matmul(rows, reshape(matrix, [size, features])), matmul(times, offset));
      },
    };
  },
};

const lowRank: MakeLinear<LowRankFieldOptions, LowRankFieldParams> = {
  optionNames: ["dim", "degree", "rank", "dtype"],
  make(where, { rank, dtype = "float32" }, features, polynomials) {
    checkCount(where, "rank", rank);
    const factor = (key: Tensor) => mul(normal(key, [features, rank], { dtype }), 1 / Math.sqrt(features));
    return {
      init(key) {
        const [leftKey, rightKey] = split(key, 2);
        return {
          left: factor(leftKey!),
          right: factor(rightKey!),
          diagonal: zeros([polynomials, rank], { dtype }),
          offset: zeros([polynomials, features], { dtype }),
        };
      },
      apply({ left, right, diagonal, offset }, z, times) {
        const inner = mul(matmul(z, right), matmul(times, diagonal));
        return add(matmul(inner, transpose(left)), matmul(times, offset));
      },
    };
  },
};

function velocityOf<O extends AffineFieldOptions, P>(
  where: string,
  options: O,
  kind: MakeLinear<O, P>,
): VelocityField<P> & { readonly dim: Dim } {
  const { dim, basis, linear } = parts(where, options, kind, 1);
  return {
    kind: "velocity",
    dim,
    init: linear.init,
    apply(params, z, t, condition) {
      checkNoCondition(where, condition);
      const times = basis.apply([timeColumn(where, "t", t, z)]);
      return reshape(linear.apply(params, flatState(where, z, dim), times), z.shape);
    },
  };
}

function averageVelocityOf<O extends AffineFieldOptions, P>(
  where: string,
  options: O,
  kind: MakeLinear<O, P>,
): AverageVelocityField<P> & { readonly dim: Dim } {
  const { dim, basis, linear } = parts(where, options, kind, 2);
  return {
    kind: "average-velocity",
    dim,
    init: linear.init,
    apply(params, z, r, t, condition) {
      checkNoCondition(where, condition);
      const times = basis.apply([timeColumn(where, "r", r, z), timeColumn(where, "t", t, z)]);
      return reshape(linear.apply(params, flatState(where, z, dim), times), z.shape);
    },
  };
}

function parts<O extends AffineFieldOptions, P>(
  where: string,
  options: O,
  kind: MakeLinear<O, P>,
  times: 1 | 2,
) {
  checkOptions(where, options, kind.optionNames);
  const dim = checkDim(where, options.dim);
  const basis = timePolynomials(times, checkCount(where, "degree", options.degree ?? 3, 0));
  const linear = kind.make(where, options, sizeOf(sampleShape(dim)), basis.size);
  return { dim, basis, linear };
}
