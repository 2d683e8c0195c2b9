import { ShapeError, ValueError } from "../errors.js";
import { add, cast, concat, cos, exp, flip, mul, reshape, sin, slice } from "../ops/index.js";
import { checkTensor, needNumber, operation } from "../ops/operation.js";
import * as raw from "../ops/raw.js";
import { checkChoice, checkCount, checkNumber, checkOptions } from "../options.js";
import { normalizeAxis, type Shape, show } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkFloat } from "./checks.js";

const where = "rotaryEmbedding";

export interface RotaryEmbeddingOptions {
  /**
   * Where the elements of the sequence are: [n], or [..., n] with what broadcasts to the axes of x before the
   * sequence's; whole or not, in any unit. With `coordinates` above 1 a last axis has them: [..., n, coordinates].
   * Default 0, 1, .. n - 1.
   */
  readonly positions?: Tensor | undefined;
  /** The sequence's axis. Default -2, the one before the features. */
  readonly axis?: number;
  /** Ratio of the largest to (nearly) the smallest frequency. Default 10,000. */
  readonly base?: number;
  /**
   * Which two features turn together. "interleaved": 2i and 2i + 1, as in RoFormer and in the first code of LLaMA;
   * "half" (default): i and i + half of them, as in GPT-NeoX and in Hugging Face's code of LLaMA. Weights that were
   * trained with one do not fit the other.
   */
  readonly layout?: "half" | "interleaved";
  /** How many features are rotated, the first ones; the others stay as they are. Default all. */
  readonly rotated?: number;
  /**
   * Coordinates of a position. With 2, for images, one half of the rotated features turns by the first coordinate
   * (the row) and the other half by the second one (the column), each as if it were alone. Default 1.
   */
  readonly coordinates?: number;
}

/**
 * Rotary position embedding (Su et al. 2021, "RoFormer", eq. 34) of queries or keys x [..., n, d]: pair i of the
 * features, at position p, is turned by the angle p w_i, with w_i = base^(-2i / d):
 *
 *     y_a = x_a cos(p w_i) - x_b sin(p w_i),    y_b = x_a sin(p w_i) + x_b cos(p w_i).
 *
 * The product of a turned query and a turned key then depends on the difference of their positions only. The result
 * has the shape and dtype of x; the angles are computed in float64, since in float32 those of far positions are
 * rough. Derivatives go to x, and to positions that are floats.
 *
 * Errors: DTypeError unless x is a float tensor; ShapeError for positions that do not fit; ValueError where the rotated
 * features do not divide into pairs for each coordinate.
 */
export const rotaryEmbedding = operation((x: Tensor, options: RotaryEmbeddingOptions = {}): Tensor => {
  checkFloat(where, checkTensor(where, x));
  const { at, rotated, coordinates, frequencies, base, layout } = checked(x, options);
  const positions = positionsOf(x, at, coordinates, options.positions);

  // The features as [coordinates, 2, frequencies] or [coordinates, frequencies, 2]: pairs lie along an axis of size 2.
  const half = layout === "half";
  const features = half ? [coordinates, 2, frequencies] : [coordinates, frequencies, 2];
  const pair = x.rank - 1 + (half ? 1 : 2);
  const index = raw.iota(half ? [1, frequencies] : [frequencies, 1], half ? 1 : 0, "float64");
  const frequency = exp(mul(index, -Math.log(base) / frequencies));
  const between = x.shape.slice(at + 1, -1).map(() => 1);
  const angle = mul(
    reshape(positions, [...positions.shape.slice(0, -1), ...between, coordinates, 1, 1]),
    frequency,
  );
  // -sin for the first of a pair, sin for the second: x cos + (x with the two exchanged) (-+ sin).
  const signs = raw.iota(half ? [2, 1] : [1, 2], half ? 0 : 1, "float64");
  const turn = mul(sin(angle), add(mul(signs, 2), -1));

  const start = x.shape.map(() => 0);
  const leading = x.shape.slice(0, -1);
  const pairs = reshape(slice(x, start, [...leading, rotated]), [...leading, ...features]);
  const turned = add(mul(pairs, cast(cos(angle), x.dtype)), mul(flip(pairs, pair), cast(turn, x.dtype)));
  const y = reshape(turned, [...leading, rotated]);
  const d = x.shape[x.rank - 1]!;
  if (rotated === d) return y;
  start[x.rank - 1] = rotated;
  return concat([y, slice(x, start, [...leading, d - rotated])], -1);
});

function checked(x: Tensor, options: RotaryEmbeddingOptions) {
  checkOptions(where, options, ["positions", "axis", "base", "layout", "rotated", "coordinates"]);
  if (x.rank < 2) throw new ShapeError(`${where}: needs an input of shape [..., n, d], got ${show(x.shape)}`);
  const at = normalizeAxis(where, options.axis ?? -2, x.rank);
  if (at === x.rank - 1)
    throw new ShapeError(
      `${where}: axis ${options.axis} is that of the features, the last of ${show(x.shape)}`,
    );
  const d = x.shape[x.rank - 1]!;
  const rotated = checkCount(where, "rotated", options.rotated ?? d, 0);
  const coordinates = checkCount(where, "coordinates", options.coordinates ?? 1);
  if (rotated > d)
    throw new ValueError(`${where}: rotated is ${rotated}, but ${show(x.shape)} has ${d} features`);
  if (rotated % (2 * coordinates) !== 0)
    throw new ValueError(
      `${where}: ${rotated} features do not divide into pairs for ${coordinates} ${coordinates === 1 ? "coordinate" : "coordinates"}`,
    );
  const layout = checkChoice(where, "layout", options.layout ?? "half", ["half", "interleaved"]);
  const base = checkNumber(where, "base", options.base ?? 10_000, { above: 0 });
  return { at, rotated, coordinates, frequencies: rotated / (2 * coordinates), base, layout };
}

/** The positions in float64, with the coordinates as last axis. */
function positionsOf(x: Tensor, at: number, coordinates: number, given: Tensor | undefined): Tensor {
  const n = x.shape[at]!;
  if (given === undefined) {
    if (coordinates > 1) throw new ValueError(`${where}: needs positions of ${coordinates} coordinates each`);
    return raw.iota([n, 1], 0, "float64");
  }
  needNumber(where, checkTensor(`${where}: positions`, given));
  const shape = coordinates === 1 ? [...given.shape, 1] : given.shape;
  const sequence: Shape = shape.slice(0, -1);
  const axes = x.shape.slice(0, at + 1);
  const fits =
    shape[shape.length - 1] === coordinates &&
    sequence[sequence.length - 1] === n &&
    sequence.length <= axes.length &&
    sequence.every((size, i) => size === 1 || size === axes[axes.length - sequence.length + i]);
  if (!fits) {
    const last = coordinates === 1 ? "" : `, ${coordinates}`;
    throw new ShapeError(
      `${where}: positions of shape ${show(given.shape)} do not fit ${show(x.shape)}: they need [${n}${last}], or axes before that broadcast to ${show(axes.slice(0, -1))}`,
    );
  }
  return reshape(cast(given, "float64"), shape);
}
