// Folds: a state takes values in, two states merge, always in an order that the shapes fix.
//
// A sum of floats carries along what its additions round away (Ogita, Rump, Oishi's Sum2), which leaves about one
// rounding of the result for any number of terms. Reductions wait for memory: the six additions a term are hidden behind
// it, whereas double precision would have a conversion of low throughput for each term.
#pragma once

#include "scalars.cuh"

namespace fluxion {

template <class T>
__device__ __forceinline__ T lowest() {
  if constexpr (IsFloat<T>::value) return -infinity<T>();
  else return T(T(-1) < T(0) ? -2147483647 - 1 : 0);
}
template <class T>
__device__ __forceinline__ T highest() {
  if constexpr (IsFloat<T>::value) return infinity<T>();
  else if constexpr (sizeof(T) == 1) return T(1);
  else return T(-1) < T(0) ? T(2147483647) : T(4294967295u);
}

template <class T>
__device__ __forceinline__ T shuffledDown(T x, int distance) {
  return __shfl_down_sync(0xffffffffu, x, distance);
}
__device__ __forceinline__ unsigned char shuffledDown(unsigned char x, int distance) {
  return static_cast<unsigned char>(__shfl_down_sync(0xffffffffu, unsigned(x), distance));
}

// Every state has two members, of which some folds need the first only: `a` has the dtype of the values.

template <class T>
struct Sum {
  using First = T;
  using Second = T;
  T a, b;
  __device__ static __forceinline__ Sum initial() { return {T(0), T(0)}; }
  __device__ static __forceinline__ Sum of(T a, T b) { return {a, b}; }
  __device__ __forceinline__ void take(T x, int) {
    if constexpr (IsFloat<T>::value) {
      const T total = a + x, part = total - a;
      b += (a - (total - part)) + (x - part);
      a = total;
    } else {
      a = add(a, x);
    }
  }
  __device__ __forceinline__ void merge(const Sum& other) {
    take(other.a, 0);
    if constexpr (IsFloat<T>::value) b += other.b;
  }
  __device__ __forceinline__ Sum down(int distance) const {
    Sum other = {shuffledDown(a, distance), b};
    if constexpr (IsFloat<T>::value) other.b = shuffledDown(b, distance);
    return other;
  }
  __device__ __forceinline__ T result() const {
    if constexpr (IsFloat<T>::value) {
      // b is not finite only where the sum is not.
      return b - b == 0 ? a + b : a;
    } else {
      return a;
    }
  }
};

template <class T, bool Largest>
struct Extreme {
  using First = T;
  using Second = T;
  T a;
  __device__ static __forceinline__ Extreme initial() { return {Largest ? lowest<T>() : highest<T>()}; }
  __device__ static __forceinline__ Extreme of(T a, T) { return {a}; }
  __device__ __forceinline__ void take(T x, int) { a = Largest ? maximum(a, x) : minimum(a, x); }
  __device__ __forceinline__ void merge(const Extreme& other) { take(other.a, 0); }
  __device__ __forceinline__ Extreme down(int distance) const { return {shuffledDown(a, distance)}; }
  __device__ __forceinline__ T result() const { return a; }
};
template <class T>
using Max = Extreme<T, true>;
template <class T>
using Min = Extreme<T, false>;

// The first NaN, else the first of the extreme values; b is its position. The order of takes and merges does not matter.
template <class T, bool Largest>
struct Position {
  using First = T;
  using Second = int;
  T a;
  int b;
  __device__ static __forceinline__ Position initial() {
    return {Largest ? lowest<T>() : highest<T>(), 2147483647};
  }
  __device__ static __forceinline__ Position of(T a, int b) { return {a, b}; }
  __device__ __forceinline__ void take(T x, int position) {
    const bool mine = a != a, its = x != x;
    const bool beaten = mine | its ? its & !mine : Largest ? x > a : x < a;
    const bool level = mine | its ? mine & its : x == a;
    if (beaten | (level & (position < b))) {
      a = x;
      b = position;
    }
  }
  __device__ __forceinline__ void merge(const Position& other) { take(other.a, other.b); }
  __device__ __forceinline__ Position down(int distance) const {
    return {shuffledDown(a, distance), shuffledDown(b, distance)};
  }
  __device__ __forceinline__ int result() const { return b; }
};
template <class T>
using Argmax = Position<T, true>;
template <class T>
using Argmin = Position<T, false>;

// Folds the states of groups of `Lanes` neighbours in a warp; the first of each has the result. All threads of the warp
// come here.
template <int Lanes, class State>
__device__ __forceinline__ void foldNeighbours(State& state) {
#pragma unroll
  for (int distance = Lanes / 2; distance > 0; distance /= 2) state.merge(state.down(distance));
}

__device__ __forceinline__ void* foldBytes() {
  __shared__ double bytes[512];
  return bytes;
}

// Memory through which the threads of a block hand their states on: the same for all folds of a kernel, so that a fold waits
// for the one before to have read it.
template <int Threads, class State>
__device__ __forceinline__ State* foldMemory() {
  static_assert(Threads * sizeof(State) <= 4096, "the states fit");
  __syncthreads();
  return static_cast<State*>(foldBytes());
}

// Folds the states of a block; the first thread has the result. All threads of the block come here.
template <int Threads, class State>
__device__ __forceinline__ void foldBlock(State& state) {
  State* const parts = foldMemory<Threads, State>();
  foldNeighbours<32>(state);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = state;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int warp = 1; warp < Threads / 32; warp++) state.merge(parts[warp]);
  }
}

// Folds the states of threads that are `Columns` apart; the first `Columns` threads have the results. All threads of
// the block come here.
template <int Threads, int Columns, class State>
__device__ __forceinline__ void foldColumns(State& state) {
  State* const parts = foldMemory<Threads, State>();
  parts[threadIdx.x] = state;
#pragma unroll
  for (int distance = Threads / 2; distance >= Columns; distance /= 2) {
    __syncthreads();
    if (threadIdx.x < distance) {
      state.merge(parts[threadIdx.x + distance]);
      parts[threadIdx.x] = state;
    }
  }
}

}  // namespace fluxion
