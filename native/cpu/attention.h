// Attention without its n x m matrices: what its parts share. lib/compile/plan.ts has the mathematics.
//
// Scores are computed in blocks of queries by keys that stay in a core's caches, by the micro-kernels of the matrix
// product. How the work is cut depends on shapes and the instruction set alone.
#pragma once

#include <algorithm>
#include <limits>

#include "steps.h"

namespace fluxion {

inline int64_t ceilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t roundUp(int64_t a, int64_t unit) { return ceilDivide(a, unit) * unit; }

// Places in a piece of memory, line by line.
class Places {
 public:
  // Of rows x columns elements.
  size_t add(int64_t rows, int64_t columns, size_t elementBytes) {
    const size_t at = bytes_;
    const double size = static_cast<double>(rows) * static_cast<double>(columns) * static_cast<double>(elementBytes);
    bytes_ = roundUpToLine(checkedBytes(static_cast<double>(at) + size));
    return at;
  }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_ = 0;
};

// What a view over [...batch, rows, columns] (or [...batch, rows]) shows of each entry of the batch.
template <class T>
class Operand {
 public:
  Operand(const View& view, const std::vector<int64_t>& batch) : view_(view), batch_(batch) {
    if (!given()) return;
    row = view.strides[batch.size()];
    if (view.strides.size() > batch.size() + 1) column = view.strides[batch.size() + 1];
  }
  bool given() const { return view_.buffer >= 0; }
  const T* entry(Pointers buffers, int64_t number) const {
    int64_t offset = view_.offset;
    for (size_t axis = batch_.size(); axis-- > 0;) {
      offset += number % batch_[axis] * view_.strides[axis];
      number /= batch_[axis];
    }
    return static_cast<const T*>(buffers[view_.buffer]) + offset;
  }
  // to[r, c] = factor * this[row + r, c], rows of `to` being `ld` apart.
  void copy(T* to, int64_t ld, const T* from, int64_t rows, int64_t columns, T factor = 1) const {
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t c = 0; c < columns; c++) to[r * ld + c] = factor * from[r * row + c * column];
    }
  }

  int64_t row = 0, column = 0;  // strides

 private:
  View view_;
  std::vector<int64_t> batch_;
};

// Where a result of a step begins for an entry of the batch, of `size` elements each; null where it is not wanted.
template <class T>
T* resultOf(Pointers buffers, const std::vector<int>& outputs, size_t number, int64_t entry, int64_t size) {
  return outputs[number] < 0 ? nullptr : static_cast<T*>(buffers[outputs[number]]) + entry * size;
}

// Products of a block with panels of the GEMM's width.
template <class T>
class Panels {
 public:
  explicit Panels(const Kernels& kernels, DType dtype) : kernel_(kernels.gemm[static_cast<int>(dtype)]) {}
  int64_t width() const { return kernel_.nr; }
  int64_t padded(int64_t columns) const { return roundUp(columns, kernel_.nr); }
  // Rows that are read together in a product should not lie in the same sets of a cache.
  static int64_t spread(int64_t columns) { return columns + 64 / static_cast<int64_t>(sizeof(T)); }

  // Panels of [depth, columns], each `stride` from the one before.
  void pack(T* to, int64_t stride, const T* from, int64_t depthStride, int64_t columnStride, int64_t depth,
            int64_t columns) const {
    for (int64_t col = 0; col < columns; col += kernel_.nr, to += stride) {
      kernel_.packPanel(to, from + col * columnStride, depthStride, columnStride, depth,
                        std::min<int64_t>(kernel_.nr, columns - col));
    }
  }

  // C [rows, columns] = A [rows, depth] B, or C += A B. The rows of A and C lie lda and ldc apart; `columns` is a
  // multiple of the width.
  void multiply(T* c, int64_t ldc, bool add, const T* a, int64_t lda, const T* b, int64_t bStride, int64_t rows,
                int64_t depth, int64_t columns) const {
    run(kernel_.rowMajor, c, ldc, add, a, lda, kernel_.mr * lda, b, bStride, rows, depth, columns);
  }
  // The same for the transpose of A [depth, rows], as it lies.
  void multiplyTransposed(T* c, int64_t ldc, bool add, const T* a, int64_t lda, const T* b, int64_t bStride,
                          int64_t rows, int64_t depth, int64_t columns) const {
    run(kernel_.columnMajor, c, ldc, add, a, lda, kernel_.mr, b, bStride, rows, depth, columns);
  }

 private:
  void run(PanelFn multiplyPanel, T* c, int64_t ldc, bool add, const T* a, int64_t aStride, int64_t aTile, const T* b,
           int64_t bStride, int64_t rows, int64_t depth, int64_t columns) const {
    Panel panel{};
    panel.rows = rows;
    panel.k = depth;
    panel.a = a;
    panel.aStride = aStride;
    panel.aTile = aTile;
    panel.bStride = kernel_.nr;
    panel.ldc = ldc;
    panel.begin = add ? Begin::C : Begin::Zero;
    for (int64_t col = 0; col < columns; col += kernel_.nr, b += bStride) {
      panel.b = b;
      panel.c = c + col;
      multiplyPanel(panel);
    }
  }

  GemmKernel kernel_;
};

// Attention by blocks of queries, each of them a task: value and tangent. A derived class packs what its blocks share
// of an entry of the batch, and computes a block.
template <class T>
class QueryBlocks : public PreparedStep {
 public:
  void run(const RunMemory& memory) const override;

 protected:
  static constexpr int64_t kKeys = 256;    // of a block of scores: a multiple of every panel's width
  static constexpr int64_t kStretch = 512;  // of keys that are packed at a time

  QueryBlocks(const Step& step, const Kernels& kernels);
  // To be called when the derived class has added what it needs to `packed_` and `own_`.
  void reserve();

  // Of the keys from .. to.
  virtual void pack(Pointers buffers, int64_t entry, int64_t from, int64_t to, char* packed) const = 0;
  virtual void compute(Pointers buffers, int64_t entry, int64_t row, int64_t rows, const char* packed,
                       char* own) const = 0;

  // How many keys any of these queries sees.
  int64_t visibleKeys(int64_t row, int64_t rows) const { return causal_ ? std::min(m_, row + rows) : m_; }
  // Puts -infinity at the hidden ones of scores from (row, key) on; `cols` of them are keys, the others padding.
  void hide(Pointers buffers, int64_t entry, int64_t row, int64_t rows, int64_t key, int64_t cols, T* scores,
            char* own) const;
  T* output(Pointers buffers, size_t number, int64_t entry, int64_t size) const {
    return resultOf<T>(buffers, outputs_, number, entry, size);
  }

  Panels<T> panels_;
  AttentionKernel kernel_;
  CopyFn copyBytes_;
  int64_t entries_, n_, m_, d_, e_;
  T scale_;
  bool causal_;
  Operand<T> q_, k_, v_;
  Operand<uint8_t> mask_;
  std::vector<int> outputs_;
  int64_t rows_;                    // of a block
  int64_t scoreLd_;                 // from row to row of scores
  Places packed_, own_;             // of an entry, of a thread

 private:
  int64_t blocks_ = 0, group_ = 1;
  bool writes_, entryIsTask_ = false;
  size_t maskAt_ = 0;
};

std::unique_ptr<PreparedStep> prepareAttentionValue(const Step& step, const Kernels& kernels);
std::unique_ptr<PreparedStep> prepareAttentionTangent(const Step& step, const Kernels& kernels);
std::unique_ptr<PreparedStep> prepareAttentionCotangent(const Step& step, const Kernels& kernels);

}  // namespace fluxion
