// float32 functions without branches, so that the compiler turns a loop over them into SIMD code.
// Included once for every instruction set, inside an anonymous namespace.
//
// Polynomials are minimax fits in their reduced range; errors of the fits are far below half an ulp,
// what remains is rounding.
#pragma once

inline float fromBits(uint32_t bits) { float x; std::memcpy(&x, &bits, 4); return x; }
inline uint32_t toBits(float x) { uint32_t bits; std::memcpy(&bits, &x, 4); return bits; }
inline double fromBits64(uint64_t bits) { double x; std::memcpy(&x, &bits, 8); return x; }
inline uint64_t toBits64(double x) { uint64_t bits; std::memcpy(&bits, &x, 8); return bits; }

// Contracted where the machine can; the callers hold either way.
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
inline float fmadd(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double fmadd(double a, double b, double c) { return __builtin_fma(a, b, c); }
// y^2 - s, where s is y^2 rounded
inline float squareError(float y, float s) { return __builtin_fmaf(y, y, -s); }
// 1 - t d, small
inline float reciprocalError(float t, float d) { return __builtin_fmaf(-t, d, 1.0f); }
#else
inline float fmadd(float a, float b, float c) { return a * b + c; }
inline double fmadd(double a, double b, double c) { return a * b + c; }
inline float squareError(float y, float s) {
  const float high = fromBits(toBits(y) & 0xfffff000u), low = y - high;
  return ((high * high - s) + 2 * high * low) + low * low;
}
inline float reciprocalError(float t, float d) {
  return static_cast<float>(1.0 - static_cast<double>(t) * static_cast<double>(d));
}
#endif

inline float absolute(float x) { return fromBits(toBits(x) & 0x7fffffffu); }
inline float copySign(float x, float sign) {
  return fromBits((toBits(x) & 0x7fffffffu) | (toBits(sign) & 0x80000000u));
}

constexpr float kRoundMagic = 12582912.0f;            // 1.5 * 2^23: adding it rounds to an integer in the low bits
constexpr double kRoundMagic64 = 6755399441055744.0;  // 1.5 * 2^52
constexpr float kInfinity = __builtin_inff();

// x = n ln 2 + r, |r| <= ln 2 / 2
struct Reduced {
  int32_t n;
  float r;
};
inline Reduced reduceLn2(float x) {
  const float shifted = fmadd(x, 1.44269504f, kRoundMagic);
  const float n = shifted - kRoundMagic;
  // ln 2 = 0.693359375 - 2.12194440e-4: n times the first part is exact
  const float r = fmadd(n, 2.12194440e-4f, fmadd(n, -0.693359375f, x));
  return {static_cast<int32_t>(toBits(shifted) - toBits(kRoundMagic)), r};
}

// e^r for |r| <= 0.35
inline float expReduced(float r) {
  float p = 1.395170310e-03f;
  p = fmadd(p, r, 8.369590246e-03f);
  p = fmadd(p, r, 4.166618750e-02f);
  p = fmadd(p, r, 1.666651296e-01f);
  p = fmadd(p, r, 5.000000101e-01f);
  return fmadd(p, r * r, r) + 1.0f;
}

// p 2^n in two factors, so that denormal and overflowing results round once
inline float scale2(float p, int32_t n) {
  const uint32_t half = static_cast<uint32_t>(n >> 1), rest = static_cast<uint32_t>(n) - half;
  return p * fromBits((half + 127u) << 23) * fromBits((rest + 127u) << 23);
}

inline float exp32(float x) {
  x = x > 89.0f ? 89.0f : x;
  x = x < -104.0f ? -104.0f : x;
  const Reduced d = reduceLn2(x);
  return scale2(expReduced(d.r), d.n);
}

// e^x - 1 = 2^n (e^r - 1) + (2^n - 1)
inline float expm1_32(float x) {
  float c = x > 89.0f ? 89.0f : x;
  c = c < -20.0f ? -20.0f : c;
  const Reduced d = reduceLn2(c);
  float p = 1.991501435e-04f;
  p = fmadd(p, d.r, 1.394204791e-03f);
  p = fmadd(p, d.r, 8.333271750e-03f);
  p = fmadd(p, d.r, 4.166634203e-02f);
  p = fmadd(p, d.r, 1.666666682e-01f);
  p = fmadd(p, d.r, 5.000000049e-01f);
  p = fmadd(p, d.r * d.r, d.r);
  const float half = fromBits((static_cast<uint32_t>(d.n) + 126u) << 23);  // 2^(n - 1): 2^128 is no float
  const float result = 2.0f * fmadd(half, p, half - 0.5f);
  return absolute(x) < 3e-8f ? x : result;
}

// x = 2^k m, m in [sqrt(1/2), sqrt 2): log x = k ln 2 + log m; with f = m - 1, s = f / (2 + f):
// log m = f - s (f - R) with R = s^2 P(s^2), rearranged so that f enters exactly
inline float log32(float x) {
  const bool tiny = x < 1.17549435e-38f;
  uint32_t bits = toBits(tiny ? x * 8388608.0f : x) + (0x3f800000u - 0x3f3504f3u);
  const float k = static_cast<float>(static_cast<int32_t>(bits >> 23) - (tiny ? 150 : 127));
  const float f = fromBits((bits & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
  const float s = f / (2.0f + f), z = s * s;
  float p = 2.358259674e-01f;
  p = fmadd(p, z, 2.853728650e-01f);
  p = fmadd(p, z, 4.000033551e-01f);
  p = fmadd(p, z, 6.666666564e-01f);
  const float square = 0.5f * f * f;
  float result = fmadd(k, 0.693359375f, (f - (square - fmadd(s, square + z * p, k * -2.12194440e-4f))));
  result = x < kInfinity ? result : x;  // infinity and NaN stay
  result = x == 0.0f ? -kInfinity : result;
  return x < 0.0f ? __builtin_nanf("") : result;
}

// log(1 + x) = log(u) x / (u - 1) with u = 1 + x rounded: the factor corrects the rounding
inline float log1p32(float x) {
  const float u = 1.0f + x;
  const float l = log32(u);
  const float corrected = l * (x / (u - 1.0f));
  const float result = u == 1.0f ? x : corrected;
  return u < kInfinity && u > 0.0f ? result : l;
}

// With t = e^(-2|x|) - 1: tanh |x| = -t / (t + 2)
inline float tanh32(float x) {
  const float t = expm1_32(-2.0f * absolute(x));
  return copySign(t / (t + 2.0f), x);
}

// e = e^-|x|: 1 / (1 + e) or e / (1 + e), so neither overflows
inline float sigmoid32(float x) {
  const float e = exp32(-absolute(x));
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

inline float softplus32(float x) {
  return (x < 0.0f ? 0.0f : x) + log1p32(exp32(-absolute(x)));
}

// |x| < 0.93: x + x P(x^2); beyond: 1 - e^(-|x| - |x| P(|x|))
inline float erf32(float x) {
  const float t = absolute(x), z = x * x;
  float small = 8.316909093e-05f;
  small = fmadd(small, z, -8.130050553e-04f);
  small = fmadd(small, z, 5.199910797e-03f);
  small = fmadd(small, z, -2.685894367e-02f);
  small = fmadd(small, z, 1.128368724e-01f);
  small = fmadd(small, z, -3.761263319e-01f);
  small = fmadd(small, z, 1.283791666e-01f);
  small = fmadd(small, x, x);
  const float c = t > 4.0f ? 4.0f : t;
  float large = 1.152246407e-05f;
  large = fmadd(large, c, -3.256543749e-04f);
  large = fmadd(large, c, 3.653770584e-03f);
  large = fmadd(large, c, -2.378536025e-02f);
  large = fmadd(large, c, 1.062631605e-01f);
  large = fmadd(large, c, 6.351359038e-01f);
  large = fmadd(large, c, 1.286521645e-01f);
  const Reduced d = reduceLn2(-fmadd(large, c, c));
  const float tail = 1.0f - expReduced(d.r) * fromBits(static_cast<uint32_t>(d.n + 127) << 23);
  const float result = t < 0.93f ? small : copySign(tail, x);
  return x != x ? x : result;
}

// scale e^(-y^2 / 2) p: the rounding error of y^2, up to 100 ulp of the result, is put back into r
inline float gaussian(float y, float p) {
  const float s = y * y;
  const Reduced d = reduceLn2(-0.5f * s);
  return scale2(expReduced(fmadd(-0.5f, squareError(y, s), d.r)) * p, d.n);
}

inline float normalPdf32(float x) {
  float y = absolute(x);
  y = y > 14.5f ? 14.5f : y;
  return gaussian(y, 0.398942280f);
}

// With y = |x|: Phi(-y) = e^(-y^2 / 2) h(y), h(y) = erfcx(y / sqrt 2) / 2 = P(q) / (y + 3.5),
// q = (3.5 - y) / (3.5 + y); small relative error far into the tail. Phi(y) = 1 - Phi(-y).
inline float normalCdf32(float x) {
  float y = absolute(x);
  y = y > 14.5f ? 14.5f : y;
  // t = 1 / d, and the relative error of it: that of d = 3.5 + y rounded and that of the division
  const float d = 3.5f + y, t = 1.0f / d;
  const float error = reciprocalError(t, d) - t * (y - (d - 3.5f));
  const float q = fmadd(7.0f, t, -1.0f) + 7.0f * t * error;
  float p = -1.102912475e-04f;
  p = fmadd(p, q, 4.211733264e-04f);
  p = fmadd(p, q, 4.949819727e-04f);
  p = fmadd(p, q, -3.174817940e-03f);
  p = fmadd(p, q, -6.493246910e-03f);
  p = fmadd(p, q, 1.740627008e-02f);
  p = fmadd(p, q, 1.160530687e-01f);
  p = fmadd(p, q, 3.154250569e-01f);
  p = fmadd(p, q, 5.655617439e-01f);
  p = fmadd(p, q, 7.444160740e-01f);
  const float tail = gaussian(y, fmadd(p * t, error, p * t));
  // Near 0 the result is 1/2 + x (1/sqrt(2 pi)) (1 - x^2 / 6 + x^4 / 40 - ...), which rounds once.
  const float z = x * x;
  float c = -9.445e-06f;
  c = fmadd(c, z, 1.154346e-04f);
  c = fmadd(c, z, -1.187328e-03f);
  c = fmadd(c, z, 9.973557e-03f);
  c = fmadd(c, z, -6.649038e-02f);
  c = fmadd(c, z, 3.98942280e-01f);
  const float far = x < 0.0f ? tail : 1.0f - tail;
  return y < 0.75f ? fmadd(c, x, 0.5f) : far;
}

// sin and cos in double lanes: x = n pi/2 + r. Exact enough for |x| <= kTrigLimit; larger arguments go to libm.
constexpr float kTrigLimit = 1e6f;
template <int Quarter>  // 0: sin, 1: cos = sin of a quarter turn more
inline float sinCos32(float x) {
  const double d = x, shifted = d * 0.63661977236758134 + kRoundMagic64, n = shifted - kRoundMagic64;
  // pi/2 in two parts; n times the first is exact
  const double r = (d - n * 1.57079632673412561417e+00) - n * 6.07710050650619224932e-11;
  const uint64_t turn = toBits64(shifted) + Quarter;
  const double z = r * r;
  double s = 2.717874864019941e-06;
  s = fmadd(s, z, -0.00019839289319917687);
  s = fmadd(s, z, 0.0083333292456500112);
  s = fmadd(s, z, -0.16666666640432795);
  s = fmadd(s * z, r, r);
  double c = 2.4385657323119578e-05;
  c = fmadd(c, z, -0.0013886713827509917);
  c = fmadd(c, z, 0.041666621784875651);
  c = fmadd(c, z, -0.49999999712004672);
  c = fmadd(c, z, 1.0);
  const uint64_t odd = 0 - (turn & 1);
  const uint64_t bits = (toBits64(c) & odd) | (toBits64(s) & ~odd);
  const float result = static_cast<float>(fromBits64(bits ^ ((turn & 2) << 62)));
  return Quarter == 0 && absolute(x) < 1e-5f ? x : result;  // keeps -0
}

// x^y = e^(y log |x|) in double lanes, where 2^-53 times |y log x| < 150 leaves float32 accuracy
inline float pow32(float x, float y) {
  const float ax = absolute(x);
  uint64_t bits = toBits64(ax) + (0x3ff0000000000000ull - 0x3fe6a09e667f3bcdull);
  // the exponent as a double: bits of 2^52 + k, less 2^52
  const double k = fromBits64((bits >> 52) | 0x4330000000000000ull) - (4503599627370496.0 + 1023.0);
  const double f = fromBits64((bits & 0xfffffffffffffull) + 0x3fe6a09e667f3bcdull) - 1.0;
  const double s = f / (2.0 + f), z = s * s;
  double l = 2.0 / 15;
  l = fmadd(l, z, 2.0 / 13);
  l = fmadd(l, z, 2.0 / 11);
  l = fmadd(l, z, 2.0 / 9);
  l = fmadd(l, z, 2.0 / 7);
  l = fmadd(l, z, 2.0 / 5);
  l = fmadd(l, z, 2.0 / 3);
  l = fmadd(k, 0.69314718055994531, fmadd(l * z, s, 2 * s));
  double t = y * l;
  t = t > 100.0 ? 100.0 : t;
  t = t < -120.0 ? -120.0 : t;
  const double shifted = t * 1.4426950408889634 + kRoundMagic64, n = shifted - kRoundMagic64;
  const double r = fmadd(n, -0.69314718055994531, t);
  double p = 2.4801458142204155e-05;
  p = fmadd(p, r, 0.00019841180582589877);
  p = fmadd(p, r, 0.0013888888976799855);
  p = fmadd(p, r, 0.0083333333741325132);
  p = fmadd(p, r, 0.041666666666408114);
  p = fmadd(p, r, 0.16666666666604796);
  p = fmadd(p, r, 0.50000000000000244);
  p = fmadd(p * r, r, r) + 1.0;
  float result = static_cast<float>(p * fromBits64((toBits64(shifted) + 1023) << 52));
  result = ax == 0.0f ? (y < 0.0f ? kInfinity : 0.0f) : result;
  result = ax == kInfinity ? (y < 0.0f ? 0.0f : kInfinity) : result;
  const float ay = absolute(y);
  const bool large = ay >= 16777216.0f;  // then an even integer
  const float bounded = large ? 0.0f : ay;
  const int32_t whole = static_cast<int32_t>(bounded);
  const bool integer = static_cast<float>(whole) == bounded, odd = integer & ((whole & 1) != 0);
  const bool minus = (toBits(x) >> 31) != 0;
  result = minus & odd ? -result : result;
  result = (x < 0.0f) & !integer & (ax < kInfinity) ? __builtin_nanf("") : result;
  result = (x != x) | (y != y) ? __builtin_nanf("") : result;
  // IEEE 754: 1^y = x^0 = 1, also for NaN, and (-1)^inf = 1
  return (x == 1.0f) | (y == 0.0f) | ((ax == 1.0f) & (ay == kInfinity)) ? 1.0f : result;
}
