// The register-blocked kernels of the matrix product, written with vector extensions: mr rows times two
// vectors of columns stay in registers while k runs. Compiled once for each instruction set, with
// contraction to fused multiply-adds.
#include <cstring>

#include "isa.h"

namespace fluxion {
namespace FLUXION_ISA_NAMESPACE {
namespace {

#include "simd.h"

#if defined(__AVX512F__)
constexpr int kRows = 8;
#elif defined(__aarch64__)
constexpr int kRows = 12;
#else
constexpr int kRows = 6;
#endif
constexpr int kVectors = 2;
template <class T>
constexpr int kColumns = kVectors * Simd<T>::lanes;

// One tile of a panel. What C holds is added at the end, so that nothing waits for it.
//
// A is read through a pointer for each three rows, because p, p + s and p + 2 s are addressing modes: a pointer
// for every row would not fit the integer registers.
template <class T, int Rows, bool RowMajor>
inline void tile(const Panel& panel, const T* av, T* c, const T* scale) {
  using V = typename Simd<T>::Vector;
  constexpr int lanes = Simd<T>::lanes;
  constexpr int groups = (Rows + 2) / 3;
  const int64_t k = panel.k, stride = panel.aStride, bStride = panel.bStride, ldc = panel.ldc;
  const T* b = static_cast<const T*>(panel.b);
  V sum[Rows][kVectors] = {};
  if (panel.begin == Begin::Row) {
    const T* start = static_cast<const T*>(panel.start);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; i++) {
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; j++) sum[i][j] = *reinterpret_cast<const V*>(start + j * lanes);
    }
  }
  // What is read at the end is fetched meanwhile.
  const T* const late = scale != nullptr ? scale : panel.begin == Begin::C ? c : nullptr;
  if (late != nullptr) {
    const int64_t ld = scale != nullptr ? panel.ldScale : ldc;
#pragma GCC unroll 16
    for (int i = 0; i < Rows; i++) {
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; j++) __builtin_prefetch(late + i * ld + j * lanes);
    }
  }
  const T* a[groups];
#pragma GCC unroll 8
  for (int g = 0; g < groups; g++) a[g] = av + (RowMajor ? 3 * g * stride : 3 * g);
  for (int64_t p = 0; p < k; p++) {
    V right[kVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; j++) right[j] = *reinterpret_cast<const V*>(b + j * lanes);
    b += bStride;
#pragma GCC unroll 16
    for (int i = 0; i < Rows; i++) {
      const T left = a[i / 3][RowMajor ? (i % 3) * stride : i % 3];
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; j++) sum[i][j] += left * right[j];
    }
#pragma GCC unroll 8
    for (int g = 0; g < groups; g++) {
      a[g] += RowMajor ? 1 : stride;
#if defined(__GNUC__) && !defined(__clang__)
      asm("" : "+r"(a[g]));  // keeps the pointers as they are
#endif
    }
  }
  if (panel.begin == Begin::C) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; i++) {
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; j++) sum[i][j] += *reinterpret_cast<const V*>(c + i * ldc + j * lanes);
    }
  }
  if (scale != nullptr) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; i++) {
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; j++) sum[i][j] *= *reinterpret_cast<const V*>(scale + i * panel.ldScale + j * lanes);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; j++) *reinterpret_cast<V*>(c + i * ldc + j * lanes) = sum[i][j];
  }
}

// The rows that do not fill a tile.
template <class T, int Rows, bool RowMajor>
void rest(const Panel& panel, int64_t rows, const T* a, T* c, const T* scale) {
  if constexpr (Rows > 0) {
    if (rows == Rows) tile<T, Rows, RowMajor>(panel, a, c, scale);
    else rest<T, Rows - 1, RowMajor>(panel, rows, a, c, scale);
  }
}

template <class T, bool RowMajor>
void multiplyPanel(const Panel& panel) {
  const T* a = static_cast<const T*>(panel.a);
  const T* scale = static_cast<const T*>(panel.scale);
  T* c = static_cast<T*>(panel.c);
  int64_t rows = panel.rows;
  for (; rows >= kRows; rows -= kRows) {
    tile<T, kRows, RowMajor>(panel, a, c, scale);
    a += panel.aTile;
    c += kRows * panel.ldc;
    if (scale != nullptr) scale += kRows * panel.ldScale;
  }
  rest<T, kRows - 1, RowMajor>(panel, rows, a, c, scale);
}

#if defined(__clang__)
#define FLUXION_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FLUXION_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Order{__VA_ARGS__})
#endif
template <size_t Bytes> struct WordOf { using type = int32_t; };
template <> struct WordOf<8> { using type = int64_t; };

// The transpose of 4 by 4 elements.
template <class T>
inline void turn4(T* to, int64_t toStride, const T* from, int64_t fromStride) {
  using Word = typename WordOf<sizeof(T)>::type;
  typedef T Four __attribute__((vector_size(4 * sizeof(T)), aligned(alignof(T)), may_alias));
  [[maybe_unused]] typedef Word Order __attribute__((vector_size(4 * sizeof(T))));
  Four row[4], half[4];
  for (int i = 0; i < 4; i++) row[i] = *reinterpret_cast<const Four*>(from + i * fromStride);
  for (int i = 0; i < 2; i++) {
    half[i] = FLUXION_SHUFFLE(row[2 * i], row[2 * i + 1], 0, 4, 1, 5);
    half[i + 2] = FLUXION_SHUFFLE(row[2 * i], row[2 * i + 1], 2, 6, 3, 7);
  }
  for (int i = 0; i < 2; i++) {
    *reinterpret_cast<Four*>(to + 2 * i * toStride) = FLUXION_SHUFFLE(half[2 * i], half[2 * i + 1], 0, 1, 4, 5);
    *reinterpret_cast<Four*>(to + (2 * i + 1) * toStride) = FLUXION_SHUFFLE(half[2 * i], half[2 * i + 1], 2, 3, 6, 7);
  }
}

// Copies a panel of up to `columns` columns so that the kernel reads it in order; missing columns are zero.
template <class T>
void packPanel(void* packedv, const void* bv, int64_t kStride, int64_t nStride, int64_t k, int64_t n) {
  constexpr int64_t columns = kColumns<T>;
  T* packed = static_cast<T*>(packedv);
  const T* b = static_cast<const T*>(bv);
  if (n < columns) std::memset(packed, 0, static_cast<size_t>(k * columns) * sizeof(T));
  if (nStride == 1 && n == columns) {
    for (int64_t p = 0; p < k; p++) std::memcpy(packed + p * columns, b + p * kStride, columns * sizeof(T));
  } else if (kStride == 1) {
    // Blocks of 16 along k keep both sides in the L1 cache.
    for (int64_t p0 = 0; p0 < k; p0 += 16) {
      const int64_t depth = k - p0 < 16 ? k - p0 : 16;
      int64_t j = 0;
      for (; j + 4 <= n && depth % 4 == 0; j += 4) {
        for (int64_t p = p0; p < p0 + depth; p += 4) turn4(packed + p * columns + j, columns, b + j * nStride + p, nStride);
      }
      for (; j < n; j++) {
        for (int64_t p = p0; p < p0 + depth; p++) packed[p * columns + j] = b[j * nStride + p];
      }
    }
  } else {
    for (int64_t p = 0; p < k; p++) {
      for (int64_t j = 0; j < n; j++) packed[p * columns + j] = b[p * kStride + j * nStride];
    }
  }
}

// Tiles of kRows rows, each [k][kRows], from columns that lie dense; missing rows are zero.
template <class T>
void packTiles(void* packedv, const void* av, int64_t kStride, int64_t k, int64_t rows) {
  T* packed = static_cast<T*>(packedv);
  const T* a = static_cast<const T*>(av);
  for (; rows >= kRows; rows -= kRows, a += kRows) {
    for (int64_t p = 0; p < k; p++, packed += kRows) std::memcpy(packed, a + p * kStride, kRows * sizeof(T));
  }
  if (rows == 0) return;
  std::memset(packed, 0, static_cast<size_t>(k * kRows) * sizeof(T));
  for (int64_t p = 0; p < k; p++, packed += kRows) {
    for (int64_t i = 0; i < rows; i++) packed[i] = a[p * kStride + i];
  }
}

// The sum of a vector's lanes, by halves.
template <class T, int N>
inline T sumLanes(const T* lanes) {
  T half[N / 2];
  for (int i = 0; i < N / 2; i++) half[i] = lanes[i] + lanes[i + N / 2];
  if constexpr (N == 2) return half[0];
  else return sumLanes<T, N / 2>(half);
}

// A row of A is read once for all columns; two sums for each of them, so that they need not wait for each other.
template <class T, int Columns>
void dotRows(int64_t rows, int64_t k, const T* a, int64_t aStride, const T* bt, const T* start, T* c, int64_t ldc) {
  using V = typename Simd<T>::Vector;
  constexpr int lanes = Simd<T>::lanes;
  for (int64_t r = 0; r < rows; r++, a += aStride, c += ldc) {
    V even[Columns] = {}, odd[Columns] = {};
    int64_t p = 0;
    for (; p + 2 * lanes <= k; p += 2 * lanes) {
      const V first = *reinterpret_cast<const V*>(a + p), second = *reinterpret_cast<const V*>(a + p + lanes);
#pragma GCC unroll 4
      for (int n = 0; n < Columns; n++) {
        even[n] += first * *reinterpret_cast<const V*>(bt + n * k + p);
        odd[n] += second * *reinterpret_cast<const V*>(bt + n * k + p + lanes);
      }
    }
#pragma GCC unroll 4
    for (int n = 0; n < Columns; n++) {
      even[n] += odd[n];
      T lane[lanes];
      std::memcpy(lane, &even[n], sizeof lane);
      T sum = sumLanes<T, lanes>(lane);
      for (int64_t q = p; q < k; q++) sum += a[q] * bt[n * k + q];
      c[n] = start == nullptr ? sum : sum + start[n];
    }
  }
}

template <class T, int Columns = static_cast<int>(kDotColumns)>
void dot(int64_t rows, int64_t k, const void* a, int64_t aStride, const void* bt, int64_t columns, const void* start,
         void* c, int64_t ldc) {
  if constexpr (Columns > 0) {
    if (columns == Columns) {
      dotRows<T, Columns>(rows, k, static_cast<const T*>(a), aStride, static_cast<const T*>(bt),
                          static_cast<const T*>(start), static_cast<T*>(c), ldc);
    } else {
      dot<T, Columns - 1>(rows, k, a, aStride, bt, columns, start, c, ldc);
    }
  }
}

template <class T>
void set(GemmKernel& g) {
  g.mr = kRows;
  g.nr = kColumns<T>;
  g.packPanel = packPanel<T>;
  g.packTiles = packTiles<T>;
  g.dot = dot<T>;
  g.rowMajor = multiplyPanel<T, true>;
  g.columnMajor = multiplyPanel<T, false>;
}

}  // namespace

void fillGemm(Kernels& k) {
  set<float>(k.gemm[static_cast<int>(DType::Float32)]);
  set<double>(k.gemm[static_cast<int>(DType::Float64)]);
  // Two's complement words: the product of int32 modulo 2^32 is that of uint32.
  set<uint32_t>(k.gemm[static_cast<int>(DType::UInt32)]);
  k.gemm[static_cast<int>(DType::Int32)] = k.gemm[static_cast<int>(DType::UInt32)];
}

// The whole table of this instruction set; the other sources of the set fill their part.
const Kernels& kernels() {
  static const Kernels table = [] {
    Kernels k;
    k.name = FLUXION_ISA_NAME;
    fillElementwise(k);
    fillFold(k);
    fillGemm(k);
    fillAttention(k);
    return k;
  }();
  return table;
}

}  // namespace FLUXION_ISA_NAMESPACE
}  // namespace fluxion
