// A matrix product and the expression on its elements, in parts that are still in the cache when the expression runs.
#pragma once

#include "product.h"
#include "tile.h"

namespace fluxion {

class FusedProduct {
 public:
  // Only products over so much of k may be cut into parts of it.
  static constexpr int64_t kLongDepth = 1024;

  // `depth`, `whole`: as for Product. Where `whole` is false, only `finish` is called.
  FusedProduct(const Plan& plan, const Step& step, const Kernels& kernels, int64_t depth, bool whole = true);

  const Product& product() const { return product_; }

  // A thread's memory for blocks of so many elements at most, in the frame of the product.
  size_t scratchBytes(int64_t rows, int64_t cols) const;
  // A block of C, over all of k, and the expression on it. `packed`: the right side, packed whole.
  void run(Pointers buffers, char* scratch, int64_t batch, const Block& block, const char* packed) const;
  // Its two halves, where k is cut: a part of it, to be added to the others, and the expression on the whole sum, which
  // lies dense at `c`.
  void multiply(Pointers buffers, char* scratch, int64_t batch, const Block& block, const Product::Depth& depth,
                const char* packed, char* c, int64_t ldc) const;
  void finish(Pointers buffers, char* scratch, int64_t batch, const Block& block, const char* c) const;

 private:
  // What the kernels do with the product themselves, and what is left for the expression: they can begin with a row
  // that is added to every row, a bias, and end by multiplying with an array of the product's shape, the derivative of
  // an activation.
  struct Ending {
    Step step;  // what is left
    bool starts = false, scales = false;
    View start{}, scale{};
  };
  static Ending endingOf(const Step& step, const Product& product);
  static Space space(const Step& step);
  void choosePlain();
  static int64_t rowStride(const View& view);
  // Where a view over the product has a block.
  char* place(Pointers buffers, const View& view, int64_t batch, const Block& block) const;
  size_t partBytes(int64_t rows, int64_t cols) const { return roundUpToLine(static_cast<size_t>(rows * cols * bytes_)); }
  void express(Frame& frame, Pointers buffers, char* scratch, int64_t batch, const Block& block, const char* c) const;

  Product product_;
  Ending ending_;
  TileProgram program_;
  int64_t m_;  // rows of a batch
  int64_t bytes_;
  int64_t hotRows_, hotCols_;  // what is multiplied before its expression runs
  bool plain_ = false;         // the expression only stores the product, at ending_.step's output
  size_t frameAt_ = 0, turnedAt_ = 0;
  CopyFn copy_;
};

// to[i] = sum of `count` arrays, `stride` elements apart, in order.
void sumPartials(DType dtype, char* to, const char* first, int64_t count, int64_t stride, int64_t elements);

inline int64_t ceilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace fluxion
