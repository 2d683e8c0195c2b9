// The kernels of a sum, maximum or minimum of one dtype. Partial results are wider than the elements: double for
// float32, otherwise the dtype itself.
#pragma once

#include "kernels.h"

namespace fluxion {

class Folding {
 public:
  Folding() = default;
  Folding(Reducer reducer, DType dtype, const Kernels& kernels);

  // sum[i] = sum[i] (op) x[i], in the dtype of the elements.
  void combine(void* sum, const void* x, size_t n) const {
    const void* args[2] = {sum, x};
    combine_(sum, args, n);
  }
  // partial[c] = the fold of column c of rows x cols elements, from the first on.
  void startColumns(char* partial, const void* x, size_t rows, size_t cols) const {
    widen_(partial, &x, cols);
    if (rows > 1) foldColumns(partial, static_cast<const char*>(x) + cols * bytes_, rows - 1, cols);
  }
  // partial[c] = partial[c] (op) the fold of column c.
  void foldColumns(char* partial, const void* x, size_t rows, size_t cols) const { foldColumns_(partial, x, rows, cols); }
  // The same, of a block of rows that starts the partial results or not; a float is added to at most 32 others before
  // the sum becomes a double.
  void foldBlock(char* partial, const char* x, size_t rows, size_t cols, bool start) const {
    constexpr size_t kRows = 128;
    if (start) startColumns(partial, x, 1, cols);
    for (size_t row = start; row < rows; row += kRows) {
      foldTall_(partial, x + row * cols * bytes_, rows - row < kRows ? rows - row : kRows, cols);
    }
  }
  // partial[r] = the fold of row r.
  void foldRows(char* partial, const void* x, size_t rows, size_t cols) const { foldRows_(partial, x, rows, cols); }
  // partial[i] = partial[i] (op) other[i]
  void foldPartials(char* partial, const char* other, int64_t n) const;
  // Elements from partial results.
  void narrow(char* to, const char* partial, size_t n) const {
    const void* from = partial;
    narrow_(to, &from, n);
  }

 private:
  Reducer reducer_ = Reducer::Sum;
  DType dtype_ = DType::Float32;
  size_t bytes_ = 4;
  ElementwiseFn combine_ = nullptr, widen_ = nullptr, narrow_ = nullptr;
  FoldColumnsFn foldColumns_ = nullptr, foldTall_ = nullptr, foldRows_ = nullptr;
};

}  // namespace fluxion
