// What the parts of attention share: tiles in shared memory, and products of them. lib/compile/plan.ts has the
// mathematics, lib/backend/cuda/attention.ts chooses the tiles.
//
// A block of 128 threads has a tile of rows (queries, or keys) and goes along the columns (keys, or queries), tile
// after tile. Scores are dot products of rows of both, so that tiles lie in shared memory as they do in the operands.
// Which elements of a product a thread has is a matter of the cores that multiply: FmaCores or Tf32Cores. A row belongs
// to lanes of one warp: what they write for it, __syncwarp() makes ready.
#pragma once

#include "scalars.cuh"
#include "shared.cuh"
#include "tensor_core.cuh"

namespace fluxion {
namespace attention {

constexpr int kThreads = 128;
__device__ __forceinline__ float multiplyAdd(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiplyAdd(double a, double b, double c) { return fma(a, b, c); }
// Of numbers: a NaN is passed over.
__device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ double larger(double a, double b) { return fmax(a, b); }

constexpr int roundUp(int a, int unit) { return (a + unit - 1) / unit * unit; }
constexpr int greater(int a, int b) { return a > b ? a : b; }

// Elements that are moved together.
template <class T, int Count>
struct alignas(sizeof(T) * Count) Pack {
  T at[Count];
};

template <class P>
__device__ __forceinline__ bool aligned(const void* address) {
  return reinterpret_cast<unsigned long long>(address) % sizeof(P) == 0;
}

// An operand's matrix in global memory, for one index of the batch; with Column = 0, a vector. `Index` holds any
// distance in it.
template <class Element, class Index, Index Row, Index Column>
struct Operand {
  static constexpr bool kGiven = true;
  static constexpr bool kRowMajor = Column == 1;
  static constexpr bool kColumnMajor = Row == 1 && !kRowMajor;
  static constexpr long long kRow = Row;
  const Element* base;

  __device__ __forceinline__ const Element* at(int row, int column) const {
    return base + (Index(row) * Row + Index(column) * Column);
  }
  __device__ __forceinline__ Element operator()(int row, int column = 0) const { return *at(row, column); }
};

// An operand that is not there.
struct Absent {
  static constexpr bool kGiven = false;
};

// Multiply and add in T itself. 16 lanes are a line, which holds every eighth row.
struct FmaCores {
  static constexpr int kLanes = 16;  // that hold the same rows
  static constexpr int kLines = kThreads / kLanes;
  static constexpr int kColumnUnit = kLanes;

  template <class T>
  __device__ static __forceinline__ T rounded(T x) {
    return x;
  }
  __device__ static __forceinline__ int lane() { return threadIdx.x % kLanes; }
  __device__ static __forceinline__ int line() { return threadIdx.x / kLanes; }
  __device__ static __forceinline__ int row(int i) { return line() + i * kLines; }
  __device__ static __forceinline__ int column(int j) { return lane() + j * kLanes; }
  static constexpr int height(int rows) { return rows / kLines; }
  static constexpr int across(int columns) { return columns / kLanes; }

  // Features of a result: neighbours that a lane has together, how many it has, and which.
  static constexpr int width(int features, int vector) {
    if (features <= kLanes) return 1;
    return vector == 2 || roundUp(features, 2 * kLanes) < roundUp(features, 4 * kLanes) ? 2 : 4;
  }
  static constexpr int featuresAcross(int features, int vector) {
    return roundUp(features, kLanes * width(features, vector)) / kLanes;
  }
  static constexpr int depth(int features, int vector) { return roundUp(features, vector); }
  template <int Width>
  __device__ static __forceinline__ int feature(int across) {
    return (across / Width * kLanes + lane()) * Width + across % Width;
  }
};

// Products of float32 rounded to TF32, on tensor cores. A warp holds 16 neighbouring rows, as tensor_core.cuh says, and
// four of its lanes the same ones.
struct Tf32Cores {
  static constexpr int kLanes = 4;
  static constexpr int kColumnUnit = 8;

  // Operands are rounded on their way to shared memory.
  __device__ static __forceinline__ float rounded(float x) { return __int_as_float(int(tf32(x))); }
  __device__ static __forceinline__ int lane() { return threadIdx.x % kLanes; }
  __device__ static __forceinline__ int group() { return threadIdx.x % 32 / kLanes; }
  __device__ static __forceinline__ int row(int i) { return threadIdx.x / 32 * 16 + group() + i * 8; }
  __device__ static __forceinline__ int column(int j) { return j / 2 * 8 + 2 * lane() + j % 2; }
  static constexpr int height(int rows) { return rows == kThreads / 32 * 16 ? 2 : 0; }
  static constexpr int across(int columns) { return columns / kLanes; }
  static constexpr int width(int, int) { return 1; }
  static constexpr int featuresAcross(int features, int) { return roundUp(features, 8) / kLanes; }
  static constexpr int depth(int features, int) { return roundUp(features, 8); }
  template <int>
  __device__ static __forceinline__ int feature(int across) {
    return column(across);
  }
};

// How `Size` features of an operand lie in shared memory, `Chunk` of them at a time; and which of a chunk's columns a
// thread has in a result.
template <class T, int Size, int Chunk, class CoresOf>
struct Features {
  using Cores = CoresOf;
  static constexpr int kSize = Size;
  static constexpr int kChunk = Chunk;
  static constexpr int kChunks = greater(1, (Size + Chunk - 1) / Chunk);
  static constexpr int kVector = 16 / sizeof(T);
  static constexpr int kWidth = Cores::width(Chunk, kVector);
  static constexpr int kAcross = Cores::featuresAcross(Chunk, kVector);
  static constexpr int kGroups = kAcross / kWidth;
  static constexpr int kDepth = Cores::depth(Chunk, kVector);
  static constexpr int kFilled = greater(kDepth, kAcross * Cores::kLanes);
  // An odd number of vectors: then eight rows' vectors lie in different banks.
  static constexpr int kLd = kVector * (kFilled / kVector | 1);
  static_assert(Chunk > 0 && (Chunk == greater(1, Size) || (Chunk < Size && Chunk % kVector == 0)), "a chunk");

  __device__ static __forceinline__ int column(int across) { return Cores::template feature<kWidth>(across); }
};

// The sizes of a step and of its tiles.
template <class Type, int N, int M, bool Causal, int Rows, int Columns, class D, class E>
struct Tiles {
  using T = Type;
  using Cores = typename D::Cores;
  using FeaturesD = D;
  using FeaturesE = E;
  static constexpr int n = N;
  static constexpr int m = M;
  static constexpr bool causal = Causal;
  static constexpr int kRows = Rows;
  static constexpr int kColumns = Columns;
  // Of a thread: rows Cores::row(i), columns Cores::column(j).
  static constexpr int kHeight = Cores::height(Rows);
  static constexpr int kAcross = Cores::across(Columns);
  static constexpr int kWeightLd = Columns + D::kVector;
  static_assert(kHeight > 0 && kAcross > 0 && Columns % Cores::kColumnUnit == 0, "a tile");

  // A tile of rows or columns, and the one of scores.
  static constexpr int kRowsD = Rows * D::kLd;
  static constexpr int kRowsE = Rows * E::kLd;
  static constexpr int kColumnsD = Columns * D::kLd;
  static constexpr int kColumnsE = Columns * E::kLd;
  static constexpr int kWeights = Rows * kWeightLd;
};

// to[r, c] = from[row + r, column + c], a chunk of columns; 0 beyond the `Total` rows and the columns.
template <class F, int Rows, int Total, class T, class From>
__device__ __forceinline__ void stage(T* to, const From& from, int row, int column) {
  constexpr int vector = F::kVector;
  if constexpr (From::kRowMajor && From::kRow % vector == 0 && F::kSize % vector == 0) {
    using P = Pack<T, vector>;
    if (aligned<P>(from.base)) {
      constexpr int across = F::kFilled / vector, count = Rows * across;
#pragma unroll 8
      for (int step = 0; step < (count + kThreads - 1) / kThreads; step++) {
        const int t = threadIdx.x + step * kThreads, r = t / across, c = t % across * vector;
        if (count % kThreads != 0 && t >= count) break;
        P pack{};
        const bool within = (F::kFilled == F::kChunk || c < F::kChunk) && (F::kChunks == 1 || column + c < F::kSize);
        if (within && F::kSize > 0 && (Total % Rows == 0 || row + r < Total)) {
          pack = *reinterpret_cast<const P*>(from.at(row + r, column + c));
        }
#pragma unroll
        for (T& x : pack.at) x = F::Cores::rounded(x);
        *reinterpret_cast<P*>(to + r * F::kLd + c) = pack;
      }
      return;
    }
  }
  constexpr int count = Rows * F::kFilled;
#pragma unroll 4
  for (int step = 0; step < (count + kThreads - 1) / kThreads; step++) {
    const int t = threadIdx.x + step * kThreads;
    if (count % kThreads != 0 && t >= count) break;
    const int r = From::kColumnMajor ? t % Rows : t / F::kFilled;
    const int c = From::kColumnMajor ? t / Rows : t % F::kFilled;
    const bool within = c < F::kChunk && column + c < F::kSize && row + r < Total;
    to[r * F::kLd + c] = within ? F::Cores::rounded(from(row + r, column + c)) : T(0);
  }
}

template <class T, int A, int B>
__device__ __forceinline__ void clear(T (&values)[A][B]) {
#pragma unroll
  for (int i = 0; i < A; i++) {
#pragma unroll
    for (int j = 0; j < B; j++) values[i][j] = T(0);
  }
}

template <class F, class T, int Height, int Across>
__device__ __forceinline__ void addDots(FmaCores, T (&sum)[Height][Across], const T* rows, const T* columns) {
  using P = Pack<T, F::kVector>;
  constexpr int kLanes = FmaCores::kLanes, kLines = FmaCores::kLines;
  rows += FmaCores::line() * F::kLd;
  columns += FmaCores::lane() * F::kLd;
#pragma unroll 2
  for (int k = 0; k < F::kDepth; k += F::kVector) {
    P x[Height], y[Across];
#pragma unroll
    for (int j = 0; j < Across; j++) y[j] = *reinterpret_cast<const P*>(columns + j * kLanes * F::kLd + k);
#pragma unroll
    for (int i = 0; i < Height; i++) x[i] = *reinterpret_cast<const P*>(rows + i * kLines * F::kLd + k);
#pragma unroll
    for (int v = 0; v < F::kVector; v++) {
#pragma unroll
      for (int i = 0; i < Height; i++) {
#pragma unroll
        for (int j = 0; j < Across; j++) sum[i][j] = multiplyAdd(x[i].at[v], y[j].at[v], sum[i][j]);
      }
    }
  }
}

template <class S, class F, class T>
__device__ __forceinline__ void addProducts(FmaCores, T (&sum)[S::kHeight][F::kAcross], const T* weights,
                                            const T* columns) {
  using P = Pack<T, F::kVector>;
  constexpr int kLanes = FmaCores::kLanes, kLines = FmaCores::kLines;
  using Q = Pack<T, F::kWidth>;
  weights += FmaCores::line() * S::kWeightLd;
  columns += FmaCores::lane() * F::kWidth;
#pragma unroll 2
  for (int k = 0; k < S::kColumns; k += F::kVector) {
    P x[S::kHeight];
#pragma unroll
    for (int i = 0; i < S::kHeight; i++) x[i] = *reinterpret_cast<const P*>(weights + i * kLines * S::kWeightLd + k);
#pragma unroll
    for (int v = 0; v < F::kVector; v++) {
      Q y[F::kGroups];
#pragma unroll
      for (int g = 0; g < F::kGroups; g++) {
        y[g] = *reinterpret_cast<const Q*>(columns + (k + v) * F::kLd + g * kLanes * F::kWidth);
      }
#pragma unroll
      for (int i = 0; i < S::kHeight; i++) {
#pragma unroll
        for (int c = 0; c < F::kAcross; c++) {
          sum[i][c] = multiplyAdd(x[i].at[v], y[c / F::kWidth].at[c % F::kWidth], sum[i][c]);
        }
      }
    }
  }
}

// sum += rows * B, of `Depth` numbers each: B[k, j] = columns[k * AlongK + j * AlongJ].
template <int Depth, int Ld, int AlongK, int AlongJ, int Across>
__device__ __forceinline__ void addOnTensorCores(float (&sum)[2][Across], const float* rows, const float* columns) {
  rows += Tf32Cores::row(0) * Ld + Tf32Cores::lane();
  columns += Tf32Cores::lane() * AlongK + Tf32Cores::group() * AlongJ;
#pragma unroll 2
  for (int k = 0; k < Depth; k += 8) {
    unsigned a[4];
#pragma unroll
    for (int part = 0; part < 4; part++) {
      a[part] = unsigned(__float_as_int(rows[k + part / 2 * 4 + part % 2 * 8 * Ld]));
    }
#pragma unroll
    for (int j = 0; j < Across; j += 2) {
      unsigned b[2];
#pragma unroll
      for (int part = 0; part < 2; part++) {
        b[part] = unsigned(__float_as_int(columns[(k + part * 4) * AlongK + j * 4 * AlongJ]));
      }
      float d[4] = {sum[0][j], sum[0][j + 1], sum[1][j], sum[1][j + 1]};
      multiplyTf32(d, a, b);
      sum[0][j] = d[0];
      sum[0][j + 1] = d[1];
      sum[1][j] = d[2];
      sum[1][j + 1] = d[3];
    }
  }
}

template <class F, int Across>
__device__ __forceinline__ void addDots(Tf32Cores, float (&sum)[2][Across], const float* rows, const float* columns) {
  addOnTensorCores<F::kDepth, F::kLd, 1, F::kLd>(sum, rows, columns);
}

template <class S, class F>
__device__ __forceinline__ void addProducts(Tf32Cores, float (&sum)[2][F::kAcross], const float* weights,
                                            const float* columns) {
  addOnTensorCores<S::kColumns, S::kWeightLd, F::kLd, 1>(sum, weights, columns);
}

// sum[i][j] += the dot product of row i and column j of this thread, over a chunk of features.
template <class F, class T, int Height, int Across>
__device__ __forceinline__ void addDots(T (&sum)[Height][Across], const T* rows, const T* columns) {
  addDots<F>(typename F::Cores(), sum, rows, columns);
}

// sum += weights * columns: for each row of this thread, the sum of the columns' features by their weights.
template <class S, class F, class T>
__device__ __forceinline__ void addProducts(T (&sum)[S::kHeight][F::kAcross], const T* weights, const T* columns) {
  addProducts<S, F>(typename F::Cores(), sum, weights, columns);
}

// Writes this thread's elements of the tile of weights.
template <class S, class T>
__device__ __forceinline__ void put(T* weights, const T (&values)[S::kHeight][S::kAcross]) {
#pragma unroll
  for (int i = 0; i < S::kHeight; i++) {
#pragma unroll
    for (int j = 0; j < S::kAcross; j++) {
      weights[S::Cores::row(i) * S::kWeightLd + S::Cores::column(j)] = S::Cores::rounded(values[i][j]);
    }
  }
}

// Writes this thread's elements of a dense result [total rows, features], whose rows begin at `row` and features at
// `column`.
template <class F, class T, int Height>
__device__ __forceinline__ void store(T* result, const T (&values)[Height][F::kAcross], int row, int total,
                                      int column) {
#pragma unroll
  for (int i = 0; i < Height; i++) {
    const int r = row + F::Cores::row(i);
    if (r >= total) continue;
    T* const to = result + static_cast<long long>(r) * F::kSize + column;
#pragma unroll
    for (int across = 0; across < F::kAcross; across++) {
      const int c = F::column(across);
      if (c < F::kChunk && column + c < F::kSize) to[c] = values[i][across];
    }
  }
}

// Over the lanes that hold the same rows.
template <class Cores, class T>
__device__ __forceinline__ T maximumOfRow(T x) {
#pragma unroll
  for (int distance = Cores::kLanes / 2; distance > 0; distance /= 2) {
    x = larger(x, __shfl_xor_sync(0xffffffffu, x, distance));
  }
  return x;
}

template <class Cores, class T>
__device__ __forceinline__ T sumOfRow(T x) {
#pragma unroll
  for (int distance = Cores::kLanes / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}

// Whether the key counts nothing for the query: also where one of them is not there.
template <class S, class Mask>
__device__ __forceinline__ bool hidden(const Mask& mask, int query, int key) {
  if (key >= S::m || query >= S::n) return true;
  if (S::causal && key > query) return true;
  if constexpr (Mask::kGiven) return mask(query, key) == 0;
  return false;
}

// How many keys any of these queries sees.
template <class S>
__device__ __forceinline__ int keysSeen(int query, int count) {
  return S::causal && query + count < S::m ? query + count : S::m;
}

}  // namespace attention
}  // namespace fluxion
