// CUDA's mathematical functions by those of the C library; what is rounded otherwise on a device differs in the last
// bits.
#pragma once

#define EMULATED_UNARY(name)                          \
  extern "C" double name(double) noexcept;            \
  extern "C" float name##f(float) noexcept;           \
  inline float name(float x) { return name##f(x); }
#define EMULATED_BINARY(name)                         \
  extern "C" double name(double, double) noexcept;    \
  extern "C" float name##f(float, float) noexcept;    \
  inline float name(float x, float y) { return name##f(x, y); }

EMULATED_UNARY(acos) EMULATED_UNARY(acosh) EMULATED_UNARY(asin) EMULATED_UNARY(asinh) EMULATED_UNARY(atan)
EMULATED_UNARY(atanh) EMULATED_UNARY(cbrt) EMULATED_UNARY(ceil) EMULATED_UNARY(cos) EMULATED_UNARY(cosh)
EMULATED_UNARY(erf) EMULATED_UNARY(erfc) EMULATED_UNARY(exp) EMULATED_UNARY(exp2) EMULATED_UNARY(expm1)
EMULATED_UNARY(fabs) EMULATED_UNARY(floor) EMULATED_UNARY(lgamma) EMULATED_UNARY(log) EMULATED_UNARY(log10)
EMULATED_UNARY(log1p) EMULATED_UNARY(log2) EMULATED_UNARY(logb) EMULATED_UNARY(nearbyint) EMULATED_UNARY(rint)
EMULATED_UNARY(round) EMULATED_UNARY(sin) EMULATED_UNARY(sinh) EMULATED_UNARY(sqrt) EMULATED_UNARY(tan)
EMULATED_UNARY(tanh) EMULATED_UNARY(tgamma) EMULATED_UNARY(trunc)
EMULATED_BINARY(atan2) EMULATED_BINARY(copysign) EMULATED_BINARY(fdim) EMULATED_BINARY(fmax) EMULATED_BINARY(fmin)
EMULATED_BINARY(fmod) EMULATED_BINARY(hypot) EMULATED_BINARY(nextafter) EMULATED_BINARY(pow)
EMULATED_BINARY(remainder)
#undef EMULATED_UNARY
#undef EMULATED_BINARY

extern "C" {
double fma(double, double, double) noexcept;
float fmaf(float, float, float) noexcept;
double ldexp(double, int) noexcept;
float ldexpf(float, int) noexcept;
double scalbn(double, int) noexcept;
float scalbnf(float, int) noexcept;
double frexp(double, int*) noexcept;
float frexpf(float, int*) noexcept;
double modf(double, double*) noexcept;
float modff(float, float*) noexcept;
int ilogb(double) noexcept;
int ilogbf(float) noexcept;
void sincos(double, double*, double*) noexcept;
void sincosf(float, float*, float*) noexcept;
double exp10(double) noexcept;
float exp10f(float) noexcept;
long long llrint(double) noexcept;
long long llrintf(float) noexcept;
int abs(int) noexcept;
}
inline float fma(float x, float y, float z) { return fmaf(x, y, z); }
inline float ldexp(float x, int n) { return ldexpf(x, n); }
inline float scalbn(float x, int n) { return scalbnf(x, n); }
inline float frexp(float x, int* n) { return frexpf(x, n); }
inline float modf(float x, float* whole) { return modff(x, whole); }
inline int ilogb(float x) { return ilogbf(x); }
inline float exp10(float x) { return exp10f(x); }
inline void sincos(float x, float* sine, float* cosine) { sincosf(x, sine, cosine); }
inline long long abs(long long x) { return x < 0 ? -x : x; }
inline float abs(float x) { return __builtin_fabsf(x); }
inline double abs(double x) { return __builtin_fabs(x); }

inline bool isnan(float x) { return __builtin_isnan(x); }
inline bool isnan(double x) { return __builtin_isnan(x); }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isinf(double x) { return __builtin_isinf(x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }
inline bool isfinite(double x) { return __builtin_isfinite(x); }
inline bool signbit(float x) { return __builtin_signbit(x); }
inline bool signbit(double x) { return __builtin_signbit(x); }

// Rounded once, from double.
inline float rsqrtf(float x) { return float(1 / __builtin_sqrt(double(x))); }
inline double rsqrt(double x) { return 1 / __builtin_sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline double normcdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752440); }
inline float normcdff(float x) { return float(normcdf(double(x))); }
inline float normcdf(float x) { return normcdff(x); }

// The root of erf(y) = x by Newton's steps, where Winitzki's approximation starts them.
inline double erfinv(double x) {
  if (!(x > -1 && x < 1)) return x == 1 ? __builtin_inf() : x == -1 ? -__builtin_inf() : __builtin_nan("");
  const double size = __builtin_fabs(x), a = 0.147, pi = 3.14159265358979323846;
  const double logarithm = log1p(-size * size), half = 2 / (pi * a) + logarithm / 2;
  double y = __builtin_sqrt(__builtin_sqrt(half * half - logarithm / a) - half);
  for (int i = 0; i < 3; ++i) {
    y += (erfc(y) - (1 - size)) / (2 / __builtin_sqrt(pi) * exp(-y * y));
  }
  return __builtin_copysign(y, x);
}
inline float erfinvf(float x) { return float(erfinv(double(x))); }
inline float erfinv(float x) { return erfinvf(x); }
inline double sinpi(double x) { return sin(3.14159265358979323846 * remainder(x, 2.0)); }
inline double cospi(double x) { return cos(3.14159265358979323846 * remainder(x, 2.0)); }
inline float sinpif(float x) { return float(sinpi(double(x))); }
inline float cospif(float x) { return float(cospi(double(x))); }
inline void sincospi(double x, double* sine, double* cosine) { *sine = sinpi(x), *cosine = cospi(x); }
inline void sincospif(float x, float* sine, float* cosine) { *sine = sinpif(x), *cosine = cospif(x); }

inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return exp10f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline void __sincosf(float x, float* sine, float* cosine) { sincosf(x, sine, cosine); }
inline float fdividef(float x, float y) { return x / y; }
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x >= 1 ? 1.0f : x > 0 ? x : 0.0f; }

inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fsqrt_rn(float x) { return __builtin_sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
inline double __drcp_rn(double x) { return 1 / x; }
inline double __dsqrt_rn(double x) { return __builtin_sqrt(x); }

#define EMULATED_EXTREMA(A, B, T)           \
  inline T min(A a, B b) {                  \
    T x = a, y = b;                         \
    return y < x ? y : x;                   \
  }                                         \
  inline T max(A a, B b) {                  \
    T x = a, y = b;                         \
    return x < y ? y : x;                   \
  }
EMULATED_EXTREMA(int, int, int)
EMULATED_EXTREMA(unsigned, unsigned, unsigned)
EMULATED_EXTREMA(int, unsigned, unsigned)
EMULATED_EXTREMA(unsigned, int, unsigned)
EMULATED_EXTREMA(long, long, long)
EMULATED_EXTREMA(unsigned long, unsigned long, unsigned long)
EMULATED_EXTREMA(long long, long long, long long)
EMULATED_EXTREMA(unsigned long long, unsigned long long, unsigned long long)
#undef EMULATED_EXTREMA
// Of floats: what is not NaN.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin(double(a), b); }
inline double max(float a, double b) { return fmax(double(a), b); }
inline double min(double a, float b) { return fmin(a, double(b)); }
inline double max(double a, float b) { return fmax(a, double(b)); }
