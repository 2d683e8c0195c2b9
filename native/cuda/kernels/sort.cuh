// Stable argsort: pairs of a key and a position, of which no two are equal, so that any sort of them is stable.
#pragma once

#include "scalars.cuh"

namespace fluxion {

// Unsigned integers in the order of the values; 0 and -0 are equal, and all NaNs, which come last.
__device__ __forceinline__ unsigned orderedKey(float x) {
  if (x != x) return 0xffffffffu;
  const unsigned bits = unsigned(__float_as_int(x == 0 ? 0.0f : x));
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ unsigned long long orderedKey(double x) {
  if (x != x) return ~0ull;
  const unsigned long long bits = (unsigned long long)(__double_as_longlong(x == 0 ? 0.0 : x));
  return bits >> 63 ? ~bits : bits | 0x8000000000000000ull;
}
__device__ __forceinline__ unsigned orderedKey(int x) { return unsigned(x) ^ 0x80000000u; }
__device__ __forceinline__ unsigned orderedKey(unsigned x) { return x; }
__device__ __forceinline__ unsigned orderedKey(unsigned char x) { return x; }

// Key and position in one word.
struct Pair32 {
  unsigned long long word;
  __device__ static __forceinline__ Pair32 of(unsigned key, int position) {
    return {((unsigned long long)(key) << 32) | unsigned(position)};
  }
  // After all others.
  __device__ static __forceinline__ Pair32 last() { return {~0ull}; }
  __device__ __forceinline__ bool before(const Pair32& other) const { return word < other.word; }
  __device__ __forceinline__ int position() const { return int(unsigned(word)); }
};
struct Pair64 {
  unsigned long long key;
  unsigned long long place;
  __device__ static __forceinline__ Pair64 of(unsigned long long key, int position) {
    return {key, (unsigned long long)(position)};
  }
  __device__ static __forceinline__ Pair64 last() { return {~0ull, ~0ull}; }
  __device__ __forceinline__ bool before(const Pair64& other) const {
    return key != other.key ? key < other.key : place < other.place;
  }
  __device__ __forceinline__ int position() const { return int(place); }
};

// Sorts rows of `Width` pairs, a power of two, of which a block has `Size` together: Batcher's bitonic network. All
// threads of the block come here.
template <int Threads, int Size, int Width, class Pair>
__device__ __forceinline__ void sortTile(Pair* pairs) {
  for (int length = 2; length <= Width; length *= 2) {
    for (int distance = length / 2; distance > 0; distance /= 2) {
      __syncthreads();
      for (int k = threadIdx.x; k < Size / 2; k += Threads) {
        const int low = 2 * k - k % distance, high = low + distance;
        // The last merge is ascending for every row of the tile.
        const bool descending = length < Width && (low & length) != 0;
        const Pair a = pairs[low], b = pairs[high];
        if (b.before(a) != descending) {
          pairs[low] = b;
          pairs[high] = a;
        }
      }
    }
  }
  __syncthreads();
}

// How many of the first `n` elements of the merged runs a and b come from a.
template <class Pair>
__device__ __forceinline__ int mergedFrom(const Pair* a, int sizeA, const Pair* b, int sizeB, int n) {
  int low = n > sizeB ? n - sizeB : 0, high = n < sizeA ? n : sizeA;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (a[middle].before(b[n - 1 - middle])) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Elements `first` to `end` (excluded) of what the runs of `run` elements of a row become when neighbours merge: `put` takes
// them. All of them lie in one pair of runs.
template <class Pair, class Put>
__device__ __forceinline__ void mergeRuns(const Pair* row, int size, int run, int first, int end, Put put) {
  const int start = first / (2 * run) * (2 * run);
  const Pair* a = row + start;
  const int sizeA = size - start < run ? size - start : run;
  const Pair* b = a + sizeA;
  const int rest = size - start - sizeA, sizeB = rest < run ? rest : run;
  int i = mergedFrom(a, sizeA, b, sizeB, first - start), j = first - start - i;
  for (int k = first; k < end; k++) {
    const bool left = i < sizeA && (j >= sizeB || a[i].before(b[j]));
    put(k, left ? a[i] : b[j]);
    if (left) i++;
    else j++;
  }
}

}  // namespace fluxion
