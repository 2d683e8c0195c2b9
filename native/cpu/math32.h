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
  const float a = absolute(x), y = 14.5f < a ? 14.5f : a;          // NaN stays
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

// sin and cos in double lanes: x = n pi/2 + r. Exact enough for |x| <= kTrigLimit; larger arguments go to libm.
constexpr float kTrigLimit = 1e6f;
struct SinCos32 {
  float sin, cos;
};
inline SinCos32 sinCos32(float x) {
  const double d = x, shifted = d * 0.63661977236758134 + kRoundMagic64, n = shifted - kRoundMagic64;
  // pi/2 in two parts; n times the first is exact
  const double r = (d - n * 1.57079632673412561417e+00) - n * 6.07710050650619224932e-11;
  const uint64_t turn = toBits64(shifted);
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
  // Odd quarter turns exchange the two; cos x = sin(x + pi/2) turns one quarter more.
  const uint64_t odd = 0 - (turn & 1), sBits = toBits64(s), cBits = toBits64(c);
  const float sine = static_cast<float>(fromBits64(((cBits & odd) | (sBits & ~odd)) ^ ((turn & 2) << 62)));
  const float cosine = static_cast<float>(fromBits64(((sBits & odd) | (cBits & ~odd)) ^ (((turn + 1) & 2) << 62)));
  return {absolute(x) < 1e-5f ? x : sine, cosine};  // keeps -0
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
