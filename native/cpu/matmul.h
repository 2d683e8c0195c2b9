// What the ways of running a matrix product share: the expression on blocks of C, and sums of partial products.
#pragma once

#include "product.h"
#include "tile.h"

namespace fluxion {

// The expression of a product on blocks of C that lie dense in memory.
class ProductExpression {
 public:
  ProductExpression(const Plan& plan, const Step& step, const Product& product, const Kernels& kernels);

  size_t scratchBytes(int64_t blockElements) const;
  // `block` is in the frame of the product; `c` is block.rows by block.cols.
  void run(Pointers buffers, char* scratch, int64_t batch, const Block& block, const char* c) const;

 private:
  static Space space(const Step& step);

  TileProgram program_;
  int64_t m_;  // rows of a batch
  int64_t bytes_;
  bool transposed_;
  size_t frameBytes_;
  CopyFn copy_;
};

// to[i] = sum of `count` arrays, `stride` elements apart, in order.
void sumPartials(DType dtype, char* to, const char* first, int64_t count, int64_t stride, int64_t elements);

inline int64_t ceilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace fluxion
