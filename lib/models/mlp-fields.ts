import { ValueError } from "../errors.js";
import {
  type Activation,
  activation,
  activationLipschitz,
  type EmbeddingParams,
  embedding,
  type LinearParams,
  linear,
  type MlpParams,
  type Module,
  mlp,
} from "../nn/index.js";
import { concat, reshape, sub } from "../ops/index.js";
import { checkChoice, checkCount, checkFlag, checkNumber, checkOptions } from "../options.js";
import { split } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import { sizeOf } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import {
  type ConditionNeeds,
  checkConditionOptions,
  conditionParts,
  guidanceColumns,
  neededParts,
} from "./condition.js";
import {
  type AverageVelocityField,
  type Condition,
  type Dim,
  sampleShape,
  type VelocityField,
  type WithVelocityHead,
} from "./field.js";
import { checkDim, flatState, timeColumn } from "./inputs.js";
import { type TimeEmbedding, type TimeFeatures, timeFeatures } from "./time-features.js";

/** The type parameter is the number of classes: with labels the parameters are of another type. */
export interface MlpFieldOptions<Classes extends number = 0> {
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
  /**
   * Number of classes. The condition is then labels, int32 [batch], where the label `classes` stands for none; a
   * learned row of labelDim features is the network's input. Default 0: no labels.
   */
  readonly classes?: Classes;
  /** With classes: features of a label. Default 16. */
  readonly labelDim?: number;
  /**
   * Whether the condition has a guidance scale, { guidance: [batch, 1] }, positive, which the network sees as the
   * time embedding of 1 / guidance. Default false.
   */
  readonly guidance?: boolean;
  /**
   * With guidance: whether the condition also has the interval of t in which guidance is on, { guidanceStart,
   * guidanceEnd }, [batch, 1] each. Default false.
   */
  readonly guidanceInterval?: boolean;
  /**
   * A bound on the Lipschitz constant of the network as a map from its inputs - z, and the features of times and
   * condition - to its output, in the Euclidean norms: each of the layers + 1 weights has singular values of at most
   * (lipschitz / slope^layers)^(1 / (layers + 1)), slope being the Lipschitz constant of the activation, a named one.
   * See spectralNorm of nn.linear. Default: none.
   */
  readonly lipschitz?: number;
  /** Dtype of the parameters. Default float32. */
  readonly dtype?: DType;
}

/** The second type parameter is whether there is a velocity head: its parameters are a second output layer. */
export interface AverageVelocityMlpOptions<Classes extends number = 0, Head extends boolean = false>
  extends MlpFieldOptions<Classes> {
  /**
   * What the network sees of the interval [r, t]: its end and start, t and r ("end-start"), or its end and length, t
   * and t - r ("end-length"). Default: "end-start" with timeEmbedding "raw", else "end-length".
   */
  readonly timePair?: "end-start" | "end-length";
  /**
   * Whether a second output layer on the last hidden layer gives the instantaneous velocity, by `applyWithVelocity`.
   * Default false.
   */
  readonly velocityHead?: Head;
}

/** Parameters of a perceptron with more than its layers. */
export interface MlpFieldParts {
  mlp: MlpParams;
  /** Rows of the labels, [classes + 1, labelDim]; there with classes. */
  labels?: EmbeddingParams;
  /** The second output layer, [hidden, features]; there with velocityHead. */
  velocityHead?: LinearParams;
}

/** The perceptron's layers; with labels or a velocity head, all that there is by name. */
export type MlpFieldParams<Classes extends number = 0, Head extends boolean = false> = [
  Classes,
  Head,
] extends [0, false]
  ? MlpParams
  : [number, Head] extends [Classes, false]
    ? MlpParams | MlpFieldParts
    : MlpFieldParts;

const optionNames = [
  "dim",
  "hidden",
  "layers",
  "activation",
  "timeEmbedding",
  "conditionDim",
  "classes",
  "labelDim",
  "guidance",
  "guidanceInterval",
  "lipschitz",
  "dtype",
];

/**
 * A velocity field v(z, t) by a multilayer perceptron on the concatenation of z, the features of t, and the
 * condition if any: for flow matching. With `timeEmbedding: "raw"` its input is (z, t).
 *
 * `apply(params, z, t, condition?)`: z [batch, ...dim], t [batch, 1]; the result has the shape of z. The condition is
 * features [batch, conditionDim], or labels int32 [batch], or, where there is more than one, { label, features,
 * guidance, guidanceStart, guidanceEnd } with those that the options have; its parts are the network's last inputs, in
 * this order.
 *
 * Errors: ValueError for options, and for a condition that is missing or too much; ShapeError for inputs that do not
 * fit.
 */
export function velocityMlp<Classes extends number = 0>(
  options: MlpFieldOptions<Classes>,
): VelocityField<MlpFieldParams<Classes>> & { readonly dim: Dim } {
  const where = "velocityMlp";
  checkOptions(where, options, optionNames);
  const { dim, times, init, apply } = parts(where, options, 1);
  return {
    kind: "velocity",
    dim,
    init: init as (key: Tensor) => MlpFieldParams<Classes>,
    apply: (params, z, t, condition) =>
      apply(params, z, [times.apply(timeColumn(where, "t", t, z))], condition),
  };
}

/**
 * An average-velocity field u(z, r, t) by a multilayer perceptron: for mean flow and improved mean flow. With
 * `timeEmbedding: "raw"` its input is the concatenation (z, t, r); with an embedding it is z, the features of t, and
 * the features of the interval's length t - r; `timePair` chooses otherwise. It is a function of (z, r, t) either
 * way, and a derivative by t also goes through t - r.
 *
 * `apply(params, z, r, t, condition?)`: z [batch, ...dim], r and t [batch, 1]; result, condition and errors are those
 * of `velocityMlp`. With `velocityHead: true` there is `applyWithVelocity`, too.
 */
export function averageVelocityMlp<Classes extends number = 0, Head extends boolean = false>(
  options: AverageVelocityMlpOptions<Classes, Head>,
): WithVelocityHead<AverageVelocityField<MlpFieldParams<Classes, Head>>, Head> & { readonly dim: Dim } {
  const where = "averageVelocityMlp";
  checkOptions(where, options, [...optionNames, "timePair", "velocityHead"]);
  const headed = checkFlag(where, "velocityHead", options.velocityHead ?? false);
  const { dim, times, init, apply, applyTwice } = parts(where, options, 2, headed);
  const pair = timePair(where, options);
  const timesSeen = (z: Tensor, r: Tensor, t: Tensor) => {
    timeColumn(where, "r", r, z);
    timeColumn(where, "t", t, z);
    return [times.apply(t), times.apply(pair === "end-start" ? r : sub(t, r))];
  };
  const field: AverageVelocityField<MlpParams | MlpFieldParts> & { readonly dim: Dim } = {
    kind: "average-velocity",
    dim,
    init,
    apply: (params, z, r, t, condition) => apply(params, z, timesSeen(z, r, t), condition),
    ...(headed && {
      applyWithVelocity(params, z, r, t, condition) {
        const [u, v] = applyTwice(params as MlpFieldParts, z, timesSeen(z, r, t), condition);
        return { u, v };
      },
    }),
  };
  // The type of the parameters follows the options as init does.
  return field as WithVelocityHead<AverageVelocityField<MlpFieldParams<Classes, Head>>, Head> & {
    readonly dim: Dim;
  };
}

function timePair(
  where: string,
  options: AverageVelocityMlpOptions<number, boolean>,
): "end-start" | "end-length" {
  const usual = (options.timeEmbedding ?? "raw") === "raw" ? "end-start" : "end-length";
  return checkChoice(where, "timePair", options.timePair ?? usual, ["end-start", "end-length"]);
}

interface Parts {
  readonly dim: Dim;
  readonly times: TimeFeatures;
  init(key: Tensor): MlpParams | MlpFieldParts;
  /** The network's output in the shape of z, told the features of the times. */
  apply(
    params: MlpParams | MlpFieldParts,
    z: Tensor,
    times: readonly Tensor[],
    condition: Condition | undefined,
  ): Tensor;
  /** Likewise, and the second head's output. */
  applyTwice(
    params: MlpFieldParts,
    z: Tensor,
    times: readonly Tensor[],
    condition: Condition | undefined,
  ): [Tensor, Tensor];
}

function parts(where: string, options: MlpFieldOptions<number>, timeCount: number, headed = false): Parts {
  const dim = checkDim(where, options.dim);
  const features = sizeOf(sampleShape(dim));
  const conditionDim = checkCount(where, "conditionDim", options.conditionDim ?? 0, 0);
  const needs = { ...checkConditionOptions(where, options), features: conditionDim };
  const times = timeFeatures(where, options.timeEmbedding ?? "raw");
  const dtype = options.dtype ?? "float32";
  const labels = labelTable(where, options, needs.classes, dtype);
  const numbers = (needs.guided ? 1 : 0) + (needs.interval ? 2 : 0);
  const into = features + (timeCount + numbers) * times.size + conditionDim + (labels?.dim ?? 0);
  const hidden = checkCount(where, "hidden", options.hidden ?? 128);
  const layers = checkCount(where, "layers", options.layers ?? 4);
  const act = options.activation ?? "gelu";
  const common = { ...layerBound(where, options.lipschitz, act, layers), dtype };
  const network = mlp({ in: into, hidden, layers, out: features, activation: act, ...common });
  // The network up to its last hidden layer, and what comes after: for two heads on one trunk.
  const trunk = mlp({ in: into, hidden, layers: layers - 1, out: hidden, activation: act, ...common });
  const head = linear({ in: hidden, out: features, ...common });

  /** What the network sees: [batch, into]. */
  const input = (
    table: EmbeddingParams | undefined,
    z: Tensor,
    timeColumns: readonly Tensor[],
    condition: Condition | undefined,
  ): Tensor => {
    const flat = flatState(where, z, dim);
    const told = mlpCondition(where, condition, needs, z.shape[0]!);
    const seen = [
      flat,
      ...timeColumns,
      ...(told.label === undefined ? [] : [labels!.module.apply(table!, told.label)]),
      ...(told.features === undefined ? [] : [told.features]),
      ...guidanceColumns(told).map((x) => times.apply(x)),
    ];
    return concat(seen, 1);
  };
  return {
    dim,
    times,
    init(key) {
      if (labels === undefined && !headed) return network.init(key);
      const [mlpKey, labelKey, headKey] = split(key, 3);
      return {
        mlp: network.init(mlpKey!),
        ...(labels && { labels: labels.module.init(labelKey!) }),
        ...(headed && { velocityHead: head.init(headKey!) }),
      };
    },
    apply(params, z, timeColumns, condition) {
      const { mlp: layerParams, labels: table } = byName(params);
      return reshape(network.apply(layerParams, input(table, z, timeColumns, condition)), z.shape);
    },
    applyTwice(params, z, timeColumns, condition) {
      const x = input(params.labels, z, timeColumns, condition);
      const h = activation(act)(trunk.apply(params.mlp.slice(0, -1), x));
      const [u, v] = [params.mlp.at(-1)!, params.velocityHead!].map((p) =>
        reshape(head.apply(p, h), z.shape),
      );
      return [u!, v!];
    },
  };
}

/** The spectral norm of each layer by which the whole network has at most this Lipschitz constant. */
function layerBound(where: string, lipschitz: number | undefined, act: Activation, layers: number) {
  if (lipschitz === undefined) return {};
  const whole = checkNumber(where, "lipschitz", lipschitz, { above: 0 });
  return { spectralNorm: (whole / activationLipschitz(act) ** layers) ** (1 / (layers + 1)) };
}

function byName(params: MlpParams | MlpFieldParts): MlpFieldParts {
  return Array.isArray(params) ? { mlp: params } : params;
}

/** The table of labels, with a row for none, if there are classes. */
function labelTable(
  where: string,
  options: MlpFieldOptions<number>,
  classes: number,
  dtype: DType,
): { dim: number; module: Module<EmbeddingParams> } | undefined {
  if (classes === 0) {
    if (options.labelDim !== undefined) throw new ValueError(`${where}: labelDim needs classes`);
    return undefined;
  }
  const dim = checkCount(where, "labelDim", options.labelDim ?? 16);
  return { dim, module: embedding({ count: classes + 1, dim, dtype }) };
}

/** The parts of the condition; where features are all that it may have, errors speak of the condition itself. */
function mlpCondition(where: string, condition: Condition | undefined, needs: ConditionNeeds, n: number) {
  const needed = neededParts(needs);
  if (needed.length === 0 && condition !== undefined)
    throw new ValueError(
      `${where}: got a condition, but conditionDim is 0, and there are neither classes nor guidance`,
    );
  if (needed.join() === "features" && condition === undefined)
    throw new ValueError(`${where}: needs a condition of shape [batch, ${needs.features}], got none`);
  return conditionParts(where, condition, needs, n);
}
