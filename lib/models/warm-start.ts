import { DTypeError, ShapeError, ValueError } from "../errors.js";
import type { LinearParams } from "../nn/index.js";
import { concat, slice, zeros } from "../ops/index.js";
import { describe } from "../options.js";
import { key } from "../random/index.js";
import { sameShape, show, sizeOf } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import { sampleShape } from "./field.js";
import {
  type AverageVelocityMlpOptions,
  averageVelocityMlp,
  type MlpFieldParams,
  type MlpFieldParts,
  velocityMlp,
} from "./mlp-fields.js";
import { timeFeatures } from "./time-features.js";

const where = "averageParamsFromVelocity";

/**
 * Parameters of `averageVelocityMlp(options)` from those of a velocityMlp of the same options (without timePair and
 * velocityHead), by which u(z, r, t) = v(z, t) for all r at the start: a mean-flow training that begins from a model of
 * flow matching, whose field is right where r = t. The inputs that the average velocity has besides, the features of r
 * or of t - r, get weights of zero; a velocity head begins as the output layer, so that it gives v too.
 *
 * @param velocity parameters of the velocity field, such as a trainer's `params` or `emaParams`
 * @throws ValueError for options, and for parameters of another structure; ShapeError and DTypeError for parameters of
 *   another shape or dtype, naming the first
 */
export function averageParamsFromVelocity<Classes extends number = 0, Head extends boolean = false>(
  options: AverageVelocityMlpOptions<Classes, Head>,
  velocity: MlpFieldParams<Classes>,
): MlpFieldParams<Classes, Head> {
  averageVelocityMlp(options);
  const { timePair: _pair, velocityHead, ...shared } = options;
  const own = velocityMlp<number>(shared).init(key(0));
  checkLike("params", velocity, own);
  const { mlp, labels } = (Array.isArray(own) ? { mlp: velocity } : velocity) as MlpFieldParts;
  const [first, ...rest] = mlp as [LinearParams, ...LinearParams[]];
  // The inputs are z, the features of t, those of the second time, and the condition.
  const size = timeFeatures(where, options.timeEmbedding ?? "raw").size;
  const before = sizeOf(sampleShape(options.dim)) + size;
  const [inputs, hidden] = first.weight.shape as [number, number];
  const rows = [
    slice(first.weight, [0, 0], [before, hidden]),
    zeros([size, hidden], { dtype: first.weight.dtype }),
    slice(first.weight, [before, 0], [inputs - before, hidden]),
  ];
  const layers = [{ ...first, weight: concat(rows, 0) }, ...rest];
  const params =
    labels === undefined && velocityHead !== true
      ? layers
      : {
          mlp: layers,
          ...(labels && { labels }),
          ...(velocityHead === true && { velocityHead: layers.at(-1)! }),
        };
  return params as MlpFieldParams<Classes, Head>;
}

/** Throws unless a tree has the arrays, names, shapes and dtypes of the tree that these options would draw. */
function checkLike(path: string, given: unknown, own: unknown): void {
  if (own instanceof Tensor) {
    const needed = `${own.dtype}${show(own.shape)}`;
    if (!(given instanceof Tensor)) throw new ValueError(`${where}: ${path} must be a Tensor, ${needed}`);
    const message = `${where}: ${path} is ${given.dtype}${show(given.shape)}; these options need ${needed}`;
    if (!sameShape(given.shape, own.shape)) throw new ShapeError(message);
    if (given.dtype !== own.dtype) throw new DTypeError(message);
    return;
  }
  const names = Object.keys(own as object);
  const fits = typeof given === "object" && given !== null && Array.isArray(given) === Array.isArray(own);
  if (!fits || Object.keys(given).sort().join() !== [...names].sort().join())
    throw new ValueError(`${where}: ${path} must be ${describe(own)}, got ${describe(given)}`);
  for (const name of names)
    checkLike(
      `${path}/${name}`,
      (given as Record<string, unknown>)[name],
      (own as Record<string, unknown>)[name],
    );
}
