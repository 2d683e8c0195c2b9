// Products by tiles, with the arithmetic of the element type: each thread keeps ThreadM x ThreadN elements of C in
// registers. For each position along the depth it reads ThreadM elements of A and ThreadN of B from shared memory, and
// makes ThreadM ThreadN fused multiply-adds, in the order of the depth.
#pragma once
#include "gemm_tile.cuh"
#include "shared.cuh"

namespace fluxion::gemm {

// 16 bytes of elements, which are read and written at once.
template <class T>
struct alignas(16) Chunk {
  static constexpr int size = 16 / int(sizeof(T));
  T elements[size];
};

template <class A, class B, int TileM, int TileN, int TileDepth, int ThreadM, int ThreadN, int Stages>
struct SimtProduct {
  using T = typename A::Element;
  static constexpr int chunk = Chunk<T>::size;
  // The threads of a warp stand in 8 rows and 4 columns, each with a chunk of C's rows by a chunk of its columns. A
  // thread's further chunks follow at the distance of a warp's whole width, so that what a warp reads is contiguous.
  static constexpr int warpM = 8 * ThreadM;
  static constexpr int warpN = 4 * ThreadN;
  static constexpr int threads = 32 * (TileM / warpM) * (TileN / warpN);
  static_assert(TileM % warpM == 0 && TileN % warpN == 0 && ThreadM % chunk == 0 && ThreadN % chunk == 0);

  // Lines along the rows, whatever the operand's order, since a chunk is elements of one position.
  using LayoutA = TileLayout<TileM, TileDepth, Along::rows, chunk>;
  using LayoutB = TileLayout<TileN, TileDepth, Along::rows, chunk>;
  static constexpr int stage = LayoutA::size + LayoutB::size;
  static constexpr int pitch = TileN + chunk;
  static constexpr int sharedBytes =
      int(sizeof(T)) * (Stages * stage > TileM * pitch ? Stages * stage : TileM * pitch);

  // The tile of C from (firstRow, firstColumn) on, of positions begin .. end - 1.
  template <class Finish>
  __device__ __forceinline__ static void run(const A& a, const B& b, int firstRow, int firstColumn, int begin,
                                             int end, Finish finish) {
    T* shared = reinterpret_cast<T*>(dynamicShared());
    const int lane = int(threadIdx.x) % 32;
    const int warp = int(threadIdx.x) / 32;
    // Lanes 0 .. 15 and 16 .. 31 each span all 8 rows and 2 of the columns: a quarter of a warp, which reads shared
    // memory at a time, then asks for few different chunks.
    const int row = warp % (TileM / warpM) * warpM + (lane / 2 % 8) * chunk;
    const int column = warp / (TileM / warpM) * warpN + (lane % 2 + lane / 16 * 2) * chunk;

    T sums[ThreadM][ThreadN];
#pragma unroll
    for (int i = 0; i < ThreadM; i++) {
#pragma unroll
      for (int j = 0; j < ThreadN; j++) sums[i][j] = 0;
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
          const T* tileA = shared + place * stage + row;
          const T* tileB = shared + place * stage + LayoutA::size + column;
#pragma unroll
          for (int p = 0; p < TileDepth; p++) {
            T x[ThreadM], y[ThreadN];
            read<ThreadM, 8 * chunk>(x, tileA + p * LayoutA::pitch);
            read<ThreadN, 4 * chunk>(y, tileB + p * LayoutB::pitch);
#pragma unroll
            for (int i = 0; i < ThreadM; i++) {
#pragma unroll
              for (int j = 0; j < ThreadN; j++) sums[i][j] = multiplyAdd(x[i], y[j], sums[i][j]);
            }
          }
        });

#pragma unroll
    for (int i = 0; i < ThreadM; i++) {
      T* line = shared + (row + i / chunk * (8 * chunk) + i % chunk) * pitch + column;
#pragma unroll
      for (int j = 0; j < ThreadN; j += chunk) {
        Chunk<T> part;
#pragma unroll
        for (int e = 0; e < chunk; e++) part.elements[e] = sums[i][j + e];
        *reinterpret_cast<Chunk<T>*>(line + j / chunk * (4 * chunk)) = part;
      }
    }
    __syncthreads();
    finishTile<A::rows, B::rows, TileM, TileN, pitch, threads>(shared, firstRow, firstColumn, finish);
  }

 private:
  // `Count` elements in chunks that begin `Distance` apart.
  template <int Count, int Distance>
  __device__ __forceinline__ static void read(T (&values)[Count], const T* from) {
#pragma unroll
    for (int i = 0; i < Count; i += chunk) {
      const Chunk<T> part = *reinterpret_cast<const Chunk<T>*>(from + i / chunk * Distance);
#pragma unroll
      for (int e = 0; e < chunk; e++) values[i + e] = part.elements[e];
    }
  }
};

}  // namespace fluxion::gemm
