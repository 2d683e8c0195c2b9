import { ValueError } from "../errors.js";
import { evaluate } from "../graph/trace.js";
import { add, mul, sum } from "../ops/index.js";
import { key, normal, split } from "../random/index.js";
import * as tree from "../tensor/tree.js";
import { jvp } from "./jvp.js";
import { vjp } from "./vjp.js";

export interface CheckGradsOptions {
  /** Highest order of derivative to check; default 2. */
  readonly order?: number;
  /** Step of the central differences; default 1e-5 (their error is then of order 1e-10). */
  readonly step?: number;
  /** Largest difference allowed, relative to 1 + |expected|; default 1e-6. */
  readonly tolerance?: number;
  /** Seed of the random directions; default 0. */
  readonly seed?: number;
}

const dot = (a: tree.Tree, b: tree.Tree): number =>
  evaluate([...tree.leaves(a), ...tree.leaves(b)], (all) => {
    const n = all.length / 2;
    return [
      all
        .slice(0, n)
        .map((x, i) => sum(mul(x, all[n + i]!)))
        .reduce((p, q) => add(p, q)),
    ];
  })[0]!.item();

/**
 * Holds the derivatives of f at these arguments (trees of float64 tensors) against central differences, in random
 * directions, in forward and reverse mode, up to an order: order 2 checks jvp and vjp of each other.
 * Throws ValueError that names the derivative, what it gave and what was expected.
 */
export function checkGrads<A extends readonly unknown[]>(
  f: (...args: A) => tree.Tree,
  args: A,
  options: CheckGradsOptions = {},
): void {
  const { order = 2, step = 1e-5, tolerance = 1e-6, seed = 0 } = options;
  for (const leaf of tree.leaves(args))
    if (leaf.dtype !== "float64")
      throw new ValueError(`checkGrads: needs float64 arguments, got ${leaf.dtype}`);
  let keys = key(seed);
  const direction = <T>(like: T): T =>
    tree.map((x) => {
      const [next, mine] = split(keys, 2);
      keys = next!;
      return normal(mine!, x.shape, { dtype: "float64" });
    }, like);
  const close = (what: string, got: number, want: number) => {
    if (!(Math.abs(got - want) <= tolerance * (1 + Math.abs(want))))
      throw new ValueError(`checkGrads: ${what} is ${got}, expected ${want}`);
  };
  const check = (g: (...args: A) => tree.Tree, name: string, depth: number): void => {
    const v = direction(args);
    const [y, dy] = jvp(g, args as unknown as [...A], v as unknown as [...A]);
    const w = direction(y);
    const shifted = (h: number) => dot(g(...(tree.map((x, d) => add(x, mul(d, h)), args, v) as A)), w);
    const slope = dot(dy, w);
    close(`the jvp of ${name}`, slope, (shifted(step) - shifted(-step)) / (2 * step));
    const [, pullback] = vjp(g, ...args);
    close(`the vjp of ${name}`, dot(pullback(w), v), slope);
    if (depth < order) {
      check(
        (...x: A) => jvp(g, x as unknown as [...A], v as unknown as [...A])[1],
        `jvp of ${name}`,
        depth + 1,
      );
      check((...x: A) => vjp(g, ...x)[1](w), `vjp of ${name}`, depth + 1);
    }
  };
  check(f, "f", 1);
}
