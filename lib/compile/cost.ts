import { byteSize } from "../tensor/dtype.js";
import { sizeOf } from "../tensor/shape.js";
import type { BufferSpec, Expression, Instruction, View } from "./plan.js";

/**
 * Arithmetic, by this convention: a multiply-add of a matrix product is two operations; an elementwise operation is one
 * an element, transcendental functions too (they are counted apart as well, since each takes many instructions); a
 * reduction is one for each element that is folded; loads, constants, indices and casts are none. Comparisons,
 * selections and integer arithmetic count as the rest does; a sort counts nothing.
 */
export interface Work {
  readonly flops: number;
  /** How many of the flops are transcendental functions, powers, or words of Threefry. */
  readonly transcendentals: number;
}

const costs: { readonly [Op in Instruction["op"]]: "free" | "one" | "transcendental" } = {
  load: "free",
  constant: "free",
  index: "free",
  accumulator: "free",
  cast: "free",
  neg: "one",
  abs: "one",
  sign: "one",
  add: "one",
  sub: "one",
  mul: "one",
  maximum: "one",
  minimum: "one",
  remainder: "one",
  sqrt: "one",
  rsqrt: "one",
  floor: "one",
  round: "one",
  div: "one",
  equal: "one",
  notEqual: "one",
  greater: "one",
  greaterEqual: "one",
  less: "one",
  lessEqual: "one",
  logicalNot: "one",
  logicalAnd: "one",
  logicalOr: "one",
  where: "one",
  shiftRight: "one",
  exp: "transcendental",
  expm1: "transcendental",
  log: "transcendental",
  log1p: "transcendental",
  sin: "transcendental",
  cos: "transcendental",
  tanh: "transcendental",
  erf: "transcendental",
  sigmoid: "transcendental",
  softplus: "transcendental",
  gelu: "transcendental",
  geluSlope: "transcendental",
  pow: "transcendental",
  threefry0: "transcendental",
  threefry1: "transcendental",
  threefryXor: "transcendental",
};

export const noWork: Work = { flops: 0, transcendentals: 0 };

export function sumOfWork(works: readonly Work[]): Work {
  return works.reduce(
    (sum, { flops, transcendentals }) => ({
      flops: sum.flops + flops,
      transcendentals: sum.transcendentals + transcendentals,
    }),
    noWork,
  );
}

/** An expression computed over a shape, with `more` further operations an element. */
export function elementwiseWork({ instructions }: Expression, shape: readonly number[], more = 0): Work {
  const elements = sizeOf(shape);
  const counted = (...kinds: string[]) => instructions.filter(({ op }) => kinds.includes(costs[op])).length;
  return {
    flops: elements * (counted("one", "transcendental") + more),
    transcendentals: elements * counted("transcendental"),
  };
}

/** The elements of a buffer that a step reads or writes through one view. */
export interface Region {
  readonly buffer: number;
  /** The shape that the step goes through. */
  readonly shape: readonly number[];
  readonly size: number;
  /** Equal for views of the same elements in the same arrangement, whatever the order of their axes. */
  readonly key: string;
}

/** An axis of stride 0 meets the same elements again; the others meet new ones, as no view overlaps itself. */
export function regionOf({ buffer, offset, strides }: View, shape: readonly number[]): Region {
  const axes = shape
    .map((n, i) => [strides[i]!, n] as const)
    .filter(([stride, n]) => stride !== 0 && n !== 1)
    .sort(([a], [b]) => a - b);
  const size = shape.includes(0) ? 0 : sizeOf(axes.map(([, n]) => n));
  return { buffer, shape, size, key: `${buffer} ${offset} ${axes.join(" ")}` };
}

/** A buffer, dense from its beginning. */
export function wholeRegion(buffer: number, shape: readonly number[]): Region {
  return { buffer, shape, size: sizeOf(shape), key: `${buffer} whole` };
}

/**
 * The bytes of some regions, each element counted once: equal regions are one, and those of one buffer are together no
 * larger than it. (Different regions that overlap in part count twice what they share.)
 */
export function bytesOf(regions: readonly Region[], buffers: readonly BufferSpec[]): number {
  const elements = new Map<number, number>();
  for (const { buffer, size } of new Map(regions.map((region) => [region.key, region])).values())
    elements.set(buffer, (elements.get(buffer) ?? 0) + size);
  let bytes = 0;
  for (const [buffer, size] of elements) {
    const spec = buffers[buffer]!;
    bytes += Math.min(size, spec.size) * byteSize(spec.dtype);
  }
  return bytes;
}
