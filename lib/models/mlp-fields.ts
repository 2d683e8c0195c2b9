import { ShapeError, ValueError } from "../errors.js";
import { type Activation, type MlpParams, type Module, mlp } from "../nn/index.js";
import { concat, reshape, sub } from "../ops/index.js";
import { checkCount, checkOptions, describe } from "../options.js";
import type { DType } from "../tensor/dtype.js";
import { show, sizeOf } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import {
  type AverageVelocityField,
  type Condition,
  type Dim,
  sampleShape,
  type VelocityField,
} from "./field.js";
import { type TimeEmbedding, type TimeFeatures, timeFeatures } from "./time-features.js";

export interface MlpFieldOptions {
  /** Size of a sample: a number of features, or a shape, which the network sees flattened. */
  readonly dim: Dim;
  /** Width of the hidden layers. Default 128. */
  readonly hidden?: number;
  /** Number of hidden layers. Default 4. */
  readonly layers?: number;
  /** Default "gelu" (exact). */
  readonly activation?: Activation;
  /** How the network sees the times. Default "raw". */
  readonly timeEmbedding?: TimeEmbedding;
  /** Features of the condition that `apply` takes as [batch, conditionDim]. Default 0: none. */
  readonly conditionDim?: number;
  /** Dtype of the parameters. Default float32. */
  readonly dtype?: DType;
}

const optionNames = ["dim", "hidden", "layers", "activation", "timeEmbedding", "conditionDim", "dtype"];

/**
 * A velocity field v(z, t) by a multilayer perceptron on the concatenation of z, the features of t, and the
 * condition if any: for flow matching. With `timeEmbedding: "raw"` its input is (z, t).
 *
 * `apply(params, z, t, condition?)`: z [batch, ...dim], t [batch, 1], condition [batch, conditionDim]; the result
 * has the shape of z. Errors: ValueError for options, ShapeError for inputs that do not fit.
 */
export function velocityMlp(options: MlpFieldOptions): VelocityField<MlpParams> & { readonly dim: Dim } {
  const { dim, times, network, join } = parts("velocityMlp", options, 1);
  return {
    kind: "velocity",
    dim,
    init: (key) => network.init(key),
    apply: (params, z, t, condition) =>
      reshape(
        network.apply(params, join(z, [times.apply(column("velocityMlp", "t", t, z))], condition)),
        z.shape,
      ),
  };
}

/**
 * An average-velocity field u(z, r, t) by a multilayer perceptron: for mean flow and improved mean flow. With
 * `timeEmbedding: "raw"` its input is the concatenation (z, t, r); with an embedding it is z, the features of t, and
 * the features of the interval's length t - r. It is a function of (z, r, t) either way, and a derivative by t also
 * goes through t - r.
 *
 * `apply(params, z, r, t, condition?)`: z [batch, ...dim], r and t [batch, 1], condition [batch, conditionDim]; the
 * result has the shape of z. Errors: ValueError for options, ShapeError for inputs that do not fit.
 */
export function averageVelocityMlp(
  options: MlpFieldOptions,
): AverageVelocityField<MlpParams> & { readonly dim: Dim } {
  const where = "averageVelocityMlp";
  const { dim, times, network, join } = parts(where, options, 2);
  const raw = (options.timeEmbedding ?? "raw") === "raw";
  return {
    kind: "average-velocity",
    dim,
    init: (key) => network.init(key),
    apply(params, z, r, t, condition) {
      column(where, "r", r, z);
      column(where, "t", t, z);
      const features = raw ? [t, r] : [times.apply(t), times.apply(sub(t, r))];
      return reshape(network.apply(params, join(z, features, condition)), z.shape);
    },
  };
}

interface Parts {
  readonly dim: Dim;
  readonly times: TimeFeatures;
  readonly network: Module<MlpParams>;
  /** The input of the network: [batch, features]. */
  join(z: Tensor, times: readonly Tensor[], condition: Condition | undefined): Tensor;
}

function parts(where: string, options: MlpFieldOptions, timeCount: number): Parts {
  checkOptions(where, options, optionNames);
  const dim = checkDim(where, options.dim);
  const shape = sampleShape(dim);
  const features = sizeOf(shape);
  const conditionDim = checkCount(where, "conditionDim", options.conditionDim ?? 0, 0);
  const times = timeFeatures(where, options.timeEmbedding ?? "raw");
  const network = mlp({
    in: features + timeCount * times.size + conditionDim,
    hidden: checkCount(where, "hidden", options.hidden ?? 128),
    layers: checkCount(where, "layers", options.layers ?? 4),
    out: features,
    activation: options.activation ?? "gelu",
    dtype: options.dtype ?? "float32",
  });
  const join: Parts["join"] = (z, timeColumns, condition) => {
    if (z.rank !== shape.length + 1 || shape.some((n, i) => z.shape[i + 1] !== n))
      throw new ShapeError(`${where}: z must be [batch, ${shape.join(", ")}], got ${show(z.shape)}`);
    const batch = z.shape[0]!;
    if (conditionDim === 0 && condition !== undefined)
      throw new ValueError(`${where}: got a condition, but conditionDim is 0`);
    if (conditionDim > 0 && condition === undefined)
      throw new ValueError(`${where}: needs a condition of shape [batch, ${conditionDim}], got none`);
    if (condition !== undefined && !(condition instanceof Tensor))
      throw new ValueError(`${where}: condition must be a Tensor, got ${describe(condition)}`);
    if (
      condition !== undefined &&
      (condition.rank !== 2 || condition.shape[0] !== batch || condition.shape[1] !== conditionDim)
    )
      throw new ShapeError(
        `${where}: condition must be ${show([batch, conditionDim])}, got ${show(condition.shape)}`,
      );
    const flat = z.rank === 2 ? z : reshape(z, [batch, features]);
    return concat(condition === undefined ? [flat, ...timeColumns] : [flat, ...timeColumns, condition], 1);
  };
  return { dim, times, network, join };
}

function checkDim(where: string, dim: unknown): Dim {
  if (!Array.isArray(dim)) return checkCount(where, "dim", dim);
  if (dim.length === 0)
    throw new ValueError(`${where}: dim must be a number or an array of at least one, got []`);
  return dim.map((n, i) => checkCount(where, `dim[${i}]`, n));
}

/** The time, if it is a column beside z. */
function column(where: string, name: string, time: Tensor, z: Tensor): Tensor {
  if (time.rank !== 2 || time.shape[0] !== z.shape[0] || time.shape[1] !== 1)
    throw new ShapeError(`${where}: ${name} must be [${z.shape[0] ?? "batch"}, 1], got ${show(time.shape)}`);
  return time;
}
