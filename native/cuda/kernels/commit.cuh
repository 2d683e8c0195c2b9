// The end of a step of a loop around a program (native/cuda/loop.cc): puts its observations aside, looks at its guard.
#pragma once

#include "status.cuh"

namespace fluxion {

struct Observation {
  const unsigned char* from;
  unsigned char* to;  // of slot 0; slots are `bytes` apart
  long long bytes;
};

__device__ __forceinline__ void copyBytes(unsigned char* to, const unsigned char* from, long long bytes, long long thread,
                                          long long threads) {
  if (((reinterpret_cast<unsigned long long>(to) | reinterpret_cast<unsigned long long>(from) | bytes) & 3) == 0) {
    for (long long i = thread; i < bytes / 4; i += threads)
      reinterpret_cast<unsigned*>(to)[i] = reinterpret_cast<const unsigned*>(from)[i];
  } else {
    for (long long i = thread; i < bytes; i += threads) to[i] = from[i];
  }
}

template <class T>
__device__ __forceinline__ bool isFinite(const void* guard) {
  const T x = *static_cast<const T*>(guard);
  return x - x == T(0);
}

}  // namespace fluxion

// One large observation, by as many blocks as are launched.
extern "C" __global__ void __launch_bounds__(256) fluxion_record(const fluxion::Status* status,
                                                                const fluxion::Observation* observation) {
  if (fluxion::stopped(status)) return;
  const fluxion::Observation o = *observation;
  fluxion::copyBytes(o.to + status->slot * o.bytes, o.from, o.bytes, blockIdx.x * 256ll + threadIdx.x,
                     gridDim.x * 256ll);
}

// One block: the small observations, and then the verdict on the step. Without a guard (0 bytes) each step is committed.
extern "C" __global__ void __launch_bounds__(256)
    fluxion_commit(fluxion::Status* status, const fluxion::Observation* small, long long count, const void* guard,
                   long long guardBytes) {
  if (fluxion::stopped(status)) return;
  const long long slot = status->slot;
  for (long long i = 0; i < count; i++)
    fluxion::copyBytes(small[i].to + slot * small[i].bytes, small[i].from, small[i].bytes, threadIdx.x, 256);
  __syncthreads();
  if (threadIdx.x != 0) return;
  status->ran++;
  status->slot = slot + 1;
  const bool holds = guardBytes == 0 || (guardBytes == 4 ? fluxion::isFinite<float>(guard) : fluxion::isFinite<double>(guard));
  if (holds) status->completed++;
  else status->stopped = 1;
}
