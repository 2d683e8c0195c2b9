#include "tile.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace fluxion {
namespace {

constexpr size_t kLine = 64;
size_t roundUp(size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }
// A line more than the tile, so that registers do not start at equal offsets within a page: a load that
// follows a store to the same offset of another page waits for it.
size_t registerBytes(DType dtype) { return kTile * byteSize(dtype) + kLine; }

// Any dtype from a double as plan.ts says; integers wrap.
void splat(DType dtype, double value, void* out, size_t n) {
  switch (dtype) {
    case DType::Float32: std::fill_n(static_cast<float*>(out), n, static_cast<float>(value)); break;
    case DType::Float64: std::fill_n(static_cast<double*>(out), n, value); break;
    case DType::Bool: std::memset(out, value != 0, n); break;
    default: {
      // A constant of an integer dtype is one of its values; anything else becomes 0, never undefined.
      const bool fits = value >= -2147483648.0 && value <= 4294967295.0;
      std::fill_n(static_cast<uint32_t*>(out), n, static_cast<uint32_t>(fits ? static_cast<int64_t>(value) : 0));
    }
  }
}

}  // namespace

TileProgram::TileProgram(const Plan& plan, const Expression& expression, const Space& space, bool withOutputs,
                         const Kernels& kernels, int64_t width)
    : sizes_(space.sizes), width_(width), wanted_(expression.outputs[0].value), kernels_(&kernels) {
  if (sizes_.empty()) sizes_.push_back(1);
  columns_ = sizes_.back();
  rows_ = 1;
  for (size_t axis = 0; axis + 1 < sizes_.size(); axis++) rows_ *= sizes_[axis];
  tileRows_ = columns_ > 0 ? kTile / std::min(columns_, width_) : 1;
  const int64_t segments = columns_ > kTile ? (columns_ + kTile - 1) / kTile : 1;
  tiles_ = rows_ == 0 || columns_ == 0 ? 0 : segments > 1 ? rows_ * segments : (rows_ + tileRows_ - 1) / tileRows_;

  size_t reference = 0;
  const auto strided = [&](const View* view, double start, bool index) {
    Strided s;
    if (view != nullptr) {
      s.buffer = view->buffer;
      s.offset = view->offset;
      s.bytes = byteSize(plan.buffers[static_cast<size_t>(view->buffer)].dtype);
    }
    s.start = start;
    std::vector<double> steps = space.strides[reference++];
    steps.resize(sizes_.size(), 0.0);
    bool sameRows = true;
    for (size_t axis = 0; axis + 1 < steps.size(); axis++) sameRows = sameRows && steps[axis] == 0;
    s.invariant = sameRows && (columns_ <= width_ || steps.back() == 0);
    s.dense = !index;
    double expected = 1;
    for (size_t axis = steps.size(); axis-- > 0; expected *= static_cast<double>(sizes_[axis])) {
      s.dense = s.dense && (steps[axis] == expected || sizes_[axis] == 1);
    }
    allDense_ = allDense_ && (s.dense || s.invariant);
    if (index) s.steps = steps;
    else s.strides.assign(steps.begin(), steps.end());
    return s;
  };

  std::vector<bool> keep;
  for (const Instruction& in : expression.instructions) {
    TileInstruction t{};
    t.op = in.op;
    t.dtype = in.dtype;
    t.argCount = in.argCount;
    std::copy(in.args, in.args + 4, t.args);
    t.constant = in.value;
    bool invariant = in.op == Op::Constant;
    if (in.op == Op::Load || in.op == Op::Index) {
      t.strided = static_cast<int>(refs_.size());
      refs_.push_back(strided(in.op == Op::Load ? &in.view : nullptr, in.value, in.op == Op::Index));
      invariant = refs_.back().invariant;
    } else if (in.argCount > 0) {
      const DType last = expression.instructions[static_cast<size_t>(in.args[in.argCount - 1])].dtype;
      t.function = in.op == Op::Cast ? kernels.cast[static_cast<int>(last)][static_cast<int>(in.dtype)]
                                     : kernels.op[static_cast<int>(in.op)][static_cast<int>(last)];
      if (t.function == nullptr) {
        throw PlanError(std::string("this addon has no ") + kOpInfo[static_cast<int>(in.op)].name + " of " +
                        kDTypeNames[static_cast<int>(last)]);
      }
    }
    instructions_.push_back(t);
    keep.push_back(invariant);
  }
  if (withOutputs) {
    for (const ExpressionOutput& out : expression.outputs) {
      const int number = static_cast<int>(outputs_.size());
      outputs_.push_back({out.value, strided(&out.view, 0, false)});
      allDense_ = allDense_ && outputs_.back().target.dense;
      TileInstruction& source = instructions_[static_cast<size_t>(out.value)];
      if (!keep[static_cast<size_t>(out.value)] && source.op != Op::Accumulator) source.output = number;
    }
  }
  findPairs();
  allocateRegisters(keep);
  frameBytes_ = roundUp(registerBytes_) + roundUp(instructions_.size() * sizeof(void*)) +
                roundUp(sizes_.size() * sizeof(int64_t));
}

// Each instruction is in one pair at most.
void TileProgram::findPairs() {
  const int count = static_cast<int>(instructions_.size());
  for (int i = 0; i < count; i++) {
    TileInstruction& t = instructions_[static_cast<size_t>(i)];
    for (const Pair& pair : kernels_->pairs) {
      if (t.computed || t.dtype != pair.dtype || (t.op != pair.first && t.op != pair.second)) continue;
      const Op partner = t.op == pair.first ? pair.second : pair.first;
      for (int j = i + 1; j < count; j++) {
        TileInstruction& later = instructions_[static_cast<size_t>(j)];
        if (later.op != partner || later.computed || !std::equal(t.args, t.args + t.argCount, later.args)) continue;
        t.pair = pair.function;
        t.first = t.op == pair.first ? i : j;
        t.second = t.op == pair.first ? j : i;
        later.computed = true;
        break;
      }
    }
  }
}

// Linear scan: a register is free again after the last use of its value. Constants and other invariant
// values keep theirs. The results of a pair get theirs at the same time.
void TileProgram::allocateRegisters(const std::vector<bool>& keep) {
  const int count = static_cast<int>(instructions_.size());
  std::vector<int> lastUse(instructions_.size(), -1);
  for (int i = 0; i < count; i++) {
    const TileInstruction& t = instructions_[static_cast<size_t>(i)];
    if (t.computed) continue;  // its arguments are its pair's, and read then
    for (int a = 0; a < t.argCount; a++) lastUse[static_cast<size_t>(t.args[a])] = i;
  }
  lastUse[static_cast<size_t>(wanted_)] = count;
  for (const Output& out : outputs_) lastUse[static_cast<size_t>(out.value)] = count;
  std::vector<size_t> unused[9];
  const auto place = [&](size_t value) {
    TileInstruction& t = instructions_[value];
    std::vector<size_t>& pool = unused[byteSize(t.dtype)];
    // An invariant register is filled before any tile: it must be new.
    if (!pool.empty() && !keep[value]) {
      t.slot = pool.back();
      pool.pop_back();
    } else {
      t.slot = registerBytes_;
      registerBytes_ += registerBytes(t.dtype);
    }
  };
  const auto freeIfUnused = [&](size_t value) {
    const TileInstruction& t = instructions_[value];
    if (lastUse[value] == -1) unused[byteSize(t.dtype)].push_back(t.slot);
  };
  for (int i = 0; i < count; i++) {
    const TileInstruction& t = instructions_[static_cast<size_t>(i)];
    if (t.computed) continue;
    if (keep[static_cast<size_t>(i)]) lastUse[static_cast<size_t>(i)] = std::numeric_limits<int>::max();
    // Arguments that die here free their register first: running in place is allowed, but only in a
    // register of the same element size.
    for (int a = 0; a < t.argCount; a++) {
      const size_t arg = static_cast<size_t>(t.args[a]);
      if (lastUse[arg] != i) continue;
      lastUse[arg] = -2;  // once, also if it comes twice
      unused[byteSize(instructions_[arg].dtype)].push_back(instructions_[arg].slot);
    }
    const size_t partner = static_cast<size_t>(t.first == i ? t.second : t.first);
    place(static_cast<size_t>(i));
    if (t.pair != nullptr) place(partner);
    freeIfUnused(static_cast<size_t>(i));
    if (t.pair != nullptr) freeIfUnused(partner);
  }
}

TileShape TileProgram::tile(int64_t number) const {
  if (columns_ > kTile) {
    const int64_t segments = (columns_ + kTile - 1) / kTile, row = number / segments;
    const int64_t col = (number - row * segments) * kTile;
    return {row, 1, col, std::min<int64_t>(kTile, columns_ - col)};
  }
  const int64_t row = number * tileRows_;
  return {row, std::min(tileRows_, rows_ - row), 0, columns_};
}

int64_t TileProgram::cost() const {
  int64_t total = 0;
  for (const TileInstruction& t : instructions_) {
    switch (t.op) {
      case Op::Threefry0: case Op::Threefry1: case Op::ThreefryXor: total += 20; break;
      case Op::Exp: case Op::Expm1: case Op::Log: case Op::Log1p: case Op::Sin: case Op::Cos: case Op::Tanh: case Op::Erf:
      case Op::Sigmoid: case Op::Softplus: case Op::Gelu: case Op::GeluSlope: total += 10; break;
      case Op::Pow: case Op::Remainder: total += 100; break;
      default: total += 1;
    }
  }
  return total;
}

const char* TileProgram::direct(Pointers buffers, int64_t row) const {
  if (instructions_.size() != 1 || instructions_[0].op != Op::Load || !refs_[0].dense) return nullptr;
  const Strided& s = refs_[0];
  return static_cast<const char*>(buffers[s.buffer]) + (s.offset + row * columns_) * static_cast<int64_t>(s.bytes);
}

Frame TileProgram::begin(char* memory, Pointers buffers, int64_t rows) const {
  const TileShape full{0, std::min(tileRows_, rows), 0, std::min(columns_, width_)};
  const size_t elements = columns_ < width_ ? static_cast<size_t>(full.rows * full.cols) : kTile;
  Frame frame;
  frame.registers = memory;
  frame.values = reinterpret_cast<const void**>(memory + roundUp(registerBytes_));
  frame.index = reinterpret_cast<int64_t*>(memory + roundUp(registerBytes_) +
                                           roundUp(instructions_.size() * sizeof(void*)));
  std::fill_n(frame.index, sizes_.size(), int64_t{0});
  for (size_t i = 0; i < instructions_.size(); i++) {
    const TileInstruction& t = instructions_[i];
    char* slot = memory + t.slot;
    frame.values[i] = slot;
    if (t.op == Op::Constant) splat(t.dtype, t.constant, slot, elements);
    if (t.strided < 0) continue;
    const Strided& s = refs_[static_cast<size_t>(t.strided)];
    if (!s.invariant) continue;
    if (t.op == Op::Index) {
      TileShape row = full;
      row.rows = 1;
      for (int64_t r = 0; r < full.rows; r++) {
        fillIndex(t, frame, row, slot + static_cast<size_t>(r * full.cols) * byteSize(t.dtype));
      }
    } else {
      const char* base = static_cast<const char*>(buffers[s.buffer]) + static_cast<size_t>(s.offset) * s.bytes;
      kernels_->copy[s.bytes](slot, full.cols, 1, base, 0, s.strides.back(), full.rows, full.cols);
    }
  }
  return frame;
}

int64_t TileProgram::offsetOf(const Strided& s, const int64_t* index, int64_t col) const {
  int64_t offset = s.offset + col * s.strides.back();
  for (size_t axis = 0; axis + 1 < sizes_.size(); axis++) offset += index[axis] * s.strides[axis];
  return offset;
}

// Whether the tile's elements follow one another in memory.
bool TileProgram::contiguous(const Strided& s, const Frame& frame, const TileShape& tile) const {
  if (s.strides.back() != 1 && tile.cols > 1) return false;
  if (tile.rows == 1) return true;
  // Several rows: the axes that the tile crosses must continue each other.
  int64_t expected = tile.cols, left = tile.rows;
  for (size_t axis = sizes_.size() - 1; axis-- > 0;) {
    if (s.strides[axis] != expected) return false;
    const int64_t room = sizes_[axis] - frame.index[axis];
    if (left <= room) return true;
    // the tile wraps around this axis, so it takes part in the next one
    expected *= sizes_[axis];
    left = left + frame.index[axis];
    left = (left + sizes_[axis] - 1) / sizes_[axis];
  }
  return true;
}

// Between a view of memory and a dense tile: stretches of rows along the last row axis, one after another.
void TileProgram::copy(const Strided& s, const Frame& frame, const TileShape& tile, char* base, char* dense,
                       bool store) const {
  const CopyFn copyBlock = kernels_->copy[s.bytes];
  const int64_t colStride = s.strides.back();
  int64_t index[kMaxRank];
  const size_t axes = sizes_.size() - 1;
  std::copy_n(frame.index, axes, index);
  for (int64_t done = 0; done < tile.rows;) {
    const int64_t rowStride = axes > 0 ? s.strides[axes - 1] : 0;
    const int64_t room = axes > 0 ? sizes_[axes - 1] - index[axes - 1] : 1;
    const int64_t rows = std::min(room, tile.rows - done);
    char* memory = base + offsetOf(s, index, tile.col) * static_cast<int64_t>(s.bytes);
    char* part = dense + static_cast<size_t>(done * tile.cols) * s.bytes;
    if (store) copyBlock(memory, rowStride, colStride, part, tile.cols, 1, rows, tile.cols);
    else copyBlock(part, tile.cols, 1, memory, rowStride, colStride, rows, tile.cols);
    done += rows;
    if (axes == 0) break;
    index[axes - 1] = 0;
    for (size_t axis = axes - 1; axis-- > 0;) {
      if (++index[axis] < sizes_[axis]) break;
      index[axis] = 0;
    }
  }
}

namespace {

// An arithmetic progression along rows and columns.
template <class T, class Wide>
void progression(T* out, Wide start, Wide rowStep, Wide colStep, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; r++) {
    const Wide first = start + static_cast<Wide>(r) * rowStep;
    for (int64_t c = 0; c < cols; c++) *out++ = static_cast<T>(first + static_cast<Wide>(c) * colStep);
  }
}

// Coefficients of integer indexes are whole and at most 2^53; the sums wrap.
uint64_t whole(double x) { return static_cast<uint64_t>(static_cast<int64_t>(x)); }

}  // namespace

void TileProgram::fillIndex(const TileInstruction& in, const Frame& frame, const TileShape& tile, void* out) const {
  const Strided& s = refs_[static_cast<size_t>(in.strided)];
  const size_t axes = sizes_.size() - 1, bytes = byteSize(in.dtype);
  int64_t index[kMaxRank];
  std::copy_n(frame.index, axes, index);
  char* place = static_cast<char*>(out);
  for (int64_t done = 0; done < tile.rows;) {
    const double rowStep = axes > 0 ? s.steps[axes - 1] : 0;
    const int64_t rows = std::min(axes > 0 ? sizes_[axes - 1] - index[axes - 1] : 1, tile.rows - done);
    if (isFloat(in.dtype)) {
      double start = s.start;
      for (size_t axis = 0; axis < axes; axis++) start += static_cast<double>(index[axis]) * s.steps[axis];
      start += static_cast<double>(tile.col) * s.steps[axes];
      if (in.dtype == DType::Float32) {
        progression(reinterpret_cast<float*>(place), start, rowStep, s.steps[axes], rows, tile.cols);
      } else {
        progression(reinterpret_cast<double*>(place), start, rowStep, s.steps[axes], rows, tile.cols);
      }
    } else {
      uint64_t start = whole(s.start) + static_cast<uint64_t>(tile.col) * whole(s.steps[axes]);
      for (size_t axis = 0; axis < axes; axis++) start += static_cast<uint64_t>(index[axis]) * whole(s.steps[axis]);
      progression(reinterpret_cast<uint32_t*>(place), static_cast<uint32_t>(start),
                  static_cast<uint32_t>(whole(rowStep)), static_cast<uint32_t>(whole(s.steps[axes])), rows,
                  tile.cols);
    }
    place += static_cast<size_t>(rows * tile.cols) * bytes;
    done += rows;
    if (axes == 0) break;
    index[axes - 1] = 0;
    for (size_t axis = axes - 1; axis-- > 0;) {
      if (++index[axis] < sizes_[axis]) break;
      index[axis] = 0;
    }
  }
}

const void* TileProgram::run(Frame& frame, Pointers buffers, const TileShape& tile, const void* accumulator,
                             int64_t accumulatorStride) const {
  const bool whole = tile.rows == 1 || tile.cols == columns_;
  if (!allDense_ || !whole) {
    int64_t row = tile.row;
    for (size_t axis = sizes_.size() - 1; axis-- > 0;) {
      const int64_t next = row / sizes_[axis];
      frame.index[axis] = row - next * sizes_[axis];
      row = next;
    }
  }
  const size_t n = static_cast<size_t>(tile.rows * tile.cols);
  // Where the tile lies in memory, if its elements follow one another there.
  const auto address = [&](const Strided& s) -> char* {
    const bool dense = s.dense && whole;
    if (!dense && !contiguous(s, frame, tile)) return nullptr;
    const int64_t offset =
        dense ? s.offset + tile.row * columns_ + tile.col : offsetOf(s, frame.index, tile.col);
    return static_cast<char*>(buffers[s.buffer]) + offset * static_cast<int64_t>(s.bytes);
  };
  // Where a value goes: straight to its output where that is dense.
  const auto place = [&](const TileInstruction& t) -> void* {
    if (t.output >= 0) {
      if (char* direct = address(outputs_[static_cast<size_t>(t.output)].target)) return direct;
    }
    return frame.registers + t.slot;
  };
  for (size_t i = 0; i < instructions_.size(); i++) {
    const TileInstruction& t = instructions_[i];
    if (t.op == Op::Constant || t.computed) continue;
    if (t.op == Op::Accumulator) {
      const size_t bytes = byteSize(t.dtype);
      void* out = frame.registers + t.slot;
      if (tile.rows == 1 || accumulatorStride == tile.cols) {
        frame.values[i] = accumulator;
      } else {
        kernels_->copy[bytes](out, tile.cols, 1, accumulator, accumulatorStride, 1, tile.rows, tile.cols);
        frame.values[i] = out;
      }
      continue;
    }
    if (t.strided >= 0 && refs_[static_cast<size_t>(t.strided)].invariant) continue;
    if (t.op == Op::Load) {
      const Strided& s = refs_[static_cast<size_t>(t.strided)];
      if (const char* direct = address(s)) {
        frame.values[i] = direct;
        continue;
      }
    }
    const void* args[4];
    for (int a = 0; a < t.argCount; a++) args[a] = frame.values[t.args[a]];
    if (t.pair != nullptr) {
      void* first = place(instructions_[static_cast<size_t>(t.first)]);
      void* second = place(instructions_[static_cast<size_t>(t.second)]);
      t.pair(first, second, args, n);
      frame.values[t.first] = first;
      frame.values[t.second] = second;
      continue;
    }
    void* out = place(t);
    if (t.op == Op::Load) {
      const Strided& s = refs_[static_cast<size_t>(t.strided)];
      copy(s, frame, tile, static_cast<char*>(buffers[s.buffer]), static_cast<char*>(out), false);
    } else if (t.op == Op::Index) {
      fillIndex(t, frame, tile, out);
    } else {
      t.function(out, args, n);
    }
    frame.values[i] = out;
  }
  for (const Output& output : outputs_) {
    const char* value = static_cast<const char*>(frame.values[output.value]);
    if (char* target = address(output.target)) {
      if (target != value) std::memcpy(target, value, n * output.target.bytes);
    } else {
      copy(output.target, frame, tile, static_cast<char*>(buffers[output.target.buffer]), const_cast<char*>(value),
           true);
    }
  }
  return frame.values[wanted_];
}

}  // namespace fluxion
