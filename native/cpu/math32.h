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
// -y^2 - a, where a is near -y^2: rounded once
inline float minusSquare(float y, float a) { return __builtin_fmaf(-y, y, -a); }
#else
inline float fmadd(float a, float b, float c) { return a * b + c; }
inline double fmadd(double a, double b, double c) { return a * b + c; }
inline float minusSquare(float y, float a) {
  const float high = fromBits(toBits(y) & 0xfffff000u);  // its square is exact
  return (-(high * high) - a) - (y - high) * (y + high);
}
#endif

inline float absolute(float x) { return fromBits(toBits(x) & 0x7fffffffu); }
inline float copySign(float x, float sign) {
  return fromBits((toBits(x) & 0x7fffffffu) | (toBits(sign) & 0x80000000u));
}

constexpr float kRoundMagic = 12582912.0f;            // 1.5 * 2^23: adding it rounds to an integer in the low bits
constexpr double kRoundMagic64 = 6755399441055744.0;  // 1.5 * 2^52
constexpr float kInfinity = __builtin_inff();

// x = n ln 2 + r, |r| <= ln 2 / 2. The low bits of `shifted` are those of n + bias.
struct Reduced {
  uint32_t shifted;
  float r;
};
inline Reduced reduceLn2(float x, int bias) {
  const float magic = kRoundMagic + static_cast<float>(bias);
  const float shifted = fmadd(x, 1.44269504f, magic), n = shifted - magic;
  // ln 2 = 0.693359375 - 2.12194440e-4: n times the first part is exact
  return {toBits(shifted), fmadd(n, 2.12194440e-4f, fmadd(n, -0.693359375f, x))};
}

// e^r - 1 for |r| <= 0.348: r + r^2 P(r), relative error 3.2e-9 of e^r
inline float expReduced(float r) {
  float p = 1.381874201e-03f;
  p = fmadd(p, r, 8.368721232e-03f);
  p = fmadd(p, r, 4.166829214e-02f);
  p = fmadd(p, r, 1.666652113e-01f);
  p = fmadd(p, r, 4.999999404e-01f);
  return fmadd(p, r * r, r);
}

inline float exp32(float x) {
  // 2^n in two factors, so that denormal and overflowing results round once: the bias 2 * 127 leaves 127 in each half
  const Reduced d = reduceLn2(x, 254);
  const uint32_t half = d.shifted >> 1, rest = d.shifted - half;
  float result = (1.0f + expReduced(d.r)) * fromBits(half << 23) * fromBits(rest << 23);
  result = x > 89.0f ? kInfinity : result;
  return x < -104.0f ? 0.0f : result;
}

// e^x - 1 = 2^n (e^r - 1) + (2^n - 1)
inline float expm1_32(float x) {
  const Reduced d = reduceLn2(x, 126);
  float p = 1.991501435e-04f;
  p = fmadd(p, d.r, 1.394204791e-03f);
  p = fmadd(p, d.r, 8.333271750e-03f);
  p = fmadd(p, d.r, 4.166634203e-02f);
  p = fmadd(p, d.r, 1.666666682e-01f);
  p = fmadd(p, d.r, 5.000000049e-01f);
  p = fmadd(p, d.r * d.r, d.r);
  const float half = fromBits(d.shifted << 23);  // 2^(n - 1): 2^128 is no float
  float result = 2.0f * fmadd(half, p, half - 0.5f);
  result = x > 89.0f ? kInfinity : result;
  result = x < -20.0f ? -1.0f : result;
  return absolute(x) < 3e-8f ? x : result;
}

// log(u + c) = log u + c / u for u = 2^k m > 0, m in [sqrt(1/2), sqrt 2), `ratio` = c / u so small that its square
// does not count:
// log u = k ln 2 + log m; with f = m - 1, s = f / (2 + f): log m = f - s (f - R) with R = s^2 P(s^2), rearranged so
// that f enters exactly. `bits` are those of u, times a power of two where u is denormal; `bias` that of their exponent.
inline float logParts(uint32_t bits, int bias, float ratio) {
  bits += 0x3f800000u - 0x3f3504f3u;
  const float k = static_cast<float>(static_cast<int32_t>(bits >> 23) - bias);
  const float f = fromBits((bits & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
  const float s = f / (2.0f + f), z = s * s;
  float p = 2.358259674e-01f;
  p = fmadd(p, z, 2.853728650e-01f);
  p = fmadd(p, z, 4.000033551e-01f);
  p = fmadd(p, z, 6.666666564e-01f);
  const float square = 0.5f * f * f;
  return fmadd(k, 0.693359375f, f - (square - fmadd(s, square + z * p, fmadd(k, -2.12194440e-4f, ratio))));
}

inline float log32(float x) {
  const bool tiny = x < 1.17549435e-38f;
  float result = logParts(toBits(tiny ? x * 8388608.0f : x), tiny ? 150 : 127, 0.0f);
  result = x < kInfinity ? result : x;  // infinity and NaN stay
  result = x == 0.0f ? -kInfinity : result;
  return x < 0.0f ? __builtin_nanf("") : result;
}

// log(1 + x) = log(u) + c / u with u = 1 + x rounded and c what the rounding lost
inline float log1pFinite(float x) {
  const float u = 1.0f + x, part = u - 1.0f;
  const float c = (1.0f - (u - part)) + (x - part);
  return logParts(toBits(u), 127, c / u);
}
inline float log1p32(float x) {
  float result = x < kInfinity ? log1pFinite(x) : x;
  result = x == -1.0f ? -kInfinity : result;
  result = x < -1.0f ? __builtin_nanf("") : result;
  return x == 0.0f ? x : result;  // keeps -0
}

// |x| < 0.6: x + x z P(z), z = x^2, relative error 2.8e-9; beyond: 1 - 2 / (e^2|x| + 1), at most half of which is
// exposed to the errors of the exponential. From 9.02 on the result is 1.
inline float tanh32(float x) {
  const float a = absolute(x), y = a > 9.5f ? 9.5f : a, z = x * x;
  float p = -5.897966214e-03f;
  p = fmadd(p, z, 2.079862542e-02f);
  p = fmadd(p, z, -5.378471687e-02f);
  p = fmadd(p, z, 1.333193630e-01f);
  p = fmadd(p, z, -3.333329856e-01f);
  const float small = fmadd(p * z, x, x);
  const Reduced d = reduceLn2(2.0f * y, 127);
  const float scale = fromBits(d.shifted << 23);
  const float large = 1.0f - 2.0f / (fmadd(scale, expReduced(d.r), scale) + 1.0f);
  return copySign(a < 0.6f ? small : large, x);
}

// With e = e^-|x|: 1 / (1 + e) or e / (1 + e), so neither overflows. d = 1 + e is rounded by -lost; a numerator
// larger by 1 - lost, times which 1 + w is e or 1 without its scale, makes up for most of it.
inline float sigmoid32(float x) {
  constexpr float kDown = 5.42101086242752217e-20f;  // 2^-64: before the last product nothing is denormal
  float y = absolute(x);
  y = y > 104.0f ? 104.0f : y;
  const Reduced reduced = reduceLn2(-y, 127 + 64);
  const float scale = fromBits(reduced.shifted << 23), t = expReduced(reduced.r), p = 1.0f + t;
  const float e = p * scale * kDown, d = 1.0f + e, lost = e - (d - 1.0f);
  const float left = (1.0f + fmadd(-lost, p, t)) * scale * kDown, right = 1.0f - lost;
  return (x < 0.0f ? left : right) / d;
}

inline float softplus32(float x) {
  return (x < 0.0f ? 0.0f : x) + log1pFinite(exp32(-absolute(x)));
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
  const Reduced d = reduceLn2(-fmadd(large, c, c), 127);
  const float scale = fromBits(d.shifted << 23);
  const float tail = 1.0f - fmadd(scale, expReduced(d.r), scale);
  const float result = t < 0.93f ? small : copySign(tail, x);
  return x != x ? x : result;
}

// x Phi(x) and its derivative Phi(x) + x phi(x), by symmetry from y = |x|: with Q(y) = Phi(-y),
//   x Phi(x) = max(x, 0) - y Q(y),  slope(-y) = Q(y) - y phi(y),  slope(y) = 1 - slope(-y).
// Both have the factor e^(-y^2 / 2), of which Q(y) = e^(-y^2 / 2) h(y) leaves h(y) = erfcx(y / sqrt 2) / 2: smooth,
// and so a polynomial in q = (c - y) / (c + y), fitted in relative error over [0, 14.5], beyond which float32 has
// no Q(y). Of the c with few digits, 3.375 gives degree 8 its smallest error (3.9e-8).
struct Gelu {
  float value, slope;
};
inline Gelu gelu32(float x) {
  constexpr float kUp = 18446744073709551616.0f, kDown = 1 / kUp;  // 2^64
  // y = min(|x|, 14.5), or NaN, by bits: the compiler would compute both results of a comparison's here, too.
  const int32_t bits = static_cast<int32_t>(toBits(x) & 0x7fffffffu), most = 0x41680000, infinity = 0x7f800000;
  const float y = fromBits(static_cast<uint32_t>((bits < most ? bits : most) | ((infinity - bits) >> 31)));
  // e^(-y^2 / 2) 2^64: no denormal until the last product, which so rounds once. The magic number has 64 + 127 in
  // it, so that the low bits of `shifted` are the exponent of 2^(n + 64).
  constexpr float kMagic = kRoundMagic + (64 + 127);
  const float shifted = fmadd(y * y, -0.721347520f, kMagic), n = shifted - kMagic;
  // r = -y^2 - 2 n ln 2, so that e^(r / 2) is to be scaled: n times the first part of 2 ln 2 is exact, and so is
  // the difference.
  const float r = fmadd(n, 4.24388880e-4f, minusSquare(y, n * 1.38671875f));
  float p = 2.159178439e-05f;  // relative error 3.2e-9 for |r| <= ln 2
  p = fmadd(p, r, 2.615225385e-04f);
  p = fmadd(p, r, 2.604268258e-03f);
  p = fmadd(p, r, 2.083315141e-02f);
  p = fmadd(p, r, 1.249999851e-01f);
  p = fmadd(p, r, 0.5f);
  p = fmadd(p, r, 1.0f);
  const float e = p * fromBits(toBits(shifted) << 23);
  // The q of a y' that is y but for the rounding of d: it has one rounding more, where c - y over c + y has three.
  const float d = 3.375f + y, q = (6.75f - d) / d;
  float h = 1.539772929e-04f * kDown;
  h = fmadd(h, q, -1.808951347e-04f * kDown);
  h = fmadd(h, q, -1.486506197e-03f * kDown);
  h = fmadd(h, q, 1.230537164e-04f * kDown);
  h = fmadd(h, q, 1.586594060e-02f * kDown);
  h = fmadd(h, q, 5.833607912e-02f * kDown);
  h = fmadd(h, q, 1.256842911e-01f * kDown);
  h = fmadd(h, q, 1.917144060e-01f * kDown);
  h = fmadd(h, q, 1.097896695e-01f * kDown);
  const float left = e * fmadd(y, -0.398942280f * kDown, h);  // slope(-y)
  // max(x, 0) by bits: the compiler would compute both results of a comparison's. A NaN still comes through y.
  const float positive = fromBits(toBits(x) & ~static_cast<uint32_t>(static_cast<int32_t>(toBits(x)) >> 31));
  return {fmadd(-(e * y), h, positive), x < 0.0f ? left : 1.0f - left};
}

// sin and cos in double lanes: r = x - n pi with n an integer for sin, half an odd one for cos, |r| <= pi / 2, and the
// result is sin r but for the sign. Exact enough for |x| <= kTrigLimit; larger arguments go to libm.
constexpr float kTrigLimit = 1e6f;
inline float sinTurned(double r, uint64_t odd) {
  const double z = r * r;
  double p = 2.605765188e-06;  // sin r = r + r z P(z): relative error 6.1e-9 for |r| <= pi / 2
  p = fmadd(p, z, -1.980959624e-04);
  p = fmadd(p, z, 8.333066160e-03);
  p = fmadd(p, z, -1.666665955e-01);
  return static_cast<float>(fromBits64(toBits64(fmadd(p * z, r, r)) ^ (odd << 63)));
}
// pi in two parts; n times the first is exact
inline double minusPi(double x, double n) {
  return fmadd(n, -1.21542010130123844986e-10, fmadd(n, -3.14159265346825122833, x));
}
inline float sin32(float x) {
  const double shifted = fmadd(static_cast<double>(x), 0.31830988618379067, kRoundMagic64);
  const float result = sinTurned(minusPi(x, shifted - kRoundMagic64), toBits64(shifted));
  return x == 0.0f ? x : result;  // keeps -0
}
inline float cos32(float x) {
  const double shifted = fmadd(static_cast<double>(x), 0.31830988618379067, -0.5) + kRoundMagic64;
  return sinTurned(minusPi(x, (shifted - kRoundMagic64) + 0.5), toBits64(shifted) + 1);
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
