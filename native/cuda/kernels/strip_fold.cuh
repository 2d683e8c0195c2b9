// Reductions in a strip, by the folds of reduce.cuh, and the last addition of partial sums.
#pragma once

#include "reduce.cuh"
#include "shared.cuh"
#include "strip_rows.cuh"

namespace fluxion {

// Each of `count` rows has kKept results, folded from kReduced values: value(row, kept, position). A thread has a result,
// or a warp where there is enough to fold.
template <class State, int kKept, int kReduced, class Value, class Store>
__device__ __forceinline__ void stripFoldRows(int thread, int count, const Value& value, const Store& store) {
  constexpr int kLanes = kReduced >= 32 ? 32 : 1;
  const long long results = static_cast<long long>(count) * kKept;
#pragma unroll 1
  for (long long result = thread / kLanes; result < results; result += kStripThreads / kLanes) {
    const int row = int(result / kKept), kept = int(result % kKept);
    State state = State::initial();
    for (int position = thread % kLanes; position < kReduced; position += kLanes)
      state.take(value(row, kept, position), position);
    if (kLanes > 1) foldNeighbours<kLanes>(state);
    if (thread % kLanes == 0) store(row, kept, state.result());
  }
}

template <class State>
__device__ __forceinline__ void stripMergeInto(typename State::First* a, typename State::Second* b, long long place,
                                               State state, bool opens) {
  if (!opens) {
    State before = State::of(a[place], b[place]);
    before.merge(state);
    state = before;
  }
  a[place] = state.a;
  // Only sums of floats have a second member that counts.
  if constexpr (IsFloat<typename State::First>::value && sizeof(State) > sizeof(state.a)) b[place] = state.b;
}

// Folds value(row, kept, other) over the rows of the block and kOther values of each into partial results, a row of
// kKept for each of kGroups groups of threads. `b` is where the second members of the states go, if they have such.
template <class State, int kKept, int kOther, int kGroups, class Value>
__device__ __forceinline__ void stripFoldSum(int thread, int count, const Value& value, typename State::First* a,
                                             typename State::Second* b, bool opens) {
  if constexpr (kKept >= 32) {
    constexpr int kWidth = kStripThreads / kGroups;
    const int group = thread / kWidth;
    if (group >= kGroups) return;
#pragma unroll 1
    for (int kept = thread % kWidth; kept < kKept; kept += kWidth) {
      State state = State::initial();
#pragma unroll 4
      for (int row = group; row < count; row += kGroups) {
        for (int other = 0; other < kOther; other++) state.take(value(row, kept, other), 0);
      }
      stripMergeInto(a, b, static_cast<long long>(group) * kKept + kept, state, opens);
    }
  } else {
#pragma unroll 1
    for (int kept = thread / 32; kept < kKept; kept += kStripWarps) {
      State state = State::initial();
      const long long values = static_cast<long long>(count) * kOther;
      for (long long i = thread % 32; i < values; i += 32)
        state.take(value(int(i / kOther), kept, int(i % kOther)), 0);
      foldNeighbours<32>(state);
      if (thread % 32 == 0) stripMergeInto(a, b, kept, state, opens);
    }
  }
}

// Adds up kCount partial sums of kSize elements, of which a block of threads takes 32 kVector: each warp some of the
// partial sums, in order, then the sums of the warps. `finish(element, total)` gets them. The block's dynamic shared
// memory holds 16 bytes for each thread.
template <class T, int kSize, int kCount, int kVector, class Finish>
__device__ __forceinline__ void stripFinishSum(const T* partials, int block, const Finish& finish) {
  constexpr int kShare = (kCount + kStripWarps - 1) / kStripWarps, kWidth = 32 * kVector;
  T* const parts = reinterpret_cast<T*>(dynamicShared());
  const int warp = threadIdx.x / 32, place = threadIdx.x % 32 * kVector, first = block * kWidth;
  T sums[kVector] = {};
  if (first + place < kSize) {
    const int end = min(kCount, (warp + 1) * kShare);
#pragma unroll 8
    for (int i = warp * kShare; i < end; i++) {
      const T* const source = partials + static_cast<long long>(i) * kSize + first + place;
      if constexpr (kVector == 4) {
        const float4 x = *reinterpret_cast<const float4*>(source);
        sums[0] += x.x, sums[1] += x.y, sums[2] += x.z, sums[3] += x.w;
      } else {
        sums[0] = add(sums[0], *source);
      }
    }
  }
#pragma unroll
  for (int c = 0; c < kVector; c++) parts[warp * kWidth + place + c] = sums[c];
  __syncthreads();
  const int element = first + threadIdx.x;
  if (threadIdx.x < kWidth && element < kSize) {
    T total = parts[threadIdx.x];
#pragma unroll
    for (int other = 1; other < kStripWarps; other++) total = add(total, parts[other * kWidth + threadIdx.x]);
    finish(element, total);
  }
}

// The same for the states of folds.
template <class State, int kSize, int kCount, class Finish>
__device__ __forceinline__ void stripFinishFold(const typename State::First* a, const typename State::Second* b,
                                                int block, const Finish& finish) {
  constexpr int kShare = (kCount + kStripWarps - 1) / kStripWarps;
  State* const parts = reinterpret_cast<State*>(dynamicShared());
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, element = block * 32 + lane;
  State state = State::initial();
  if (element < kSize) {
    const int end = min(kCount, (warp + 1) * kShare);
    for (int i = warp * kShare; i < end; i++) {
      const long long place = static_cast<long long>(i) * kSize + element;
      state.merge(State::of(a[place], b[place]));
    }
  }
  parts[warp * 32 + lane] = state;
  __syncthreads();
  if (warp == 0 && element < kSize) {
#pragma unroll
    for (int other = 1; other < kStripWarps; other++) state.merge(parts[other * 32 + lane]);
    finish(element, state.result());
  }
}

}  // namespace fluxion
