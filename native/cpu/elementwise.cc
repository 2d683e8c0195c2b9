// The inner loops of instructions: out[i] = f(x[i], ...). Compiled once for each instruction set.
#include <cmath>
#include <cstring>
#include <type_traits>

#include "isa.h"

namespace fluxion {
namespace FLUXION_ISA_NAMESPACE {
namespace {

#include "math32.h"

// Element i of the result depends on elements i of the arguments only, so that running in place is fine.
#if defined(__clang__)
#define FLUXION_LOOP _Pragma("clang loop vectorize(assume_safety)")
#else
#define FLUXION_LOOP _Pragma("GCC ivdep")
#endif

template <class Out, class F, class A>
inline void apply(void* out, const void* const* args, size_t n, F f, A*) {
  Out* o = static_cast<Out*>(out);
  const A* a = static_cast<const A*>(args[0]);
  FLUXION_LOOP
  for (size_t i = 0; i < n; i++) o[i] = f(a[i]);
}
template <class Out, class F, class A, class B>
inline void apply(void* out, const void* const* args, size_t n, F f, A*, B*) {
  Out* o = static_cast<Out*>(out);
  const A* a = static_cast<const A*>(args[0]);
  const B* b = static_cast<const B*>(args[1]);
  FLUXION_LOOP
  for (size_t i = 0; i < n; i++) o[i] = f(a[i], b[i]);
}

using Bool = uint8_t;

// One struct for each operation; `of(x...)` for each dtype it takes.
#define UNARY(Name, body)                                          \
  template <class T>                                               \
  struct Name {                                                    \
    static void run(void* out, const void* const* args, size_t n) { \
      apply<T>(out, args, n, [](T a) -> T { body }, static_cast<T*>(nullptr)); \
    }                                                              \
  };
#define BINARY(Name, Out, body)                                    \
  template <class T>                                               \
  struct Name {                                                    \
    static void run(void* out, const void* const* args, size_t n) { \
      apply<Out>(out, args, n, [](T a, T b) -> Out { body }, static_cast<T*>(nullptr), static_cast<T*>(nullptr)); \
    }                                                              \
  };

// Integers wrap: signed arithmetic is done in unsigned words.
template <class T>
using Wrap = typename std::conditional<std::is_same<T, int32_t>::value, uint32_t, T>::type;
template <class T>
constexpr bool kFloat = std::is_floating_point<T>::value;

UNARY(Neg, if constexpr (kFloat<T>) return -a; else return static_cast<T>(0u - static_cast<Wrap<T>>(a));)
UNARY(Abs, if constexpr (std::is_same<T, float>::value) return absolute(a);
           else if constexpr (std::is_same<T, double>::value) return std::fabs(a);
           else if constexpr (std::is_same<T, int32_t>::value) return static_cast<T>(a < 0 ? 0u - static_cast<uint32_t>(a) : static_cast<uint32_t>(a));
           else return a;)
// sign(NaN) is NaN, sign(-0) is -0
UNARY(Sign, if constexpr (kFloat<T>) return a > 0 ? T(1) : a < 0 ? T(-1) : a; else return static_cast<T>((a > 0) - (a < T(0)));)
BINARY(Add, T, return static_cast<T>(static_cast<Wrap<T>>(a) + static_cast<Wrap<T>>(b));)
BINARY(Sub, T, return static_cast<T>(static_cast<Wrap<T>>(a) - static_cast<Wrap<T>>(b));)
BINARY(Mul, T, return static_cast<T>(static_cast<Wrap<T>>(a) * static_cast<Wrap<T>>(b));)
// a wins where it is larger or NaN; b wins where it is NaN, as no comparison with it holds
BINARY(Maximum, T, if constexpr (kFloat<T>) return (a > b) | (a != a) ? a : b; else return a > b ? a : b;)
BINARY(Minimum, T, if constexpr (kFloat<T>) return (a < b) | (a != a) ? a : b; else return a < b ? a : b;)
BINARY(Remainder, T,
       if constexpr (kFloat<T>) {
         T r = std::fmod(a, b);
         if (r == 0) return std::copysign(T(0), b);
         return (r < 0) != (b < 0) ? r + b : r;
       } else if constexpr (std::is_same<T, int32_t>::value) {
         if (b == 0 || b == -1) return 0;
         const T r = a % b;
         return r != 0 && (r < 0) != (b < 0) ? r + b : r;
       } else return b == 0 ? 0 : a % b;)
BINARY(Div, T, return a / b;)
BINARY(Equal, Bool, return a == b;)
BINARY(NotEqual, Bool, return a != b;)
BINARY(Greater, Bool, return a > b;)
BINARY(GreaterEqual, Bool, return a >= b;)
BINARY(Less, Bool, return a < b;)
BINARY(LessEqual, Bool, return a <= b;)
BINARY(LogicalAnd, Bool, return (a != 0) & (b != 0);)
BINARY(LogicalOr, Bool, return (a | b) != 0;)
UNARY(LogicalNot, return a == 0;)
BINARY(ShiftRight, T, return a >> (b & 31u);)
UNARY(Sqrt, return std::sqrt(a);)
UNARY(Rsqrt, return T(1) / std::sqrt(a);)
UNARY(Floor, return std::floor(a);)
UNARY(Round, return std::nearbyint(a);)

#define FLOAT_FUNCTION(Name, f32, f64) \
  UNARY(Name, if constexpr (std::is_same<T, float>::value) return f32(a); else { f64 })
FLOAT_FUNCTION(Exp, exp32, return std::exp(a);)
FLOAT_FUNCTION(Expm1, expm1_32, return std::expm1(a);)
FLOAT_FUNCTION(Log, log32, return std::log(a);)
FLOAT_FUNCTION(Log1p, log1p32, return std::log1p(a);)
FLOAT_FUNCTION(Tanh, tanh32, return std::tanh(a);)
FLOAT_FUNCTION(Erf, erf32, return std::erf(a);)
FLOAT_FUNCTION(Sigmoid, sigmoid32, const double e = std::exp(-std::fabs(a)); return (a < 0 ? e : 1.0) / (1.0 + e);)
FLOAT_FUNCTION(Softplus, softplus32, return (a < 0 ? 0.0 : a) + std::log1p(std::exp(-std::fabs(a)));)
inline double normalCdf(double a) { return 0.5 * std::erfc(a * -0.70710678118654752440); }
FLOAT_FUNCTION(GeluValue, [](float x) { return gelu32(x).value; },
               const double p = normalCdf(a); return p == 0 ? 0 : a * p;)
FLOAT_FUNCTION(GeluSlope, [](float x) { return gelu32(x).slope; },
               const double density = 0.39894228040143267794 * std::exp(-0.5 * a * a);
               return normalCdf(a) + (density == 0 ? 0 : a * density);)
void geluPair(void* value, void* slope, const void* const* args, size_t n) {
  float* v = static_cast<float*>(value);
  float* s = static_cast<float*>(slope);
  const float* a = static_cast<const float*>(args[0]);
  FLUXION_LOOP
  for (size_t i = 0; i < n; i++) {
    const Gelu g = gelu32(a[i]);
    v[i] = g.value;
    s[i] = g.slope;
  }
}
BINARY(Pow, T, if constexpr (std::is_same<T, float>::value) return pow32(a, b); else return std::pow(a, b);)

// Arguments beyond kTrigLimit, which are rare, are done again one at a time: `exact` does them. They are copied
// first, since a result may take their place.
template <class Loop, class Exact>
inline void trigonometric(const float* a, size_t n, Loop loop, Exact exact) {
  int outside = 0;
  FLUXION_LOOP
  for (size_t i = 0; i < n; i++) outside |= absolute(a[i]) <= kTrigLimit ? 0 : 1;
  if (!outside) return loop();
  float kept[kTile];
  std::memcpy(kept, a, n * sizeof(float));
  loop();
  for (size_t i = 0; i < n; i++) {
    if (!(absolute(kept[i]) <= kTrigLimit)) exact(i, static_cast<double>(kept[i]));
  }
}
template <class T, bool IsSin>
struct SinCos {
  static void run(void* out, const void* const* args, size_t n) {
    T* o = static_cast<T*>(out);
    const T* a = static_cast<const T*>(args[0]);
    const auto exact = [o](size_t i, double x) { o[i] = static_cast<T>(IsSin ? std::sin(x) : std::cos(x)); };
    if constexpr (std::is_same<T, double>::value) {
      for (size_t i = 0; i < n; i++) exact(i, a[i]);
    } else {
      const auto loop = [o, a, n] {
        FLUXION_LOOP
        for (size_t i = 0; i < n; i++) o[i] = IsSin ? sin32(a[i]) : cos32(a[i]);
      };
      trigonometric(a, n, loop, exact);
    }
  }
};
template <class T> using Sin = SinCos<T, true>;
template <class T> using Cos = SinCos<T, false>;
void sinCosPair(void* sine, void* cosine, const void* const* args, size_t n) {
  float* s = static_cast<float*>(sine);
  float* c = static_cast<float*>(cosine);
  const float* a = static_cast<const float*>(args[0]);
  const auto loop = [s, c, a, n] {
    FLUXION_LOOP
    for (size_t i = 0; i < n; i++) {
      const float x = a[i];  // before a result takes its place
      s[i] = sin32(x);
      c[i] = cos32(x);
    }
  };
  trigonometric(a, n, loop, [s, c](size_t i, double x) {
    s[i] = static_cast<float>(std::sin(x));
    c[i] = static_cast<float>(std::cos(x));
  });
}

template <class T>
struct Where {
  static void run(void* out, const void* const* args, size_t n) {
    T* o = static_cast<T*>(out);
    const Bool* c = static_cast<const Bool*>(args[0]);
    const T* a = static_cast<const T*>(args[1]);
    const T* b = static_cast<const T*>(args[2]);
    FLUXION_LOOP
    for (size_t i = 0; i < n; i++) o[i] = c[i] != 0 ? a[i] : b[i];
  }
};

// Salmon et al. 2011, 20 rounds: the key schedule enters every 4 rounds. `emit` takes the two words of element i.
template <class Emit>
inline void threefry(const void* const* args, size_t n, Emit emit) {
  const uint32_t* k0 = static_cast<const uint32_t*>(args[0]);
  const uint32_t* k1 = static_cast<const uint32_t*>(args[1]);
  const uint32_t* c0 = static_cast<const uint32_t*>(args[2]);
  const uint32_t* c1 = static_cast<const uint32_t*>(args[3]);
  FLUXION_LOOP
  for (size_t i = 0; i < n; i++) {
    const uint32_t ks0 = k0[i], ks1 = k1[i], ks2 = 0x1BD11BDAu ^ ks0 ^ ks1;
    uint32_t x = c0[i] + ks0, y = c1[i] + ks1;
#define ROUND(r) x += y; y = (y << r) | (y >> (32 - r)); y ^= x;
    ROUND(13) ROUND(15) ROUND(26) ROUND(6)  x += ks1; y += ks2 + 1;
    ROUND(17) ROUND(29) ROUND(16) ROUND(24) x += ks2; y += ks0 + 2;
    ROUND(13) ROUND(15) ROUND(26) ROUND(6)  x += ks0; y += ks1 + 3;
    ROUND(17) ROUND(29) ROUND(16) ROUND(24) x += ks1; y += ks2 + 4;
    ROUND(13) ROUND(15) ROUND(26) ROUND(6)  x += ks2; y += ks0 + 5;
#undef ROUND
    emit(i, x, y);
  }
}
template <int Word>
void threefryWord(void* out, const void* const* args, size_t n) {
  uint32_t* o = static_cast<uint32_t*>(out);
  threefry(args, n, [o](size_t i, uint32_t x, uint32_t y) { o[i] = Word == 0 ? x : Word == 1 ? y : x ^ y; });
}
void threefryPair(void* first, void* second, const void* const* args, size_t n) {
  uint32_t* a = static_cast<uint32_t*>(first);
  uint32_t* b = static_cast<uint32_t*>(second);
  threefry(args, n, [a, b](size_t i, uint32_t x, uint32_t y) {
    a[i] = x;
    b[i] = y;
  });
}

// Toward zero, saturating, NaN to 0. `low` and `high` are the largest range whose ends are floats too;
// the conversion itself never sees a value outside of it.
template <class From, class To>
inline To convert(From x) {
  if constexpr (kFloat<From> && std::is_same<To, int32_t>::value) {
    const From high = From(2147483648.0);
    const To inside = static_cast<To>((x > -high) & (x < high) ? x : From(0));
    return x >= high ? INT32_MAX : x <= -high ? INT32_MIN : inside;
  } else if constexpr (kFloat<From> && std::is_same<To, uint32_t>::value) {
    const From high = From(4294967296.0), half = From(2147483648.0);
    const From clean = (x > 0) & (x < high) ? x : From(0);
    const bool upper = clean >= half;
    const uint32_t inside = static_cast<uint32_t>(static_cast<int32_t>(upper ? clean - half : clean)) ^ (upper ? 0x80000000u : 0u);
    return x >= high ? UINT32_MAX : inside;
  } else {
    return static_cast<To>(x);
  }
}
template <class From, class To>
struct Cast {
  static void run(void* out, const void* const* args, size_t n) {
    apply<To>(out, args, n, [](From a) -> To { return convert<From, To>(a); }, static_cast<From*>(nullptr));
  }
};
// A bool on the way in may be any byte, on the way out it is 0 or 1.
template <class From, class To>
struct BoolCast {
  static void run(void* out, const void* const* args, size_t n) {
    apply<To>(out, args, n, [](From a) -> To { return static_cast<To>(a != 0 ? 1 : 0); }, static_cast<From*>(nullptr));
  }
};

inline void exchange(int64_t& a, int64_t& b) {
  const int64_t old = a;
  a = b;
  b = old;
}

template <class T>
void copyBlock(void* dst, int64_t dr, int64_t dc, const void* src, int64_t sr, int64_t sc, int64_t rows, int64_t cols) {
  T* d = static_cast<T*>(dst);
  const T* s = static_cast<const T*>(src);
  // Long loops inside; one row is a column of the other way round.
  if (cols < 16 && rows > cols) {
    if (cols <= 4 || sc != 1 || dc != 1) {
      exchange(rows, cols);
      exchange(dr, dc);
      exchange(sr, sc);
    }
  }
  for (int64_t r = 0; r < rows; r++, d += dr, s += sr) {
    if (sc == 1 && dc == 1) {
      std::memcpy(d, s, static_cast<size_t>(cols) * sizeof(T));
    } else if (sc == 0 && dc == 1) {
      const T value = *s;
      for (int64_t c = 0; c < cols; c++) d[c] = value;
    } else if (dc == 1) {
      for (int64_t c = 0; c < cols; c++) d[c] = s[c * sc];
    } else {
      for (int64_t c = 0; c < cols; c++) d[c * dc] = s[c * sc];
    }
  }
}

template <template <class> class F>
void setFloats(Kernels& k, Op op) {
  ElementwiseFn* row = k.op[static_cast<int>(op)];
  row[static_cast<int>(DType::Float32)] = F<float>::run;
  row[static_cast<int>(DType::Float64)] = F<double>::run;
}
template <template <class> class F>
void setNumbers(Kernels& k, Op op) {
  setFloats<F>(k, op);
  ElementwiseFn* row = k.op[static_cast<int>(op)];
  row[static_cast<int>(DType::Int32)] = F<int32_t>::run;
  row[static_cast<int>(DType::UInt32)] = F<uint32_t>::run;
}
template <template <class> class F>
void setAll(Kernels& k, Op op) {
  setNumbers<F>(k, op);
  k.op[static_cast<int>(op)][static_cast<int>(DType::Bool)] = F<Bool>::run;
}

template <class From>
void setCasts(Kernels& k, DType from) {
  ElementwiseFn* row = k.cast[static_cast<int>(from)];
  row[0] = Cast<From, float>::run;
  row[1] = Cast<From, double>::run;
  row[2] = Cast<From, int32_t>::run;
  row[3] = Cast<From, uint32_t>::run;
  row[4] = BoolCast<From, Bool>::run;
}

}  // namespace

void fillElementwise(Kernels& k) {
  setNumbers<Neg>(k, Op::Neg);
  setNumbers<Abs>(k, Op::Abs);
  setNumbers<Sign>(k, Op::Sign);
  setNumbers<Add>(k, Op::Add);
  setNumbers<Sub>(k, Op::Sub);
  setNumbers<Mul>(k, Op::Mul);
  setAll<Maximum>(k, Op::Maximum);
  setAll<Minimum>(k, Op::Minimum);
  setNumbers<Remainder>(k, Op::Remainder);
  setFloats<Sqrt>(k, Op::Sqrt);
  setFloats<Rsqrt>(k, Op::Rsqrt);
  setFloats<Exp>(k, Op::Exp);
  setFloats<Expm1>(k, Op::Expm1);
  setFloats<Log>(k, Op::Log);
  setFloats<Log1p>(k, Op::Log1p);
  setFloats<Sin>(k, Op::Sin);
  setFloats<Cos>(k, Op::Cos);
  setFloats<Tanh>(k, Op::Tanh);
  setFloats<Erf>(k, Op::Erf);
  setFloats<Sigmoid>(k, Op::Sigmoid);
  setFloats<Softplus>(k, Op::Softplus);
  setFloats<GeluValue>(k, Op::Gelu);
  setFloats<GeluSlope>(k, Op::GeluSlope);
  setFloats<Floor>(k, Op::Floor);
  setFloats<Round>(k, Op::Round);
  setFloats<Div>(k, Op::Div);
  setFloats<Pow>(k, Op::Pow);
  setAll<Equal>(k, Op::Equal);
  setAll<NotEqual>(k, Op::NotEqual);
  setAll<Greater>(k, Op::Greater);
  setAll<GreaterEqual>(k, Op::GreaterEqual);
  setAll<Less>(k, Op::Less);
  setAll<LessEqual>(k, Op::LessEqual);
  setAll<Where>(k, Op::Where);
  const int boolean = static_cast<int>(DType::Bool), word = static_cast<int>(DType::UInt32);
  k.op[static_cast<int>(Op::LogicalNot)][boolean] = LogicalNot<Bool>::run;
  k.op[static_cast<int>(Op::LogicalAnd)][boolean] = LogicalAnd<Bool>::run;
  k.op[static_cast<int>(Op::LogicalOr)][boolean] = LogicalOr<Bool>::run;
  k.op[static_cast<int>(Op::ShiftRight)][word] = ShiftRight<uint32_t>::run;
  k.op[static_cast<int>(Op::Threefry0)][word] = threefryWord<0>;
  k.op[static_cast<int>(Op::Threefry1)][word] = threefryWord<1>;
  k.op[static_cast<int>(Op::ThreefryXor)][word] = threefryWord<2>;
  k.pairs[0] = {Op::Gelu, Op::GeluSlope, DType::Float32, geluPair};
  k.pairs[1] = {Op::Sin, Op::Cos, DType::Float32, sinCosPair};
  k.pairs[2] = {Op::Threefry0, Op::Threefry1, DType::UInt32, threefryPair};
  setCasts<float>(k, DType::Float32);
  setCasts<double>(k, DType::Float64);
  setCasts<int32_t>(k, DType::Int32);
  setCasts<uint32_t>(k, DType::UInt32);
  ElementwiseFn* fromBool = k.cast[boolean];
  fromBool[0] = BoolCast<Bool, float>::run;
  fromBool[1] = BoolCast<Bool, double>::run;
  fromBool[2] = BoolCast<Bool, int32_t>::run;
  fromBool[3] = BoolCast<Bool, uint32_t>::run;
  fromBool[4] = BoolCast<Bool, Bool>::run;
  k.copy[1] = copyBlock<uint8_t>;
  k.copy[4] = copyBlock<uint32_t>;
  k.copy[8] = copyBlock<uint64_t>;
}

}  // namespace FLUXION_ISA_NAMESPACE
}  // namespace fluxion
