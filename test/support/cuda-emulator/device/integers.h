// Integer and bit functions, casts between types of equal size, conversions that saturate, and cached loads.
#pragma once

namespace emulator {

template <class To, class From>
inline To cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

// Toward what `rounded` was rounded to; NaN gives 0 (32 bits) or the least value (64 bits), as PTX's cvt does.
template <class I, class F>
inline I saturated(F rounded) {
  constexpr bool isSigned = I(-1) < I(0);
  constexpr int bits = 8 * sizeof(I) - isSigned;
  const F limit = bits == 64 ? F(18446744073709551616.0) : F(1ull << (bits % 64));
  const I least = isSigned ? I(1ull << (bits % 64)) : I(0);
  if (rounded != rounded) return bits >= 63 ? I(1ull << 63) : I(0);
  if (rounded >= limit) return I(~least);
  if (isSigned ? rounded < -limit : rounded <= F(-1)) return least;
  return I(rounded);
}

}  // namespace emulator

inline int __float_as_int(float x) { return emulator::cast<int>(x); }
inline unsigned __float_as_uint(float x) { return emulator::cast<unsigned>(x); }
inline float __int_as_float(int x) { return emulator::cast<float>(x); }
inline float __uint_as_float(unsigned x) { return emulator::cast<float>(x); }
inline long long __double_as_longlong(double x) { return emulator::cast<long long>(x); }
inline double __longlong_as_double(long long x) { return emulator::cast<double>(x); }
inline int __double2hiint(double x) { return int(__double_as_longlong(x) >> 32); }
inline int __double2loint(double x) { return int(__double_as_longlong(x)); }
inline double __hiloint2double(int high, int low) {
  return emulator::cast<double>((unsigned long long)(unsigned(high)) << 32 | unsigned(low));
}

#define EMULATED_CONVERSIONS(from, F, round, suffix)                                                       \
  inline int __##from##2int_##suffix(F x) { return emulator::saturated<int>(round(x)); }                   \
  inline unsigned __##from##2uint_##suffix(F x) { return emulator::saturated<unsigned>(round(x)); }        \
  inline long long __##from##2ll_##suffix(F x) { return emulator::saturated<long long>(round(x)); }        \
  inline unsigned long long __##from##2ull_##suffix(F x) {                                                 \
    return emulator::saturated<unsigned long long>(round(x));                                              \
  }
EMULATED_CONVERSIONS(float, float, __builtin_rintf, rn)
EMULATED_CONVERSIONS(float, float, __builtin_truncf, rz)
EMULATED_CONVERSIONS(float, float, __builtin_ceilf, ru)
EMULATED_CONVERSIONS(float, float, __builtin_floorf, rd)
EMULATED_CONVERSIONS(double, double, __builtin_rint, rn)
EMULATED_CONVERSIONS(double, double, __builtin_trunc, rz)
EMULATED_CONVERSIONS(double, double, __builtin_ceil, ru)
EMULATED_CONVERSIONS(double, double, __builtin_floor, rd)
#undef EMULATED_CONVERSIONS

inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __ll2float_rn(long long x) { return float(x); }
inline float __ull2float_rn(unsigned long long x) { return float(x); }
inline double __int2double_rn(int x) { return x; }
inline double __uint2double_rn(unsigned x) { return x; }
inline double __ll2double_rn(long long x) { return double(x); }
inline double __ull2double_rn(unsigned long long x) { return double(x); }
inline float __double2float_rn(double x) { return float(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll((unsigned long long)x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1) << (31 - i);
  return reversed;
}
inline unsigned long long __brevll(unsigned long long x) {
  return (unsigned long long)__brev(unsigned(x)) << 32 | __brev(unsigned(x >> 32));
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  unsigned long long bytes = (unsigned long long)y << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) result |= unsigned(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
  return result;
}
inline int __mulhi(int x, int y) { return int((long long)x * y >> 32); }
inline unsigned __umulhi(unsigned x, unsigned y) { return unsigned((unsigned long long)x * y >> 32); }
inline long long __mul64hi(long long x, long long y) { return (long long)((__int128)x * y >> 64); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return (unsigned long long)((unsigned __int128)x * y >> 64);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned(((unsigned long long)high << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned(((unsigned long long)high << 32 | low) >> (shift & 31));
}

template <class T> inline T __ldg(const T* address) { return *address; }
template <class T> inline T __ldca(const T* address) { return *address; }
template <class T> inline T __ldcg(const T* address) { return *address; }
template <class T> inline T __ldcs(const T* address) { return *address; }
template <class T> inline void __stwb(T* address, T value) { *address = value; }
template <class T> inline void __stcg(T* address, T value) { *address = value; }
template <class T> inline void __stcs(T* address, T value) { *address = value; }
template <class T> inline void __stwt(T* address, T value) { *address = value; }
