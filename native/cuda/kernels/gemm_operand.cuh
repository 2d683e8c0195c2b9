// The operands of matrix products C = A B. Both look the same: a matrix of rows (of A: m, of B: the columns n of the
// product) by depth (k), so that C[i][j] = sum over p of A(i, p) B(j, p).
#pragma once

namespace fluxion::gemm {

// The axis along which neighbours in memory are read by neighbouring threads.
enum class Along { depth, rows };

// A matrix in global memory, with strides in elements. `Order` is the axis to read along; `Vector` neighbours along
// it (with stride 1) start at a multiple of their size and may be copied as one.
template <class T, class Index, Index RowStride, Index DepthStride, int Rows, int Depth, Along Order, int Vector>
struct Operand {
  using Element = T;
  static constexpr int rows = Rows;
  static constexpr int depth = Depth;
  static constexpr Along order = Order;
  static constexpr int vector = Vector;

  const T* base;

  __device__ __forceinline__ const T* at(Index row, Index position) const {
    return base + (row * RowStride + position * DepthStride);
  }
};

// a b + c, rounded once; of integers modulo 2^32.
__device__ __forceinline__ float multiplyAdd(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiplyAdd(double a, double b, double c) { return fma(a, b, c); }
__device__ __forceinline__ unsigned multiplyAdd(unsigned a, unsigned b, unsigned c) { return a * b + c; }
__device__ __forceinline__ int multiplyAdd(int a, int b, int c) { return int(unsigned(a) * unsigned(b) + unsigned(c)); }

// a + b, of integers modulo 2^32.
template <class T>
__device__ __forceinline__ T plus(T a, T b) {
  return a + b;
}
__device__ __forceinline__ int plus(int a, int b) { return int(unsigned(a) + unsigned(b)); }

}  // namespace fluxion::gemm
