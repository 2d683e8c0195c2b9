import { DTypeError, ShapeError, ValueError } from "../errors.js";
import { emitSeveral, evaluate } from "../graph/trace.js";
import * as raw from "../ops/raw.js";
import { checkCount } from "../options.js";
import { sameShape, show } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkSameStructure, flatten, type Structure, unflatten } from "../tensor/tree.js";
import { needFunction, needResult } from "./function.js";
import { closedBody } from "./scan-rule.js";

export interface ScanOptions {
  /** Number of turns; needed where there are no xs. */
  readonly length?: number;
  /** Takes the slices from the last to the first, and puts each y where its x was. Default false. */
  readonly reverse?: boolean;
}

/**
 * A loop as one operation, compiled once whatever its length: in each turn
 *
 *     [carry, ys[i]] = f(carry, xs[i])
 *
 * It is differentiable in both modes and composes with every transform. Reverse mode keeps what the turns need, so
 * that its memory grows with the length; `checkpoint(f)` keeps the carries alone.
 *
 * @param f gives [the next carry, of the same structure, shapes and dtypes; a tree of tensors to be collected]
 * @param init the first carry, a tree of tensors
 * @param xs a tree of tensors with the turns along their first axis; undefined where f takes none
 * @returns [the last carry, the collected ys with the turns along their first axis]
 * @throws ShapeError, DTypeError or ValueError when the carry changes, the lengths of the xs differ, or there is none
 */
export function scan<C, X, Y>(
  f: (carry: C, x: X) => readonly [C, Y],
  init: C,
  xs: X,
  options: ScanOptions = {},
): [C, Y] {
  needFunction("scan", "first", f);
  const carry = flatten(init);
  const slices = flatten(xs);
  const length = lengthOf(slices.leaves, options.length);
  const reverse = options.reverse ?? false;
  let ys: Structure | undefined;
  const outputs = evaluate([...carry.leaves, ...slices.leaves], (inputs) => {
    const n = carry.leaves.length;
    const specs = inputs.map(({ shape, dtype }, i) => ({ shape: i < n ? shape : shape.slice(1), dtype }));
    const { body, captured } = closedBody(
      (symbols) => {
        const given = f(
          unflatten(carry.structure, symbols.slice(0, n)) as C,
          unflatten(slices.structure, symbols.slice(n)) as X,
        );
        needResult("scan", given);
        if (!Array.isArray(given) || given.length !== 2)
          throw new ValueError("scan: the function must give [carry, y]; without a y give [carry, []]");
        const next = flatten(given[0]);
        checkCarry(carry.structure, carry.leaves, next.structure, next.leaves);
        const y = flatten(given[1]);
        ys = y.structure;
        return [...next.leaves, ...y.leaves];
      },
      specs,
      true,
    );
    return emitSeveral("scan", [...captured, ...inputs], {
      body,
      length,
      reverse,
      consts: captured.length,
      carries: n,
    });
  });
  const n = carry.leaves.length;
  return [unflatten(carry.structure, outputs.slice(0, n)) as C, unflatten(ys!, outputs.slice(n)) as Y];
}

/**
 * The loop for (i = lower; i < upper; i++) value = body(i, value), as one operation; see scan.
 *
 * @param lower, upper whole numbers; with upper <= lower the result is init
 * @param body takes i, an int32 scalar tensor, and the value, a tree of tensors, and gives the next value, of the same
 *   structure, shapes and dtypes
 */
export function forLoop<C>(lower: number, upper: number, body: (i: Tensor, value: C) => C, init: C): C {
  for (const bound of [lower, upper])
    if (bound !== (bound | 0)) throw new ValueError(`forLoop: a bound must be an int32, got ${bound}`);
  needFunction("forLoop", "third", body);
  const { leaves, structure } = flatten(init);
  const length = Math.max(0, upper - lower);
  const outputs = evaluate(leaves, (inputs) => {
    const turns = raw.add(raw.iota([length], 0, "int32"), raw.constant(lower, [length], "int32"));
    const value = unflatten(structure, inputs) as C;
    const [last] = scan((carry: C, i: Tensor) => [body(i, carry), []] as const, value, turns);
    return flatten(last).leaves;
  });
  return unflatten(structure, outputs) as C;
}

function lengthOf(leaves: readonly Tensor[], given: number | undefined): number {
  let length = given === undefined ? undefined : checkCount("scan", "length", given, 0);
  for (const x of leaves) {
    if (x.rank === 0) throw new ShapeError("scan: the xs need a first axis to run over, got a scalar");
    if (length !== undefined && x.shape[0] !== length)
      throw new ShapeError(`scan: ${length} turns, but an x of shape ${show(x.shape)}`);
    length = x.shape[0]!;
  }
  if (length === undefined) throw new ValueError("scan: without xs, the option length is needed");
  return length;
}

function checkCarry(
  structure: Structure,
  leaves: readonly Tensor[],
  next: Structure,
  nextLeaves: readonly Tensor[],
): void {
  checkSameStructure("scan", structure, next, "the next carry", "the carry");
  nextLeaves.forEach((x, i) => {
    const was = leaves[i]!;
    if (!sameShape(x.shape, was.shape))
      throw new ShapeError(
        `scan: leaf ${i} of the carry has shape ${show(was.shape)}, then ${show(x.shape)}`,
      );
    if (x.dtype !== was.dtype)
      throw new DTypeError(`scan: leaf ${i} of the carry has dtype ${was.dtype}, then ${x.dtype}`);
  });
}
