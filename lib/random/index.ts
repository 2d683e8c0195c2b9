import { DTypeError, ShapeError, ValueError } from "../errors.js";
import * as ops from "../ops/index.js";
import { checkTensor, needFloat, operation, type TensorLike } from "../ops/operation.js";
import * as raw from "../ops/raw.js";
import { type DType, representable } from "../tensor/dtype.js";
import { checkShape, normalizeAxis, type Shape, show, sizeOf } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";

/*
 * Random numbers as pure functions of a key, by Threefry-2x32-20 (Salmon et al., "Parallel random numbers: as easy
 * as 1, 2, 3", 2011). A key is uint32[2]. The derivation of keys and bits is JAX's (its partitionable form): element
 * i of an array comes from the counter (i >> 32, i & 0xffffffff), so that each can be computed by itself.
 */

/** A key from a seed, a whole number 0 <= seed < 2^53. */
export function key(seed: number): Tensor {
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new ValueError(`random.key: a seed is a whole number from 0 to 2^53 - 1, got ${seed}`);
  return Tensor.fromData(Uint32Array.of(Math.floor(seed / 2 ** 32), seed >>> 0), [2], "uint32");
}

function checkKey(where: string, k: Tensor): Tensor {
  checkTensor(where, k);
  if (k.dtype !== "uint32" || k.rank !== 1 || k.size !== 2)
    throw new DTypeError(
      `${where}: a key is uint32[2], got ${k.dtype}${show(k.shape)}; make one with random.key(seed)`,
    );
  return k;
}

/** The words of the key, each broadcast to the shape. */
function keyWords(k: Tensor, shape: Shape): Tensor[] {
  return [0, 1].map((i) => raw.broadcastTo(raw.slice(k, [i], [1]), shape));
}

/** Words of the blocks whose counters are 0 .. size - 1, in a shape. */
function blocks(k: Tensor, shape: Shape, word: 0 | 1 | "xor"): Tensor {
  const size = sizeOf(shape);
  if (size >= 2 ** 32)
    throw new ShapeError(
      `random: ${show(shape)} has 2^32 elements or more; draw smaller arrays under split keys`,
    );
  // The counter is what is reshaped: what reads the words at the index of this shape is computed with them.
  const counter = [raw.constant(0, shape, "uint32"), raw.reshape(raw.iota([size], 0, "uint32"), shape)];
  return raw.threefry([...keyWords(k, shape), ...counter], word);
}

/** A key made of each block's two words: [...shape, 2]. */
function keysOf(k: Tensor, high: Tensor, low: Tensor): Tensor {
  const words = ([0, 1] as const).map((word) => raw.threefry([...keyWords(k, high.shape), high, low], word));
  return ops.stack(words, -1);
}

const splitKeys = operation(
  (k: Tensor, n: number): Tensor => keysOf(k, raw.constant(0, [n], "uint32"), raw.iota([n], 0, "uint32")),
);

/** n independent keys (default 2). Do not use the key again. */
export function split(k: Tensor, n = 2): Tensor[] {
  checkKey("random.split", k);
  if (!Number.isInteger(n) || n < 1 || n > 2 ** 24)
    throw new ValueError(`random.split: n must be a whole number from 1 to 2^24, got ${n}`);
  const keys = splitKeys(k, n);
  return ops.split(keys, n, 0).map((row) => ops.reshape(row, [2]));
}

/** A key that depends on another key and on a number, such as a step count (a uint32 or int32 scalar, or a number). */
export const foldIn = operation((k: Tensor, data: TensorLike): Tensor => {
  checkKey("random.foldIn", k);
  if (typeof data === "number" && !representable("uint32", data))
    throw new ValueError(`random.foldIn: needs a whole number from 0 to 2^32 - 1, got ${data}`);
  const low = data instanceof Tensor ? raw.cast(data, "uint32") : raw.constant(Number(data), [], "uint32");
  if (low.rank !== 0) throw new ShapeError(`random.foldIn: needs a scalar, got shape ${show(low.shape)}`);
  return keysOf(k, raw.constant(0, [], "uint32"), low);
});

/** The block function itself: Threefry-2x32-20 of uint32[..., 2] counters under a key, for checks against published vectors. */
export const threefry2x32 = operation((k: Tensor, counter: Tensor): Tensor => {
  checkKey("random.threefry2x32", k);
  if (checkTensor("random.threefry2x32", counter).dtype !== "uint32" || counter.shape[counter.rank - 1] !== 2)
    throw new DTypeError(
      `random.threefry2x32: a counter is uint32[..., 2], got ${counter.dtype}${show(counter.shape)}`,
    );
  const shape = counter.shape.slice(0, -1);
  const word = (i: number) =>
    raw.reshape(raw.slice(counter, [...shape.map(() => 0), i], [...shape, 1]), shape);
  return keysOf(k, word(0), word(1));
});

/** Independent uniform 32-bit words (uint32). */
export const bits = operation(
  (k: Tensor, shape: Shape): Tensor =>
    blocks(checkKey("random.bits", k), checkShape("random.bits", shape), "xor"),
);

export interface UniformOptions {
  /** Lower end, included; default 0. */
  readonly min?: number;
  /** Upper end, not included; default 1. */
  readonly max?: number;
  /** float32 (default) or float64. */
  readonly dtype?: DType;
}

/** [0, 1): 23 random bits in float32 (JAX's numbers), 53 in float64. */
function unit(k: Tensor, shape: Shape, dtype: DType): Tensor {
  const top = (word: Tensor, drop: number) =>
    raw.cast(raw.shiftRight(word, raw.constantLike(word, drop)), dtype);
  const scaled = (x: Tensor, by: number) => raw.mul(x, raw.constantLike(x, by));
  if (dtype === "float32") return scaled(top(blocks(k, shape, "xor"), 9), 2 ** -23);
  const high = scaled(top(blocks(k, shape, 0), 5), 2 ** 26);
  return scaled(raw.add(high, top(blocks(k, shape, 1), 6)), 2 ** -53);
}

function floatDType(where: string, dtype: DType | undefined): DType {
  const type = dtype ?? "float32";
  if (type !== "float32" && type !== "float64")
    throw new DTypeError(`${where}: needs float32 or float64, got ${type}`);
  return type;
}

/** Independent uniform numbers in [min, max). */
export const uniform = operation((k: Tensor, shape: Shape = [], options: UniformOptions = {}): Tensor => {
  const { min = 0, max = 1 } = options;
  const dtype = floatDType("random.uniform", options.dtype);
  const width = dtype === "float32" ? Math.fround(max - min) : max - min;
  if (!Number.isFinite(min) || !Number.isFinite(max) || min > max || !Number.isFinite(width))
    throw new ValueError(
      `random.uniform: needs finite min <= max whose difference is finite in ${dtype}, got ${min} and ${max}`,
    );
  const u = unit(checkKey("random.uniform", k), checkShape("random.uniform", shape), dtype);
  if (min === 0 && max === 1) return u;
  const y = raw.add(raw.mul(u, raw.constantLike(u, width)), raw.constantLike(u, min));
  // Rounding must not reach max.
  const below = raw.constantLike(u, u.dtype === "float32" ? belowFloat32(max) : below64(max));
  return min === max ? y : raw.minimum(y, below);
});

/** The largest float below x. */
function below64(x: number): number {
  if (x === 0) return -Number.MIN_VALUE;
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, x);
  view.setBigInt64(0, view.getBigInt64(0) + (x > 0 ? -1n : 1n));
  return view.getFloat64(0);
}

function belowFloat32(x: number): number {
  const rounded = Math.fround(x);
  if (rounded < x) return rounded;
  if (rounded === 0) return -(2 ** -149);
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, rounded);
  view.setInt32(0, view.getInt32(0) + (rounded > 0 ? -1 : 1));
  return view.getFloat32(0);
}

/** Independent standard normal numbers, by Box and Muller: sqrt(-2 log u1) cos(2 pi u2) with the two words of a block. */
export const normal = operation(
  (k: Tensor, shape: Shape = [], options: { readonly dtype?: DType } = {}): Tensor => {
    const size = checkShape("random.normal", shape);
    const dtype = floatDType("random.normal", options.dtype);
    const words = ([0, 1] as const).map((word) => blocks(checkKey("random.normal", k), size, word));
    // u1 in (0, 1): half a step above each multiple of 2^-32 (2^-24 in float32, whose significand has 24 bits).
    const drop = dtype === "float32" ? 8 : 0;
    const scale = 2 ** (drop - 32);
    const [u1, u2] = words.map((word, i) => {
      const u = raw.cast(raw.shiftRight(word, raw.constantLike(word, drop)), dtype);
      const positive = i === 0 ? raw.add(u, raw.constantLike(u, 0.5)) : u;
      return raw.mul(positive, raw.constantLike(u, scale));
    });
    const radius = raw.sqrt(raw.mul(raw.log(u1!), raw.constantLike(u1!, -2)));
    return raw.mul(radius, raw.cos(raw.mul(u2!, raw.constantLike(u2!, 2 * Math.PI))));
  },
);

/** Independent whole numbers (int32) in [min, max). The bias is below (max - min) / 2^32. */
export const randint = operation((k: Tensor, shape: Shape, min: number, max: number): Tensor => {
  if (!representable("int32", min) || !representable("int32", max - 1) || min >= max || max - min >= 2 ** 32)
    throw new ValueError(`random.randint: needs int32 values min < max, got ${min} and ${max}`);
  const words = blocks(checkKey("random.randint", k), checkShape("random.randint", shape), "xor");
  const offset = raw.cast(raw.remainder(words, raw.constantLike(words, max - min)), "int32");
  return raw.add(offset, raw.constantLike(offset, min));
});

/** Independent booleans, true with probability p (default 1/2). */
export const bernoulli = operation((k: Tensor, p: TensorLike = 0.5, shape?: Shape): Tensor => {
  if (typeof p === "number" && !(p >= 0 && p <= 1))
    throw new ValueError(`random.bernoulli: p must lie in [0, 1], got ${p}`);
  const size = checkShape("random.bernoulli", shape ?? (p instanceof Tensor ? p.shape : []));
  const dtype = p instanceof Tensor ? needFloat("random.bernoulli", p).dtype : "float32";
  return ops.less(unit(checkKey("random.bernoulli", k), size, dtype), p);
});

/** 0 .. n - 1 in random order (int32), or the rows of a tensor in random order. */
export const permutation = operation((k: Tensor, x: number | Tensor): Tensor => {
  checkKey("random.permutation", k);
  const n = typeof x === "number" ? x : checkTensor("random.permutation", x).shape[0];
  if (n === undefined) throw new ShapeError("random.permutation: needs at least one axis, got a scalar");
  const order = raw.argsort(blocks(k, checkShape("random.permutation", [n]), "xor"));
  return typeof x === "number" ? order : ops.take(x, order, 0);
});

/** Independent draws (int32) with probabilities softmax(logits) along an axis (default: the last), by Gumbel's trick. */
export const categorical = operation((k: Tensor, logits: Tensor, axis = -1): Tensor => {
  needFloat("random.categorical", checkTensor("random.categorical", logits));
  const at = normalizeAxis("random.categorical", axis, logits.rank);
  const u = unit(checkKey("random.categorical", k), logits.shape, logits.dtype);
  const positive = raw.add(u, raw.constantLike(u, logits.dtype === "float32" ? 2 ** -24 : 2 ** -54));
  const gumbel = raw.neg(raw.log(raw.neg(raw.log(positive))));
  return ops.argmax(raw.add(logits, gumbel), at);
});
