#include "product.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace fluxion {
namespace {

constexpr int64_t kPackDepth = 512;
constexpr int64_t kFewColumns = kDotColumns;
constexpr int64_t kPackedRows = 48;  // rows of A that are packed at a time, a multiple of every mr
constexpr int64_t kFarBytes = 512, kPageBytes = 4096;
constexpr int64_t kPad = 16;  // between packed rows, so that they do not lie in the same sets either

int64_t ceilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

Product::Product(const Step& step, const Kernels& kernels, int64_t depth, bool whole)
    : m_(step.m), n_(step.n), k_(step.k), batch_(step.shape), a_(step.a), b_(step.b), bytes_(byteSize(step.dtype)),
      kernel_(kernels.gemm[static_cast<int>(step.dtype)]), copy_(kernels.copy[bytes_]), depth_(depth) {
  const size_t rank = batch_.size();
  aRow_ = a_.strides[rank];
  aDepth_ = a_.strides[rank + 1];
  bDepth_ = b_.strides[rank];
  bColumn_ = b_.strides[rank + 1];
  const bool narrow = n_ <= kFewColumns && m_ > kFewColumns;
  dot_ = whole && narrow && k_ >= 32 && aDepth_ == 1;
  if (narrow && !dot_ && aRow_ == 1) {  // C^T = B^T A^T
    transposed_ = true;
    std::swap(a_, b_);
    std::swap(m_, n_);
    std::swap(aRow_, bColumn_);
    std::swap(aDepth_, bDepth_);
  }
  rowMajor_ = aDepth_ == 1;
  // Strides of a large power of 2 would put all of k, or all rows of a tile, in a few sets of the cache.
  packA_ = !dot_ && (rowMajor_ ? far(aRow_, kPageBytes) && n_ > kernel_.nr : aRow_ != 1 || far(aDepth_, kFarBytes));
  panels_ = ceilDivide(n_, kernel_.nr);
  edgeBytes_ = roundUpToLine(static_cast<size_t>((2 * kernel_.mr + 1) * kernel_.nr) * bytes_);  // two tiles and a row
  scratchBytes_ = edgeBytes_ + (packA_ ? static_cast<size_t>((kPackedRows + kernel_.mr) * (depth_ + kPad)) * bytes_ : 0);
}

bool Product::far(int64_t stride, int64_t most) const { return stride * static_cast<int64_t>(bytes_) > most; }

bool Product::readsUnpacked() const {
  return !dot_ && bColumn_ == 1 && n_ % kernel_.nr == 0 && !far(bDepth_, kFarBytes);
}

const char* Product::operand(Pointers buffers, const View& view, int64_t batch) const {
  return static_cast<const char*>(buffers[view.buffer]) + batchOffset(view, batch) * static_cast<int64_t>(bytes_);
}

int64_t Product::batchOffset(const View& view, int64_t batch) const {
  int64_t offset = view.offset;
  for (size_t axis = batch_.size(); axis-- > 0;) {
    offset += batch % batch_[axis] * view.strides[axis];
    batch /= batch_[axis];
  }
  return offset;
}

bool Product::packsAs(const Product& other) const {
  return b_.buffer == other.b_.buffer && b_.offset == other.b_.offset && b_.strides == other.b_.strides &&
         k_ == other.k_ && n_ == other.n_ && dot_ == other.dot_ && transposed_ == other.transposed_ &&
         batch_ == other.batch_ && kernel_.nr == other.kernel_.nr;
}

size_t Product::packedBytes(int64_t depth) const {
  const double columns = static_cast<double>(dot_ ? n_ : panels_ * kernel_.nr);
  return roundUpToLine(checkedBytes(static_cast<double>(depth) * columns * static_cast<double>(bytes_)));
}

int64_t Product::packTasks(int64_t from, int64_t to) const {
  return dot_ || to <= from ? 1 : panels_ * ceilDivide(to - from, kPackDepth);
}

void Product::pack(Pointers buffers, int64_t batch, int64_t from, int64_t to, int64_t task, char* packed) const {
  if (to <= from) return;
  const char* b = operand(buffers, b_, batch);
  const int64_t bytes = static_cast<int64_t>(bytes_), depth = to - from;
  if (dot_) return copy_(packed, depth, 1, b + from * bDepth_ * bytes, bColumn_, bDepth_, n_, depth);
  const int64_t panel = task % panels_, first = task / panels_ * kPackDepth, col = panel * kernel_.nr;
  kernel_.packPanel(packed + (panel * depth + first) * kernel_.nr * bytes,
                    b + ((from + first) * bDepth_ + col * bColumn_) * bytes, bDepth_, bColumn_,
                    std::min(kPackDepth, depth - first), std::min<int64_t>(kernel_.nr, n_ - col));
}

void Product::packAll(Pointers buffers, int64_t batch, int64_t from, int64_t to, char* packed) const {
  const int64_t tasks = packTasks(from, to);
  for (int64_t task = 0; task < tasks; task++) pack(buffers, batch, from, to, task, packed);
}

void Product::multiply(Pointers buffers, char* scratch, int64_t batch, const Block& block, const Depth& depth,
                       const char* packed, char* c, const Layout& layout, const Ends& ends) const {
  const int64_t bytes = static_cast<int64_t>(bytes_);
  if (depth.from >= depth.to) {
    if (ends.begin == Begin::C) return;
    const size_t width = static_cast<size_t>(block.cols * bytes);
    for (int64_t r = 0; r < block.rows; r++) {
      if (ends.begin == Begin::Row) std::memcpy(c + r * layout.row * bytes, ends.start + block.col * bytes, width);
      else std::memset(c + r * layout.row * bytes, 0, width);
    }
    return;
  }
  const char* a = operand(buffers, a_, batch);
  if (dot_) {
    return kernel_.dot(block.rows, k_, a + block.row * aRow_ * bytes, aRow_, packed, n_, ends.start, c, layout.row);
  }
  const int64_t nr = kernel_.nr, mr = kernel_.mr, packedDepth = depth.packedTo - depth.packedFrom;
  const char* b = packed == nullptr ? operand(buffers, b_, batch) : nullptr;
  char* edge = scratch;
  char* left = scratch + edgeBytes_;
  const PanelFn multiplyPanel = rowMajor_ ? kernel_.rowMajor : kernel_.columnMajor;
  Panel panel{};
  panel.bStride = packed == nullptr ? bDepth_ : nr;
  panel.ldc = layout.row;
  panel.ldScale = ends.ldScale;
  const int64_t rowsAtOnce = packA_ ? kPackedRows : block.rows;
  for (int64_t row = 0; row < block.rows; row += rowsAtOnce) {
    panel.rows = std::min(rowsAtOnce, block.rows - row);
    for (int64_t k0 = depth.from; k0 < depth.to; k0 += depth_) {
      panel.k = std::min(depth_, depth.to - k0);
      panel.aStride = rowMajor_ ? (packA_ ? panel.k + kPad : aRow_) : packA_ ? mr : aDepth_;
      panel.aTile = mr * (rowMajor_ ? panel.aStride : packA_ ? panel.k : aRow_);
      panel.begin = k0 > depth.from ? Begin::C : ends.begin;
      const bool scales = ends.scale != nullptr && k0 + panel.k == depth.to;
      const char* origin = a + ((block.row + row) * aRow_ + k0 * aDepth_) * bytes;
      if (packA_) packRows(origin, panel.rows, panel.k, left);
      panel.a = packA_ ? left : origin;
      for (int64_t col = 0; col < block.cols; col += nr) {
        panel.b = packed == nullptr
                      ? b + (k0 * bDepth_ + block.col + col) * bytes
                      : packed + ((block.col + col) / nr * packedDepth + (k0 - depth.packedFrom)) * nr * bytes;
        panel.c = c + (row * layout.row + col / nr * layout.panel) * bytes;
        panel.start = ends.start == nullptr ? nullptr : ends.start + (block.col + col) * bytes;
        panel.scale = scales ? ends.scale + (row * ends.ldScale + col) * bytes : nullptr;
        const int64_t cols = std::min(nr, block.cols - col);
        if (cols == nr) multiplyPanel(panel);
        else multiplyEdge(multiplyPanel, panel, cols, edge);
      }
    }
  }
}

// Fewer columns than the kernel writes: tile by tile, by way of whole ones.
void Product::multiplyEdge(PanelFn multiplyPanel, const Panel& whole, int64_t cols, char* edge) const {
  const int64_t bytes = static_cast<int64_t>(bytes_), nr = kernel_.nr, mr = kernel_.mr;
  const size_t width = static_cast<size_t>(cols * bytes);
  char *const start = edge + mr * nr * bytes, *const scale = start + nr * bytes;
  if (whole.begin == Begin::Row) std::memcpy(start, whole.start, width);
  Panel panel = whole;
  panel.start = start;
  panel.c = edge;
  panel.ldc = panel.ldScale = nr;
  if (whole.scale != nullptr) panel.scale = scale;
  for (int64_t row = 0; row < whole.rows; row += mr) {
    panel.rows = std::min(mr, whole.rows - row);
    panel.a = static_cast<const char*>(whole.a) + row / mr * whole.aTile * bytes;
    char* const c = static_cast<char*>(whole.c) + row * whole.ldc * bytes;
    for (int64_t r = 0; r < panel.rows; r++) {
      if (panel.begin == Begin::C) std::memcpy(edge + r * nr * bytes, c + r * whole.ldc * bytes, width);
      if (panel.scale == nullptr) continue;
      std::memcpy(scale + r * nr * bytes, static_cast<const char*>(whole.scale) + (row + r) * whole.ldScale * bytes, width);
    }
    multiplyPanel(panel);
    for (int64_t r = 0; r < panel.rows; r++) std::memcpy(c + r * whole.ldc * bytes, edge + r * nr * bytes, width);
  }
}

// Row-major as it was, or in tiles of mr rows, each [depth][mr].
void Product::packRows(const char* a, int64_t rows, int64_t depth, char* left) const {
  if (rowMajor_) {
    const int64_t to = (depth + kPad) * static_cast<int64_t>(bytes_), from = aRow_ * static_cast<int64_t>(bytes_);
    for (int64_t row = 0; row < rows; row++) std::memcpy(left + row * to, a + row * from, static_cast<size_t>(depth) * bytes_);
    return;
  }
  if (aRow_ == 1) return kernel_.packTiles(left, a, aDepth_, depth, rows);
  const int64_t bytes = static_cast<int64_t>(bytes_), mr = kernel_.mr;
  for (int64_t row = 0; row < rows; row += mr) {
    copy_(left + row * depth * bytes, mr, 1, a + row * aRow_ * bytes, aDepth_, aRow_, depth, std::min(mr, rows - row));
  }
}

}  // namespace fluxion
