// What the machine can do at best: the yardsticks that the bench holds kernels against.
#pragma once

#include <cstdint>

namespace fluxion {

// Compiled once for each instruction set (peak_kernel.cc).
struct PeakKernels {
  // Float32 multiply-adds on values that stay in registers; `rounds` times flopsPerRound operations. The result
  // depends on all of them.
  float (*multiplyAdds)(int64_t rounds);
  double flopsPerRound;
  // a = b + s c
  void (*triad)(float* a, const float* b, const float* c, float s, int64_t n);
};

// Float32 operations per second (a multiply-add is two) of this many threads at once, with the instruction set in
// use: the best of several windows that last `seconds` together. Throws PlanError for a number of threads that is
// not from 1 to 256, and for seconds that are not above 0 and at most 60.
double measurePeak(int64_t threads, double seconds);

// Bytes per second that this many threads read and write at once in a = b + s c, each array of about `bytes` bytes:
// the best of several passes. Throws PlanError likewise, and for arrays that cannot be allocated.
double measureBandwidth(int64_t threads, int64_t bytes);

}  // namespace fluxion
