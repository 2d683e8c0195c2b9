// Attention forwards: a softmax over one tile of keys after another. What was summed before is brought down to the new
// maximum.
#pragma once

#include "attention.cuh"

namespace fluxion {
namespace attention {

// Shared memory, in bytes.
template <class S>
constexpr int kValueBytes = int(sizeof(typename S::T)) * (S::kRowsD + S::kColumnsD + S::kColumnsE + S::kWeights);

// O (its chunk `slice` of features) and L of a tile of queries; null where not wanted.
template <class S, bool WantsO, bool WantsL, class T, class Q, class K, class V, class Mask>
__device__ __forceinline__ void value(int tile, int slice, T scale, const Q& q, const K& k, const V& v,
                                      const Mask& mask, T* o, T* l) {
  using Cores = typename S::Cores;
  using D = typename S::FeaturesD;
  using E = typename S::FeaturesE;
  T* const queries = reinterpret_cast<T*>(dynamicShared());
  T* const keys = queries + S::kRowsD;
  T* const values = keys + S::kColumnsD;
  T* const weights = values + S::kColumnsE;
  const int row = tile * S::kRows;
  const int end = keysSeen<S>(row, S::kRows);
  T maximum[S::kHeight], sum[S::kHeight], result[S::kHeight][E::kAcross];
  clear(result);
#pragma unroll
  for (int i = 0; i < S::kHeight; i++) {
    maximum[i] = -infinity<T>();
    sum[i] = T(0);
  }
  for (int key = 0; key < end; key += S::kColumns) {
    T score[S::kHeight][S::kAcross];
    clear(score);
    for (int chunk = 0; chunk < D::kChunks; chunk++) {
      __syncthreads();
      if (D::kChunks > 1 || key == 0) stage<D, S::kRows, S::n>(queries, q, row, chunk * D::kChunk);
      stage<D, S::kColumns, S::m>(keys, k, key, chunk * D::kChunk);
      if (WantsO && chunk == 0) stage<E, S::kColumns, S::m>(values, v, key, slice * E::kChunk);
      __syncthreads();
      addDots<D>(score, queries, keys);
    }
#pragma unroll
    for (int i = 0; i < S::kHeight; i++) {
      const int query = row + Cores::row(i);
      T largest = maximum[i];
#pragma unroll
      for (int j = 0; j < S::kAcross; j++) {
        const bool unseen = hidden<S>(mask, query, key + Cores::column(j));
        score[i][j] = unseen ? -infinity<T>() : scale * score[i][j];
        largest = larger(largest, score[i][j]);
      }
      largest = maximumOfRow<Cores>(largest);
      // As long as all are -infinity, any finite shift makes all weights 0.
      const T shift = largest == -infinity<T>() ? T(0) : largest;
      const T factor = exp(maximum[i] - shift);
      maximum[i] = largest;
      sum[i] *= factor;
#pragma unroll
      for (int j = 0; j < S::kAcross; j++) {
        score[i][j] = exp(score[i][j] - shift);
        sum[i] += score[i][j];
      }
#pragma unroll
      for (int c = 0; c < E::kAcross; c++) result[i][c] *= factor;
    }
    if (WantsO) {
      put<S>(weights, score);
      __syncwarp();
      addProducts<S, E>(result, weights, values);
    }
  }
#pragma unroll
  for (int i = 0; i < S::kHeight; i++) {
    sum[i] = sumOfRow<Cores>(sum[i]);
    const int query = row + Cores::row(i);
    if (WantsL && slice == 0 && Cores::lane() == 0 && query < S::n) {
      l[query] = sum[i] == T(0) ? infinity<T>() : maximum[i] + log(sum[i]);
    }
    const T factor = sum[i] == T(0) ? T(0) : T(1) / sum[i];
#pragma unroll
    for (int c = 0; c < E::kAcross; c++) result[i][c] *= factor;
  }
  if (WantsO) store<E>(o, result, row, S::n, slice * E::kChunk);
}

}  // namespace attention
}  // namespace fluxion
