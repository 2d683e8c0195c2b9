// What test/cuda-emulator.test.ts runs: programs that are right, and such as are wrong in one way each.
#include "async_copy.cuh"
#include "shared.cuh"
#include "tensor_core.cuh"

template <class T>
__device__ __forceinline__ T warpSum(T value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
  return value;
}

template <class T>
__device__ __forceinline__ T blockSum(T value) {
  __shared__ T parts[32];
  value = warpSum(value);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  T sum = 0;
  for (unsigned i = 0; i < blockDim.x / 32; i++) sum += parts[i];
  return sum;
}

extern "C" __global__ void __launch_bounds__(256) sums(const float* __restrict__ x, float* __restrict__ y) {
  const float sum = blockSum(x[blockIdx.x * 256 + threadIdx.x]);
  if (threadIdx.x == 0) y[blockIdx.x] = sum;
}

// Reverses each block's elements.
extern "C" __global__ void __launch_bounds__(256) reversed(const float* x, float* y) {
  float* tile = reinterpret_cast<float*>(fluxion::dynamicShared());
  tile[threadIdx.x] = x[blockIdx.x * 256 + threadIdx.x];
  __syncthreads();
  y[blockIdx.x * 256 + threadIdx.x] = tile[255 - threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(256) reversed_unguarded(const float* x, float* y) {
  float* tile = reinterpret_cast<float*>(fluxion::dynamicShared());
  tile[threadIdx.x] = x[blockIdx.x * 256 + threadIdx.x];
  y[blockIdx.x * 256 + threadIdx.x] = tile[255 - threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(256) reversed_async(const float* x, float* y) {
  float* tile = reinterpret_cast<float*>(fluxion::dynamicShared());
  fluxion::copyAsync<4>(tile + threadIdx.x, x + blockIdx.x * 256 + threadIdx.x);
  fluxion::commitCopies();
  fluxion::waitCopies<0>();
  __syncthreads();
  y[blockIdx.x * 256 + threadIdx.x] = tile[255 - threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(256) reversed_async_unwaited(const float* x, float* y) {
  float* tile = reinterpret_cast<float*>(fluxion::dynamicShared());
  fluxion::copyAsync<4>(tile + threadIdx.x, x + blockIdx.x * 256 + threadIdx.x);
  fluxion::commitCopies();
  fluxion::waitCopies<1>();
  __syncthreads();
  y[blockIdx.x * 256 + threadIdx.x] = tile[255 - threadIdx.x];
}

extern "C" __global__ void unwritten(const float* x, float* y) {
  __shared__ float tile[256];
  if (threadIdx.x < 128) tile[threadIdx.x] = x[threadIdx.x];
  y[blockIdx.x * 256 + threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void beside(const float* x, float* y) { y[threadIdx.x == 0 ? -1 : 0] = x[0]; }

extern "C" __global__ void far_away(const float* x, float* y) { y[threadIdx.x + (1 << 24)] = x[0]; }

extern "C" __global__ void beside_tile(const float* x, float* y) {
  __shared__ float tile[8];
  tile[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void beside_dynamic(const float* x, float* y) {
  float* tile = reinterpret_cast<float*>(fluxion::dynamicShared());
  tile[threadIdx.x + 1] = x[threadIdx.x];
  y[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void misaligned(const float* x, float* y) {
  reinterpret_cast<float2*>(y + 1)[threadIdx.x] = make_float2(x[0], x[1]);
}

extern "C" __global__ void early_exit(const float* x, float* y) {
  if (threadIdx.x >= 100) return;
  __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}

extern "C" __global__ void two_barriers(const float* x, float* y) {
  if (threadIdx.x < 128) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  y[threadIdx.x] = x[threadIdx.x];
}

extern "C" __global__ void missing_lane(const float* x, float* y) {
  float value = x[threadIdx.x];
  if (threadIdx.x % 32 != 5) value = __shfl_xor_sync(0xffffffffu, value, 1);
  y[threadIdx.x] = value;
}

// y = the 16 x 8 product of x[0 .. 16 K) and x[16 K .. 24 K), both row-major.
extern "C" __global__ void product_tf32(const float* x, float* y) {
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const float *A = x, *B = x + 16 * 8;
  const unsigned a[4] = {fluxion::tf32(A[g * 8 + t]), fluxion::tf32(A[(g + 8) * 8 + t]), fluxion::tf32(A[g * 8 + t + 4]),
                         fluxion::tf32(A[(g + 8) * 8 + t + 4])};
  const unsigned b[2] = {fluxion::tf32(B[t * 8 + g]), fluxion::tf32(B[(t + 4) * 8 + g])};
  float d[4] = {0, 0, 0, 0};
  fluxion::multiplyTf32(d, a, b);
  for (int i = 0; i < 4; i++) y[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

extern "C" __global__ void product_bfloat16(const float* x, float* y) {
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const float *A = x, *B = x + 16 * 16;
  unsigned a[4], b[2];
  for (int i = 0; i < 4; i++) {
    const float* at = A + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
    a[i] = fluxion::bfloat16x2(at[0], at[1]);
  }
  for (int i = 0; i < 2; i++) {
    const float* at = B + (2 * t + 8 * i) * 8 + g;
    b[i] = fluxion::bfloat16x2(at[0], at[8]);
  }
  float d[4] = {0, 0, 0, 0};
  fluxion::multiplyBfloat16(d, a, b);
  for (int i = 0; i < 4; i++) y[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

// Functions whose edges CUDA defines and C++ does not.
extern "C" __global__ void edges(const float* x, float* y) {
  if (threadIdx.x != 0) return;
  y[0] = __float2int_rz(1e20f) == 2147483647;
  y[1] = __float2int_rz(-1e20f) == -2147483647 - 1;
  y[2] = __float2int_rz(x[0] / 0.0f - x[0] / 0.0f) == 0;
  y[3] = __float2uint_rz(-1.0f) == 0;
  y[4] = __float2int_rn(2.5f) == 2;
  y[5] = __clz(0) == 32;
  y[6] = __brev(1u) == 0x80000000u;
  y[7] = __umulhi(0x80000000u, 4u) == 2;
  y[8] = __funnelshift_l(0x80000000u, 1u, 1) == 3;
  y[9] = normcdf(0.0) == 0.5;
  y[10] = fabs(erf(erfinv(0.3)) - 0.3) < 1e-15;
  y[11] = min(x[0] / 0.0f - x[0] / 0.0f, 2.0f) == 2.0f;
  y[12] = fluxion::tf32(__int_as_float(0x3f801000)) == 0x3f802000u;
  y[13] = fluxion::bfloat16x2(__int_as_float(0x3f808000), __int_as_float(0x3f818000)) == 0x3f823f80u;
  y[14] = __double2int_rz(-2147483649.0) == -2147483647 - 1;
  y[15] = __popc(255u) == 8;
}

// y[i] += 1, so that a graph's replays can be counted.
extern "C" __global__ void increment(const float* x, float* y) { y[threadIdx.x] += x[0] * 0 + 1; }
