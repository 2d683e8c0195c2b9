// The scalar operations of a plan (lib/compile/plan.ts), by their names there, overloaded by C++ type:
// float, double, int, unsigned, and unsigned char for bool (a byte that is 0 or 1).
//
// Integers wrap: signed arithmetic is done in unsigned words. Products and sums round one by one (the compiler does not
// contract them); where a fused multiply-add is wanted it is written.
#pragma once

namespace fluxion {

template <class T>
struct IsFloat {
  static constexpr bool value = false;
};
template <>
struct IsFloat<float> {
  static constexpr bool value = true;
};
template <>
struct IsFloat<double> {
  static constexpr bool value = true;
};

template <class T>
__device__ __forceinline__ T nan();
template <>
__device__ __forceinline__ float nan<float>() {
  return __int_as_float(0x7fc00000);
}
template <>
__device__ __forceinline__ double nan<double>() {
  return __longlong_as_double(0x7ff8000000000000ll);
}

template <class T>
__device__ __forceinline__ T infinity();
template <>
__device__ __forceinline__ float infinity<float>() {
  return __int_as_float(0x7f800000);
}
template <>
__device__ __forceinline__ double infinity<double>() {
  return __longlong_as_double(0x7ff0000000000000ll);
}

// Any number.

__device__ __forceinline__ float neg(float a) { return -a; }
__device__ __forceinline__ double neg(double a) { return -a; }
__device__ __forceinline__ int neg(int a) { return int(0u - unsigned(a)); }
__device__ __forceinline__ unsigned neg(unsigned a) { return 0u - a; }

__device__ __forceinline__ float abs(float a) { return ::fabsf(a); }
__device__ __forceinline__ double abs(double a) { return ::fabs(a); }
__device__ __forceinline__ int abs(int a) { return a < 0 ? neg(a) : a; }
__device__ __forceinline__ unsigned abs(unsigned a) { return a; }

// sign(NaN) is NaN, sign(-0) is -0
__device__ __forceinline__ float sign(float a) { return a > 0 ? 1.0f : a < 0 ? -1.0f : a; }
__device__ __forceinline__ double sign(double a) { return a > 0 ? 1.0 : a < 0 ? -1.0 : a; }
__device__ __forceinline__ int sign(int a) { return (a > 0) - (a < 0); }
__device__ __forceinline__ unsigned sign(unsigned a) { return a > 0; }

__device__ __forceinline__ float add(float a, float b) { return a + b; }
__device__ __forceinline__ double add(double a, double b) { return a + b; }
__device__ __forceinline__ int add(int a, int b) { return int(unsigned(a) + unsigned(b)); }
__device__ __forceinline__ unsigned add(unsigned a, unsigned b) { return a + b; }

__device__ __forceinline__ float sub(float a, float b) { return a - b; }
__device__ __forceinline__ double sub(double a, double b) { return a - b; }
__device__ __forceinline__ int sub(int a, int b) { return int(unsigned(a) - unsigned(b)); }
__device__ __forceinline__ unsigned sub(unsigned a, unsigned b) { return a - b; }

__device__ __forceinline__ float mul(float a, float b) { return a * b; }
__device__ __forceinline__ double mul(double a, double b) { return a * b; }
__device__ __forceinline__ int mul(int a, int b) { return int(unsigned(a) * unsigned(b)); }
__device__ __forceinline__ unsigned mul(unsigned a, unsigned b) { return a * b; }

// a wins where it is larger or NaN; b wins where it is NaN, as no comparison with it holds
template <class T>
__device__ __forceinline__ T maximum(T a, T b) {
  return (a > b) | (a != a) ? a : b;
}
template <class T>
__device__ __forceinline__ T minimum(T a, T b) {
  return (a < b) | (a != a) ? a : b;
}

// The sign of the divisor, as in Python; an integer remainder by 0 is 0.
__device__ __forceinline__ float remainder(float a, float b) {
  const float r = ::fmodf(a, b);
  if (r == 0) return ::copysignf(0.0f, b);
  return (r < 0) != (b < 0) ? r + b : r;
}
__device__ __forceinline__ double remainder(double a, double b) {
  const double r = ::fmod(a, b);
  if (r == 0) return ::copysign(0.0, b);
  return (r < 0) != (b < 0) ? r + b : r;
}
__device__ __forceinline__ int remainder(int a, int b) {
  if (b == 0 || b == -1) return 0;
  const int r = a % b;
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
__device__ __forceinline__ unsigned remainder(unsigned a, unsigned b) { return b == 0 ? 0 : a % b; }

// Floats.

__device__ __forceinline__ float sqrt(float a) { return ::sqrtf(a); }
__device__ __forceinline__ double sqrt(double a) { return ::sqrt(a); }
__device__ __forceinline__ float rsqrt(float a) { return 1.0f / ::sqrtf(a); }
__device__ __forceinline__ double rsqrt(double a) { return 1.0 / ::sqrt(a); }
__device__ __forceinline__ float exp(float a) { return ::expf(a); }
__device__ __forceinline__ double exp(double a) { return ::exp(a); }
__device__ __forceinline__ float expm1(float a) { return ::expm1f(a); }
__device__ __forceinline__ double expm1(double a) { return ::expm1(a); }
__device__ __forceinline__ float log(float a) { return ::logf(a); }
__device__ __forceinline__ double log(double a) { return ::log(a); }
__device__ __forceinline__ float log1p(float a) { return ::log1pf(a); }
__device__ __forceinline__ double log1p(double a) { return ::log1p(a); }
__device__ __forceinline__ float sin(float a) { return ::sinf(a); }
__device__ __forceinline__ double sin(double a) { return ::sin(a); }
__device__ __forceinline__ float cos(float a) { return ::cosf(a); }
__device__ __forceinline__ double cos(double a) { return ::cos(a); }
__device__ __forceinline__ float tanh(float a) { return ::tanhf(a); }
__device__ __forceinline__ double tanh(double a) { return ::tanh(a); }
__device__ __forceinline__ float erf(float a) { return ::erff(a); }
__device__ __forceinline__ double erf(double a) { return ::erf(a); }
__device__ __forceinline__ float floor(float a) { return ::floorf(a); }
__device__ __forceinline__ double floor(double a) { return ::floor(a); }
// half to even
__device__ __forceinline__ float round(float a) { return ::rintf(a); }
__device__ __forceinline__ double round(double a) { return ::rint(a); }
__device__ __forceinline__ float div(float a, float b) { return a / b; }
__device__ __forceinline__ double div(double a, double b) { return a / b; }
__device__ __forceinline__ float pow(float a, float b) { return ::powf(a, b); }
__device__ __forceinline__ double pow(double a, double b) { return ::pow(a, b); }

// Sine and cosine share the reduction of the argument.
template <class T>
struct SinCos {
  T sine, cosine;
};
__device__ __forceinline__ SinCos<float> sinCos(float a) {
  SinCos<float> result;
  ::sincosf(a, &result.sine, &result.cosine);
  return result;
}
__device__ __forceinline__ SinCos<double> sinCos(double a) {
  SinCos<double> result;
  ::sincos(a, &result.sine, &result.cosine);
  return result;
}

// 1 / (1 + e^-x), by the exponential that cannot overflow
__device__ __forceinline__ float sigmoid(float a) {
  const float e = ::expf(-::fabsf(a));
  return (a < 0 ? e : 1.0f) / (1.0f + e);
}
__device__ __forceinline__ double sigmoid(double a) {
  const double e = ::exp(-::fabs(a));
  return (a < 0 ? e : 1.0) / (1.0 + e);
}

// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)
__device__ __forceinline__ float softplus(float a) {
  return (a < 0 ? 0.0f : a) + ::log1pf(::expf(-::fabsf(a)));
}
__device__ __forceinline__ double softplus(double a) {
  return (a < 0 ? 0.0 : a) + ::log1p(::exp(-::fabs(a)));
}

// gelu(x) = x Phi(x) and its derivative Phi(x) + x phi(x), of the standard normal distribution; at the infinities both
// are their limits.
template <class T>
struct Gelu {
  T value, slope;
};

// By symmetry from y = |x|: with Q(y) = Phi(-y),
//   x Phi(x) = max(x, 0) - y Q(y),  slope(-y) = Q(y) - y phi(y),  slope(y) = 1 - slope(-y).
// Both have the factor e^(-y^2 / 2), of which Q(y) = e^(-y^2 / 2) h(y) leaves h(y) = erfcx(y / sqrt 2) / 2: smooth,
// and so a polynomial in q = (c - y) / (c + y), a minimax fit of its relative error over [0, 14.5] (3.9e-8 for
// degree 8 and c = 3.375), beyond which float has no Q(y).
__device__ __forceinline__ Gelu<float> geluBoth(float x) {
  constexpr float up = 18446744073709551616.0f, down = 1 / up;  // 2^64
  const float magnitude = ::fabsf(x);
  const float y = magnitude > 14.5f ? 14.5f : magnitude;  // NaN stays
  // e^(-y^2 / 2) 2^64: no subnormal until the last product, which so rounds once. Adding 1.5 2^23 + 127 + 64 rounds to
  // a whole number in the low bits, which are the exponent of 2^(n + 64).
  constexpr float magic = 12582912.0f + (64 + 127);
  const float shifted = ::fmaf(y * y, -0.721347520f, magic), n = shifted - magic;
  // r = -y^2 - 2 n ln 2, of which e^(r / 2) is taken: n times the first part of 2 ln 2 is exact, and so is the
  // difference.
  const float r = ::fmaf(n, 4.24388880e-4f, ::fmaf(-y, y, -(n * 1.38671875f)));
  float p = 2.159178439e-05f;  // relative error 3.2e-9 for |r| <= ln 2
  p = ::fmaf(p, r, 2.615225385e-04f);
  p = ::fmaf(p, r, 2.604268258e-03f);
  p = ::fmaf(p, r, 2.083315141e-02f);
  p = ::fmaf(p, r, 1.249999851e-01f);
  p = ::fmaf(p, r, 0.5f);
  p = ::fmaf(p, r, 1.0f);
  const float e = p * __int_as_float(int(unsigned(__float_as_int(shifted)) << 23));
  // The q of a y' that is y but for the rounding of d: it has one rounding more, where c - y over c + y has three.
  const float d = 3.375f + y, q = (6.75f - d) / d;
  float h = 1.539772929e-04f * down;
  h = ::fmaf(h, q, -1.808951347e-04f * down);
  h = ::fmaf(h, q, -1.486506197e-03f * down);
  h = ::fmaf(h, q, 1.230537164e-04f * down);
  h = ::fmaf(h, q, 1.586594060e-02f * down);
  h = ::fmaf(h, q, 5.833607912e-02f * down);
  h = ::fmaf(h, q, 1.256842911e-01f * down);
  h = ::fmaf(h, q, 1.917144060e-01f * down);
  h = ::fmaf(h, q, 1.097896695e-01f * down);
  const float left = e * ::fmaf(y, -0.398942280f * down, h);  // slope(-y)
  const float positive = x > 0 ? x : 0.0f;                     // a NaN comes through y
  return {::fmaf(-(e * y), h, positive), x < 0 ? left : 1.0f - left};
}
__device__ __forceinline__ float gelu(float x) { return geluBoth(x).value; }
__device__ __forceinline__ float geluSlope(float x) { return geluBoth(x).slope; }

__device__ __forceinline__ double normalCdf(double x) { return 0.5 * ::erfc(x * -0.70710678118654752440); }
__device__ __forceinline__ Gelu<double> geluBoth(double x) {
  const double p = normalCdf(x), density = 0.39894228040143267794 * ::exp(-0.5 * x * x);
  return {p == 0 ? 0.0 : x * p, p + (density == 0 ? 0.0 : x * density)};
}
__device__ __forceinline__ double gelu(double x) { return geluBoth(x).value; }
__device__ __forceinline__ double geluSlope(double x) { return geluBoth(x).slope; }

// Two operands of one type to a bool.

template <class T>
__device__ __forceinline__ unsigned char equal(T a, T b) {
  return a == b;
}
template <class T>
__device__ __forceinline__ unsigned char notEqual(T a, T b) {
  return a != b;
}
template <class T>
__device__ __forceinline__ unsigned char greater(T a, T b) {
  return a > b;
}
template <class T>
__device__ __forceinline__ unsigned char greaterEqual(T a, T b) {
  return a >= b;
}
template <class T>
__device__ __forceinline__ unsigned char less(T a, T b) {
  return a < b;
}
template <class T>
__device__ __forceinline__ unsigned char lessEqual(T a, T b) {
  return a <= b;
}

__device__ __forceinline__ unsigned char logicalNot(unsigned char a) { return a == 0; }
__device__ __forceinline__ unsigned char logicalAnd(unsigned char a, unsigned char b) {
  return (a != 0) & (b != 0);
}
__device__ __forceinline__ unsigned char logicalOr(unsigned char a, unsigned char b) { return (a | b) != 0; }

template <class T>
__device__ __forceinline__ T where(unsigned char condition, T a, T b) {
  return condition != 0 ? a : b;
}

__device__ __forceinline__ unsigned shiftRight(unsigned a, unsigned n) { return a >> (n & 31u); }

// Casts: the conversion itself never sees a value outside of its range, where C++ leaves the result open.
template <class To>
struct Cast {
  template <class From>
  __device__ static __forceinline__ To of(From x) {
    return static_cast<To>(x);
  }
};
template <>
struct Cast<int> {
  template <class From>
  __device__ static __forceinline__ int of(From x) {
    if constexpr (IsFloat<From>::value) {
      const From high = From(2147483648.0);
      const int inside = static_cast<int>((x > -high) & (x < high) ? x : From(0));
      return x >= high ? 2147483647 : x <= -high ? -2147483647 - 1 : inside;
    } else {
      return static_cast<int>(x);
    }
  }
};
template <>
struct Cast<unsigned> {
  template <class From>
  __device__ static __forceinline__ unsigned of(From x) {
    if constexpr (IsFloat<From>::value) {
      const From high = From(4294967296.0);
      const unsigned inside = static_cast<unsigned>((x > 0) & (x < high) ? x : From(0));
      return x >= high ? 4294967295u : inside;
    } else {
      return static_cast<unsigned>(x);
    }
  }
};
template <>
struct Cast<unsigned char> {
  template <class From>
  __device__ static __forceinline__ unsigned char of(From x) {
    return x != From(0);
  }
};
template <class To, class From>
__device__ __forceinline__ To cast(From x) {
  return Cast<To>::of(x);
}

// Threefry-2x32-20 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011) of counter
// (c0, c1) under key (k0, k1): twenty rounds of add, rotate, xor, with a key injection before the first and after
// every fourth.
struct Words {
  unsigned x, y;
};
template <int A, int B, int C, int D>
__device__ __forceinline__ void threefryRounds(Words& w) {
  w.x += w.y; w.y = (w.y << A) | (w.y >> (32 - A)); w.y ^= w.x;
  w.x += w.y; w.y = (w.y << B) | (w.y >> (32 - B)); w.y ^= w.x;
  w.x += w.y; w.y = (w.y << C) | (w.y >> (32 - C)); w.y ^= w.x;
  w.x += w.y; w.y = (w.y << D) | (w.y >> (32 - D)); w.y ^= w.x;
}
__device__ __forceinline__ Words threefry(unsigned k0, unsigned k1, unsigned c0, unsigned c1) {
  const unsigned k2 = 0x1BD11BDAu ^ k0 ^ k1;
  Words w = {c0 + k0, c1 + k1};
  threefryRounds<13, 15, 26, 6>(w);
  w.x += k1;
  w.y += k2 + 1;
  threefryRounds<17, 29, 16, 24>(w);
  w.x += k2;
  w.y += k0 + 2;
  threefryRounds<13, 15, 26, 6>(w);
  w.x += k0;
  w.y += k1 + 3;
  threefryRounds<17, 29, 16, 24>(w);
  w.x += k1;
  w.y += k2 + 4;
  threefryRounds<13, 15, 26, 6>(w);
  w.x += k2;
  w.y += k0 + 5;
  return w;
}

}  // namespace fluxion
