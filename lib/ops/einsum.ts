import { DTypeError, ValueError } from "../errors.js";
import { describe } from "../options.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { parseEinsum } from "./einsum-spec.js";
import { checkTensor, needNumber, operation } from "./operation.js";
import * as raw from "./raw.js";

/**
 * Einstein's summation: the product of the operands over all of their indices, summed over those that the output does
 * not have. `einsum("bik,bkj->bij", x, y)` is a batch of matrix products, `"ii->"` a trace, `"i,j->ij"` an outer
 * product.
 *
 * @param spec as in NumPy: a term of letters for each operand, separated by commas, one letter an axis; then "->" and
 * the output's letters. An ellipsis "..." stands for any axes, which broadcast, and a letter twice in a term for a
 * diagonal. Axes of one letter in several operands have one size, or 1, which is repeated. Without "->" the output
 * has the ellipsis' axes, then the letters that occur once, in alphabetical order. Spaces do not count.
 * @param operands tensors of one dtype, which is the result's; bool is not a number
 *
 * Operands are contracted two by two, that pair first whose result is smallest, each by one matrix product where there
 * is something to sum.
 *
 * Errors, which quote the specification: ValueError for one that is malformed or of another number of operands,
 * ShapeError for operands that do not fit it, DTypeError for dtypes that differ.
 */
export const einsum = operation((spec: string, ...operands: Tensor[]): Tensor => {
  if (typeof spec !== "string")
    throw new ValueError(`einsum: the specification is a string such as "ij,jk->ik", got ${describe(spec)}`);
  const where = `einsum "${spec}"`;
  operands.forEach((x, i) => {
    needNumber(where, checkTensor(`${where}: operand ${i}`, x));
    if (x.dtype !== operands[0]!.dtype)
      throw new DTypeError(
        `${where}: dtypes differ: ${operands[0]!.dtype} and, of operand ${i}, ${x.dtype}; use cast(x, dtype) on one of them`,
      );
  });
  const { inputs, output, sizes } = parseEinsum(
    where,
    spec,
    operands.map((x) => x.shape),
  );
  const shape = output.map((label) => sizes.get(label)!);
  let terms = operands.map((x, i) => diagonal(withoutUnits(x, inputs[i]!)));
  terms = terms.map((term, i) => summed(term, needed(output, without(terms, i))));
  while (terms.length > 1) {
    const [i, j] = cheapestPair(terms, output);
    const rest = without(terms, i, j);
    terms = [...rest, contracted(terms[i]!, terms[j]!, needed(output, rest), output)];
  }
  const [result] = terms;
  const order = output.filter((label) => result!.labels.includes(label));
  return raw.reshape(ordered(result!, order), shape);
});

/** A tensor with a label for each axis. */
interface Term {
  readonly x: Tensor;
  readonly labels: readonly string[];
}

const without = (terms: readonly Term[], ...places: number[]) => terms.filter((_, i) => !places.includes(i));
const needed = (output: readonly string[], rest: readonly Term[]): ReadonlySet<string> =>
  new Set([...output, ...rest.flatMap((term) => term.labels)]);
const sizeAt = ({ x, labels }: Term, label: string) => x.shape[labels.indexOf(label)]!;
const extent = (term: Term, labels: readonly string[]) => sizeOf(labels.map((label) => sizeAt(term, label)));

/** An axis of size 1 is the same value at every index of its label: the term is as good without it. */
function withoutUnits(x: Tensor, labels: readonly string[]): Term {
  const large = (_: unknown, axis: number) => x.shape[axis] !== 1;
  return { x: raw.reshape(x, x.shape.filter(large)), labels: labels.filter(large) };
}

/** Each label once: where it comes again, the elements with equal indices. The others, NaN or not, are left out. */
function diagonal(term: Term): Term {
  const again = term.labels.findIndex((label, axis) => term.labels.indexOf(label) !== axis);
  if (again === -1) return term;
  const { x, labels } = term;
  const [row, column] = [labels.indexOf(labels[again]!), again].map((axis) =>
    raw.iota(x.shape, axis, "int32"),
  );
  const chosen = raw.where(raw.equal(row!, column!), x, raw.constantLike(x, 0));
  return diagonal({
    x: raw.reduceSum(chosen, [again]),
    labels: labels.filter((_, axis) => axis !== again),
  });
}

/** The sum over the labels that nothing else needs. */
function summed({ x, labels }: Term, need: ReadonlySet<string>): Term {
  const axes = labels.map((_, axis) => axis).filter((axis) => !need.has(labels[axis]!));
  return { x: raw.reduceSum(x, axes), labels: labels.filter((label) => need.has(label)) };
}

/** The term's tensor with its axes in this order. */
function ordered({ x, labels }: Term, order: readonly string[]): Tensor {
  return raw.transpose(
    x,
    order.map((label) => labels.indexOf(label)),
  );
}

/** The two terms whose contraction has the smallest result; of equal ones, that with the fewest multiplications. */
function cheapestPair(terms: readonly Term[], output: readonly string[]): [number, number] {
  let best: { pair: [number, number]; size: number; work: number } | undefined;
  for (let j = 1; j < terms.length; j++) {
    for (let i = 0; i < j; i++) {
      const [a, b] = [terms[i]!, terms[j]!];
      const need = needed(output, without(terms, i, j));
      const own = b.labels.filter((label) => !a.labels.includes(label));
      const work = a.x.size * extent(b, own);
      const kept = (label: string) => need.has(label);
      const size = extent(a, a.labels.filter(kept)) * extent(b, own.filter(kept));
      if (best === undefined || size < best.size || (size === best.size && work < best.work))
        best = { pair: [i, j], size, work };
    }
  }
  return best!.pair;
}

/**
 * The product of two terms, summed over the labels that nothing else needs: those that both have. (What one alone has,
 * and nothing needs, was summed before.)
 */
function contracted(a: Term, b: Term, need: ReadonlySet<string>, output: readonly string[]): Term {
  const shared = a.labels.filter((label) => b.labels.includes(label));
  const batch = shared.filter((label) => need.has(label));
  const inner = shared.filter((label) => !need.has(label));
  const rows = a.labels.filter((label) => !shared.includes(label));
  const columns = b.labels.filter((label) => !shared.includes(label));
  if (inner.length === 0 || rows.length + columns.length === 0)
    return multiplied(a, b, [...batch, ...rows, ...columns].sort(byPlaceIn(output)), inner);
  // The axis that is last in the output is best a column: then the product has the output's order.
  const last = output.filter((label) => rows.includes(label) || columns.includes(label)).pop();
  if (columns.length > 0 && last !== undefined && rows.includes(last))
    return product(b, a, batch, columns, inner, rows);
  return product(a, b, batch, rows, inner, columns);
}

/** By place in the output; labels that it lacks come last. */
const byPlaceIn = (output: readonly string[]) => {
  const place = (label: string) => (output.includes(label) ? output.indexOf(label) : output.length);
  return (a: string, b: string) => place(a) - place(b);
};

/** Element by element, then summed over `inner`: a Map, or a Reduce with the product inside it. */
function multiplied(a: Term, b: Term, kept: readonly string[], inner: readonly string[]): Term {
  const labels = [...kept, ...inner];
  const shape = labels.map((label) => sizeAt(a.labels.includes(label) ? a : b, label));
  const spread = (term: Term) => {
    const own = labels.filter((label) => term.labels.includes(label));
    return raw.broadcast(
      ordered(term, own),
      shape,
      own.map((label) => labels.indexOf(label)),
    );
  };
  const axes = inner.map((_, i) => kept.length + i);
  return { x: raw.reduceSum(raw.mul(spread(a), spread(b)), axes), labels: kept };
}

/** One matrix product: [...batch, rows, inner] x [...batch, inner, columns]. */
function product(
  a: Term,
  b: Term,
  batch: readonly string[],
  rows: readonly string[],
  inner: readonly string[],
  columns: readonly string[],
): Term {
  const sizes = (term: Term, labels: readonly string[]): Shape => labels.map((label) => sizeAt(term, label));
  const grouped = (term: Term, first: readonly string[], second: readonly string[]) =>
    raw.reshape(ordered(term, [...batch, ...first, ...second]), [
      ...sizes(term, batch),
      extent(term, first),
      extent(term, second),
    ]);
  const x = raw.matmul(grouped(a, rows, inner), grouped(b, inner, columns));
  return {
    x: raw.reshape(x, [...sizes(a, batch), ...sizes(a, rows), ...sizes(b, columns)]),
    labels: [...batch, ...rows, ...columns],
  };
}
