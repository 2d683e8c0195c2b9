// The products of tensor_core.cuh: the last lane of a warp that comes does the product for all. The fragments lie in the
// lanes as on a device; the sums are exact and rounded once, which a device's are not.
#pragma once

#include "integers.h"
#include "mathematics.h"

namespace emulator {

inline float tf32Value(unsigned bits) { return cast<float>(bits & ~0x1fffu); }  // what a tensor core reads of it
inline float bfloat16Value(unsigned bits) { return cast<float>(bits << 16); }

struct Fragments {
  float* d;
  const unsigned* a;
  const unsigned* b;
};

// A: 16 x K, B: K x 8.
template <int K>
void addProduct(void* const* lanes, const float (&A)[16][K], const float (&B)[K][8]) {
  for (int lane = 0; lane < 32; ++lane) {
    float* d = static_cast<Fragments*>(lanes[lane])->d;
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      double sum = d[i];
      for (int k = 0; k < K; ++k) sum += double(A[row][k]) * B[k][column];
      d[i] = float(sum);
    }
  }
}

inline void tf32Product(void* const* lanes, unsigned) {
  float A[16][8], B[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* part = static_cast<Fragments*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) A[g + 8 * (i % 2)][t + 4 * (i / 2)] = tf32Value(part->a[i]);
    for (int i = 0; i < 2; ++i) B[t + 4 * i][g] = tf32Value(part->b[i]);
  }
  addProduct(lanes, A, B);
}

inline void bfloat16Product(void* const* lanes, unsigned) {
  float A[16][16], B[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* part = static_cast<Fragments*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 4; ++i) {
        A[g + 8 * (i % 2)][2 * t + half + 8 * (i / 2)] = bfloat16Value(part->a[i] >> 16 * half & 0xffffu);
      }
      for (int i = 0; i < 2; ++i) B[2 * t + half + 8 * i][g] = bfloat16Value(part->b[i] >> 16 * half & 0xffffu);
    }
  }
  addProduct(lanes, A, B);
}

inline unsigned bfloat16(float x) {
  const unsigned bits = __float_as_uint(x);
  if (x != x) return 0x7fffu;
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

}  // namespace emulator
