// Products that tiles would waste work on: few columns (a matrix times some vectors), and few operations an element.
#pragma once
#include "gemm_operand.cuh"

namespace fluxion::gemm {

// C[i][j] for j < Columns = V::rows, where the rows of W lie along the depth: each warp takes Rows rows. Lane l sums
// positions begin + l, begin + l + 32, ...; the sums of the lanes are added pairwise.
template <int Rows, class W, class V, class Finish>
__device__ __forceinline__ void productByWarps(const W& w, const V& v, int firstRow, int begin, int end,
                                               Finish finish) {
  using T = typename W::Element;
  constexpr int columns = V::rows;
  static_assert(Rows * columns <= 32);
  const int lane = int(threadIdx.x) % 32;
  const int row = firstRow + int(threadIdx.x) / 32 * Rows;
  T sums[Rows][columns];
#pragma unroll
  for (int i = 0; i < Rows; i++) {
#pragma unroll
    for (int j = 0; j < columns; j++) sums[i][j] = 0;
  }
#pragma unroll 4
  for (int p = begin + lane; p < end; p += 32) {
    T y[columns];
#pragma unroll
    for (int j = 0; j < columns; j++) y[j] = *v.at(j, p);
#pragma unroll
    for (int i = 0; i < Rows; i++) {
      // Rows beyond the last are computed as the last, and not finished.
      const T x = *w.at(min(row + i, W::rows - 1), p);
#pragma unroll
      for (int j = 0; j < columns; j++) sums[i][j] = multiplyAdd(x, y[j], sums[i][j]);
    }
  }
  // Lane e finishes element e of the warp's Rows x columns.
  T value = 0;
#pragma unroll
  for (int i = 0; i < Rows; i++) {
#pragma unroll
    for (int j = 0; j < columns; j++) {
      T sum = sums[i][j];
#pragma unroll
      for (int distance = 16; distance > 0; distance /= 2) {
        sum = plus(sum, __shfl_xor_sync(0xffffffffu, sum, distance));
      }
      if (lane == i * columns + j) value = sum;
    }
  }
  if (lane < Rows * columns && row + lane / columns < W::rows) finish(row + lane / columns, lane % columns, value);
}

// The same where the columns of W lie along its rows: each lane takes a row, so that a warp reads neighbours. Warp i of
// the block sums positions begin + i, begin + i + Warps, ...; the sums of the warps are added in order.
template <int Warps, class W, class V, class Finish>
__device__ __forceinline__ void productByLanes(const W& w, const V& v, int firstRow, int begin, int end,
                                               Finish finish) {
  using T = typename W::Element;
  constexpr int columns = V::rows;
  __shared__ T parts[Warps][columns][32];
  const int lane = int(threadIdx.x) % 32;
  const int warp = int(threadIdx.x) / 32;
  const int row = min(firstRow + lane, W::rows - 1);
  T sums[columns];
#pragma unroll
  for (int j = 0; j < columns; j++) sums[j] = 0;
#pragma unroll 8
  for (int p = begin + warp; p < end; p += Warps) {
    const T x = *w.at(row, p);
#pragma unroll
    for (int j = 0; j < columns; j++) sums[j] = multiplyAdd(x, *v.at(j, p), sums[j]);
  }
#pragma unroll
  for (int j = 0; j < columns; j++) parts[warp][j][lane] = sums[j];
  __syncthreads();
  if (warp >= columns || firstRow + lane >= W::rows) return;
  static_assert(columns <= Warps);
  T sum = parts[0][warp][lane];
#pragma unroll
  for (int i = 1; i < Warps; i++) sum = plus(sum, parts[i][warp][lane]);
  finish(firstRow + lane, warp, sum);
}

// One element of C.
template <class A, class B>
__device__ __forceinline__ typename A::Element productElement(const A& a, const B& b, int row, int column) {
  typename A::Element sum = 0;
#pragma unroll 8
  for (int p = 0; p < A::depth; p++) sum = multiplyAdd(*a.at(row, p), *b.at(column, p), sum);
  return sum;
}

// The sum of `Slices` partial results, in order, each `Size` elements after the one before.
template <int Slices, class T, class Index>
__device__ __forceinline__ T sumSlices(const T* first, Index size) {
  T sum = first[0];
#pragma unroll 8
  for (int slice = 1; slice < Slices; slice++) sum = plus(sum, first[slice * size]);
  return sum;
}

}  // namespace fluxion::gemm
