// Products by rows in a strip: C = A B for the rows of a block, A in rows that the block has (mostly in shared memory),
// B a matrix in memory that every block of threads reads once.
//
// All of them are used in two steps: `fetch` starts to load what of B is needed first - which may be before the barrier
// that A waits for -, `run` does the rest. `run` hands each element of C that there is to `compute(row, column, sum)`,
// and what that gives to `store(row, column, values)`.
#pragma once

#include "strip_rows.cuh"

namespace fluxion {

// float32, fused multiply-add. A warp owns 16 columns for 8 kTile rows: a lane has kTile x 4 elements. A slab of 32 x 16
// elements of B goes through registers, one slab ahead, to the warp's own piece of shared memory. kAlongK: the
// stride of k is 1. kVector: 4 elements along that (else along n) are one aligned load.
//
// The lanes of a warp lie 8 (rows) x 4 (columns), a lane's columns 4 apart: reads and writes of rows whose pitch is an
// odd multiple of 4 floats have no bank conflicts. Neighbours share a row, the next ones a column, which halves the
// wavefronts of 16-byte loads.
constexpr int kStripSlab = 640;  // floats of a warp's piece of shared memory

template <int kRows, int kTile, int kK, int kN, bool kAlongK, bool kVector>
struct StripProduct {
  static constexpr int kGroups = (kN + 15) / 16, kTasks = kGroups * (kRows / (8 * kTile));
  static constexpr int kPitch = kAlongK ? 36 : 20;
  static constexpr bool kInside = kK % 4 == 0;

  StripMatrix b;
  int thread;
  float* slab;
  float ahead[16];

  __device__ __forceinline__ StripProduct(StripMatrix matrix, int self, float* slabs)
      : b(matrix), thread(self), slab(slabs + thread / 32 * kStripSlab) {}

  // Warps without a task load, too: registers that are written under a condition only would be taken for values that
  // the last block of rows left.
  __device__ __forceinline__ void fetch() { load(0, thread / 32 % kGroups * 16); }

  template <class A, class Compute, class Store>
  __device__ __forceinline__ void run(const A& a, int count, const Compute& compute, const Store& store) {
    const int warp = thread / 32, lane = thread % 32;
    const int laneColumn = (lane & 1) | (lane >> 1 & 2), laneRow = (lane >> 1 & 1) | (lane >> 2 & 6);
#pragma unroll 1
    for (int task = warp; task < kTasks; task += kStripWarps) {
      const int column = task % kGroups * 16, first = task / kGroups * (8 * kTile) + laneRow;
      const float* rows[kTile];
#pragma unroll
      for (int i = 0; i < kTile; i++) rows[i] = a.row(min(first + 8 * i, count - 1));
      float sums[kTile][4] = {};
#pragma unroll 1
      for (int start = 0; start < kK; start += 32) {
        __syncwarp();
        put();
        __syncwarp();
        if (start + 32 < kK) load(start + 32, column);
        else if (task + kStripWarps < kTasks) load(0, (task + kStripWarps) % kGroups * 16);
        const int size = min(32, kK - start);
#pragma unroll 2
        for (int k = 0; k < size; k += 4) {
          float left[kTile][4], right[4][4];
#pragma unroll
          for (int i = 0; i < kTile; i++) a.template load4<kK, kInside>(left[i], rows[i], start + k);
#pragma unroll
          for (int i = 0; i < 4; i++) {
            const float4 x = *reinterpret_cast<const float4*>(
                slab + (kAlongK ? (laneColumn + 4 * i) * kPitch + k : (k + i) * kPitch + 4 * laneColumn));
            right[i][0] = x.x, right[i][1] = x.y, right[i][2] = x.z, right[i][3] = x.w;
          }
#pragma unroll
          for (int c = 0; c < 4; c++) {
#pragma unroll
            for (int i = 0; i < kTile; i++) {
#pragma unroll
              for (int j = 0; j < 4; j++)
                sums[i][j] = ::fmaf(left[i][c], kAlongK ? right[j][c] : right[c][j], sums[i][j]);
            }
          }
        }
      }
      stripEpilogue<kTile, kN>(sums, first, column + laneColumn, count, compute, store);
    }
  }

 private:
  // Elements of B from (start, column) on, zeros beyond its edges.
  __device__ __forceinline__ void load(int start, int column) {
    const int lane = thread % 32;
    if constexpr (kVector) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int k = start + (kAlongK ? 4 * (lane % 8) : 8 * i + lane / 4);
        const int n = column + (kAlongK ? 4 * i + lane / 8 : 4 * (lane % 4));
        float4 x = {0.0f, 0.0f, 0.0f, 0.0f};
        if ((kK % 32 == 0 || k < kK) && (kN % 16 == 0 || n < kN)) x = *reinterpret_cast<const float4*>(b.at(k, n));
        ahead[4 * i] = x.x, ahead[4 * i + 1] = x.y, ahead[4 * i + 2] = x.z, ahead[4 * i + 3] = x.w;
      }
    } else {
#pragma unroll
      for (int i = 0; i < 16; i++) {
        const int k = start + (kAlongK ? lane : 2 * i + lane / 16), n = column + (kAlongK ? i : lane % 16);
        ahead[i] = (kK % 32 == 0 || k < kK) && (kN % 16 == 0 || n < kN) ? *b.at(k, n) : 0.0f;
      }
    }
  }

  // Along k: [n][k]. Else [k][n], the columns of a lane, 4 apart, side by side.
  __device__ __forceinline__ void put() {
    const int lane = thread % 32;
    if constexpr (kVector && kAlongK) {
#pragma unroll
      for (int i = 0; i < 4; i++)
        *reinterpret_cast<float4*>(slab + (4 * i + lane / 8) * kPitch + 4 * (lane % 8)) = {
            ahead[4 * i], ahead[4 * i + 1], ahead[4 * i + 2], ahead[4 * i + 3]};
    } else if constexpr (kVector) {
#pragma unroll
      for (int i = 0; i < 16; i++) slab[(8 * (i / 4) + lane / 4) * kPitch + 4 * (i % 4) + lane % 4] = ahead[i];
    } else if constexpr (kAlongK) {
#pragma unroll
      for (int i = 0; i < 16; i++) slab[i * kPitch + lane] = ahead[i];
    } else {
#pragma unroll
      for (int i = 0; i < 16; i++)
        slab[(2 * i + lane / 16) * kPitch + 4 * (lane % 4) + lane % 16 / 4] = ahead[i];
    }
  }
};

// Few columns: the lanes of a warp share k, and kRows / 8 rows are a warp's.
template <int kRows, int kK, int kN>
struct StripThinProduct {
  static constexpr int kOwn = kRows / kStripWarps, kTurns = (kK + 31) / 32;
  static_assert(kOwn * kN <= 32);

  StripMatrix b;
  int thread;
  float ahead[kTurns * kN];

  __device__ __forceinline__ StripThinProduct(StripMatrix matrix, int self, float*) : b(matrix), thread(self) {}

  __device__ __forceinline__ void fetch() {
#pragma unroll
    for (int turn = 0; turn < kTurns; turn++) {
#pragma unroll
      for (int n = 0; n < kN; n++) {
        const int k = 32 * turn + thread % 32;
        ahead[turn * kN + n] = kK % 32 == 0 || k < kK ? *b.at(k, n) : 0.0f;
      }
    }
  }

  template <class A, class Compute, class Store>
  __device__ __forceinline__ void run(const A& a, int count, const Compute& compute, const Store& store) {
    const int first = thread / 32 * kOwn, lane = thread % 32;
    float sums[kOwn][kN] = {};
#pragma unroll
    for (int turn = 0; turn < kTurns; turn++) {
      const int k = 32 * turn + lane;
#pragma unroll
      for (int i = 0; i < kOwn; i++) {
        const float* const row = a.row(min(first + i, count - 1));
        const float left = kK % 32 == 0 || k < kK ? row[static_cast<long long>(k) * a.step] : 0.0f;
#pragma unroll
        for (int n = 0; n < kN; n++) sums[i][n] = ::fmaf(left, ahead[turn * kN + n], sums[i][n]);
      }
    }
    // Every lane gets every sum, and keeps its own.
    float own = 0.0f;
#pragma unroll
    for (int i = 0; i < kOwn; i++) {
#pragma unroll
      for (int n = 0; n < kN; n++) {
        float sum = sums[i][n];
#pragma unroll
        for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(~0u, sum, mask);
        if (lane == i * kN + n) own = sum;
      }
    }
    const int row = first + lane / kN, column = lane % kN;
    if (lane < kOwn * kN && row < count) store(row, column, compute(row, column, own));
  }
};

// Few k: a thread has one column (or every 256th), and some rows of it.
template <int kRows, int kK, int kN>
struct StripShortProduct {
  static constexpr int kWidth = kN < kStripThreads ? kN : kStripThreads, kStep = kStripThreads / kWidth;

  StripMatrix b;
  int thread;
  float ahead[kK];

  __device__ __forceinline__ StripShortProduct(StripMatrix matrix, int self, float*) : b(matrix), thread(self) {}

  __device__ __forceinline__ void fetch() { load(thread % kWidth); }

  template <class A, class Compute, class Store>
  __device__ __forceinline__ void run(const A& a, int count, const Compute& compute, const Store& store) {
    using Values = decltype(compute(0, 0, 0.0f));
    constexpr int kTogether = 4;
    const int first = thread / kWidth;
    if (first >= kStep) return;
#pragma unroll 1
    for (int column = thread % kWidth; column < kN; column += kWidth) {
      if (column >= kWidth) load(column);
#pragma unroll 1
      for (int start = first; start < count; start += kTogether * kStep) {
        Values values[kTogether];
#pragma unroll
        for (int i = 0; i < kTogether; i++) {
          const int row = min(start + i * kStep, count - 1);
          const float* const left = a.row(row);
          float sum = 0.0f;
#pragma unroll
          for (int k = 0; k < kK; k++) sum = ::fmaf(left[static_cast<long long>(k) * a.step], ahead[k], sum);
          values[i] = compute(row, column, sum);
        }
#pragma unroll
        for (int i = 0; i < kTogether; i++) {
          if (start + i * kStep < count) store(start + i * kStep, column, values[i]);
        }
      }
    }
  }

 private:
  __device__ __forceinline__ void load(int column) {
#pragma unroll
    for (int k = 0; k < kK; k++) ahead[k] = *b.at(k, column);
  }
};

// Any type and shape: a thread an element, k in order.
template <class T, int kK, int kN, class Left, class Right, class Compute, class Store>
__device__ __forceinline__ void stripPlainProduct(int thread, int count, const Left& left, const Right& right,
                                                  const Compute& compute, const Store& store) {
#pragma unroll 1
  for (long long element = thread; element < static_cast<long long>(count) * kN; element += kStripThreads) {
    const int row = int(element / kN), column = int(element % kN);
    T sum = 0;
    for (int k = 0; k < kK; k++) sum = multiplyAdd(left(row, k), right(k, column), sum);
    store(row, column, compute(row, column, sum));
  }
}

}  // namespace fluxion
