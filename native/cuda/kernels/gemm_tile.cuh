// What products by tiles share. A block computes a tile of C; it walks along the depth in steps of TileDepth, and
// copies the parts of A and B that a step needs to shared memory while it multiplies those of the step before.
#pragma once
#include "async_copy.cuh"
#include "gemm_operand.cuh"

namespace fluxion::gemm {

// Where element (row, position) of an operand's tile lies in shared memory: lines along `Order`, `Pad` elements apart.
template <int TileRows, int TileDepth, Along Order, int Pad>
struct TileLayout {
  static constexpr int rows = TileRows;
  static constexpr int depth = TileDepth;
  static constexpr Along order = Order;
  static constexpr int pitch = (Order == Along::depth ? TileDepth : TileRows) + Pad;
  static constexpr int size = pitch * (Order == Along::depth ? TileRows : TileDepth);

  __device__ __forceinline__ static int at(int row, int position) {
    return Order == Along::depth ? row * pitch + position : position * pitch + row;
  }
};

// A thread's share in copying tiles of one operand: each step starts its copies. The threads of the block stand in a
// rectangle of `lanes` along the operand's order by `others` across, which moves over the tile.
template <class Source, class Layout, int Threads>
class TileCopy {
  using T = typename Source::Element;
  static constexpr bool alongDepth = Source::order == Along::depth;
  // A tile that is transposed on its way is copied one element at a time. Eight threads along the depth read a sector
  // of 32 bytes, and with a pad of 16 bytes their warp writes to 32 different banks.
  static constexpr bool transposes = Source::order != Layout::order;
  static constexpr int vector = transposes ? 1 : Source::vector;
  static constexpr int extent = alongDepth ? Layout::depth : Layout::rows;
  static constexpr int otherExtent = alongDepth ? Layout::rows : Layout::depth;
  static constexpr int lanes = transposes ? 8 : extent / vector < Threads ? extent / vector : Threads;
  static constexpr int others = Threads / lanes;
  static constexpr int alongPasses = extent / (lanes * vector);
  static constexpr int acrossPasses = otherExtent / others;
  static_assert(Threads % lanes == 0 && extent % (lanes * vector) == 0);
  static_assert(otherExtent % others == 0);
  static constexpr bool raggedRows = Source::rows % Layout::rows != 0;
  static constexpr bool raggedDepth = Source::depth % Layout::depth != 0;

 public:
  __device__ __forceinline__ TileCopy(const Source& source, int firstRow) : source_(source), firstRow_(firstRow) {
    const int along = int(threadIdx.x) % lanes * vector;
    const int across = int(threadIdx.x) / lanes;
    row_ = alongDepth ? across : along;
    position_ = alongDepth ? along : across;
  }

  // Starts the copies of positions begin .. begin + depth - 1 to `tile`; what is beyond the matrix, or at `end` or
  // beyond, becomes 0.
  __device__ __forceinline__ void start(T* tile, int begin, int end) const {
    const T* from = source_.at(firstRow_ + row_, begin + position_);
    const int rowsLeft = Source::rows - firstRow_ - row_;
    const int depthLeft = end - begin - position_;
#pragma unroll
    for (int i = 0; i < alongPasses; i++) {
#pragma unroll
      for (int j = 0; j < acrossPasses; j++) {
        const int row = alongDepth ? j * others : i * lanes * vector;
        const int position = alongDepth ? i * lanes * vector : j * others;
        // How many of the vector's elements there are.
        int count = vector;
        if (raggedRows) count = min(count, alongDepth ? (row < rowsLeft ? vector : 0) : rowsLeft - row);
        if (raggedDepth) count = min(count, alongDepth ? depthLeft - position : (position < depthLeft ? vector : 0));
        copyAsync<vector * int(sizeof(T))>(tile + Layout::at(row_ + row, position_ + position),
                                           from + (source_.at(row, position) - source_.base),
                                           max(count, 0) * int(sizeof(T)));
      }
    }
  }

 private:
  Source source_;
  int firstRow_, row_, position_;
};

// Walks from `begin` to `end` in steps of TileDepth: `load(stage, position)` starts the copies of a step into one of
// `Stages` places, Stages - 1 steps before `multiply(stage)` reads them. When it returns, shared memory is free.
template <int Stages, int TileDepth, class Load, class Multiply>
__device__ __forceinline__ void walkDepth(int begin, int end, Load load, Multiply multiply) {
  const int steps = (end - begin + TileDepth - 1) / TileDepth;
#pragma unroll
  for (int step = 0; step < Stages - 1; step++) {
    if (step < steps) load(step, begin + step * TileDepth);
    commitCopies();
  }
  int reading = 0;
  int writing = Stages - 1;
#pragma unroll 1
  for (int step = 0; step < steps; step++) {
    // Here the step's copies are done, and every thread is done with the step before, whose place is written next.
    waitCopies<Stages - 2>();
    __syncthreads();
    const int next = step + Stages - 1;
    if (next < steps) load(writing, begin + next * TileDepth);
    commitCopies();
    multiply(reading);
    reading = reading + 1 == Stages ? 0 : reading + 1;
    writing = writing + 1 == Stages ? 0 : writing + 1;
  }
  waitCopies<0>();
  __syncthreads();
}

// Calls finish(row, column, value) for each element of C in the block's tile, which all threads have put into shared
// memory in rows of `Pitch` elements: neighbouring threads finish neighbours along a row, so that what `finish` reads
// and writes is coalesced.
template <int M, int N, int TileM, int TileN, int Pitch, int Threads, class T, class Finish>
__device__ __forceinline__ void finishTile(const T* tile, int firstRow, int firstColumn, Finish finish) {
#pragma unroll 4
  for (int element = int(threadIdx.x); element < TileM * TileN; element += Threads) {
    const int i = element / TileN;
    const int j = element % TileN;
    const int row = firstRow + i;
    const int column = firstColumn + j;
    if ((M % TileM == 0 || row < M) && (N % TileN == 0 || column < N)) finish(row, column, tile[i * Pitch + j]);
  }
}

}  // namespace fluxion::gemm
