// What attention does to the elements of a block of scores, in one pass each. Compiled once for each instruction set,
// with contraction to fused multiply-adds.
#include <cstring>

#include "isa.h"

namespace fluxion {
namespace FLUXION_ISA_NAMESPACE {
namespace {

#include "simd.h"

template <class T>
using Vector = typename Simd<T>::Vector;
template <class T>
inline Vector<T> loadVector(const T* from) { return *reinterpret_cast<const Vector<T>*>(from); }
template <class T>
inline void storeVector(T* to, Vector<T> x) { *reinterpret_cast<Vector<T>*>(to) = x; }

template <class T> struct ExpTraits;
template <> struct ExpTraits<float> {
  using Word = uint32_t;
  static constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  // ln 2 in two parts: a whole number up to 2^8 times the first is exact
  static constexpr float ln2High = 0.693359375f, ln2Low = -2.12194440e-4f;
  static constexpr int exponentBits = 23, bias = 127;
  static constexpr float highest = 88.3f, lowest = -87.3f;
};
template <> struct ExpTraits<double> {
  using Word = uint64_t;
  static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double ln2High = 6.93147180369123816490e-01, ln2Low = 1.90821492927058770002e-10;
  static constexpr int exponentBits = 52, bias = 1023;
  static constexpr double highest = 709.4, lowest = -708.3;
};

// e^r for |r| <= ln 2 / 2: a fit with a relative error of 3.2e-9
inline Vector<float> expReduced(Vector<float> r) {
  Vector<float> p = 1.381874201e-03f * r + 8.368721232e-03f;
  p = p * r + 4.166829214e-02f;
  p = p * r + 1.666652113e-01f;
  p = p * r + 4.999999404e-01f;
  return p * (r * r) + r + 1.0f;
}
// Taylor's series: what is left out is below 5e-18
inline Vector<double> expReduced(Vector<double> r) {
  Vector<double> p = r * (1.0 / 6227020800) + 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  return p * (r * r) + r + 1.0;
}

// e^x = 2^n e^r with x = n ln 2 + r. What would be denormal is 0: beside a largest weight of 1 it does not count.
template <class T>
inline Vector<T> expVector(Vector<T> x) {
  using Traits = ExpTraits<T>;
  typedef typename Traits::Word Words __attribute__((vector_size(kVectorBytes), may_alias));
  const Vector<T> shifted = x * T(1.44269504088896340736) + Traits::magic, n = shifted - Traits::magic;
  const Vector<T> r = n * -Traits::ln2Low + (n * -Traits::ln2High + x);
  Words bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + Traits::bias) << Traits::exponentBits;
  Vector<T> power;
  std::memcpy(&power, &bits, sizeof power);
  const Vector<T> result = expReduced(r) * power, zero = {}, infinity = zero + T(__builtin_inf());
  const Vector<T> bounded = x > Traits::highest ? infinity : result;
  return x < Traits::lowest ? zero : bounded;
}

template <class T>
inline T expOne(T x) {
  return expVector<T>(Vector<T>{} + x)[0];
}

template <class T>
inline T sumLanes(Vector<T> x) {
  T lanes[Simd<T>::lanes];
  std::memcpy(lanes, &x, sizeof lanes);
  for (int half = Simd<T>::lanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

template <class T>
inline T largestLane(Vector<T> x) {
  T lanes[Simd<T>::lanes];
  std::memcpy(lanes, &x, sizeof lanes);
  for (int half = Simd<T>::lanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
  }
  return lanes[0];
}

template <class T>
void hide(int64_t n, void* scores, const uint8_t* shown) {
  T* s = static_cast<T*>(scores);
  const T hidden = -T(__builtin_inf());
  for (int64_t i = 0; i < n; i++) s[i] = shown[i] != 0 ? s[i] : hidden;
}

template <class T>
void softmax(int64_t rows, int64_t cols, void* scores, int64_t ld, void* maximum, double* sum, void* o, int64_t ldo,
             int64_t width) {
  constexpr int lanes = Simd<T>::lanes;
  T* s = static_cast<T*>(scores);
  T* out = static_cast<T*>(o);
  T* largest = static_cast<T*>(maximum);
  for (int64_t r = 0; r < rows; r++, s += ld, out += ldo) {
    const T old = largest[r];
    Vector<T> even = Vector<T>{} + old, odd = even;
    for (int64_t c = 0; c < cols; c += 2 * lanes) {
      const Vector<T> first = loadVector(s + c), second = loadVector(s + c + lanes);
      even = first > even ? first : even;  // NaN is passed over here, and comes back in the sum
      odd = second > odd ? second : odd;
    }
    const T now = largestLane<T>(even > odd ? even : odd);
    largest[r] = now;
    const T base = now == -T(__builtin_inf()) ? T(0) : now;
    even = odd = Vector<T>{};
    for (int64_t c = 0; c < cols; c += 2 * lanes) {
      const Vector<T> first = expVector<T>(loadVector(s + c) - base);
      const Vector<T> second = expVector<T>(loadVector(s + c + lanes) - base);
      storeVector(s + c, first);
      storeVector(s + c + lanes, second);
      even += first;
      odd += second;
    }
    const double added = static_cast<double>(sumLanes<T>(even + odd));
    if (old == now) {
      sum[r] += added;
      continue;
    }
    const T factor = expOne<T>(old - base);
    sum[r] = sum[r] * static_cast<double>(factor) + added;
    for (int64_t c = 0; c < width; c += lanes) storeVector(out + c, loadVector(out + c) * factor);
  }
}

template <class T>
void weighRows(int64_t rows, int64_t cols, void* scores, void* products, int64_t ld, const void* l, double* sum) {
  constexpr int lanes = Simd<T>::lanes;
  T* s = static_cast<T*>(scores);
  T* x = static_cast<T*>(products);
  const T* logSum = static_cast<const T*>(l);
  const Vector<T> zero = {};
  for (int64_t r = 0; r < rows; r++, s += ld) {
    const T base = logSum[r];
    if (x == nullptr) {
      for (int64_t c = 0; c < cols; c += lanes) storeVector(s + c, expVector<T>(loadVector(s + c) - base));
      continue;
    }
    Vector<T> even = {}, odd = {};
    for (int64_t c = 0; c < cols; c += 2 * lanes) {
      const Vector<T> p = expVector<T>(loadVector(s + c) - base);
      const Vector<T> q = expVector<T>(loadVector(s + c + lanes) - base);
      storeVector(s + c, p);
      storeVector(s + c + lanes, q);
      const Vector<T> first = p == zero ? zero : p * loadVector(x + c);
      const Vector<T> second = q == zero ? zero : q * loadVector(x + c + lanes);
      storeVector(x + c, first);
      storeVector(x + c + lanes, second);
      even += first;
      odd += second;
    }
    sum[r] += static_cast<double>(sumLanes<T>(even + odd));
    x += ld;
  }
}

template <class T>
void weighColumns(int64_t rows, int64_t cols, void* scores, void* products, int64_t ld, const void* l,
                  const void* shift) {
  constexpr int lanes = Simd<T>::lanes;
  T* s = static_cast<T*>(scores);
  T* x = static_cast<T*>(products);
  const T* logSum = static_cast<const T*>(l);
  const T* shifts = static_cast<const T*>(shift);
  const Vector<T> zero = {};
  for (int64_t r = 0; r < rows; r++, s += ld) {
    for (int64_t c = 0; c < cols; c += lanes) {
      const Vector<T> p = expVector<T>(loadVector(s + c) - loadVector(logSum + c));
      storeVector(s + c, p);
      if (x == nullptr) continue;
      storeVector(x + c, p == zero ? zero : p * (loadVector(x + c) - loadVector(shifts + c)));
    }
    if (x != nullptr) x += ld;
  }
}

template <class T>
void set(AttentionKernel& a) {
  a.hide = hide<T>;
  a.softmax = softmax<T>;
  a.weighRows = weighRows<T>;
  a.weighColumns = weighColumns<T>;
}

}  // namespace

void fillAttention(Kernels& k) {
  set<float>(k.attention[static_cast<int>(DType::Float32)]);
  set<double>(k.attention[static_cast<int>(DType::Float64)]);
}

}  // namespace FLUXION_ISA_NAMESPACE
}  // namespace fluxion
