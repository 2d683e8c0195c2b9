import { ValueError } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";
import { flatten, type Structure, unflatten } from "../tensor/tree.js";
import { needDifferentiable } from "./function.js";

/** Which arguments to differentiate by: a number (default 0), or an array, which gives an array of gradients. */
export type Argnums = number | readonly number[];

/** The arguments of a call as leaves, and those of them to differentiate by. */
export interface Selection {
  readonly leaves: readonly Tensor[];
  readonly structure: Structure;
  /** The leaves to differentiate by, in order. */
  readonly active: readonly number[];
  /** From something for each active leaf: the tree of the argument, or for an array of argnums an array of trees. */
  build(ofActive: readonly unknown[]): unknown;
}

/** Throws where argnums is out of range or an argument cannot be differentiated. */
export function select(where: string, argnums: Argnums, args: readonly unknown[]): Selection {
  const wanted = typeof argnums === "number" ? [argnums] : argnums;
  for (const n of wanted) {
    if (!Number.isInteger(n) || n < 0 || n >= args.length)
      throw new ValueError(`${where}: argnums ${n} is out of range for a call with ${args.length} arguments`);
    needDifferentiable(where, args[n], `argument ${n}`);
  }
  // Each argument's leaves follow those of the arguments before it.
  const pieces = args.map((arg) => flatten(arg));
  const first = pieces.map((_, i) => pieces.slice(0, i).reduce((sum, p) => sum + p.leaves.length, 0));
  const spans = wanted.map((n) => pieces[n]!.leaves.map((_, i) => first[n]! + i));
  const active = [...new Set(spans.flat())].sort((a, b) => a - b);
  return {
    ...flatten(args),
    active,
    build(ofActive) {
      const byLeaf = new Map(active.map((leaf, i) => [leaf, ofActive[i]] as const));
      const trees = wanted.map((n, k) =>
        unflatten(
          pieces[n]!.structure,
          spans[k]!.map((leaf) => byLeaf.get(leaf)),
        ),
      );
      return typeof argnums === "number" ? trees[0] : trees;
    },
  };
}
