#include "fused_product.h"

#include <algorithm>
#include <cstring>
#include <optional>

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

// An instruction of the product and a load, of which it alone reads the product.
struct OfProduct {
  size_t result, product, load;
  bool loadsAlone;  // no other instruction reads the load
};

template <class Accepts>
std::optional<OfProduct> findOfProduct(const Expression& expression, Op op, const Accepts& accepts) {
  const std::vector<Instruction>& instructions = expression.instructions;
  std::vector<int> uses(instructions.size(), 0);
  for (const Instruction& in : instructions) {
    for (int a = 0; a < in.argCount; a++) uses[static_cast<size_t>(in.args[a])]++;
  }
  for (const ExpressionOutput& out : expression.outputs) uses[static_cast<size_t>(out.value)]++;
  for (size_t i = 0; i < instructions.size(); i++) {
    if (instructions[i].op != op) continue;
    for (int side = 0; side < 2; side++) {
      const size_t product = static_cast<size_t>(instructions[i].args[side]);
      const size_t load = static_cast<size_t>(instructions[i].args[1 - side]);
      if (instructions[product].op != Op::Accumulator || uses[product] != 1) continue;
      if (instructions[load].op == Op::Load && accepts(instructions[load].view)) return OfProduct{i, product, load, uses[load] == 1};
    }
  }
  return std::nullopt;
}

// The expression in which the product takes the place of an instruction of it, and the load goes.
Expression joined(const Expression& expression, const OfProduct& found) {
  Expression result;
  std::vector<int> number(expression.instructions.size(), 0);
  for (size_t i = 0; i < number.size(); i++) {
    if (i == found.product || (i == found.load && found.loadsAlone)) continue;
    Instruction in = expression.instructions[i == found.result ? found.product : i];
    for (int a = 0; a < in.argCount; a++) in.args[a] = number[static_cast<size_t>(in.args[a])];
    number[i] = static_cast<int>(result.instructions.size());
    result.instructions.push_back(in);
  }
  for (const ExpressionOutput& out : expression.outputs) {
    result.outputs.push_back({number[static_cast<size_t>(out.value)], out.view});
  }
  return result;
}

}  // namespace

FusedProduct::FusedProduct(const Plan& plan, const Step& step, const Kernels& kernels, int64_t depth, bool whole)
    : product_(step, kernels, depth, whole), ending_(whole ? endingOf(step, product_) : Ending{step}),
      program_(plan, ending_.step.expression, space(ending_.step), true, kernels, kWidth), m_(step.m),
      bytes_(static_cast<int64_t>(product_.elementBytes())), copy_(kernels.copy[product_.elementBytes()]) {
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
  choosePlain();
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

FusedProduct::Ending FusedProduct::endingOf(const Step& step, const Product& product) {
  Ending result{step};
  if (product.transposed()) return result;
  Expression& expression = result.step.expression;
  // A load of the same row for every row of the product, and one of rows that are dense.
  const auto dense = [&](const View& view) { return view.strides.back() == 1 || step.n == 1; };
  const auto isRow = [&](const View& view) {
    return dense(view) && std::all_of(view.strides.begin(), view.strides.end() - 1, [](int64_t s) { return s == 0; });
  };
  if (const auto sum = findOfProduct(expression, Op::Add, isRow)) {
    result.starts = true;
    result.start = expression.instructions[sum->load].view;
    expression = joined(expression, *sum);
  }
  // Where this leaves nothing to do, the product goes where it belongs at once. A part of a product is not scaled.
  if (product.dots() || product.k() == 0 || product.k() >= kLongDepth) return result;
  if (!dense(expression.outputs[0].view)) return result;
  if (const auto scaled = findOfProduct(expression, Op::Mul, dense)) {
    if (expression.instructions.size() > 3 || expression.outputs.size() > 1) return result;
    result.scales = true;
    result.scale = expression.instructions[scaled->load].view;
    expression = joined(expression, *scaled);
  }
  return result;
}

// An expression that only stores the product needs no pass of its own.
void FusedProduct::choosePlain() {
  const Expression& e = ending_.step.expression;
  if (product_.transposed() || e.instructions.size() != 1 || e.outputs.size() != 1) return;
  // Rows must not overlap within a kernel's store.
  plain_ = e.outputs[0].view.strides.back() == 1 || product_.n() == 1;
}

size_t FusedProduct::scratchBytes(int64_t rows, int64_t cols) const {
  if (product_.transposed()) return turnedAt_ + 2 * partBytes(rows, cols);
  return turnedAt_ + partBytes(std::min(rows, hotRows_), std::min(cols, hotCols_));
}

void FusedProduct::multiply(Pointers buffers, char* scratch, int64_t batch, const Block& block,
                            const Product::Depth& depth, const char* packed, char* c, int64_t ldc) const {
  Product::Ends ends;
  if (ending_.starts && depth.from == 0) {
    ends.begin = Begin::Row;
    ends.start = static_cast<const char*>(buffers[ending_.start.buffer]) + ending_.start.offset * bytes_;
  }
  if (ending_.scales) {
    ends.scale = place(buffers, ending_.scale, batch, block);
    ends.ldScale = rowStride(ending_.scale);
  }
  product_.multiply(buffers, scratch, batch, block, depth, packed, c, product_.dense(ldc), ends);
}

int64_t FusedProduct::rowStride(const View& view) { return view.strides[view.strides.size() - 2]; }

char* FusedProduct::place(Pointers buffers, const View& view, int64_t batch, const Block& block) const {
  const int64_t offset = product_.batchOffset(view, batch) + block.row * rowStride(view) + block.col;
  return static_cast<char*>(buffers[view.buffer]) + offset * bytes_;
}

void FusedProduct::run(Pointers buffers, char* scratch, int64_t batch, const Block& block, const char* packed) const {
  const Product::Depth depth{0, product_.k(), 0, product_.k()};
  if (plain_) {
    const View& view = ending_.step.expression.outputs[0].view;
    char* c = place(buffers, view, batch, block);
    return multiply(buffers, scratch, batch, block, depth, packed, c, rowStride(view));
  }
  Frame frame = program_.begin(scratch + frameAt_, buffers);
  char* const c = scratch + turnedAt_ + (product_.transposed() ? partBytes(block.rows, block.cols) : 0);
  for (int64_t row = 0; row < block.rows; row += hotRows_) {
    for (int64_t col = 0; col < block.cols; col += hotCols_) {
      const Block part{block.row + row, std::min(hotRows_, block.rows - row), block.col + col,
                       std::min(hotCols_, block.cols - col)};
      multiply(buffers, scratch, batch, part, depth, packed, c, part.cols);
      express(frame, buffers, scratch, batch, part, c);
    }
  }
}

void FusedProduct::finish(Pointers buffers, char* scratch, int64_t batch, const Block& block, const char* c) const {
  Frame frame = program_.begin(scratch + frameAt_, buffers);
  express(frame, buffers, scratch, batch, block, c);
}

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
