import { FileError } from "../errors.js";
import { show } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import { flatten, type Tree, unflatten } from "../tensor/tree.js";

/**
 * The tensors of a tree by their path, as in "layers/0/weight", in the order of tree.flatten. In a key, "~" is
 * written "~0" and "/" is written "~1", so that different places have different paths.
 */
export function namedLeaves(root: string, value: Tree): Map<string, Tensor> {
  const named = new Map<string, Tensor>();
  const walk = (path: string, node: unknown): void => {
    if (node instanceof Tensor) named.set(path, node);
    else if (Array.isArray(node)) node.forEach((child, i) => void walk(`${path}/${i}`, child));
    else if (isPlainObject(node))
      for (const key of Object.keys(node).sort())
        walk(`${path}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`, node[key]);
  };
  walk(root, value);
  return named;
}

/**
 * A tree like `model` with the file's tensors in place of its own.
 *
 * @throws FileError naming the first tensor that is missing, left over, or of another shape or dtype
 */
export function fillTree<T extends Tree>(
  where: string,
  model: T,
  root: string,
  tensors: Readonly<Record<string, Tensor>>,
): T {
  const expected = namedLeaves(root, model);
  for (const [path, tensor] of expected) {
    const found = Object.hasOwn(tensors, path) ? tensors[path]! : undefined;
    if (found === undefined)
      throw new FileError(`${where}: ${path} is missing; the trainer has ${describe(tensor)}`);
    if (describe(found) !== describe(tensor))
      throw new FileError(`${where}: ${path} is ${describe(found)}; the trainer has ${describe(tensor)}`);
  }
  for (const path of Object.keys(tensors))
    if ((path === root || path.startsWith(`${root}/`)) && !expected.has(path))
      throw new FileError(`${where}: ${path} is in the file, but the trainer has no such tensor`);
  const { structure } = flatten(model);
  return unflatten(
    structure,
    [...expected.keys()].map((path) => tensors[path]!),
  ) as T;
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function describe(tensor: Tensor): string {
  return `${tensor.dtype}${show(tensor.shape)}`;
}
