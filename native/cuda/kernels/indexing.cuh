// Indices of gather and scatter: checked before anything is read or written through them.
#pragma once

#include "scalars.cuh"
#include "status.cuh"

namespace fluxion {

// Records the first index outside of -size .. size - 1. One block: every thread has seen that the run goes on before any
// says that it does not.
__device__ __forceinline__ void checkIndices(Status* status, const int* indices, unsigned count, int size, int operation) {
  unsigned long long worst = ~0ull;
#pragma unroll 4
  for (unsigned j = threadIdx.x; j < count; j += blockDim.x) {
    const int index = indices[j];
    const bool outside = index < -size || index >= size;
    const unsigned long long found = ((unsigned long long)(j) << 32) | unsigned(index);
    if (outside && found < worst) worst = found;
  }
  __syncthreads();
  if (worst != ~0ull) {
    status->errorOperation = operation;
    atomicMin(&status->error, worst);
  }
}

__device__ __forceinline__ int rowOf(int index, int size) { return index < 0 ? index + size : index; }

// The sum of the elements input[j] (at a distance of `stride`) whose index is `row`, one after another. A warp works
// on one row: it looks at 32 indices at a time, of which most belong to other rows.
template <class T, class Offset>
__device__ __forceinline__ T sumWhere(const int* indices, int count, int size, int row, const T* input, Offset stride, bool active) {
  T sum = T(0);
  for (int start = 0; start < count; start += 32) {
    const int mine = start + int(threadIdx.x % 32);
    unsigned hits = __ballot_sync(0xffffffffu, mine < count && rowOf(indices[mine < count ? mine : 0], size) == row);
    while (hits != 0) {
      // Up to four elements are on their way at once.
      T values[4];
      int found = 0;
#pragma unroll
      for (int k = 0; k < 4; k++) {
        values[k] = T(0);
        if (hits != 0) {
          const int j = start + 31 - __clz(int(hits & (0u - hits)));
          hits &= hits - 1;
          found = k + 1;
          if (active) values[k] = input[Offset(j) * stride];
        }
      }
#pragma unroll
      for (int k = 0; k < 4; k++) {
        if (k < found) sum = add(sum, values[k]);
      }
    }
  }
  return sum;
}

// The first place in ascending `order`ed rows whose row is not below `row`.
__device__ __forceinline__ int firstNotBelow(const unsigned* rows, const int* order, int count, unsigned row) {
  int low = 0, high = count;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (rows[order[middle]] < row) low = middle + 1;
    else high = middle;
  }
  return low;
}

}  // namespace fluxion
