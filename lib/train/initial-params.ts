import { DTypeError, ShapeError, ValueError } from "../errors.js";
import { sameShape, show } from "../tensor/shape.js";
import { flatten, type Tree, unflatten } from "../tensor/tree.js";
import { namedLeaves } from "./named.js";

/**
 * The parameters `given` in place of the model's own draw `own`.
 *
 * @throws ValueError naming the first tensor that is missing or left over; ShapeError, DTypeError for one that is of
 *   another shape or dtype
 */
export function initialParams<T extends Tree>(where: string, own: T, given: Tree): T {
  const wanted = namedLeaves("params", own);
  const found = namedLeaves("params", given);
  for (const [path, { shape, dtype }] of wanted) {
    const x = found.get(path);
    const needed = `the model has ${dtype}${show(shape)}`;
    if (x === undefined) throw new ValueError(`${where}: ${path} is missing; ${needed}`);
    const message = `${where}: ${path} is ${x.dtype}${show(x.shape)}; ${needed}`;
    if (!sameShape(x.shape, shape)) throw new ShapeError(message);
    if (x.dtype !== dtype) throw new DTypeError(message);
  }
  for (const path of found.keys())
    if (!wanted.has(path)) throw new ValueError(`${where}: the model has no parameter ${path}`);
  const { structure } = flatten(own);
  return unflatten(
    structure,
    [...wanted.keys()].map((path) => found.get(path)!),
  ) as T;
}
