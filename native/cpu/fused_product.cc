#include "fused_product.h"

#include <algorithm>
#include <cstring>

namespace fluxion {
namespace {

constexpr int64_t kWidth = 128;      // columns of a tile, where C is wider
constexpr int64_t kHotBytes = 8192;  // of C: with what is made of it, it stays in the L1 cache
constexpr int64_t kRows = 64;        // rows that share a panel of B, where the panels are too many for the cache

// Four arrays at a time: with one, the next lines come too late.
template <class T>
void sumArrays(char* to, const char* first, int64_t count, int64_t stride, int64_t elements) {
  T* sum = reinterpret_cast<T*>(to);
  const T* from = reinterpret_cast<const T*>(first);
  std::memcpy(sum, from, static_cast<size_t>(elements) * sizeof(T));
  from += stride;
  int64_t left = count - 1;
  for (; left >= 4; left -= 4, from += 4 * stride) {
    for (int64_t i = 0; i < elements; i++) {
      sum[i] = (((sum[i] + from[i]) + from[stride + i]) + from[2 * stride + i]) + from[3 * stride + i];
    }
  }
  for (; left > 0; left--, from += stride) {
    for (int64_t i = 0; i < elements; i++) sum[i] += from[i];
  }
}

}  // namespace

FusedProduct::FusedProduct(const Plan& plan, const Step& step, const Kernels& kernels, int64_t depth, bool whole)
    : product_(step, kernels, depth, whole), program_(plan, step.expression, space(step), true, kernels, kWidth),
      m_(step.m), bytes_(static_cast<int64_t>(product_.elementBytes())), copy_(kernels.copy[product_.elementBytes()]) {
  const int64_t mr = product_.rowsAtOnce(), n = product_.n();
  if (product_.transposed()) {  // what follows a block is its transpose
    hotRows_ = product_.m();
    hotCols_ = kTile;
  } else if (n <= kWidth) {
    hotRows_ = std::max<int64_t>(1, kHotBytes / bytes_ / std::max<int64_t>(1, n) / mr) * mr;
    hotCols_ = n;
  } else {
    hotRows_ = std::max<int64_t>(1, kRows / mr) * mr;
    hotCols_ = product_.packsLeft() ? n : kWidth;  // what is packed for some columns is lost for the next
  }
  choosePlain(step);
  frameAt_ = product_.scratchBytes();
  turnedAt_ = frameAt_ + roundUpToLine(program_.frameBytes());
}

// [batch..., m, n] with the columns on their own: blocks of rows are consecutive rows of this space.
Space FusedProduct::space(const Step& step) {
  std::vector<int64_t> shape = step.shape;
  shape.push_back(step.m);
  shape.push_back(step.n);
  const Space all = Space::of(shape, step.expression, true);
  Space result = all.axes(0, shape.size() - 1);
  result.dropUnits();
  if (all.count() > 0) result.merge();
  result.append(all.axes(shape.size() - 1, shape.size()));
  return result;
}

// An expression that only stores the product needs no pass of its own.
void FusedProduct::choosePlain(const Step& step) {
  const Expression& e = step.expression;
  if (product_.transposed() || e.instructions.size() != 1 || e.outputs.size() != 1) return;
  const View& view = e.outputs[0].view;
  // Rows must not overlap within a kernel's store.
  if (view.strides.back() != 1 && step.n > 1) return;
  plain_ = true;
  plainView_ = view;
}

size_t FusedProduct::scratchBytes(int64_t rows, int64_t cols) const {
  if (product_.transposed()) return turnedAt_ + 2 * partBytes(rows, cols);
  return turnedAt_ + partBytes(std::min(rows, hotRows_), std::min(cols, hotCols_));
}

void FusedProduct::run(Pointers buffers, char* scratch, int64_t batch, const Block& block, const char* packed) const {
  const Product::Depth depth{0, product_.k(), 0, product_.k()};
  if (plain_) {
    const int64_t stride = plainView_.strides[plainView_.strides.size() - 2];
    char* c = static_cast<char*>(buffers[plainView_.buffer]) +
              (product_.batchOffset(plainView_, batch) + block.row * stride + block.col) * bytes_;
    return product_.multiply(buffers, scratch, batch, block, depth, packed, c, stride, false);
  }
  Frame frame = begin(buffers, scratch);
  char* const c = scratch + turnedAt_ + (product_.transposed() ? partBytes(block.rows, block.cols) : 0);
  for (int64_t row = 0; row < block.rows; row += hotRows_) {
    for (int64_t col = 0; col < block.cols; col += hotCols_) {
      const Block part{block.row + row, std::min(hotRows_, block.rows - row), block.col + col,
                       std::min(hotCols_, block.cols - col)};
      product_.multiply(buffers, scratch, batch, part, depth, packed, c, part.cols, false);
      express(frame, buffers, scratch, batch, part, c);
    }
  }
}

void FusedProduct::finish(Pointers buffers, char* scratch, int64_t batch, const Block& block, const char* c) const {
  Frame frame = begin(buffers, scratch);
  express(frame, buffers, scratch, batch, block, c);
}

Frame FusedProduct::begin(Pointers buffers, char* scratch) const { return program_.begin(scratch + frameAt_, buffers); }

void FusedProduct::express(Frame& frame, Pointers buffers, char* scratch, int64_t batch, const Block& block,
                           const char* c) const {
  Block part = block;
  if (product_.transposed()) {
    part = {block.col, block.cols, block.row, block.rows};
    char* turned = scratch + turnedAt_;
    copy_(turned, part.cols, 1, c, 1, block.cols, part.rows, part.cols);
    c = turned;
  }
  const int64_t step = program_.tileRows();
  for (int64_t row = 0; row < part.rows; row += step) {
    const int64_t rows = std::min(step, part.rows - row);
    for (int64_t col = 0; col < part.cols; col += kWidth) {
      const TileShape tile{batch * m_ + part.row + row, rows, part.col + col, std::min(kWidth, part.cols - col)};
      program_.run(frame, buffers, tile, c + (row * part.cols + col) * bytes_, part.cols);
    }
  }
}

void sumPartials(DType dtype, char* to, const char* first, int64_t count, int64_t stride, int64_t elements) {
  switch (dtype) {
    case DType::Float32: return sumArrays<float>(to, first, count, stride, elements);
    case DType::Float64: return sumArrays<double>(to, first, count, stride, elements);
    default: return sumArrays<uint32_t>(to, first, count, stride, elements);
  }
}

}  // namespace fluxion
