// Sums over the rows in a strip: every block of threads adds its rows to its own partial sums in memory, which one kernel
// adds up when all rows are done, in their order.
#pragma once

#include "strip_rows.cuh"

namespace fluxion {

// row[n .. n + 3] += values, or = values with `opens`, as far as n is below kN.
template <int kN, bool kInside>
__device__ __forceinline__ void stripAdd4(float* row, int n, const float (&values)[4], bool opens) {
  if (kN % 4 == 0) {
    if (!kInside && n >= kN) return;
    float4* const place = reinterpret_cast<float4*>(row + n);
    float4 x = {values[0], values[1], values[2], values[3]};
    if (!opens) {
      const float4 before = *place;
      x = {before.x + x.x, before.y + x.y, before.z + x.z, before.w + x.w};
    }
    *place = x;
  } else {
#pragma unroll
    for (int c = 0; c < 4; c++) {
      if (n + c < kN) row[n + c] = opens ? values[c] : row[n + c] + values[c];
    }
  }
}

// Adds A^T B over the rows of the block to `partial`, a dense kM x kN matrix; with `opens`, sets it. float32, fused
// multiply-add: the threads lie 16 x 16, and a thread has kDown x kWide squares of 4 x 4 elements, 64 apart.
template <int kM, int kN, int kDown, int kWide, class A, class B>
__device__ __forceinline__ void stripSum(int thread, const A& a, const B& b, int count, float* partial, bool opens) {
  constexpr bool kInsideM = kM % (64 * kDown) == 0, kInsideN = kN % (64 * kWide) == 0;
  const int warp = thread / 32, lane = thread % 32;
  const int down = (lane >> 1 & 1) | (lane >> 2 & 2) | (warp >> 1 << 2);
  const int across = (lane & 1) | (lane >> 1 & 2) | (lane >> 2 & 4) | (warp & 1) << 3;
#pragma unroll 1
  for (int tile = 0; tile < kM; tile += 64 * kDown) {
#pragma unroll 1
    for (int n = 4 * across; n < kN; n += 64 * kWide) {
      const int m = tile + 4 * down;
      float sums[kDown][4][kWide][4] = {};
#pragma unroll 2
      for (int row = 0; row < count; row++) {
        float left[kDown][4], right[kWide][4];
#pragma unroll
        for (int i = 0; i < kDown; i++) a.template load4<kM, kInsideM>(left[i], a.row(row), m + 64 * i);
#pragma unroll
        for (int j = 0; j < kWide; j++) b.template load4<kN, kInsideN>(right[j], b.row(row), n + 64 * j);
#pragma unroll
        for (int i = 0; i < kDown; i++) {
#pragma unroll
          for (int p = 0; p < 4; p++) {
#pragma unroll
            for (int j = 0; j < kWide; j++) {
#pragma unroll
              for (int q = 0; q < 4; q++) sums[i][p][j][q] = ::fmaf(left[i][p], right[j][q], sums[i][p][j][q]);
            }
          }
        }
      }
#pragma unroll
      for (int i = 0; i < kDown; i++) {
#pragma unroll
        for (int p = 0; p < 4; p++) {
          const int row = m + 64 * i + p;
          if (!kInsideM && row >= kM) continue;
#pragma unroll
          for (int j = 0; j < kWide; j++)
            stripAdd4<kN, kInsideN>(partial + static_cast<long long>(row) * kN, n + 64 * j, sums[i][p][j], opens);
        }
      }
    }
  }
}

// The same for any type and shape: a thread an element.
template <class T, int kM, int kN, class Left, class Right>
__device__ __forceinline__ void stripPlainSum(int thread, int count, const Left& left, const Right& right, T* partial, bool opens) {
#pragma unroll 1
  for (long long element = thread; element < static_cast<long long>(kM) * kN; element += kStripThreads) {
    const int m = int(element / kN), n = int(element % kN);
    T sum = 0;
#pragma unroll 4
    for (int row = 0; row < count; row++) sum = multiplyAdd(left(row, m), right(row, n), sum);
    partial[element] = opens ? sum : partial[element] + sum;
  }
}

}  // namespace fluxion
