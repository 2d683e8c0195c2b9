/**
 * The scalar functions that JavaScript lacks, in double precision. A float32 result is the double rounded.
 */

/** P(x) by Horner's rule, coefficients from the constant term up, as a function that V8 can inline. */
type Rational = (x: number) => number;

// The approximations below are rational functions that interpolate in the Chebyshev nodes of their interval,
// solved for in 60 to 400 digits; the comments give the largest error after rounding the coefficients to double.

/** erf(x) / x - 1 as a function of z = x^2 in [0, 0.65^2]; absolute error 2e-17. */
const erfNearZero: Rational = (z) =>
  (0.12837916709551256 +
    z *
      (-0.317865974616309 +
        z * (-0.0466831379742877 + z * (-0.0072956419030250925 + z * -0.0003002277541930678)))) /
  (1 +
    z *
      (0.45381517682056477 +
        z * (0.08701418862858544 + z * (0.008500617382231599 + z * 0.0003651479180273324))));

/** exp(x^2) erfc(x) for x in [0.65, 4]; relative error 9e-17. All terms are positive: nothing cancels. */
const scaledErfcMiddle: Rational = (x) =>
  (0.9999999993746956 +
    x *
      (1.781254706328746 +
        x *
          (1.571620225982692 +
            x *
              (0.8575542942595589 +
                x *
                  (0.3090040105995904 +
                    x * (0.07339724310251979 + x * (0.010711602799631945 + x * 0.0007556542103293032))))))) /
  (1 +
    x *
      (2.909633865334942 +
        x *
          (3.8547905132742764 +
            x *
              (3.0498383209600552 +
                x *
                  (1.5843682267293662 +
                    x *
                      (0.5571868943168559 +
                        x *
                          (0.1307629913953292 + x * (0.018985818320636363 + x * 0.0013393622776095976))))))));

/** x exp(x^2) erfc(x) as a function of s = 1 / x^2, for x >= 4; relative error 7e-17. Its limit is 1 / sqrt(pi). */
const scaledErfcTail: Rational = (s) =>
  (0.5641895835477562 +
    s *
      (12.041938335033644 +
        s *
          (81.85299617671669 +
            s * (205.01908426144377 + s * (160.55561610317386 + s * 17.678489644270066))))) /
  (1 +
    s *
      (21.843779974296794 +
        s *
          (155.25254826888155 +
            s * (426.50530452725695 + s * (415.78525300230837 + s * 96.62756429059147)))));

/** exp(x^2) erfc(x) for x >= 0.65: what is left of erfc once its steep factor is taken out. */
function scaledErfc(x: number): number {
  return x < 4 ? scaledErfcMiddle(x) : scaledErfcTail(1 / (x * x)) / x;
}

/**
 * exp(-c x^2) for c = 1 or 1/2 without the error of the rounded square, which exp would multiply by c x^2:
 * with h = x rounded to 24 bits, h^2 is exact and x^2 = h^2 + (x - h)(x + h).
 */
function expOfMinusSquare(x: number, c: number): number {
  const h = Math.fround(x);
  const head = Math.exp(-c * h * h);
  return h === x || head === 0 ? head : head * Math.exp(-c * (x - h) * (x + h));
}

/** The error function 2 / sqrt(pi) times the integral of exp(-t^2) over [0, x]. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a < 0.65) return x + x * erfNearZero(x * x);
  if (a >= 6) return x > 0 ? 1 : -1;
  const tail = expOfMinusSquare(a, 1) * scaledErfc(a); // NaN comes through here
  return x < 0 ? tail - 1 : 1 - tail;
}

/**
 * The standard normal distribution function erfc(-x / sqrt(2)) / 2, relatively accurate in both tails: the steep
 * factor exp(-x^2 / 2) is taken of x itself, so that the rounding of x / sqrt(2) is not amplified.
 */
function normalCdf(x: number): number {
  const y = Math.abs(x) * Math.SQRT1_2;
  if (y < 0.65) return 0.5 + 0.5 * (x * Math.SQRT1_2) * (1 + erfNearZero(y * y));
  if (y >= 28) return x > 0 ? 1 : 0;
  const tail = 0.5 * expOfMinusSquare(x, 0.5) * scaledErfc(y);
  return x > 0 ? 1 - tail : tail;
}

/** The standard normal density exp(-x^2 / 2) / sqrt(2 pi). */
function normalPdf(x: number): number {
  return 0.3989422804014327 * expOfMinusSquare(x, 0.5);
}

/** x Phi(x) of the standard normal distribution function Phi. */
export function gelu(x: number): number {
  const p = normalCdf(x);
  return p === 0 ? 0 : x * p; // 0 at -Infinity too
}

/** Phi(x) + x phi(x), the derivative of gelu. */
export function geluSlope(x: number): number {
  const density = normalPdf(x);
  return normalCdf(x) + (density === 0 ? 0 : x * density); // 0 and 1 at the infinities
}

/** 1 / (1 + exp(-x)), by the exponential that cannot overflow. */
export function sigmoid(x: number): number {
  if (x >= 0) return 1 / (1 + Math.exp(-x));
  const e = Math.exp(x);
  return e / (1 + e);
}

/** log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)). */
export function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

/** IEEE 754's pow, which differs from JavaScript's at 1^NaN = 1 and (-1)^inf = 1. */
export function pow(x: number, y: number): number {
  if (x === 1 || (x === -1 && (y === Infinity || y === -Infinity))) return 1;
  return x ** y;
}

/** The nearest whole number; of two, the even one. */
export function roundHalfEven(x: number): number {
  const up = Math.round(x); // of two, the greater one
  return up - x === 0.5 && up % 2 !== 0 ? up - 1 : up;
}

/** a - b floor(a / b), exact as fmod is; a zero takes the sign of b. */
export function remainder(a: number, b: number): number {
  const r = a % b;
  if (r === 0) return b < 0 ? -0 : 0;
  return r < 0 !== b < 0 ? r + b : r;
}

/** The same for int32, in which a remainder by 0 is 0. */
export function remainderInt32(a: number, b: number): number {
  if (b === 0) return 0;
  const r = (a % b) | 0;
  return r !== 0 && (r ^ b) < 0 ? (r + b) | 0 : r;
}

/** Truncation toward zero into int32; saturates, NaN gives 0. */
export function toInt32(x: number): number {
  return x >= 2147483647 ? 2147483647 : x <= -2147483648 ? -2147483648 : x | 0;
}

/** Truncation toward zero into uint32; saturates, NaN gives 0. */
export function toUint32(x: number): number {
  return x >= 4294967295 ? 4294967295 : x > 0 ? x >>> 0 : 0;
}
