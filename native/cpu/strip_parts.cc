// Maps, sums and products as parts of a strip. (A reduction that keeps the rows is in reduce.cc.)
#include <algorithm>
#include <cstring>

#include "folding.h"
#include "fused_product.h"
#include "strip.h"

namespace fluxion {
namespace {

class MapRows final : public StripPart {
 public:
  MapRows(const Plan& plan, const Step& step, const Kernels& kernels, int64_t rows)
      : program_(plan, step.expression, space(step), true, kernels), perRow_(program_.rows() / rows) {
    scratchBytes = program_.frameBytes();
  }

  void run(const PartMemory& memory, const Rows& rows) const override {
    Frame frame = program_.begin(memory.scratch, memory.buffers, (rows.end - rows.first) * perRow_);
    const int64_t end = rows.end * perRow_, columns = program_.columns(), step = program_.tileRows();
    for (int64_t row = rows.first * perRow_; row < end; row += step) {
      for (int64_t col = 0; col < columns; col += kTile) {
        program_.run(frame, memory.buffers,
                     {row, std::min(step, end - row), col, std::min<int64_t>(kTile, columns - col)});
      }
    }
  }

 private:
  // The rows outside, the other axes in the order of the first output.
  static Space space(const Step& step) {
    const Space all = Space::of(step.shape, step.expression, true);
    Space result = all.axes(0, 1), inner = all.axes(1, step.shape.size());
    inner.dropUnits();
    if (all.count() > 0) {
      inner.sortBy(inner.strides.size() - step.expression.outputs.size());
      inner.merge();
    }
    if (inner.sizes.empty()) inner = Space::unit(inner.strides.size());
    result.append(inner);
    return result;
  }

  TileProgram program_;
  int64_t perRow_;
};

// A sum (maximum, minimum) over the rows, of a vector or a scalar: [rows, other reduced axes, kept axis].
class ReduceSum final : public StripPart {
 public:
  ReduceSum(const Plan& plan, const Step& step, const Kernels& kernels, int64_t sums)
      : program_(plan, step.expression, space(step), false, kernels), sums_(sums),
        output_(step.expression.outputs[0].view),
        dtype_(step.expression.instructions[static_cast<size_t>(step.expression.outputs[0].value)].dtype),
        folding_(step.reducer, dtype_, kernels) {
    const auto split = step.shape.end() - step.reducedRank;
    for (auto size = step.shape.begin(); size != split; size++) {
      kept_ *= *size;
      if (*size > 1) stride_ = output_.strides[static_cast<size_t>(size - step.shape.begin())];
    }
    scalar_ = kept_ == 1;
    perRow_ = program_.rows() / *split;
    frameBytes_ = roundUpToLine(program_.frameBytes());
    scratchBytes = frameBytes_ + kTile * 8 * 2;  // a tile of sums, a partial result
    sumBytes = checkedBytes(static_cast<double>(sums) * static_cast<double>(kept_) * 8.0);
  }

  void run(const PartMemory& memory, const Rows& rows) const override {
    const int64_t columns = program_.columns();
    char* const partial = memory.sums + static_cast<size_t>(rows.sum * kept_) * 8;
    const char* const direct = scalar_ ? nullptr : program_.direct(memory.buffers, rows.first * perRow_);
    if (direct != nullptr) {
      const size_t count = static_cast<size_t>((rows.end - rows.first) * perRow_);
      return folding_.foldBlock(partial, direct, count, static_cast<size_t>(columns), rows.opensSum);
    }
    Frame frame = program_.begin(memory.scratch, memory.buffers);
    for (int64_t col = 0; col < columns; col += kTile) {
      const int64_t cols = std::min<int64_t>(kTile, columns - col);
      const bool start = rows.opensSum && (col == 0 || !scalar_);
      fold(frame, memory, rows, col, cols, scalar_ ? partial : partial + static_cast<size_t>(col) * partialBytes(), start);
    }
  }

  int64_t finishTasks() const override { return kept_ == 0 ? 0 : 1; }

  void finish(const PartMemory& memory, int64_t) const override {
    const size_t bytes = byteSize(dtype_);
    char* const out = static_cast<char*>(memory.buffers[output_.buffer]);
    for (int64_t sum = 1; sum < sums_; sum++) {
      folding_.foldPartials(memory.sums, memory.sums + static_cast<size_t>(sum * kept_) * 8, kept_);
    }
    for (int64_t i = 0; i < kept_; i += kTile) {
      const int64_t count = std::min<int64_t>(kTile, kept_ - i);
      folding_.narrow(memory.scratch, memory.sums + static_cast<size_t>(i) * partialBytes(), static_cast<size_t>(count));
      for (int64_t c = 0; c < count; c++) {
        std::memcpy(out + (output_.offset + (i + c) * stride_) * static_cast<int64_t>(bytes),
                    memory.scratch + static_cast<size_t>(c) * bytes, bytes);
      }
    }
  }

 private:
  static Space space(const Step& step) {
    const size_t kept = step.shape.size() - static_cast<size_t>(step.reducedRank);
    const Space all = Space::of(step.shape, step.expression, false);
    Space result = all.axes(kept, kept + 1), rest = all.axes(kept + 1, step.shape.size()), vector = all.axes(0, kept);
    rest.dropUnits();
    vector.dropUnits();
    if (all.count() > 0) rest.merge();
    result.append(rest);
    if (vector.sizes.empty() && rest.sizes.empty()) vector = Space::unit(vector.strides.size());
    result.append(vector);
    return result;
  }

  size_t partialBytes() const { return dtype_ == DType::Float32 ? 8 : byteSize(dtype_); }

  // Adds these columns of a block of rows: tile onto tile, then the rows of the sum into the partial result.
  void fold(Frame& frame, const PartMemory& memory, const Rows& rows, int64_t col, int64_t cols, char* partial,
            bool start) const {
    char* const sum = memory.scratch + frameBytes_;
    char* const one = sum + kTile * 8;
    const int64_t end = rows.end * perRow_, step = program_.tileRows(), begin = rows.first * perRow_;
    const void* total = nullptr;
    size_t held = 0;
    for (int64_t row = begin; row < end; row += step) {
      const TileShape tile{row, std::min(step, end - row), col, cols};
      const void* value = program_.run(frame, memory.buffers, tile);
      const size_t n = static_cast<size_t>(tile.rows * tile.cols);
      if (row > begin) {
        folding_.combine(sum, value, n);
        continue;
      }
      total = value;
      held = n;
      if (row + step < end) {
        std::memcpy(sum, value, n * byteSize(dtype_));
        total = sum;
      }
    }
    if (scalar_) {
      folding_.foldRows(start ? partial : one, total, 1, held);
      if (!start) folding_.foldPartials(partial, one, 1);
    } else {
      const size_t width = static_cast<size_t>(cols);
      if (start) folding_.startColumns(partial, total, held / width, width);
      else folding_.foldColumns(partial, total, held / width, width);
    }
  }

  TileProgram program_;
  int64_t sums_;
  View output_;
  DType dtype_;
  Folding folding_;
  int64_t kept_ = 1, stride_ = 0, perRow_ = 1;
  bool scalar_ = false;
  size_t frameBytes_ = 0;
};

// A panel this deep is read again and again from the second cache, at full speed.
constexpr int64_t kDepth = 512;

class ProductRows final : public StripPart {
 public:
  ProductRows(const Plan& plan, const Step& step, const Kernels& kernels, int64_t block)
      : fused_(plan, step, kernels, kDepth) {
    const Product& product = fused_.product();
    scratchBytes = fused_.scratchBytes(product.transposed() ? product.m() : block, product.transposed() ? block : product.n());
  }

  void run(const PartMemory& memory, const Rows& rows) const override {
    const Product& product = fused_.product();
    const int64_t count = rows.end - rows.first;
    const Block block = product.transposed() ? Block{0, product.m(), rows.first, count}
                                             : Block{rows.first, count, 0, product.n()};
    fused_.run(memory.buffers, memory.scratch, 0, block, memory.packed);
  }

  const Product* product() const override { return &fused_.product(); }

 private:
  FusedProduct fused_;
};

// A product whose k are the rows: a weight's gradient.
class ProductSum final : public StripPart {
 public:
  ProductSum(const Plan& plan, const Step& step, const Kernels& kernels, int64_t sums, int64_t block)
      : dtype_(step.dtype), bytes_(static_cast<int64_t>(byteSize(step.dtype))), sums_(sums),
        fused_(plan, step, kernels, kDepth, false), product_(fused_.product()), m_(product_.m()), n_(product_.n()),
        width_(product_.panelWidth()), copy_(kernels.copy[bytes_]) {
    if (m_ * n_ == 0) return;
    area_ = m_ * ceilDivide(n_, width_) * width_;
    packedAt_ = product_.scratchBytes();
    const size_t rowsScratch = packedAt_ + product_.packedBytes(block);
    rowBlock_ = std::max<int64_t>(1, std::min(m_, kFinishElements / n_));
    blockAt_ = fused_.scratchBytes(rowBlock_, n_);
    panelAt_ = blockAt_ + roundUpToLine(static_cast<size_t>(rowBlock_ * n_ * bytes_));
    scratchBytes = std::max(rowsScratch, panelAt_ + roundUpToLine(static_cast<size_t>(rowBlock_ * width_ * bytes_)));
    sumBytes = checkedBytes(static_cast<double>(sums) * static_cast<double>(area_) * static_cast<double>(bytes_));
  }

  void run(const PartMemory& memory, const Rows& rows) const override {
    if (area_ == 0) return;
    char* packed = product_.readsUnpacked() ? nullptr : memory.scratch + packedAt_;
    if (packed != nullptr) product_.packAll(memory.buffers, 0, rows.first, rows.end, packed);
    product_.multiply(memory.buffers, memory.scratch, 0, {0, m_, 0, n_}, {rows.first, rows.end, rows.first, rows.end},
                      packed, partial(memory, rows.sum), product_.panels(m_),
                      {rows.opensSum ? Begin::Zero : Begin::C});
  }

  int64_t finishTasks() const override { return area_ == 0 ? 0 : ceilDivide(m_, rowBlock_); }

  void finish(const PartMemory& memory, int64_t task) const override {
    const Block block{task * rowBlock_, std::min(rowBlock_, m_ - task * rowBlock_), 0, n_};
    char *const c = memory.scratch + blockAt_, *const panel = memory.scratch + panelAt_;
    for (int64_t col = 0; col < n_; col += width_) {
      const char* first = partial(memory, 0) + (col * m_ + block.row * width_) * bytes_;
      sumPartials(dtype_, panel, first, sums_, area_, block.rows * width_);
      copy_(c + col * bytes_, n_, 1, panel, width_, 1, block.rows, std::min(width_, n_ - col));
    }
    fused_.finish(memory.buffers, memory.scratch, 0, block, c);
  }

 private:
  static constexpr int64_t kFinishElements = 8192;

  // A partial sum, in panels: while rows are added, each panel is one stretch of memory.
  char* partial(const PartMemory& memory, int64_t sum) const {
    return memory.sums + static_cast<size_t>(sum * area_ * bytes_);
  }

  DType dtype_;
  int64_t bytes_, sums_;
  FusedProduct fused_;
  const Product& product_;
  int64_t m_, n_, width_, area_ = 0;
  CopyFn copy_;
  int64_t rowBlock_ = 1;
  size_t packedAt_ = 0, blockAt_ = 0, panelAt_ = 0;
};

}  // namespace

std::unique_ptr<StripPart> prepareMapRows(const Plan& plan, const Step& step, const Kernels& kernels, int64_t rows) {
  return std::make_unique<MapRows>(plan, step, kernels, rows);
}
std::unique_ptr<StripPart> prepareReduceSum(const Plan& plan, const Step& step, const Kernels& kernels, int64_t sums) {
  return std::make_unique<ReduceSum>(plan, step, kernels, sums);
}
std::unique_ptr<StripPart> prepareProductRows(const Plan& plan, const Step& step, const Kernels& kernels, int64_t block) {
  return std::make_unique<ProductRows>(plan, step, kernels, block);
}
std::unique_ptr<StripPart> prepareProductSum(const Plan& plan, const Step& step, const Kernels& kernels, int64_t sums,
                                             int64_t block) {
  return std::make_unique<ProductSum>(plan, step, kernels, sums, block);
}

}  // namespace fluxion
