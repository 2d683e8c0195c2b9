// Products of small matrices on tensor cores: D = A B + D for one warp. All 32 lanes of the warp call these together.
//
// The 16 x 8 matrix D, the 16 x K matrix A and the K x 8 matrix B are spread over the lanes. With
//
//     g = lane / 4 (0 .. 7)    and    t = lane % 4 (0 .. 3)
//
// a lane holds of D, for every K:
//
//     d[0] = D[g][2t]    d[1] = D[g][2t + 1]    d[2] = D[g + 8][2t]    d[3] = D[g + 8][2t + 1]
//
// Products of operands are exact, and summed in float32 by the hardware's own order and rounding (of about 2^-23
// of the greatest term).
#pragma once

namespace fluxion {

// x rounded to TF32 (8 bits of exponent, 10 of mantissa), to the nearest, ties away from zero: the upper 19 bits of a
// float. Infinities and NaN stay what they are.
__device__ __forceinline__ unsigned tf32(float x) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

// Two floats rounded to bfloat16 (the upper 16 bits of a float), to the nearest, ties to even; `low` in bits 0 .. 15.
__device__ __forceinline__ unsigned bfloat16x2(float low, float high) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

// K = 8, operands in TF32 (what `tf32` gives). A lane holds
//
//     a[0] = A[g][t]    a[1] = A[g + 8][t]    a[2] = A[g][t + 4]    a[3] = A[g + 8][t + 4]
//     b[0] = B[t][g]    b[1] = B[t + 4][g]
__device__ __forceinline__ void multiplyTf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// K = 16, operands in bfloat16, two in a register, the one of the lesser k in the low half (what `bfloat16x2` gives).
// A lane holds the pairs
//
//     a[0] = A[g][2t, 2t + 1]        a[1] = A[g + 8][2t, 2t + 1]
//     a[2] = A[g][2t + 8, 2t + 9]    a[3] = A[g + 8][2t + 8, 2t + 9]
//     b[0] = B[2t, 2t + 1][g]        b[1] = B[2t + 8, 2t + 9][g]
__device__ __forceinline__ void multiplyBfloat16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace fluxion
