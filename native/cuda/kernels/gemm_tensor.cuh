// Products of float32 matrices by tiles on tensor cores: operands are rounded to TF32 or bfloat16 as they leave shared
// memory, and summed in float32. A warp keeps a WarpM x WarpN part of the tile of C, as fragments of 16 x 8.
#pragma once
#include "gemm_tile.cuh"
#include "shared.cuh"
#include "tensor_core.cuh"

namespace fluxion::gemm {

// The operand's two formats: how lanes gather fragments (see tensor_core.cuh for what they hold) from a tile in shared
// memory. `row` and `position` are where the lane's group g and its t begin. The pads make the 32 reads of a warp go to
// different banks:
//
// - TF32: lines along the depth, addresses g pitch + t, the pitch an odd multiple of 4: g pitch takes the 8 multiples
//   of 4 modulo 32. Lines along rows: t pitch + g, with pitch = 8 modulo 32.
// - bfloat16: along the depth, pairs at g pitch + 2t, read by 16 lanes at a time (4 values of g): the pitch an odd
//   multiple of 8. Along rows: 2t pitch + g, with pitch = 4 modulo 32.
struct Tf32 {
  static constexpr int depth = 8;
  static constexpr int laneDepth = 1;
  static constexpr int depthPad = 4;
  static constexpr int rowsPad = 8;

  template <class Layout>
  __device__ __forceinline__ static unsigned read(const float* tile, int row, int position) {
    return tf32(tile[Layout::at(row, position)]);
  }
  __device__ __forceinline__ static void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiplyTf32(d, a, b);
  }
};

struct Bfloat16 {
  static constexpr int depth = 16;
  static constexpr int laneDepth = 2;
  static constexpr int depthPad = 8;
  static constexpr int rowsPad = 4;

  template <class Layout>
  __device__ __forceinline__ static unsigned read(const float* tile, int row, int position) {
    if constexpr (Layout::order == Along::depth) {
      const float2 pair = *reinterpret_cast<const float2*>(tile + Layout::at(row, position));
      return bfloat16x2(pair.x, pair.y);
    } else {
      return bfloat16x2(tile[Layout::at(row, position)], tile[Layout::at(row, position + 1)]);
    }
  }
  __device__ __forceinline__ static void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiplyBfloat16(d, a, b);
  }
};

template <class A, class B, class Format, int TileM, int TileN, int TileDepth, int WarpM, int WarpN, int Stages>
struct TensorProduct {
  static constexpr int threads = 32 * (TileM / WarpM) * (TileN / WarpN);
  static constexpr int fragmentsM = WarpM / 16;
  static constexpr int fragmentsN = WarpN / 8;
  static_assert(TileM % WarpM == 0 && TileN % WarpN == 0 && WarpM % 16 == 0 && WarpN % 8 == 0);
  static_assert(TileM % 32 == 0 && TileN % 32 == 0 && TileDepth % 16 == 0);

  template <Along Order, int TileRows>
  using Layout = TileLayout<TileRows, TileDepth, Order, Order == Along::depth ? Format::depthPad : Format::rowsPad>;
  using LayoutA = Layout<A::order, TileM>;
  using LayoutB = Layout<B::order, TileN>;
  static constexpr int stage = LayoutA::size + LayoutB::size;
  static constexpr int pitch = TileN + 8;
  static constexpr int sharedBytes = 4 * (Stages * stage > TileM * pitch ? Stages * stage : TileM * pitch);

  // The tile of C from (firstRow, firstColumn) on, of positions begin .. end - 1.
  template <class Finish>
  __device__ __forceinline__ static void run(const A& a, const B& b, int firstRow, int firstColumn, int begin,
                                             int end, Finish finish) {
    float* shared = reinterpret_cast<float*>(dynamicShared());
    const int lane = int(threadIdx.x) % 32;
    const int warp = int(threadIdx.x) / 32;
    const int g = lane / 4;
    const int t = lane % 4;
    const int row = warp % (TileM / WarpM) * WarpM;
    const int column = warp / (TileM / WarpM) * WarpN;

    float sums[fragmentsM][fragmentsN][4];
#pragma unroll
    for (int i = 0; i < fragmentsM; i++) {
#pragma unroll
      for (int j = 0; j < fragmentsN; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) sums[i][j][e] = 0;
      }
    }

    const TileCopy<A, LayoutA, threads> copyA(a, firstRow);
    const TileCopy<B, LayoutB, threads> copyB(b, firstColumn);
    walkDepth<Stages, TileDepth>(
        begin, end,
        [&](int place, int position) {
          copyA.start(shared + place * stage, position, end);
          copyB.start(shared + place * stage + LayoutA::size, position, end);
        },
        [&](int place) {
          const float* tileA = shared + place * stage;
          const float* tileB = shared + place * stage + LayoutA::size;
          constexpr int half = Format::depth / 2;
#pragma unroll
          for (int p = 0; p < TileDepth; p += Format::depth) {
            const int position = p + t * Format::laneDepth;
            unsigned x[fragmentsM][4], y[fragmentsN][2];
#pragma unroll
            for (int i = 0; i < fragmentsM; i++) {
              const int line = row + 16 * i + g;
              x[i][0] = Format::template read<LayoutA>(tileA, line, position);
              x[i][1] = Format::template read<LayoutA>(tileA, line + 8, position);
              x[i][2] = Format::template read<LayoutA>(tileA, line, position + half);
              x[i][3] = Format::template read<LayoutA>(tileA, line + 8, position + half);
            }
#pragma unroll
            for (int j = 0; j < fragmentsN; j++) {
              const int line = column + 8 * j + g;
              y[j][0] = Format::template read<LayoutB>(tileB, line, position);
              y[j][1] = Format::template read<LayoutB>(tileB, line, position + half);
            }
#pragma unroll
            for (int i = 0; i < fragmentsM; i++) {
#pragma unroll
              for (int j = 0; j < fragmentsN; j++) Format::multiply(sums[i][j], x[i], y[j]);
            }
          }
        });

#pragma unroll
    for (int i = 0; i < fragmentsM; i++) {
#pragma unroll
      for (int j = 0; j < fragmentsN; j++) {
        float* upper = shared + (row + 16 * i + g) * pitch + column + 8 * j + 2 * t;
        *reinterpret_cast<float2*>(upper) = make_float2(sums[i][j][0], sums[i][j][1]);
        *reinterpret_cast<float2*>(upper + 8 * pitch) = make_float2(sums[i][j][2], sums[i][j][3]);
      }
    }
    __syncthreads();
    finishTile<A::rows, B::rows, TileM, TileN, pitch, threads>(shared, firstRow, firstColumn, finish);
  }
};

}  // namespace fluxion::gemm
