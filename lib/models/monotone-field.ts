import { type Activation, type MlpParams, mlp } from "../nn/index.js";
import {
  add,
  concat,
  expandDims,
  mean,
  mul,
  reshape,
  split as sections,
  softplus,
  sub,
  tanh,
} from "../ops/index.js";
import { checkChoice, checkCount, checkOptions } from "../options.js";
import { normal, split } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import { sizeOf } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { type AverageVelocityField, type Dim, sampleShape } from "./field.js";
import { checkDim, checkNoCondition, flatState, timeColumn } from "./inputs.js";
import { type TimeEmbedding, timeFeatures } from "./time-features.js";

export interface MonotoneFieldOptions {
  /** Size of a sample: a number of features, or a shape, which the network sees flattened. */
  readonly dim: Dim;
  /** Width of the hidden layers. Default 128. */
  readonly hidden?: number;
  /** Number of hidden layers. Default 4. */
  readonly layers?: number;
  /** Default "gelu" (exact). */
  readonly activation?: Activation;
  /** How the network sees r. Default "raw". */
  readonly timeEmbedding?: TimeEmbedding;
  /** Number of steps in t that a component is made of. Default 8. */
  readonly units?: number;
  /** Whether each component grows or falls with t. Default "increasing". */
  readonly direction?: "increasing" | "decreasing";
  /** Dtype of the parameters. Default float32. */
  readonly dtype?: DType;
}

export interface MonotoneFieldParams {
  /** From (z, r) to base, heights and places of the steps. */
  mlp: MlpParams;
  /** [units]: the steps' slopes are softplus of these, N(0, 1) at first. */
  slopes: Tensor;
}

/**
 * An average-velocity field whose every component is nondecreasing in t at fixed z and r (or nonincreasing), whatever its
 * parameters: an ablation, which shows what it costs to forbid a field to turn back in time. With m units
 *
 *     u_i(z, r, t) = base_i(z, r) +- (1 / m) sum_j softplus(c_ij(z, r)) tanh(softplus(a_j) t + b_j(z, r)),
 *
 * base, c and b by one perceptron on (z, r).
 *
 * `apply(params, z, r, t)`: z [batch, ...dim], r and t [batch, 1]; it takes no condition. Errors: ValueError for
 * options and for a condition; ShapeError for inputs that do not fit.
 */
export function averageVelocityMonotone(
  options: MonotoneFieldOptions,
): AverageVelocityField<MonotoneFieldParams> & { readonly dim: Dim } {
  const where = "averageVelocityMonotone";
  checkOptions(where, options, [
    "dim",
    "hidden",
    "layers",
    "activation",
    "timeEmbedding",
    "units",
    "direction",
    "dtype",
  ]);
  const dim = checkDim(where, options.dim);
  const features = sizeOf(sampleShape(dim));
  const units = checkCount(where, "units", options.units ?? 8);
  const rises =
    checkChoice(where, "direction", options.direction ?? "increasing", ["increasing", "decreasing"]) ===
    "increasing";
  const starts = timeFeatures(where, options.timeEmbedding ?? "raw");
  const dtype = options.dtype ?? "float32";
  const network = mlp({
    in: features + starts.size,
    hidden: checkCount(where, "hidden", options.hidden ?? 128),
    layers: checkCount(where, "layers", options.layers ?? 4),
    out: features + features * units + units,
    activation: options.activation ?? "gelu",
    dtype,
  });
  return {
    kind: "average-velocity",
    dim,
    init(key) {
      const [mlpKey, slopesKey] = split(key, 2);
      return { mlp: network.init(mlpKey!), slopes: normal(slopesKey!, [units], { dtype }) };
    },
    apply(params, z, r, t, condition) {
      checkNoCondition(where, condition);
      const input = [flatState(where, z, dim), starts.apply(timeColumn(where, "r", r, z))];
      const y = network.apply(params.mlp, concat(input, 1));
      const [base, heights, places] = sections(y, [features, features * units, units], 1);
      const steps = tanh(add(mul(timeColumn(where, "t", t, z), softplus(params.slopes)), places!));
      const each = mul(reshape(softplus(heights!), [z.shape[0]!, features, units]), expandDims(steps, 1));
      const way = mean(each, 2);
      return reshape(rises ? add(base!, way) : sub(base!, way), z.shape);
    },
  };
}
