// The cotangents of attention's operands. What belongs to queries is summed over tiles of keys, and what belongs to
// keys over tiles of queries: P and G are computed in both, and no two blocks add to the same place.
#pragma once

#include "attention.cuh"

namespace fluxion {
namespace attention {

// rowsum(cO * O) - cL of a query, by a warp.
template <int E, class T, class O, class CO, class CL>
__device__ __forceinline__ void shiftOf(int query, const O& o, const CO& cO, const CL& cL, T* shift) {
  const int self = threadIdx.x % 32;
  T sum = T(0);
  if constexpr (CO::kGiven) {
    for (int c = self; c < E; c += 32) sum = multiplyAdd(cO(query, c), o(query, c), sum);
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  }
  if (self != 0) return;
  if constexpr (CL::kGiven) sum -= cL(query);
  *shift = sum;
}

// Shared memory, in bytes; `Given`: cO is there.
template <class S, bool Given>
constexpr int kCotangentBytes = int(sizeof(typename S::T)) * (S::kRowsD + S::kColumnsD +
                                                              (Given ? S::kRowsE + S::kColumnsE : 0) + S::kWeights);

// Of a tile of rows, which are queries, or keys where `OfKeys`: with X and Y the operands of the rows ([q, cO], or
// [k, v]), and XC, YC those of the columns,
//   resultX = sum over the columns of scale G XC,  resultY (of keys) = sum over the columns of P YC.
// Of the results, the chunks number `slice` of features. L and shift are the queries'.
template <class S, bool OfKeys, bool WantsX, bool WantsY, class T, class X, class Y, class XC, class YC, class Mask,
          class L, class Shift>
__device__ __forceinline__ void cotangent(int tile, int slice, T scale, const X& x, const Y& y, const XC& xc,
                                          const YC& yc, const Mask& mask, const L& l, const Shift& shift, T* resultX,
                                          T* resultY) {
  using Cores = typename S::Cores;
  using D = typename S::FeaturesD;
  using E = typename S::FeaturesE;
  constexpr bool dotsY = WantsX && Y::kGiven && YC::kGiven;  // cO V^T counts
  constexpr bool addsY = WantsY && YC::kGiven;
  constexpr int total = OfKeys ? S::m : S::n;      // rows
  constexpr int all = OfKeys ? S::n : S::m;        // columns
  constexpr int chunks = dotsY && E::kChunks > D::kChunks ? E::kChunks : D::kChunks;
  constexpr int queries = OfKeys ? S::kAcross : S::kHeight;  // of a thread
  T* const rowsX = reinterpret_cast<T*>(dynamicShared());
  T* const columnsX = rowsX + S::kRowsD;
  T* const rowsY = columnsX + S::kColumnsD;
  T* const columnsY = rowsY + (Y::kGiven && YC::kGiven ? S::kRowsE : 0);
  T* const weights = columnsY + (Y::kGiven && YC::kGiven ? S::kColumnsE : 0);
  const int row = tile * S::kRows;
  const int begin = OfKeys && S::causal ? row / S::kColumns * S::kColumns : 0;
  const int end = OfKeys ? all : keysSeen<S>(row, S::kRows);
  T logSum[queries], down[queries], sumX[S::kHeight][D::kAcross], sumY[S::kHeight][E::kAcross];
  clear(sumX);
  clear(sumY);
  const auto prepare = [&](int first) {
#pragma unroll
    for (int i = 0; i < queries; i++) {
      const int query = first + (OfKeys ? Cores::column(i) : Cores::row(i));
      logSum[i] = query < S::n ? l(query) : infinity<T>();
      down[i] = T(0);
      if constexpr (Shift::kGiven) {
        if (query < S::n) down[i] = shift(query);
      }
    }
  };
  if (!OfKeys) prepare(row);
  for (int column = begin; column < end; column += S::kColumns) {
    T score[S::kHeight][S::kAcross], weight[S::kHeight][S::kAcross];
    clear(score);
    clear(weight);
    if (OfKeys) prepare(column);
    for (int chunk = 0; chunk < chunks; chunk++) {
      __syncthreads();
      if (chunk < D::kChunks) {
        if (D::kChunks > 1 || column == begin) stage<D, S::kRows, total>(rowsX, x, row, chunk * D::kChunk);
        stage<D, S::kColumns, all>(columnsX, xc, column, chunk * D::kChunk);
      }
      if constexpr (dotsY) {
        if (chunk < E::kChunks) {
          if (E::kChunks > 1 || column == begin) stage<E, S::kRows, total>(rowsY, y, row, chunk * E::kChunk);
          stage<E, S::kColumns, all>(columnsY, yc, column, chunk * E::kChunk);
        }
      } else if constexpr (addsY && E::kChunks == 1) {
        if (chunk == 0) stage<E, S::kColumns, all>(columnsY, yc, column, 0);
      }
      __syncthreads();
      if (chunk < D::kChunks) addDots<D>(weight, rowsX, columnsX);
      if constexpr (dotsY) {
        if (chunk < E::kChunks) addDots<E>(score, rowsY, columnsY);
      }
    }
#pragma unroll
    for (int i = 0; i < S::kHeight; i++) {
#pragma unroll
      for (int j = 0; j < S::kAcross; j++) {
        const int r = row + Cores::row(i), c = column + Cores::column(j);
        const int own = OfKeys ? j : i;
        const bool unseen = OfKeys ? hidden<S>(mask, c, r) : hidden<S>(mask, r, c);
        weight[i][j] = unseen ? T(0) : exp(scale * weight[i][j] - logSum[own]);
        score[i][j] = weight[i][j] * (score[i][j] - down[own]);
      }
    }
    if (addsY && slice < E::kChunks) {
      if constexpr (E::kChunks > 1 && addsY) {
        __syncthreads();
        stage<E, S::kColumns, all>(columnsY, yc, column, slice * E::kChunk);
        __syncthreads();
      }
      put<S>(weights, weight);
      __syncwarp();
      addProducts<S, E>(sumY, weights, columnsY);
      __syncwarp();
    }
    if (WantsX && slice < D::kChunks) {
      if constexpr (D::kChunks > 1) {
        __syncthreads();
        stage<D, S::kColumns, all>(columnsX, xc, column, slice * D::kChunk);
        __syncthreads();
      }
      put<S>(weights, score);
      __syncwarp();
      addProducts<S, D>(sumX, weights, columnsX);
    }
  }
  if (WantsX) {
#pragma unroll
    for (int i = 0; i < S::kHeight; i++) {
#pragma unroll
      for (int c = 0; c < D::kAcross; c++) sumX[i][c] *= scale;
    }
    store<D>(resultX, sumX, row, total, slice * D::kChunk);
  }
  if (WantsY) store<E>(resultY, sumY, row, total, slice * E::kChunk);
}

}  // namespace attention
}  // namespace fluxion
