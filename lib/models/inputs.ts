import { ShapeError, ValueError } from "../errors.js";
import { reshape } from "../ops/index.js";
import { checkCount } from "../options.js";
import { show, sizeOf } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { type Condition, type Dim, sampleShape } from "./field.js";

/** The option dim, checked. */
export function checkDim(where: string, dim: unknown): Dim {
  if (!Array.isArray(dim)) return checkCount(where, "dim", dim);
  if (dim.length === 0)
    throw new ValueError(`${where}: dim must be a number or an array of at least one, got []`);
  return dim.map((n, i) => checkCount(where, `dim[${i}]`, n));
}

/** The state as rows of features, [batch, features], if its samples have this size. */
export function flatState(where: string, z: Tensor, dim: Dim): Tensor {
  const shape = sampleShape(dim);
  if (z.rank !== shape.length + 1 || shape.some((n, i) => z.shape[i + 1] !== n))
    throw new ShapeError(`${where}: z must be [batch, ${shape.join(", ")}], got ${show(z.shape)}`);
  return z.rank === 2 ? z : reshape(z, [z.shape[0]!, sizeOf(shape)]);
}

/** The time, if it is a column beside z. */
export function timeColumn(where: string, name: string, time: Tensor, z: Tensor): Tensor {
  if (time.rank !== 2 || time.shape[0] !== z.shape[0] || time.shape[1] !== 1)
    throw new ShapeError(`${where}: ${name} must be [${z.shape[0] ?? "batch"}, 1], got ${show(time.shape)}`);
  return time;
}

/** Throws ValueError if there is a condition: for fields that take none. */
export function checkNoCondition(where: string, condition: Condition | undefined): void {
  if (condition !== undefined) throw new ValueError(`${where}: takes no condition, got one`);
}
