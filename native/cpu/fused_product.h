// A matrix product and the expression on its elements, in parts that are still in the cache when the expression runs.
#pragma once

#include "product.h"
#include "tile.h"

namespace fluxion {

class FusedProduct {
 public:
  // `depth`, `whole`: as for Product.
  FusedProduct(const Plan& plan, const Step& step, const Kernels& kernels, int64_t depth, bool whole = true);

  const Product& product() const { return product_; }

  // A thread's memory for blocks of so many elements at most, in the frame of the product.
  size_t scratchBytes(int64_t rows, int64_t cols) const;
  // A block of C, over all of k, and the expression on it. `packed`: the right side, packed whole.
  void run(Pointers buffers, char* scratch, int64_t batch, const Block& block, const char* packed) const;
  // The expression alone, on a block of C that lies dense at `c`.
  void finish(Pointers buffers, char* scratch, int64_t batch, const Block& block, const char* c) const;

 private:
  static Space space(const Step& step);
  void choosePlain(const Step& step);
  Frame begin(Pointers buffers, char* scratch) const;
  size_t partBytes(int64_t rows, int64_t cols) const { return roundUpToLine(static_cast<size_t>(rows * cols * bytes_)); }
  void express(Frame& frame, Pointers buffers, char* scratch, int64_t batch, const Block& block, const char* c) const;

  Product product_;
  TileProgram program_;
  int64_t m_;  // rows of a batch
  int64_t bytes_;
  int64_t hotRows_, hotCols_;  // what is multiplied before its expression runs
  bool plain_ = false;         // the expression only stores the product,
  View plainView_;             // here
  size_t frameAt_ = 0, turnedAt_ = 0;
  CopyFn copy_;
};

// to[i] = sum of `count` arrays, `stride` elements apart, in order.
void sumPartials(DType dtype, char* to, const char* first, int64_t count, int64_t stride, int64_t elements);

inline int64_t ceilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace fluxion
