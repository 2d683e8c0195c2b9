import { ShapeError, ValueError } from "../errors.js";
import {
  embedding,
  type LinearParams,
  linear,
  type Module,
  type SelfAttentionParams,
  type SwigluParams,
  selfAttention,
  swiglu,
} from "../nn/index.js";
import {
  add,
  broadcastTo,
  concat,
  expandDims,
  mul,
  ones,
  rmsNorm,
  split as sections,
  silu,
  slice,
  sub,
  tensor,
  zeros,
} from "../ops/index.js";
import { checkChoice, checkCount, checkFlag, checkOptions, describe } from "../options.js";
import { normal, split } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import { sameShape, show } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkConditionOptions, conditionParts, guidanceColumns, neededParts } from "./condition.js";
import type { AverageVelocityField, Condition, VelocityField, WithVelocityHead } from "./field.js";
import { fromPatches, toPatches } from "./patches.js";
import { type TimeEmbedding, timeFeatures } from "./time-features.js";

export interface DitOptions {
  /** Size of an image, [height, width, channels]. */
  readonly dim: readonly [number, number, number];
  /** Side of the square patches that become tokens, a divisor of height and width. Default 2. */
  readonly patch?: number;
  /** Features of a token. Default 128. */
  readonly hidden?: number;
  /** Number of blocks. Default 4. */
  readonly depth?: number;
  /** Number of attention heads, a divisor of hidden into multiples of 4. Default 4. */
  readonly heads?: number;
  /** Width of the feed-forward layers. Default 8/3 hidden, see nn.swiglu. */
  readonly mlpHidden?: number;
  /**
   * Number of classes. The condition is then labels, int32 [batch], where the label `classes` stands for none.
   * Default 0: no labels.
   */
  readonly classes?: number;
  /** Whether the condition has a guidance scale, { label?, guidance: [batch, 1] }, positive. Default false. */
  readonly guidance?: boolean;
  /**
   * With guidance: whether the condition also has the interval of t in which guidance is on, { guidanceStart,
   * guidanceEnd }, [batch, 1] each. Default false.
   */
  readonly guidanceInterval?: boolean;
  /**
   * How times and condition enter: "adaLN-zero" (default) modulates every block; "in-context" puts tokens before the
   * image's, which saves the modulation's parameters.
   */
  readonly conditioning?: "adaLN-zero" | "in-context";
  /** In-context: how many tokens each of label, each number of guidance, and each time gets. Default 2. */
  readonly contextTokens?: number;
  /** How the network sees the times. Default "sinusoidal". */
  readonly timeEmbedding?: TimeEmbedding;
  /** Dtype of the parameters. Default float32. */
  readonly dtype?: DType;
}

export interface AverageVelocityDitOptions<Head extends boolean = false> extends DitOptions {
  /**
   * Whether a second linear map of the last features to patches, zeros at first too, gives the instantaneous velocity,
   * by `applyWithVelocity`. Default false.
   */
  readonly velocityHead?: Head;
}

interface EmbedderParams {
  in: LinearParams;
  out: LinearParams;
}

export interface DitBlockParams {
  attention: SelfAttentionParams;
  mlp: SwigluParams;
  /** adaLN-zero: shift, scale and gate of both halves, [hidden, 6 hidden], zeros at first. */
  modulation?: LinearParams;
  /** In-context: scales of the norms, [hidden]. */
  norms?: readonly [Tensor, Tensor];
}

export interface DitParams {
  patches: LinearParams;
  /** Of t and, for an average velocity, of t - r. */
  times: EmbedderParams[];
  /** [classes + 1, hidden]. */
  labels?: { table: Tensor };
  guidance?: EmbedderParams;
  /** Of the ends of the guidance interval. */
  guidanceStart?: EmbedderParams;
  guidanceEnd?: EmbedderParams;
  /** In-context: added to the tokens of each condition, [conditions, contextTokens, hidden]. */
  context?: Tensor;
  blocks: DitBlockParams[];
  /** adaLN-zero: shift and scale, [hidden, 2 hidden], zeros at first. */
  modulation?: LinearParams;
  /** In-context: [hidden]. */
  norm?: Tensor;
  /** To patches, zeros at first: so is the field. */
  head: LinearParams;
  /** Likewise, of the velocity; there with velocityHead. */
  velocityHead?: LinearParams;
}

/**
 * A velocity field v(z, t) on images by a diffusion transformer (Peebles & Xie 2023, "Scalable diffusion models with
 * transformers"), with RMSNorm, rotary position embedding by row and column, and SwiGLU: for flow matching.
 *
 * `apply(params, z, t, condition?)`: z [batch, height, width, channels], t [batch, 1]; the condition is labels, int32
 * [batch], or { label, guidance, guidanceStart, guidanceEnd }, as the options have them. Errors: ValueError for options and for a condition that is missing or
 * too much; ShapeError for inputs that do not fit.
 */
export function velocityDit(
  options: DitOptions,
): VelocityField<DitParams> & { readonly dim: DitOptions["dim"] } {
  checkOptions("velocityDit", options, optionNames);
  const network = transformer("velocityDit", options, 1, false);
  return {
    kind: "velocity",
    dim: options.dim,
    init: network.init,
    apply: (params, z, t, condition) => network.apply(params, z, [t], condition),
  };
}

/**
 * An average-velocity field u(z, r, t) on images by a diffusion transformer that sees t and t - r: for mean flow and
 * improved mean flow (Geng et al. 2025). The rest as of velocityDit. A derivative by t also goes through t - r. With
 * `velocityHead: true` there is `applyWithVelocity`, too.
 */
export function averageVelocityDit<Head extends boolean = false>(
  options: AverageVelocityDitOptions<Head>,
): WithVelocityHead<AverageVelocityField<DitParams>, Head> & { readonly dim: DitOptions["dim"] } {
  const where = "averageVelocityDit";
  checkOptions(where, options, [...optionNames, "velocityHead"]);
  const headed = checkFlag(where, "velocityHead", options.velocityHead ?? false);
  const network = transformer(where, options, 2, headed);
  const field: AverageVelocityField<DitParams> & { readonly dim: DitOptions["dim"] } = {
    kind: "average-velocity",
    dim: options.dim,
    init: network.init,
    apply: (params, z, r, t, condition) => network.apply(params, z, [t, sub(t, r)], condition),
    ...(headed && {
      applyWithVelocity(params, z, r, t, condition) {
        const [u, v] = network.applyTwice(params, z, [t, sub(t, r)], condition);
        return { u, v };
      },
    }),
  };
  return field as WithVelocityHead<AverageVelocityField<DitParams>, Head> & typeof field;
}

interface Transformer {
  init(key: Tensor): DitParams;
  apply(params: DitParams, z: Tensor, times: readonly Tensor[], condition: Condition | undefined): Tensor;
  /** Likewise, and the second head's output. */
  applyTwice(
    params: DitParams,
    z: Tensor,
    times: readonly Tensor[],
    condition: Condition | undefined,
  ): [Tensor, Tensor];
}

/** linear with weights and bias of zero: what it feeds begins as if it were not there. */
function zeroLinear(options: Parameters<typeof linear>[0]): Module<LinearParams> {
  const module = linear(options);
  const dtype = options.dtype ?? "float32";
  return {
    ...module,
    init: () => ({
      weight: zeros([options.in, options.out], { dtype }),
      bias: zeros([options.out], { dtype }),
    }),
  };
}

/** features of a number -> hidden, by a linear layer, silu, and a linear layer. */
function embedder(features: number, hidden: number, dtype: DType) {
  const into = linear({ in: features, out: hidden, dtype });
  const out = linear({ in: hidden, out: hidden, dtype });
  return {
    init(key: Tensor): EmbedderParams {
      const [a, b] = split(key, 2);
      return { in: into.init(a!), out: out.init(b!) };
    },
    apply: (params: EmbedderParams, x: Tensor): Tensor =>
      out.apply(params.out, silu(into.apply(params.in, x))),
  };
}

function transformer(where: string, options: DitOptions, timeCount: number, headed: boolean): Transformer {
  const { dim, patch, hidden, depth, needs, modulated, tokens, dtype, ...checked } = check(where, options);
  const { classes, guided, interval } = needs;
  const [height, width, channels] = dim;
  const rows = height / patch;
  const columns = width / patch;
  const features = timeFeatures(where, options.timeEmbedding ?? "sinusoidal");
  const intoPatches = linear({ in: patch * patch * channels, out: hidden, dtype });
  const times = embedder(features.size, hidden, dtype);
  const labels = embedding({ count: classes + 1, dim: hidden, dtype });
  const attention = selfAttention({ dim: hidden, heads: checked.heads, dtype });
  const mlp = swiglu({
    dim: hidden,
    ...(options.mlpHidden === undefined ? {} : { hidden: checkCount(where, "mlpHidden", options.mlpHidden) }),
    dtype,
  });
  const blockModulation = zeroLinear({ in: hidden, out: 6 * hidden, dtype });
  const lastModulation = zeroLinear({ in: hidden, out: 2 * hidden, dtype });
  const head = zeroLinear({ in: hidden, out: patch * patch * channels, dtype });
  const conditionCount = timeCount + neededParts(needs).length;
  const prefix = modulated ? 0 : conditionCount * tokens;
  // Row and column of each patch; tokens of the context do not turn.
  const positions = tensor(
    Array.from({ length: prefix + rows * columns }, (_, i) => {
      const at = i - prefix;
      return at < 0 ? [0, 0] : [Math.floor(at / columns), at % columns];
    }),
    { dtype: "int32" },
  );
  const rotary = { positions, coordinates: 2, base: 100 };

  const init = (key: Tensor): DitParams => {
    const keys = split(key, 5 + timeCount + depth);
    const [patchKey, labelKey, guidanceKey, contextKey, intervalKey, ...rest] = keys as [Tensor, ...Tensor[]];
    const norm = () => ones([hidden], { dtype });
    const intervalParams = () => {
      const [startKey, endKey] = split(intervalKey!, 2);
      return { guidanceStart: times.init(startKey!), guidanceEnd: times.init(endKey!) };
    };
    return {
      patches: intoPatches.init(patchKey),
      times: rest.slice(0, timeCount).map((k) => times.init(k)),
      ...(classes > 0 ? { labels: labels.init(labelKey!) } : {}),
      ...(guided ? { guidance: times.init(guidanceKey!) } : {}),
      ...(interval ? intervalParams() : {}),
      ...(modulated
        ? { modulation: lastModulation.init(key) }
        : { norm: norm(), context: normal(contextKey!, [conditionCount, tokens, hidden], { dtype }) }),
      blocks: rest.slice(timeCount).map((k) => {
        const [attentionKey, mlpKey] = split(k, 2);
        const parts = { attention: attention.init(attentionKey!), mlp: mlp.init(mlpKey!) };
        return modulated
          ? { ...parts, modulation: blockModulation.init(k) }
          : { ...parts, norms: [norm(), norm()] as const };
      }),
      head: head.init(key),
      ...(headed && { velocityHead: head.init(key) }),
    };
  };

  /** What the times and the condition say, each as [batch, hidden]. */
  const conditions = (
    params: DitParams,
    timeColumns: readonly Tensor[],
    condition: Condition | undefined,
    n: number,
  ) => {
    const parts = conditionParts(where, condition, needs, n);
    const { label } = parts;
    const embedders = [params.guidance, params.guidanceStart, params.guidanceEnd];
    return [
      ...timeColumns.map((t, i) => times.apply(params.times[i]!, features.apply(column(where, t, n)))),
      ...(label === undefined ? [] : [labels.apply(params.labels!, label)]),
      ...guidanceColumns(parts).map((x, i) => times.apply(embedders[i]!, features.apply(x))),
    ];
  };

  const modulatedPass = (params: DitParams, image: Tensor, given: readonly Tensor[]): Tensor => {
    const c = silu(given.reduce((a, b) => add(a, b)));
    let x = image;
    for (const block of params.blocks) {
      const parts = pieces(blockModulation.apply(block.modulation!, c), 6);
      x = add(
        x,
        mul(parts[2]!, attention.apply(block.attention, modulate(x, parts[0]!, parts[1]!), { rotary })),
      );
      x = add(x, mul(parts[5]!, mlp.apply(block.mlp, modulate(x, parts[3]!, parts[4]!))));
    }
    const [shift, scale] = pieces(lastModulation.apply(params.modulation!, c), 2);
    return modulate(x, shift!, scale!);
  };

  const inContextPass = (params: DitParams, image: Tensor, given: readonly Tensor[]): Tensor => {
    const n = image.shape[0]!;
    const context = given.map((c, i) => {
      const own = slice(params.context!, [i, 0, 0], [1, tokens, hidden]);
      return add(broadcastTo(expandDims(c, 1), [n, tokens, hidden]), own);
    });
    let x = concat([...context, image], 1);
    for (const block of params.blocks) {
      const [first, second] = block.norms!;
      x = add(x, attention.apply(block.attention, rmsNorm(x, { scale: first }), { rotary }));
      x = add(x, mlp.apply(block.mlp, rmsNorm(x, { scale: second })));
    }
    return rmsNorm(slice(x, [0, prefix, 0], [n, rows * columns, hidden]), { scale: params.norm });
  };

  /** The last features of the patches, [batch, patches, hidden]. */
  const trunk: (...args: Parameters<Transformer["apply"]>) => Tensor = (
    params,
    z,
    timeColumns,
    condition,
  ) => {
    if (z.rank !== 4 || !sameShape(z.shape.slice(1), dim))
      throw new ShapeError(`${where}: z must be [batch, ${dim.join(", ")}], got ${show(z.shape)}`);
    const image = intoPatches.apply(params.patches, toPatches(z, patch));
    const given = conditions(params, timeColumns, condition, z.shape[0]!);
    return (modulated ? modulatedPass : inContextPass)(params, image, given);
  };
  const toImage = (params: LinearParams, y: Tensor) => fromPatches(head.apply(params, y), patch, dim);
  return {
    init,
    apply: (params, ...inputs) => toImage(params.head, trunk(params, ...inputs)),
    applyTwice(params, ...inputs) {
      const y = trunk(params, ...inputs);
      return [toImage(params.head, y), toImage(params.velocityHead!, y)];
    },
  };
}

/** rmsNorm(x) (1 + scale) + shift; x [n, tokens, hidden], shift and scale [n, 1, hidden]. */
function modulate(x: Tensor, shift: Tensor, scale: Tensor): Tensor {
  return add(mul(rmsNorm(x), add(scale, 1)), shift);
}

/** [n, count * hidden] as pieces [n, 1, hidden]. */
function pieces(x: Tensor, count: number): Tensor[] {
  return sections(expandDims(x, 1), count, 2);
}

function column(where: string, time: Tensor, n: number): Tensor {
  if (!sameShape(time.shape, [n, 1]))
    throw new ShapeError(`${where}: times must be [${n}, 1], got ${show(time.shape)}`);
  return time;
}

const optionNames = [
  "dim",
  "patch",
  "hidden",
  "depth",
  "heads",
  "mlpHidden",
  "classes",
  "guidance",
  "guidanceInterval",
  "conditioning",
  "contextTokens",
  "timeEmbedding",
  "dtype",
];

function check(where: string, options: DitOptions) {
  if (!Array.isArray(options.dim) || options.dim.length !== 3)
    throw new ValueError(`${where}: dim must be [height, width, channels], got ${describe(options.dim)}`);
  const dim = options.dim.map((n, i) => checkCount(where, `dim[${i}]`, n)) as [number, number, number];
  const patch = checkCount(where, "patch", options.patch ?? 2);
  if (dim[0] % patch !== 0 || dim[1] % patch !== 0)
    throw new ValueError(
      `${where}: patches of ${patch} x ${patch} do not tile an image of ${dim[0]} x ${dim[1]}`,
    );
  const hidden = checkCount(where, "hidden", options.hidden ?? 128);
  const heads = checkCount(where, "heads", options.heads ?? 4);
  if (hidden % (4 * heads) !== 0)
    throw new ValueError(
      `${where}: hidden must be a multiple of 4 heads (rotary embedding turns pairs by row and by column), got ${hidden} and ${heads} heads`,
    );
  if (options.contextTokens !== undefined && options.conditioning !== "in-context")
    throw new ValueError(`${where}: contextTokens is for conditioning "in-context"`);
  const conditioning = checkChoice(where, "conditioning", options.conditioning ?? "adaLN-zero", [
    "adaLN-zero",
    "in-context",
  ]);
  return {
    dim,
    patch,
    hidden,
    heads,
    depth: checkCount(where, "depth", options.depth ?? 4),
    needs: { ...checkConditionOptions(where, options), features: 0 },
    modulated: conditioning === "adaLN-zero",
    tokens: checkCount(where, "contextTokens", options.contextTokens ?? 2),
    dtype: options.dtype ?? "float32",
  };
}
