// Running sums along an axis. Floats are summed in double precision, integers modulo 2^32.
#pragma once

#include "scalars.cuh"

namespace fluxion {

template <class T>
struct Running {
  using Type = unsigned;
};
template <>
struct Running<float> {
  using Type = double;
};
template <>
struct Running<double> {
  using Type = double;
};

// One thread: element after element.
template <class T, class Offset>
__device__ __forceinline__ void cumsumLine(const T* __restrict__ input, T* __restrict__ output, int size, Offset step) {
  typename Running<T>::Type sum = 0;
#pragma unroll 8
  for (int j = 0; j < size; j++) {
    sum += typename Running<T>::Type(input[j * step]);
    output[j * step] = T(sum);
  }
}

// A block with 1024 threads: tile after tile of 4096 elements. A thread sums four neighbours, a warp its threads'
// sums, every warp those of the warps before it.
template <class T, class Offset>
__device__ __forceinline__ void cumsumScan(const T* __restrict__ input, T* __restrict__ output, int size, Offset step) {
  using Total = typename Running<T>::Type;
  __shared__ Total warps[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Total carry = 0;
  for (int start = 0; start < size; start += 4096) {
    const int first = start + int(threadIdx.x) * 4;
    Total sums[4];
    Total sum = 0;
#pragma unroll
    for (int k = 0; k < 4; k++) {
      sum += first + k < size ? Total(input[(first + k) * step]) : Total(0);
      sums[k] = sum;
    }
    Total through = sum;  // of this thread and those before it in the warp
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const Total before = __shfl_up_sync(0xffffffffu, through, distance);
      if (lane >= distance) through += before;
    }
    Total base = __shfl_up_sync(0xffffffffu, through, 1);
    if (lane == 0) base = 0;
    if (lane == 31) warps[warp] = through;
    __syncthreads();
    Total earlier = carry;
#pragma unroll 8
    for (int w = 0; w < 32; w++) {
      if (w < warp) earlier += warps[w];
      carry += warps[w];
    }
    base += earlier;
#pragma unroll
    for (int k = 0; k < 4; k++) {
      if (first + k < size) output[(first + k) * step] = T(base + sums[k]);
    }
    __syncthreads();
  }
}

// A block with 256 threads, for a sum in the order of the elements: they come and go together, one thread adds.
template <class T, class Offset>
__device__ __forceinline__ void cumsumStaged(const T* __restrict__ input, T* __restrict__ output, int size, Offset step) {
  __shared__ T tile[2048];
  T sum = 0;
  for (int start = 0; start < size; start += 2048) {
    const int count = size - start < 2048 ? size - start : 2048;
    for (int k = threadIdx.x; k < count; k += 256) tile[k] = input[(start + k) * step];
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll 8
      for (int k = 0; k < count; k++) {
        sum += tile[k];
        tile[k] = sum;
      }
    }
    __syncthreads();
    for (int k = threadIdx.x; k < count; k += 256) output[(start + k) * step] = tile[k];
    __syncthreads();
  }
}

}  // namespace fluxion
