// The inner loops of reductions: sum, max and min of a stretch, of columns, of rows.
// The order is fixed: 16 lanes take every 16th element, then the lanes are folded pairwise.
#include <type_traits>

#include "isa.h"

namespace fluxion {
namespace FLUXION_ISA_NAMESPACE {
namespace {

constexpr size_t kLanes = 16;

// What a partial result is held in.
template <class T> struct PartialOf { using type = T; };
template <> struct PartialOf<float> { using type = double; };

template <class T>
using Partial = typename PartialOf<T>::type;
template <class T>
constexpr bool kFloat = std::is_floating_point<T>::value;

struct Sum {
  template <class T> static T of(T a, T b) {
    if constexpr (std::is_same<T, int32_t>::value) {
      return static_cast<T>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
    } else {
      return static_cast<T>(a + b);
    }
  }
};
struct Max {
  template <class T> static T of(T a, T b) { return (a > b) | (a != a) ? a : b; }
};
struct Min {
  template <class T> static T of(T a, T b) { return (a < b) | (a != a) ? a : b; }
};

template <class F, class T>
Partial<T> stretch(const T* x, size_t n) {
  using P = Partial<T>;
  if (n < kLanes) {
    P total = x[0];
    for (size_t i = 1; i < n; i++) total = F::of(total, static_cast<P>(x[i]));
    return total;
  }
  P lane[kLanes];
  for (size_t j = 0; j < kLanes; j++) lane[j] = static_cast<P>(x[j]);
  size_t i = kLanes;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t j = 0; j < kLanes; j++) lane[j] = F::of(lane[j], static_cast<P>(x[i + j]));
  }
  for (size_t j = 0; i + j < n; j++) lane[j] = F::of(lane[j], static_cast<P>(x[i + j]));
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t j = 0; j < half; j++) lane[j] = F::of(lane[j], lane[j + half]);
  }
  return lane[0];
}

template <class F, class T>
void foldColumns(void* partial, const void* values, size_t rows, size_t cols) {
  Partial<T>* p = static_cast<Partial<T>*>(partial);
  const T* x = static_cast<const T*>(values);
  for (size_t r = 0; r < rows; r++, x += cols) {
    for (size_t c = 0; c < cols; c++) p[c] = F::of(p[c], static_cast<Partial<T>>(x[c]));
  }
}

template <class F, class T, size_t N>
inline void tallColumns(Partial<T>* p, const T* x, size_t rows, size_t cols) {
  size_t r = 0;
  if (rows >= 4) {
    T sum[4][N];
    for (size_t i = 0; i < 4; i++) {
      for (size_t j = 0; j < N; j++) sum[i][j] = x[i * cols + j];
    }
    for (r = 4; r + 4 <= rows; r += 4) {
      for (size_t i = 0; i < 4; i++) {
        for (size_t j = 0; j < N; j++) sum[i][j] = F::of(sum[i][j], x[(r + i) * cols + j]);
      }
    }
    for (size_t i = 0; i < 4; i++) {
      for (size_t j = 0; j < N; j++) p[j] = F::of(p[j], static_cast<Partial<T>>(sum[i][j]));
    }
  }
  for (; r < rows; r++) {
    for (size_t j = 0; j < N; j++) p[j] = F::of(p[j], static_cast<Partial<T>>(x[r * cols + j]));
  }
}

// As foldColumns, but every fourth row is folded in the dtype of the elements: for some tens of rows.
template <class F, class T>
void foldTall(void* partial, const void* values, size_t rows, size_t cols) {
  Partial<T>* p = static_cast<Partial<T>*>(partial);
  const T* x = static_cast<const T*>(values);
  size_t c = 0;
  for (; c + kLanes <= cols; c += kLanes) tallColumns<F, T, kLanes>(p + c, x + c, rows, cols);
  for (; c < cols; c++) tallColumns<F, T, 1>(p + c, x + c, rows, cols);
}

template <class F, class T>
void foldRows(void* partial, const void* values, size_t rows, size_t cols) {
  Partial<T>* p = static_cast<Partial<T>*>(partial);
  const T* x = static_cast<const T*>(values);
  for (size_t r = 0; r < rows; r++, x += cols) p[r] = stretch<F, T>(x, cols);
}

template <class F>
void fill(Kernels& k, int reducer) {
#define FILL(T, dtype)                                                  \
  k.foldColumns[reducer][static_cast<int>(DType::dtype)] = foldColumns<F, T>; \
  k.foldTall[reducer][static_cast<int>(DType::dtype)] = foldTall<F, T>; \
  k.foldRows[reducer][static_cast<int>(DType::dtype)] = foldRows<F, T>;
  FILL(float, Float32)
  FILL(double, Float64)
  FILL(int32_t, Int32)
  FILL(uint32_t, UInt32)
  FILL(uint8_t, Bool)
#undef FILL
}

}  // namespace

void fillFold(Kernels& k) {
  fill<Sum>(k, static_cast<int>(Reducer::Sum));
  fill<Max>(k, static_cast<int>(Reducer::Max));
  fill<Min>(k, static_cast<int>(Reducer::Min));
}

}  // namespace FLUXION_ISA_NAMESPACE
}  // namespace fluxion
