// The loops of peak.cc, compiled once for each instruction set, with contraction to fused multiply-adds.
#include "isa.h"
#include "peak.h"

namespace fluxion {
namespace FLUXION_ISA_NAMESPACE {
namespace {

// Independent sums enough to hide a multiply-add's latency (at most 6 cycles, two units), and few enough to leave
// registers for the two factors.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kSums = 24;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32, kSums = 12;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kSums = 24;
#else
constexpr int kVectorBytes = 16, kSums = 12;
#endif
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(float));
typedef float Vector __attribute__((vector_size(kVectorBytes)));

float multiplyAdds(int64_t rounds) {
  Vector sum[kSums];
  const Vector factor = Vector{} + 0.999f, term = Vector{} + 0.001f;  // towards 1, far from slow subnormal numbers
#pragma GCC unroll 24
  for (int i = 0; i < kSums; i++) sum[i] = Vector{} + static_cast<float>(i);
  for (int64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 24
    for (int i = 0; i < kSums; i++) sum[i] = sum[i] * factor + term;
  }
  Vector total{};
#pragma GCC unroll 24
  for (int i = 0; i < kSums; i++) total += sum[i];
  float result = 0;
  for (int lane = 0; lane < kLanes; lane++) result += total[lane];
  return result;
}

void triad(float* __restrict a, const float* __restrict b, const float* __restrict c, float s, int64_t n) {
  for (int64_t i = 0; i < n; i++) a[i] = b[i] + s * c[i];
}

}  // namespace

PeakKernels peakKernels() { return {multiplyAdds, 2.0 * kSums * kLanes, triad}; }

}  // namespace FLUXION_ISA_NAMESPACE
}  // namespace fluxion
