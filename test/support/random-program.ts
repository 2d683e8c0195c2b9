import * as fx from "fluxion";
import { operation } from "#lib/ops/operation.js";
import * as raw from "#lib/ops/raw.js";

type T = fx.Tensor;

/** Random numbers that a seed fixes (mulberry32). */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 0x9e3779b1) >>> 0;
  }

  /** In [0, 1). */
  unit(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number in [0, n). */
  below(n: number): number {
    return Math.floor(this.unit() * n);
  }

  chance(p: number): boolean {
    return this.unit() < p;
  }

  pick<V>(list: readonly V[]): V {
    return list[this.below(list.length)]!;
  }
}

/**
 * A value of a random program with what is known of its elements: |x| <= most; exact when they are multiples of
 * 2^-bits that every backend must compute without rounding. Only exact values go where rounding could decide
 * (comparisons, corners, sorting, casts to integers), so that all backends must agree.
 */
interface Known {
  readonly x: T;
  readonly most: number;
  readonly exact: boolean;
  readonly bits: number;
}

export interface RandomProgram {
  readonly seed: number;
  readonly inputs: T[];
  /** Positions of the inputs that are floats. */
  readonly floats: number[];
  readonly f: (...inputs: T[]) => T[];
  /** Other inputs of the same shapes and dtypes. */
  readonly draw: (salt: number) => T[];
}

const scatter = operation((x: T, indices: T, axis: number, size: number) =>
  raw.scatter(x, indices, axis, size),
);
const isFloat = (x: T) => x.dtype === "float32" || x.dtype === "float64";
const isInteger = (x: T) => x.dtype === "int32" || x.dtype === "uint32";

/** A program that a seed fixes, over every operation, dtype and kind of shape; `sizes` are those of the axes. */
export function randomProgram(
  seed: number,
  sizes: readonly number[] = [0, 1, 1, 2, 3, 3, 4, 5, 7],
  steps = 14,
): RandomProgram {
  const dice = new Dice(seed);
  const float: fx.DType = dice.chance(0.6) ? "float64" : "float32";
  const base = Array.from({ length: 3 }, () => sizes[dice.below(sizes.length)]!);
  const shapes = [
    base,
    base,
    base.slice(1),
    [base[0]!, 1, base[2]!],
    [base[2]!, sizes[1 + dice.below(sizes.length - 1)]!],
  ];
  const dtypes: fx.DType[] = [
    float,
    float,
    float,
    dice.chance(0.5) ? "int32" : "uint32",
    dice.chance(0.3) ? "bool" : float,
  ];
  const drawn = (dice: Dice) => shapes.map((shape, i) => randomInput(dice, shape, dtypes[i]!));
  const inputs = drawn(dice);
  const draw = (salt: number) => drawn(new Dice(seed * 1009 + salt));
  const f = (...xs: T[]): T[] => {
    const own = new Dice(seed + 0x51ed27);
    const values: Known[] = xs.map((x) => ({
      x,
      most: isFloat(x) ? 2 : 8,
      exact: true,
      bits: isFloat(x) ? 2 : 0,
    }));
    for (let i = 0; i < steps; i++) values.push(...grow(own, values));
    const outputs = values.slice(-2).map((v) => v.x);
    for (let i = 0; i < 3; i++) outputs.push(own.pick(values).x);
    return outputs;
  };
  return { seed, inputs, floats: inputs.map((_, i) => i).filter((i) => isFloat(inputs[i]!)), f, draw };
}

/** Multiples of 1/4 in [-2, 2], so that there are ties and zeros; small whole numbers. */
function randomInput(dice: Dice, shape: readonly number[], dtype: fx.DType): T {
  const draw = () =>
    dtype === "bool"
      ? dice.below(2)
      : dtype === "uint32"
        ? dice.below(9)
        : dtype === "int32"
          ? dice.below(17) - 8
          : (dice.below(17) - 8) / 4;
  const size = shape.reduce((a, b) => a * b, 1);
  return fx.tensor(Array.from({ length: size }, draw), { shape, dtype });
}

/** One more value, made of a random operation on earlier ones; none when the operation has nothing to work on. */
function grow(dice: Dice, values: readonly Known[]): Known[] {
  const some = (...conditions: ((v: Known) => boolean)[]): Known | undefined => {
    const fit = values.filter((v) => conditions.every((c) => c(v)));
    // Late values more often, so that programs grow deep.
    return fit.length === 0 ? undefined : fit[Math.floor(fit.length * Math.sqrt(dice.unit()))];
  };
  const floating = (v: Known) => isFloat(v.x);
  const integer = (v: Known) => isInteger(v.x);
  const exact = (v: Known) => v.exact;
  const inexact = (x: T, most: number): Known[] => [tame({ x, most, exact: false, bits: 0 })];
  const precise = (x: T, most: number, bits: number): Known[] => {
    if (isInteger(x) || x.dtype === "bool")
      return [{ x, most: Math.min(most, 2 ** 32), exact: true, bits: 0 }];
    return most * 2 ** bits < 2 ** 21 ? [{ x, most, exact: true, bits }] : inexact(x, most);
  };
  const kept = (v: Known, x: T): Known[] => [{ ...v, x }];
  const elements = (v: Known) => v.x.size > 0;

  switch (dice.below(11)) {
    case 0: {
      const a = some(floating);
      if (!a) return [];
      const { x } = a;
      const smooth: (() => Known[])[] = [
        () => inexact(fx.sin(x), 1),
        () => inexact(fx.cos(x), 1),
        () => inexact(fx.tanh(x), 1),
        () => inexact(fx.erf(x), 1),
        () => inexact(fx.sigmoid(x), 1),
        () => inexact(fx.gelu(x), a.most),
        () => inexact(fx.silu(x), a.most),
        () => inexact(fx.softplus(x), a.most + 1),
        () => inexact(fx.exp(fx.tanh(x)), 3),
        () => inexact(fx.expm1(fx.sin(x)), 2),
        () => inexact(fx.log(fx.add(fx.softplus(x), 0.5)), 6),
        () => inexact(fx.log1p(fx.square(x)), 12),
        () => inexact(fx.sqrt(fx.add(fx.square(x), 0.25)), a.most + 1),
        () => inexact(fx.rsqrt(fx.add(fx.square(x), 0.25)), 2),
        () => inexact(fx.pow(fx.add(fx.square(fx.tanh(x)), 0.5), 1.5), 2),
      ];
      return dice.pick(smooth)();
    }
    case 1: {
      const a = some(floating, exact);
      if (!a) return [];
      const { x } = a;
      const cornered: (() => Known[])[] = [
        () => kept(a, fx.neg(x)),
        () => kept(a, fx.abs(x)),
        () => kept(a, fx.relu(x)),
        () => precise(fx.sign(x), 1, 0),
        () => precise(fx.floor(x), a.most + 1, 0),
        () => precise(fx.round(x), a.most + 1, 0),
        () => precise(fx.square(x), a.most ** 2, 2 * a.bits),
        () => precise(fx.clip(x, -1, 1.5), 1.5, Math.max(1, a.bits)),
        () => precise(fx.cast(x, "int32"), a.most, 0),
        () => precise(fx.cast(x, "bool"), 1, 0),
        () => precise(fx.cast(x, x.dtype === "float32" ? "float64" : "float32"), a.most, a.bits),
        () => precise(fx.remainder(x, 1.5), 1.5, Math.max(1, a.bits)),
        () => kept(a, fx.stopGradient(x)),
      ];
      return dice.pick(cornered)();
    }
    case 2:
    case 3: {
      const a = some((v) => v.x.dtype !== "bool");
      const b =
        a &&
        some(
          (v) => v.x.dtype === a.x.dtype,
          (v) => broadcasts(a.x, v.x),
        );
      if (!a || !b) return [];
      const [x, y] = [a.x, b.x];
      const both = a.exact && b.exact;
      const bits = Math.max(a.bits, b.bits);
      const give = (z: T, most: number, more = bits) => (both ? precise(z, most, more) : inexact(z, most));
      const always: (() => Known[])[] = [
        () => give(fx.add(x, y), a.most + b.most),
        () => give(fx.sub(x, y), a.most + b.most),
        () => give(fx.mul(x, y), a.most * b.most, a.bits + b.bits),
      ];
      if (isFloat(x)) always.push(() => inexact(fx.div(x, fx.add(1, fx.square(y))), a.most));
      if (isInteger(x)) always.push(() => give(fx.remainder(x, y), 2 ** 32));
      if (both) {
        const most = Math.max(a.most, b.most);
        always.push(
          () => give(fx.maximum(x, y), most),
          () => give(fx.minimum(x, y), most),
          () =>
            precise(
              dice.pick([fx.equal, fx.notEqual, fx.greater, fx.greaterEqual, fx.less, fx.lessEqual])(x, y),
              1,
              0,
            ),
          () => give(fx.where(fx.greater(x, y), x, fx.mul(y, 2)), 2 * most),
        );
      }
      return dice.pick(always)();
    }
    case 4: {
      const c = some((v) => v.x.dtype === "bool");
      if (!c) return [];
      const a = some((v) => broadcasts(c.x, v.x));
      const b =
        a &&
        some(
          (v) => v.x.dtype === a.x.dtype,
          (v) => broadcasts(a.x, v.x),
          (v) => broadcasts(c.x, v.x),
        );
      const d = some(
        (v) => v.x.dtype === "bool",
        (v) => broadcasts(c.x, v.x),
      );
      const logical: (() => Known[])[] = [
        () => precise(fx.logicalNot(c.x), 1, 0),
        () => precise(dice.pick([fx.logicalAnd, fx.logicalOr])(c.x, d!.x), 1, 0),
        () => precise(fx.cast(c.x, dice.pick(["float32", "float64", "int32", "uint32"] as const)), 1, 0),
      ];
      if (a && b && sizeTogether(c.x, a.x, b.x))
        logical.push(() => {
          const chosen = fx.where(c.x, a.x, b.x);
          const most = Math.max(a.most, b.most);
          return a.exact && b.exact ? precise(chosen, most, Math.max(a.bits, b.bits)) : inexact(chosen, most);
        });
      return dice.pick(logical)();
    }
    case 5: {
      const a = some(integer);
      if (!a) return [];
      const { x } = a;
      const whole: (() => Known[])[] = [
        () => precise(fx.neg(x), 2 ** 32, 0),
        () => precise(fx.abs(x), a.most, 0),
        () => precise(fx.sign(x), 1, 0),
        () => precise(fx.cast(x, x.dtype === "int32" ? "uint32" : "int32"), 2 ** 32, 0),
        () => precise(fx.cast(x, "bool"), 1, 0),
        () => {
          const dtype = dice.pick(["float32", "float64"] as const);
          return a.most <= 1024
            ? precise(fx.cast(x, dtype), a.most, 0)
            : inexact(fx.mul(fx.cast(x, dtype), 2 ** -31), 2);
        },
      ];
      return dice.pick(whole)();
    }
    case 6:
    case 7: {
      const a = some();
      return a ? kept(a, view(dice, a.x)) : [];
    }
    case 8: {
      const a = some((v) => v.x.rank > 0);
      if (!a) return [];
      const { x } = a;
      const axis: number | undefined = dice.chance(0.2) ? undefined : dice.below(x.rank);
      const keepDims = dice.chance(0.4);
      const n = axis === undefined ? x.size : x.shape[axis]!;
      const over = { keepDims };
      const total = () =>
        a.exact
          ? precise(fx.sum(x, axis, over), a.most * Math.max(1, n), a.bits)
          : inexact(fx.sum(x, axis, over), a.most * Math.max(1, n));
      const reductions: (() => Known[])[] = [total, total];
      reductions.push(() => {
        const y = fx.cumsum(x, axis, { reverse: dice.chance(0.5) });
        const most = a.most * Math.max(1, n);
        return a.exact ? precise(y, most, a.bits) : inexact(y, most);
      });
      const last = axis ?? x.rank - 1;
      if (isFloat(x) && n > 0) {
        reductions.push(
          () => inexact(fx.mean(x, axis, over), a.most),
          () => inexact(fx.variance(x, axis, over), a.most ** 2),
          () => inexact(fx.logsumexp(x, axis, over), a.most + 10),
        );
        if (x.shape[last]! > 0)
          reductions.push(
            () => inexact(fx.softmax(x, last), 1),
            () => inexact(fx.logSoftmax(x, last), 2 * a.most + 10),
          );
      }
      if (isFloat(x) && n <= 8) reductions.push(() => inexact(fx.prod(fx.tanh(x), axis, over), 1));
      if (isInteger(x)) reductions.push(() => precise(fx.prod(x, axis, over), 2 ** 32, 0));
      if (a.exact && n > 0 && elements(a)) {
        reductions.push(
          () => kept(a, fx.max(x, axis, over)),
          () => kept(a, fx.min(x, axis, over)),
          () => precise(fx.argmax(x, axis, over), n, 0),
          () => precise(fx.argmin(x, axis, over), n, 0),
          () => precise(fx.argsort(x), x.shape[x.rank - 1]!, 0),
          () =>
            kept(
              a,
              fx.take(
                x,
                fx.argsort(
                  fx.reshape(
                    fx.slice(
                      x,
                      x.shape.map(() => 0),
                      x.shape.map((n, i) => (i === last ? n : 1)),
                    ),
                    [x.shape[last]!],
                  ),
                ),
                last,
              ),
            ),
        );
      }
      return dice.pick(reductions)();
    }
    case 9: {
      const a = some(
        (v) => v.x.dtype !== "bool",
        (v) => v.x.rank >= 1,
      );
      const b =
        a &&
        some(
          (v) => v.x.dtype === a.x.dtype,
          (v) => multiplies(a.x, v.x),
        );
      if (!a || !b) return [];
      const k = a.x.shape[a.x.rank - 1]!;
      const most = Math.max(1, k) * a.most * b.most;
      let y = fx.matmul(a.x, b.x);
      // With what a product is mostly followed by.
      if (isFloat(y) && y.rank > 0 && dice.chance(0.4))
        return inexact(fx.gelu(fx.add(y, fx.sum(fx.mul(y, 0.01), 0, { keepDims: true }))), 2 * most);
      if (isFloat(y) && dice.chance(0.3)) y = fx.add(y, 0.5);
      return a.exact && b.exact ? precise(y, most + 0.5, a.bits + b.bits + 1) : inexact(y, most + 0.5);
    }
    default: {
      const a = some((v) => v.x.rank > 0);
      if (!a) return [];
      const { x } = a;
      const axis = dice.below(x.rank);
      const n = x.shape[axis]!;
      const b = some(
        (v) => v.x.dtype === x.dtype,
        (v) => v.x.rank === x.rank,
        (v) => v.x.shape.every((m, i) => i === axis || m === x.shape[i]),
      );
      const count = dice.below(6);
      const indices = () =>
        fx.tensor(
          Array.from({ length: count }, () => dice.below(2 * n) - n),
          { shape: [count], dtype: "int32" },
        );
      const size = 1 + dice.below(4);
      const places = () =>
        fx.tensor(
          Array.from({ length: n }, () => dice.below(2 * size) - size),
          { shape: [n], dtype: "int32" },
        );
      const seed = dice.below(1000);
      const many: (() => Known[])[] = [];
      if (b) {
        const joined = {
          most: Math.max(a.most, b.most),
          exact: a.exact && b.exact,
          bits: Math.max(a.bits, b.bits),
        };
        many.push(() => [{ x: fx.concat([x, b.x], axis), ...joined }]);
        many.push(() => [{ x: fx.concat([b.x, x, b.x], axis), ...joined }]);
      }
      many.push(() => kept(a, fx.stack([x, x], dice.below(x.rank + 1))));
      if (n > 0) many.push(() => kept(a, fx.take(x, indices(), axis)));
      if (x.dtype !== "bool") {
        many.push(() =>
          kept(
            a,
            fx.pad(
              x,
              x.shape.map(() => [dice.below(3), dice.below(2)] as const),
            ),
          ),
        );
        many.push(() => {
          const y = scatter(x, places(), axis, size);
          return a.exact ? precise(y, a.most * Math.max(1, n), a.bits) : inexact(y, a.most * Math.max(1, n));
        });
      }
      if (isInteger(x) && x.rank < 3)
        many.push(() =>
          precise(fx.oneHot(x, 3, { dtype: dice.pick(["float32", "float64"] as const) }), 1, 0),
        );
      many.push(() => precise(fx.random.bits(fx.random.key(seed), x.shape), 2 ** 32, 0));
      const dtype = dice.pick(["float32", "float64"] as const);
      many.push(() => inexact(fx.random.uniform(fx.random.key(seed), x.shape, { dtype }), 1));
      many.push(() => inexact(fx.random.normal(fx.random.key(seed), x.shape, { dtype }), 6));
      return dice.pick(many)();
    }
  }
}

/** Large values would magnify the rounding of the steps before. */
function tame(v: Known): Known {
  return v.most <= 64 ? v : { x: fx.tanh(fx.mul(v.x, 1 / 64)), most: 1, exact: false, bits: 0 };
}

const largest = 1 << 16;

function broadcasts(a: T, b: T): boolean {
  const rank = Math.max(a.rank, b.rank);
  let size = 1;
  for (let i = 1; i <= rank; i++) {
    const n = a.shape[a.rank - i] ?? 1;
    const m = b.shape[b.rank - i] ?? 1;
    if (n !== m && n !== 1 && m !== 1) return false;
    size *= n === 1 ? m : n;
  }
  return size <= largest;
}

const sizeTogether = (a: T, b: T, c: T): boolean => broadcasts(a, b) && broadcasts(b, c) && broadcasts(a, c);

function multiplies(a: T, b: T): boolean {
  if (b.rank === 0) return false;
  const k = b.shape[Math.max(0, b.rank - 2)];
  if (k !== a.shape[a.rank - 1]) return false;
  const batch = (x: T) => fx.zeros(x.shape.slice(0, -2), { dtype: "bool" });
  return (
    broadcasts(batch(a), batch(b)) &&
    a.size * (b.shape[b.rank - 1] ?? 1) <= largest * 4 &&
    a.size * b.size <= largest * 64
  );
}

/** x seen in another way: the same elements or some of them. */
function view(dice: Dice, x: T): T {
  const perm = x.shape.map((_, i) => i);
  for (let i = perm.length - 1; i > 0; i--) {
    const j = dice.below(i + 1);
    [perm[i], perm[j]] = [perm[j]!, perm[i]!];
  }
  const views: (() => T)[] = [
    () => fx.transpose(x, perm),
    () => fx.reshape(x, [x.size]),
    () => fx.reshape(x, [...x.shape].reverse()),
    () => fx.reshape(fx.transpose(x, perm), x.shape),
    () => (x.size * 3 <= largest && x.rank < 4 ? fx.broadcastTo(x, [3, ...x.shape]) : x),
    () => (x.rank < 4 ? fx.expandDims(x, dice.below(x.rank + 1)) : fx.squeeze(x)),
    () => fx.squeeze(x),
    () => fx.flip(x, x.rank > 0 ? dice.below(x.rank) : []),
    () => fx.flip(x),
    () => {
      const start = x.shape.map((n) => dice.below(n + 1));
      return fx.slice(
        x,
        start,
        x.shape.map((n, i) => dice.below(n - start[i]! + 1)),
      );
    },
    () =>
      fx.slice(
        x,
        x.shape.map((n) => (n > 1 ? 1 : 0)),
        x.shape.map(() => -1),
      ),
  ];
  return dice.pick(views)();
}
