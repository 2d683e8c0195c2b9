// Products of a strip on tensor cores: operands in TF32, sums in float32.
#pragma once

#include "strip_rows.cuh"
#include "strip_sum.cuh"
#include "tensor_core.cuh"

namespace fluxion {

// A product by rows, used as those of strip_product.cuh. A warp owns 16 columns for 16 kTile rows. Its part of B goes from
// memory to the registers that the tensor core reads, 64 k ahead.
//
// Which k a place of the tensor core's operands stands for does not matter, if both operands agree: of 32 k, a lane takes
// 8 (lane % 4) .. + 7 of a row, which are two 16-byte loads without bank conflicts where the pitch is an odd
// multiple of 4 floats. Columns are dealt out so that a lane has columns 4 apart of the result, as stripEpilogue wants.
template <int kRows, int kTile, int kK, int kN, bool kAlongK, bool kVector>
struct StripTensorProduct {
  static constexpr int kGroups = (kN + 15) / 16, kTasks = kGroups * (kRows / (16 * kTile));
  static constexpr bool kInside = kK % 32 == 0, kInsideTwo = kK % 64 == 0;

  StripMatrix b;
  int thread;
  float ahead[2][2][8];  // of 32 k each, of 8 columns each

  __device__ __forceinline__ StripTensorProduct(StripMatrix matrix, int self, float*) : b(matrix), thread(self) {}

  // Warps without a task load, too: registers that are written under a condition only would be taken for values that
  // the last block of rows left.
  __device__ __forceinline__ void fetch() { load(0, thread / 32 % kGroups * 16); }

  template <class A, class Compute, class Store>
  __device__ __forceinline__ void run(const A& a, int count, const Compute& compute, const Store& store) {
    const int warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
#pragma unroll 1
    for (int task = warp; task < kTasks; task += kStripWarps) {
      const int column = task % kGroups * 16, first = task / kGroups * (16 * kTile) + g;
      const float* rows[2 * kTile];
#pragma unroll
      for (int i = 0; i < 2 * kTile; i++) rows[i] = a.row(min(first + 8 * i, count - 1));
      float sums[kTile][2][4] = {};
#pragma unroll 1
      for (int start = 0; start < kK; start += 64) {
        unsigned right[2][2][8];
#pragma unroll
        for (int part = 0; part < 2; part++) {
#pragma unroll
          for (int j = 0; j < 2; j++) {
#pragma unroll
            for (int k = 0; k < 8; k++) right[part][j][k] = tf32(ahead[part][j][k]);
          }
        }
        if (start + 64 < kK) load(start + 64, column);
        else if (task + kStripWarps < kTasks) load(0, (task + kStripWarps) % kGroups * 16);
#pragma unroll
        for (int part = 0; part < 2; part++) {
          const int k = start + 32 * part;
          if (k >= kK) break;
#pragma unroll
          for (int tile = 0; tile < kTile; tile++) {
            unsigned left[2][8];
#pragma unroll
            for (int i = 0; i < 2; i++) {
#pragma unroll
              for (int half = 0; half < 2; half++) {
                float x[4];
                a.template load4<kK, kInside>(x, rows[2 * tile + i], k + 8 * t + 4 * half);
#pragma unroll
                for (int c = 0; c < 4; c++) left[i][4 * half + c] = tf32(x[c]);
              }
            }
#pragma unroll
            for (int step = 0; step < 8; step += 2) {
              const unsigned x[4] = {left[0][step], left[1][step], left[0][step + 1], left[1][step + 1]};
#pragma unroll
              for (int j = 0; j < 2; j++) {
                const unsigned y[2] = {right[part][j][step], right[part][j][step + 1]};
                multiplyTf32(sums[tile][j], x, y);
              }
            }
          }
        }
      }
      float own[2 * kTile][4];
#pragma unroll
      for (int i = 0; i < 2 * kTile; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) own[i][j] = sums[i / 2][j / 2][i % 2 * 2 + j % 2];
      }
      stripEpilogue<2 * kTile, kN>(own, first, column + t, count, compute, store);
    }
  }

 private:
  // Elements of B from (start, column) on, zeros beyond its edges.
  __device__ __forceinline__ void load(int start, int column) {
    const int g = thread % 32 / 4, t = thread % 4;
#pragma unroll
    for (int part = 0; part < 2; part++) {
      const int first = start + 32 * part + 8 * t;
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const int n = column + 8 * j + g / 2 + 4 * (g % 2);
        if constexpr (kAlongK && kVector) {
#pragma unroll
          for (int half = 0; half < 2; half++) {
            const int k = first + 4 * half;
            float4 x = {0.0f, 0.0f, 0.0f, 0.0f};
            if ((kInsideTwo || k < kK) && (kN % 16 == 0 || n < kN)) x = *reinterpret_cast<const float4*>(b.at(k, n));
            ahead[part][j][4 * half] = x.x, ahead[part][j][4 * half + 1] = x.y;
            ahead[part][j][4 * half + 2] = x.z, ahead[part][j][4 * half + 3] = x.w;
          }
        } else {
#pragma unroll
          for (int i = 0; i < 8; i++)
            ahead[part][j][i] = (kInsideTwo || first + i < kK) && (kN % 16 == 0 || n < kN) ? *b.at(first + i, n) : 0.0f;
        }
      }
    }
  }
};

// Adds A^T B over the rows of the block to `partial`, a dense kM x kN matrix; with `opens`, sets it. A warp has tiles
// of 32 x 32 kWide elements.
//
// Of 8 rows, a lane takes 2 (lane % 4) and the next one, and of these 4 columns at a time: 16-byte loads without bank
// conflicts where the pitch is an odd multiple of 4 floats.
template <int kM, int kN, int kWide, class A, class B>
__device__ __forceinline__ void stripTensorSum(int thread, const A& a, const B& b, int count, float* partial, bool opens) {
  constexpr int kAcross = (kN + 32 * kWide - 1) / (32 * kWide), kTasks = (kM + 31) / 32 * kAcross;
  constexpr bool kInsideM = kM % 32 == 0, kInsideN = kN % (32 * kWide) == 0;
  const int g = thread % 32 / 4, t = thread % 4;
#pragma unroll 1
  for (int task = thread / 32; task < kTasks; task += kStripWarps) {
    const int m = task / kAcross * 32 + 4 * g, n = task % kAcross * (32 * kWide);
    float sums[2][kWide][4][4] = {};
#pragma unroll 1
    for (int start = 0; start < count; start += 8) {
      unsigned left[2][4], right[2][kWide][4];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int row = start + 2 * t + i;
        float x[4] = {}, y[kWide][4] = {};
        if (row < count) {
          a.template load4<kM, kInsideM>(x, a.row(row), m);
#pragma unroll
          for (int w = 0; w < kWide; w++) b.template load4<kN, kInsideN>(y[w], b.row(row), n + 32 * w + 4 * g);
        }
#pragma unroll
        for (int c = 0; c < 4; c++) {
          left[i][c] = tf32(x[c]);
#pragma unroll
          for (int w = 0; w < kWide; w++) right[i][w][c] = tf32(y[w][c]);
        }
      }
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const unsigned x[4] = {left[0][2 * half], left[0][2 * half + 1], left[1][2 * half], left[1][2 * half + 1]};
#pragma unroll
        for (int w = 0; w < kWide; w++) {
#pragma unroll
          for (int c = 0; c < 4; c++) {
            const unsigned y[2] = {right[0][w][c], right[1][w][c]};
            multiplyTf32(sums[half][w][c], x, y);
          }
        }
      }
    }
    // The element (m + 2 half + i, n + 32 w + 8 t + 4 j + c) is sums[half][w][c][2 i + j].
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int row = m + 2 * half + i;
        if (!kInsideM && row >= kM) continue;
#pragma unroll
        for (int w = 0; w < kWide; w++) {
#pragma unroll
          for (int j = 0; j < 2; j++) {
            const int k = 2 * i + j;
            const float values[4] = {sums[half][w][0][k], sums[half][w][1][k], sums[half][w][2][k],
                                     sums[half][w][3][k]};
            stripAdd4<kN, kInsideN>(partial + static_cast<long long>(row) * kN, n + 32 * w + 8 * t + 4 * j, values, opens);
          }
        }
      }
    }
  }
}

}  // namespace fluxion
