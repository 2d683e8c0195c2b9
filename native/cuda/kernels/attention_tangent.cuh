// The tangents of attention's results, of queries by queries; P comes from L.
#pragma once

#include "attention.cuh"

namespace fluxion {
namespace attention {

// Shared memory, in bytes.
template <class S, bool GivenQ, bool GivenK, bool GivenV>
constexpr int kTangentBytes = int(sizeof(typename S::T)) *
                              (S::kRowsD * (1 + GivenQ) + S::kColumnsD * (1 + GivenK) +
                               S::kColumnsE * ((GivenQ || GivenK) + GivenV) + S::kWeights);

// dO (its chunk `slice` of features) and dL of a tile of queries; null where not wanted.
template <class S, bool WantsO, bool WantsL, class T, class Q, class K, class V, class Mask, class O, class L, class DQ,
          class DK, class DV>
__device__ __forceinline__ void tangent(int tile, int slice, T scale, const Q& q, const K& k, const V& v,
                                        const Mask& mask, const O& o, const L& l, const DQ& dq, const DK& dk,
                                        const DV& dv, T* dO, T* dL) {
  using Cores = typename S::Cores;
  using D = typename S::FeaturesD;
  using E = typename S::FeaturesE;
  constexpr bool moves = DQ::kGiven || DK::kGiven;  // the scores have a tangent
  T* const queries = reinterpret_cast<T*>(dynamicShared());
  T* const dQueries = queries + S::kRowsD;
  T* const keys = dQueries + (DQ::kGiven ? S::kRowsD : 0);
  T* const dKeys = keys + S::kColumnsD;
  T* const values = dKeys + (DK::kGiven ? S::kColumnsD : 0);
  T* const dValues = values + (moves ? S::kColumnsE : 0);
  T* const weights = dValues + (DV::kGiven ? S::kColumnsE : 0);
  const int row = tile * S::kRows;
  const int end = keysSeen<S>(row, S::kRows);
  T logSum[S::kHeight], sum[S::kHeight], result[S::kHeight][E::kAcross];
  clear(result);
#pragma unroll
  for (int i = 0; i < S::kHeight; i++) {
    const int query = row + Cores::row(i);
    logSum[i] = query < S::n ? l(query) : infinity<T>();
    sum[i] = T(0);
  }
  for (int key = 0; key < end; key += S::kColumns) {
    T score[S::kHeight][S::kAcross], dScore[S::kHeight][S::kAcross];
    clear(score);
    clear(dScore);
    for (int chunk = 0; chunk < D::kChunks; chunk++) {
      const int column = chunk * D::kChunk;
      __syncthreads();
      if (D::kChunks > 1 || key == 0) {
        stage<D, S::kRows, S::n>(queries, q, row, column);
        if constexpr (DQ::kGiven) stage<D, S::kRows, S::n>(dQueries, dq, row, column);
      }
      stage<D, S::kColumns, S::m>(keys, k, key, column);
      if constexpr (DK::kGiven) stage<D, S::kColumns, S::m>(dKeys, dk, key, column);
      if (WantsO && chunk == 0) {
        if constexpr (moves) stage<E, S::kColumns, S::m>(values, v, key, slice * E::kChunk);
        if constexpr (DV::kGiven) stage<E, S::kColumns, S::m>(dValues, dv, key, slice * E::kChunk);
      }
      __syncthreads();
      addDots<D>(score, queries, keys);
      if constexpr (DQ::kGiven) addDots<D>(dScore, dQueries, keys);
      if constexpr (DK::kGiven) addDots<D>(dScore, queries, dKeys);
    }
#pragma unroll
    for (int i = 0; i < S::kHeight; i++) {
      const int query = row + Cores::row(i);
#pragma unroll
      for (int j = 0; j < S::kAcross; j++) {
        const bool unseen = hidden<S>(mask, query, key + Cores::column(j));
        score[i][j] = unseen ? T(0) : exp(scale * score[i][j] - logSum[i]);
        dScore[i][j] = score[i][j] * (scale * dScore[i][j]);
        sum[i] += dScore[i][j];
      }
    }
    if constexpr (WantsO && DV::kGiven) {
      put<S>(weights, score);
      __syncwarp();
      addProducts<S, E>(result, weights, dValues);
      __syncwarp();
    }
    if constexpr (WantsO && moves) {
      put<S>(weights, dScore);
      __syncwarp();
      addProducts<S, E>(result, weights, values);
    }
  }
#pragma unroll
  for (int i = 0; i < S::kHeight; i++) {
    sum[i] = sumOfRow<Cores>(sum[i]);
    const int query = row + Cores::row(i);
    if (query >= S::n) continue;
    if (WantsL && slice == 0 && Cores::lane() == 0) dL[query] = sum[i];
    if constexpr (WantsO) {
#pragma unroll
      for (int c = 0; c < E::kAcross; c++) {
        const int within = E::column(c), feature = slice * E::kChunk + within;
        if (within >= E::kChunk || feature >= E::kSize) continue;
        result[i][c] = multiplyAdd(-sum[i], o(query, feature), result[i][c]);
      }
    }
  }
  if constexpr (WantsO) store<E>(dO, result, row, S::n, slice * E::kChunk);
}

}  // namespace attention
}  // namespace fluxion
