// What the parts of a strip share (lib/backend/cuda/strip.ts): a strip's block of threads takes a block of rows through
// all parts of the strip, with what lies between them in shared memory.
#pragma once

namespace fluxion {

constexpr int kStripThreads = 256, kStripWarps = kStripThreads / 32;

// The number of this thread, afresh for each part: the compiler does not see that it is always the same. It would otherwise
// keep in registers what several parts, or one part for several blocks of rows, compute from it and load by it.
__device__ __forceinline__ int stripThread() { return __shfl_sync(~0u, int(threadIdx.x), threadIdx.x % 32); }

__device__ __forceinline__ float multiplyAdd(float a, float b, float c) { return ::fmaf(a, b, c); }
__device__ __forceinline__ double multiplyAdd(double a, double b, double c) { return ::fma(a, b, c); }
__device__ __forceinline__ int multiplyAdd(int a, int b, int c) {
  return int(unsigned(a) * unsigned(b) + unsigned(c));
}
__device__ __forceinline__ unsigned multiplyAdd(unsigned a, unsigned b, unsigned c) { return a * b + c; }

// A factor of a product, by the rows of the block: element i of row r is base[r * pitch + i * step]. `kVector`: step is
// 1, and base and pitch are multiples of 4 floats.
template <bool kVector>
struct StripRows {
  const float* base;
  int pitch, step;

  __device__ __forceinline__ const float* row(int r) const {
    return base + static_cast<long long>(r) * pitch;
  }

  // Elements i .. i + 3 of a row of kSize; zeros beyond, unless `kInside` promises that there are none.
  template <int kSize, bool kInside>
  __device__ __forceinline__ void load4(float (&out)[4], const float* row, int i) const {
    if (kVector && (kInside || i + 4 <= kSize)) {
      const float4 x = *reinterpret_cast<const float4*>(row + i);
      out[0] = x.x, out[1] = x.y, out[2] = x.z, out[3] = x.w;
    } else {
#pragma unroll
      for (int c = 0; c < 4; c++) out[c] = kInside || i + c < kSize ? row[static_cast<long long>(i + c) * step] : 0.0f;
    }
  }
};

// The other factor of a product by rows, a matrix in memory: element (k, n) is base[k * strideK + n * strideN].
struct StripMatrix {
  const float* base;
  int strideK, strideN;

  __device__ __forceinline__ const float* at(int k, int n) const {
    return base + static_cast<long long>(k) * strideK + static_cast<long long>(n) * strideN;
  }
};

// Four columns each of several rows of a product: row + 8 i, column + 4 j. All that is loaded for a row comes before
// what is stored, so that the loads need not wait for one another. One copy of the code serves all rows: a strip's code
// runs few times, and fetching it is not free.
template <int kRows, int kN, class Compute, class Store>
__device__ __forceinline__ void stripEpilogue(float (&sums)[kRows][4], int row, int column, int count,
                                              const Compute& compute, const Store& store) {
  using Values = decltype(compute(0, 0, 0.0f));
#pragma unroll 1
  for (int i = 0; i < kRows; i++, row += 8) {
    if (row < count) {
      Values values[4];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const int own = column + 4 * j;
        values[j] = compute(row, kN % 16 == 0 || own < kN ? own : kN - 1, sums[0][j]);
      }
#pragma unroll
      for (int j = 0; j < 4; j++) {
        if (kN % 16 == 0 || column + 4 * j < kN) store(row, column + 4 * j, values[j]);
      }
    }
#pragma unroll
    for (int next = 1; next < kRows; next++) {
#pragma unroll
      for (int j = 0; j < 4; j++) sums[next - 1][j] = sums[next][j];
    }
  }
}

}  // namespace fluxion
