import { ShapeError, ValueError } from "../errors.js";
import { cast, take } from "../ops/index.js";
import { checkCount, checkOptions, describe } from "../options.js";
import { randint } from "../random/index.js";
import { checkDType } from "../tensor/dtype.js";
import { show } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import type { Distribution } from "./distribution.js";

/**
 * A data set as a distribution: rows of x [rows, ...dim], drawn independently with replacement. A compiled step takes
 * x as an input; it is not copied. Draws have the dtype of x unless `sample` asks for another.
 */
export function fromTensor(x: Tensor): Distribution {
  if (!(x instanceof Tensor)) throw new ValueError(`fromTensor: expected a Tensor, got ${describe(x)}`);
  if (x.rank < 2 || x.size === 0)
    throw new ShapeError(`fromTensor: needs [rows, ...dim] with at least one row, got ${show(x.shape)}`);
  const [rows, ...shape] = x.shape;
  return {
    name: "fromTensor",
    dim: shape.length === 1 ? shape[0]! : shape,
    sample(key, n, options = {}) {
      checkOptions("fromTensor.sample", options, ["dtype"]);
      const drawn = take(x, randint(key, [checkCount("fromTensor.sample", "n", n)], 0, rows!), 0);
      return options.dtype === undefined || options.dtype === x.dtype
        ? drawn
        : cast(drawn, checkDType("fromTensor.sample", options.dtype));
    },
  };
}
