import type { Attributes } from "../graph/primitives.js";
import * as raw from "../ops/raw.js";
import type { Tangent } from "../ops/rules.js";
import { sizeOf } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkpoint } from "./checkpoint.js";
import { scan } from "./scan.js";

/** Scores that exist at a time, about. */
const scoresAtOnce = 2 ** 19;

/**
 * The linear parts of attention as compositions, for derivatives that have no kernel: loops over blocks of queries,
 * of whose scores nothing is kept. inputs and result as of the primitive, whose `part` is not "value".
 */
export function inBlocks(inputs: readonly Tensor[], attrs: Attributes["attention"]): Tensor[] {
  const [q, k] = inputs as [Tensor, Tensor];
  const batch = q.shape.slice(0, -2);
  const entries = sizeOf(batch);
  const group = groupSize(entries, q.shape[batch.length]! * k.shape[batch.length]!);
  if (group === entries) return ofGroup(inputs, attrs);
  // Few entries of the batch at a time: their blocks have more rows, and products of these are faster.
  const grouped = (x: Tensor) => raw.reshape(x, [entries / group, group, ...x.shape.slice(batch.length)]);
  const own = [...inputs];
  const shared: Tensor[] = [];
  if (attrs.masked) {
    const [mask] = own.splice(3, 1) as [Tensor];
    const ofPair = mask.shape.slice(batch.length);
    if (mask.shape.slice(0, batch.length).every((size) => size === 1))
      shared.push(raw.reshape(mask, [1, ...ofPair]));
    else own.splice(3, 0, widened(mask, [...batch, ...ofPair]));
  }
  const [, results] = scan(
    (none: readonly Tensor[], list: readonly Tensor[]) =>
      [none, ofGroup([...list.slice(0, 3), ...shared, ...list.slice(3)], attrs)] as const,
    [] as readonly Tensor[],
    own.map(grouped) as readonly Tensor[],
  );
  return results.map((y) => raw.reshape(y, [...batch, ...y.shape.slice(2)]));
}

/** How many entries of the batch, a divisor of their number, have about so many scores as may exist at a time. */
function groupSize(entries: number, scores: number): number {
  let group = Math.max(1, Math.min(entries, Math.floor(scoresAtOnce / Math.max(1, scores))));
  while (entries % group !== 0) group--;
  return entries === 0 ? 0 : group;
}

function ofGroup(inputs: readonly Tensor[], attrs: Attributes["attention"]): Tensor[] {
  const { part, masked } = attrs;
  const [q, k, v] = inputs as [Tensor, Tensor, Tensor];
  const [o, l, ...given] = inputs.slice(masked ? 4 : 3) as [Tensor, Tensor, ...Tensor[]];
  const directions: Tangent[] = attrs.directions.map((there) => (there ? given.shift() : undefined));
  const batch = q.shape.slice(0, -2);
  const n = q.shape[batch.length]!;
  const m = k.shape[batch.length]!;
  const block = Math.min(
    Math.max(n, 1),
    Math.max(8, Math.floor(scoresAtOnce / Math.max(1, sizeOf(batch) * m))),
  );
  const blocks = Math.ceil(n / block);

  /** [...batch, n, ...] as [blocks, ...batch, block, ...], with zeros after the last row. */
  const cut = (x: Tensor): Tensor => {
    const at = batch.length;
    const padded = raw.pad(
      x,
      x.shape.map(() => 0),
      x.shape.map((_, i) => (i === at ? blocks * block - n : 0)),
    );
    const rest = x.shape.slice(at + 1);
    return raw.moveAxis(raw.reshape(padded, [...x.shape.slice(0, at), blocks, block, ...rest]), at, 0);
  };
  const joined = (x: Tensor): Tensor => {
    const at = batch.length;
    const rest = x.shape.slice(at + 2);
    const whole = raw.reshape(raw.moveAxis(x, 0, at), [...batch, blocks * block, ...rest]);
    return raw.slice(
      whole,
      whole.shape.map(() => 0),
      [...batch, n, ...rest],
    );
  };

  const rows: { [name: string]: Tensor } = {
    q: cut(q),
    o: cut(o),
    l: cut(l),
    first: firstRows(blocks, block),
  };
  const mask = masked ? inputs[3]! : undefined;
  const sharedMask = mask && mask.shape[batch.length] === 1 ? [mask] : [];
  if (mask && sharedMask.length === 0) rows.mask = cutMask(mask, cut);
  const [d0, d1, d2] = directions;
  if (part === "tangent") {
    if (d0) rows.dq = cut(d0);
    const turn = checkpoint((row: Rows, k: Tensor, v: Tensor, dk: Tensor[], dv: Tensor[], shared: Tensor[]) =>
      tangentRows({ mask: shared[0], ...row }, k, v, dk[0], dv[0], attrs),
    );
    const [, [dO, dL]] = scan(
      (none: readonly Tensor[], row: Rows) =>
        [none, turn(row, k, v, d1 ? [d1] : [], d2 ? [d2] : [], sharedMask)] as const,
      [] as readonly Tensor[],
      rows as Rows,
    );
    return [joined(dO), joined(dL)];
  }
  if (d0) rows.co = cut(d0);
  if (d1) rows.cl = cut(d1);
  const turn = checkpoint((row: Rows, k: Tensor, v: Tensor, shared: Tensor[]) =>
    cotangentRows({ mask: shared[0], ...row }, k, v, attrs),
  );
  const [[ck, cv], cq] = scan(
    ([ck, cv]: readonly [Tensor, Tensor], row: Rows) => {
      const [cq, moreK, moreV] = turn(row, k, v, sharedMask);
      return [[raw.add(ck, moreK), raw.add(cv, moreV)] as const, cq] as const;
    },
    [raw.constantLike(k, 0), raw.constantLike(v, 0)] as readonly [Tensor, Tensor],
    rows as Rows,
  );
  return [joined(cq), ck, cv];
}

const firstRows = (blocks: number, block: number): Tensor =>
  raw.mul(raw.iota([blocks], 0, "int32"), raw.constant(block, [blocks], "int32"));

/** pad is for numbers. */
const cutMask = (mask: Tensor, cut: (x: Tensor) => Tensor): Tensor =>
  raw.cast(cut(raw.cast(mask, "int32")), "bool");

/** x with its axes of size 1 repeated to this shape. */
const widened = (x: Tensor, shape: readonly number[]): Tensor =>
  raw.broadcast(
    x,
    shape,
    shape.map((_, i) => i),
  );

type Rows = { readonly [name: string]: Tensor | undefined };

/** P = exp(scale q k^T - l), 0 where hidden; [..., block, m]. Rows past the last one meet zero (co)tangents only. */
function probabilities(row: Rows, k: Tensor, attrs: Attributes["attention"]): Tensor {
  const scores = scaled(raw.matmul(row.q!, raw.matrixTranspose(k)), attrs.scale);
  const { shape } = scores;
  const [rowAxis, columnAxis] = [shape.length - 2, shape.length - 1];
  let exponent = raw.sub(scores, raw.spread(row.l!, shape, [columnAxis]));
  const show = (visible: Tensor) => {
    exponent = raw.where(visible, exponent, raw.constantLike(exponent, Number.NEGATIVE_INFINITY));
  };
  if (attrs.causal) {
    const index = raw.add(raw.iota(shape, rowAxis, "int32"), raw.broadcast(row.first!, shape, []));
    show(raw.lessEqual(raw.iota(shape, columnAxis, "int32"), index));
  }
  if (row.mask) show(widened(row.mask, shape));
  return raw.exp(exponent);
}

const scaled = (x: Tensor, scale: number) => raw.mul(x, raw.constantLike(x, scale));
const rowSum = (x: Tensor) => raw.reduceSum(x, [x.rank - 1]);
const across = (column: Tensor, like: Tensor) => raw.spread(column, like.shape, [like.rank - 1]);
const sum = (list: readonly Tensor[]): Tensor => list.reduce((a, b) => raw.add(a, b));

/** dS = scale (dq k^T + q dk^T), A = P dS; dl = rowsum A, do = A v - dl o + P dv, for a block of rows. */
function tangentRows(
  row: Rows,
  k: Tensor,
  v: Tensor,
  dk: Tangent,
  dv: Tangent,
  attrs: Attributes["attention"],
): [Tensor, Tensor] {
  const p = probabilities(row, k, attrs);
  const scores: Tensor[] = [];
  if (row.dq) scores.push(raw.matmul(row.dq, raw.matrixTranspose(k)));
  if (dk) scores.push(raw.matmul(row.q!, raw.matrixTranspose(dk)));
  const parts: Tensor[] = dv ? [raw.matmul(p, dv)] : [];
  if (scores.length === 0) return [parts[0]!, raw.constantLike(row.l!, 0)];
  const a = raw.mul(p, scaled(sum(scores), attrs.scale));
  const dl = rowSum(a);
  parts.push(raw.matmul(a, v), raw.neg(raw.mul(across(dl, row.o!), row.o!)));
  return [sum(parts), dl];
}

/** G = P (co v^T - rowsum(co o) + cl); cq = scale G k, ck = scale G^T q, cv = P^T co, for a block of rows. */
function cotangentRows(
  row: Rows,
  k: Tensor,
  v: Tensor,
  attrs: Attributes["attention"],
): [Tensor, Tensor, Tensor] {
  const p = probabilities(row, k, attrs);
  const { co, cl } = row;
  const terms: Tensor[] = [];
  if (co) terms.push(raw.matmul(co, raw.matrixTranspose(v)), across(raw.neg(rowSum(raw.mul(co, row.o!))), p));
  if (cl) terms.push(across(cl, p));
  const g = scaled(raw.mul(p, sum(terms)), attrs.scale);
  return [
    raw.matmul(g, k),
    raw.matmul(raw.matrixTranspose(g), row.q!),
    co ? raw.matmul(raw.matrixTranspose(p), co) : raw.constantLike(v, 0),
  ];
}
