// The arithmetic of a matrix product: C = A B by blocks, without where C goes and what follows.
//
// B is packed into panels of nr columns, which the micro-kernel reads in order (or is taken where it lies, when it is
// used once); the rows of A are taken where they lie, if one of their strides is 1. Where C has so few columns that a panel would be mostly padding, dot products
// take its place (A contiguous along k), or A and B swap sides (A contiguous along m): then what is computed is the
// transpose, and `transposed` says so.
#pragma once

#include "steps.h"

namespace fluxion {

// A part of C (of its transpose, where the product is transposed).
struct Block {
  int64_t row, rows, col, cols;
};

class Product {
 public:
  // `depth`: how much of k is multiplied at a time, at most. `whole`: every product is over all of k.
  Product(const Step& step, const Kernels& kernels, int64_t depth, bool whole = true);

  int64_t m() const { return m_; }  // extents of what is computed
  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  bool transposed() const { return transposed_; }
  bool dots() const { return dot_; }
  const View& right() const { return b_; }  // what is packed
  size_t elementBytes() const { return bytes_; }
  bool packsAs(const Product& other) const;  // the right sides are the same, packed

  // B[from .. to, all columns] packed; a stretch of kPackDepth of one panel is a task.
  size_t packedBytes(int64_t depth) const;
  int64_t packTasks(int64_t from, int64_t to) const;
  void pack(Pointers buffers, int64_t batch, int64_t from, int64_t to, int64_t task, char* packed) const;
  void packAll(Pointers buffers, int64_t batch, int64_t from, int64_t to, char* packed) const;

  // Whether B can be read unpacked, as whole panels of dense rows.
  bool readsUnpacked() const;
  int64_t rowsAtOnce() const { return kernel_.mr; }   // of the micro-kernel
  bool packsLeft() const { return packA_; }

  // C block = A[rows, from .. to] B[from .. to, columns], and what `ends` says; `packed` holds
  // B[packedFrom .. packedTo], or is null: then B is read as it lies.
  struct Depth {
    int64_t from, to, packedFrom, packedTo;
  };
  // Alone, added to C, or to a row `start` of all columns of C; then times `scale`, where there is one: the element
  // for the first of the block, in rows `ldScale` apart. (A transposed product has neither; one of dots no scale.)
  struct Ends {
    Begin begin = Begin::Zero;
    const char* start = nullptr;
    const char* scale = nullptr;
    int64_t ldScale = 0;
  };
  // How a block of C lies in memory: rows `row` apart, and columns one after another, or in panels of panelWidth()
  // that are `panel` apart.
  struct Layout {
    int64_t row, panel;
  };
  Layout dense(int64_t row) const { return {row, kernel_.nr}; }
  Layout panels(int64_t rows) const { return {kernel_.nr, rows * kernel_.nr}; }
  int64_t panelWidth() const { return kernel_.nr; }
  size_t scratchBytes() const { return scratchBytes_; }
  void multiply(Pointers buffers, char* scratch, int64_t batch, const Block& block, const Depth& depth,
                const char* packed, char* c, const Layout& layout, const Ends& ends) const;

  // Offset of an operand or output of this batch, in elements.
  int64_t batchOffset(const View& view, int64_t batch) const;

 private:
  bool far(int64_t stride, int64_t most) const;
  const char* operand(Pointers buffers, const View& view, int64_t batch) const;
  void multiplyEdge(PanelFn multiplyPanel, const Panel& whole, int64_t cols, char* edge) const;
  void packRows(const char* a, int64_t rows, int64_t depth, char* left) const;

  int64_t m_, n_, k_;
  std::vector<int64_t> batch_;
  View a_, b_;
  size_t bytes_;
  GemmKernel kernel_;
  CopyFn copy_;
  int64_t depth_;
  int64_t aRow_ = 0, aDepth_ = 0, bDepth_ = 0, bColumn_ = 0;
  bool transposed_ = false, dot_ = false, rowMajor_ = false, packA_ = false;
  int64_t panels_ = 0;
  size_t edgeBytes_ = 0, scratchBytes_ = 0;
};

}  // namespace fluxion
