// Reductions in two ways, chosen by shapes and strides:
// - by rows: the reduced elements of an output follow each other in the iteration space; a tile holds
//   several short outputs or a part of a long one;
// - by columns: a tile's columns are a kept axis, its rows reduced indices; whole tiles are added up lane
//   by lane, and their rows at the end. For strides like those of a bias gradient, and for short extents.
// Long extents are cut into chunks of kChunk tiles. Inside of a chunk floats are added tile onto tile, each
// lane at most kChunk times; chunks are added in double precision, in order.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "folding.h"
#include "steps.h"
#include "strip.h"
#include "thread_pool.h"

namespace fluxion {
namespace {

constexpr int64_t kChunk = 8;
constexpr int64_t kElementsPerTask = 1 << 14;

int64_t ceilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Arrangement {
  Space space;
  bool byColumns = false;
  int64_t kept = 1, reduced = 1;   // counts
  std::vector<int64_t> keptSizes;  // in the order of the outputs as the space visits them
  std::vector<int64_t> outputStrides;
};

// Loads that an axis would walk neither in order nor in place.
int strain(const Space& space, size_t axis) {
  int count = 0;
  for (size_t r = 0; r + 1 < space.strides.size(); r++) {
    const double stride = std::fabs(space.strides[r][axis]);
    if (stride != 0 && stride != 1) count++;
  }
  return count;
}

Arrangement arrange(const Step& step, bool position, bool byRows) {
  const size_t keptRank = step.shape.size() - static_cast<size_t>(step.reducedRank);
  Space all = Space::of(step.shape, step.expression, false);
  std::vector<double> output(step.expression.outputs[0].view.strides.begin(),
                             step.expression.outputs[0].view.strides.end());
  output.resize(step.shape.size(), 0.0);
  all.strides.push_back(output);  // the last reference: where the result goes
  Space kept = all.axes(0, keptRank), reduced = all.axes(keptRank, step.shape.size());
  Arrangement result;
  result.kept = kept.count();
  result.reduced = reduced.count();
  kept.dropUnits();
  reduced.dropUnits();
  if (result.kept > 0 && result.reduced > 0) {
    // Sums may visit the reduced axes in any fixed order, positions only row-major.
    if (!position && all.strides.size() > 1) reduced.sortBy(0);
    kept.merge();
    reduced.merge();
  }
  if (!byRows && !position && !kept.sizes.empty() && result.kept > 0 && result.reduced > 0) {
    // The column axis: the longest, or one in memory order if it fills a good part of a tile.
    size_t best = 0;
    for (size_t axis = 1; axis < kept.sizes.size(); axis++) {
      const bool longEnough = kept.sizes[axis] >= 64 || kept.sizes[axis] >= kept.sizes[best];
      if (longEnough && strain(kept, axis) <= strain(kept, best)) best = axis;
      else if (kept.sizes[best] < 64 && kept.sizes[axis] > kept.sizes[best]) best = axis;
    }
    const int rowStrain = reduced.sizes.empty() ? 0 : strain(reduced, reduced.sizes.size() - 1);
    const bool brief = result.reduced < 32 && kept.sizes[best] >= 8;
    result.byColumns = brief || strain(kept, best) < rowStrain;
    if (result.byColumns) {
      kept.moveAxis(best, kept.sizes.size() - 1);
      Space inner = kept.axes(kept.sizes.size() - 1, kept.sizes.size());
      result.space = kept.axes(0, kept.sizes.size() - 1);
      if (reduced.sizes.empty()) {  // an extent of 1: keeps the form [outer, reduced, columns]
        reduced.sizes.push_back(1);
        for (auto& reference : reduced.strides) reference.push_back(0);
      }
      result.space.append(reduced);
      result.space.append(inner);
    }
  }
  if (!result.byColumns) {
    result.space = kept;
    if (reduced.sizes.empty()) {
      reduced.sizes.push_back(1);
      for (auto& reference : reduced.strides) reference.push_back(0);
    }
    result.space.append(reduced);
  }
  result.keptSizes = kept.sizes;
  for (double stride : kept.strides.back()) result.outputStrides.push_back(static_cast<int64_t>(stride));
  result.space.strides.pop_back();
  return result;
}

class Reduce final : public PreparedStep {
 public:
  // `byRows`: the kept elements in their order, as a strip needs them.
  Reduce(const Plan& plan, const Step& step, const Kernels& kernels, bool byRows = false)
      : reducer_(step.reducer),
        position_(step.reducer == Reducer::Argmax || step.reducer == Reducer::Argmin),
        arrangement_(arrange(step, position_, byRows)),
        program_(plan, step.expression, arrangement_.space, false, kernels),
        output_(step.expression.outputs[0].view),
        dtype_(step.expression.instructions[static_cast<size_t>(step.expression.outputs[0].value)].dtype) {
    bytes_ = byteSize(dtype_);
    if (!position_) folding_ = Folding(reducer_, dtype_, kernels);
    partialBytes_ = dtype_ == DType::Float32 ? 8 : bytes_;
    kept_ = arrangement_.kept;
    reduced_ = arrangement_.reduced;
    if (kept_ == 0 || reduced_ == 0) return;

    // A unit is what one partial result belongs to: an output (by rows), a stretch of columns (by columns).
    const int64_t columns = program_.columns();
    if (arrangement_.byColumns) {
      stretches_ = ceilDivide(columns, kTile);
      units_ = kept_ / columns * stretches_;
      width_ = std::min<int64_t>(columns, kTile);
      rowsPerUnit_ = reduced_;
      tilesPerUnit_ = ceilDivide(rowsPerUnit_, program_.tileRows());
    } else {
      units_ = kept_;
      width_ = 1;
      rowsPerUnit_ = reduced_ / columns;
      stretches_ = ceilDivide(columns, kTile);
      tilesPerUnit_ = stretches_ > 1 ? rowsPerUnit_ * stretches_ : ceilDivide(rowsPerUnit_, program_.tileRows());
    }
    whole_ = !arrangement_.byColumns && rowsPerUnit_ == 1 && columns <= kTile && !position_;
    chunks_ = position_ || whole_ ? 1 : ceilDivide(tilesPerUnit_, kChunk);
    const int64_t unitElements = std::max<int64_t>(1, width_ * reduced_);
    splitChunks_ = chunks_ > 1 && units_ < 64;
    unitsPerTask_ = std::max<int64_t>(1, kElementsPerTask / unitElements);
    if (whole_) unitsPerTask_ = ceilDivide(unitsPerTask_, program_.tileRows()) * program_.tileRows();
    frameBytes_ = roundUpToLine(program_.frameBytes());
    slotBytes = frameBytes_ + kTile * 8 * 3;  // a tile of sums, a tile of partial results, one more of them
    if (splitChunks_) {
      sharedBytes = checkedBytes(static_cast<double>(units_) * static_cast<double>(chunks_) *
                                 static_cast<double>(width_) * 8.0);
    }
  }

  void run(const RunMemory& memory) const override {
    if (kept_ == 0) return;
    if (reduced_ == 0) return zero(memory, 0, kept_);
    if (splitChunks_) return runSplit(memory);
    const auto task = [&](int64_t number, int slot) {
      const int64_t first = number * unitsPerTask_;
      units(memory, slot, first, std::min(units_, first + unitsPerTask_));
    };
    parallelFor(ceilDivide(units_, unitsPerTask_), memory.slots, task);
  }

  // Units first .. end; by rows, a unit is a kept element.
  void units(const RunMemory& memory, int slot, int64_t first, int64_t end) const {
    Frame frame = program_.begin(memory.slot(slot), memory.buffers);
    if (whole_) return wholeRows(frame, memory, slot, first, end);
    for (int64_t unit = first; unit < end; unit++) {
      if (position_) {
        dispatchPosition(frame, memory, unit);
        continue;
      }
      char* total = partials(memory, slot);
      for (int64_t chunk = 0; chunk < chunks_; chunk++) {
        char* part = chunk == 0 ? total : total + kTile * 8;
        const int64_t width = runChunk(frame, memory, slot, unit, chunk, part);
        if (chunk > 0) folding_.foldPartials(total, part, width);
        if (chunk == chunks_ - 1) write(memory, unit, total, width);
      }
    }
  }
  // An empty extent gives 0.
  void zero(const RunMemory& memory, int64_t first, int64_t end) const {
    const char nothing[8] = {};
    for (int64_t unit = first; unit < end; unit++) {
      writeOne(memory, offsetOf(unit, arrangement_.keptSizes.size()), nothing);
    }
  }
  int64_t kept() const { return kept_; }
  bool nothingReduced() const { return reduced_ == 0; }

 private:
  char* sums(const RunMemory& memory, int slot) const { return memory.slot(slot) + frameBytes_; }
  char* partials(const RunMemory& memory, int slot) const { return sums(memory, slot) + kTile * 8; }

  // Few units with many chunks: every chunk is a task of its own, then the chunks are added in order.
  void runSplit(const RunMemory& memory) const {
    const size_t stride = static_cast<size_t>(width_) * 8;
    const auto place = [&](int64_t unit, int64_t chunk) {
      return memory.shared + static_cast<size_t>(unit * chunks_ + chunk) * stride;
    };
    const auto task = [&](int64_t number, int slot) {
      Frame frame = program_.begin(memory.slot(slot), memory.buffers);
      runChunk(frame, memory, slot, number / chunks_, number % chunks_, place(number / chunks_, number % chunks_));
    };
    parallelFor(units_ * chunks_, memory.slots, task);
    for (int64_t unit = 0; unit < units_; unit++) {
      const int64_t width = unitWidth(unit);
      for (int64_t chunk = 1; chunk < chunks_; chunk++) folding_.foldPartials(place(unit, 0), place(unit, chunk), width);
      write(memory, unit, place(unit, 0), width);
    }
  }

  int64_t unitWidth(int64_t unit) const {
    return arrangement_.byColumns ? std::min<int64_t>(kTile, program_.columns() - unit % stretches_ * kTile) : 1;
  }

  TileShape tileOf(int64_t unit, int64_t number) const {
    if (arrangement_.byColumns) {
      const int64_t first = number * program_.tileRows(), width = unitWidth(unit);
      return {unit / stretches_ * rowsPerUnit_ + first, std::min(program_.tileRows(), rowsPerUnit_ - first),
              unit % stretches_ * kTile, width};
    }
    if (stretches_ > 1) {
      const int64_t col = number % stretches_ * kTile;
      return {unit * rowsPerUnit_ + number / stretches_, 1, col,
              std::min<int64_t>(kTile, program_.columns() - col)};
    }
    const int64_t first = number * program_.tileRows();
    return {unit * rowsPerUnit_ + first, std::min(program_.tileRows(), rowsPerUnit_ - first), 0, program_.columns()};
  }

  // Reduces the tiles of a chunk to `width` partial results.
  int64_t runChunk(Frame& frame, const RunMemory& memory, int slot, int64_t unit, int64_t chunk, char* part) const {
    const int64_t first = chunk * kChunk, end = std::min(tilesPerUnit_, first + kChunk), width = unitWidth(unit);
    char* sum = sums(memory, slot);
    const void* total = nullptr;
    size_t held = 0;
    for (int64_t number = first; number < end; number++) {
      const TileShape tile = tileOf(unit, number);
      const void* value = program_.run(frame, memory.buffers, tile);
      const size_t n = static_cast<size_t>(tile.rows * tile.cols);
      if (number == first) {
        // A single tile is folded where it is.
        total = value;
        held = n;
        if (first + 1 < end) {
          std::memcpy(sum, value, n * bytes_);
          total = sum;
        }
      } else if (n <= held) {
        folding_.combine(sum, value, n);
      } else {  // after a short tile in the middle (the end of a long row)
        folding_.combine(sum, value, held);
        std::memcpy(sum + held * bytes_, static_cast<const char*>(value) + held * bytes_, (n - held) * bytes_);
        held = n;
      }
    }
    // The first row or element starts the partial results; a float becomes a double.
    if (!arrangement_.byColumns) {
      folding_.foldRows(part, total, 1, held);
    } else {
      const size_t columns = static_cast<size_t>(width);
      folding_.startColumns(part, total, held / columns, columns);
    }
    return width;
  }

  // Short contiguous outputs: a tile holds several.
  void wholeRows(Frame& frame, const RunMemory& memory, int slot, int64_t first, int64_t end) const {
    for (int64_t row = first; row < end;) {
      const int64_t rows = std::min(program_.tileRows(), end - row);
      const void* value = program_.run(frame, memory.buffers, {row, rows, 0, program_.columns()});
      char* part = partials(memory, slot);
      folding_.foldRows(part, value, static_cast<size_t>(rows), static_cast<size_t>(program_.columns()));
      for (int64_t r = 0; r < rows; r++) {
        writeOne(memory, offsetOf(row + r, arrangement_.keptSizes.size()), part + static_cast<size_t>(r) * partialBytes_);
      }
      row += rows;
    }
  }

  // Offset in the output of the index with this number over the first `axes` kept axes.
  int64_t offsetOf(int64_t number, size_t axes) const {
    int64_t offset = output_.offset;
    for (size_t axis = axes; axis-- > 0;) {
      const int64_t size = arrangement_.keptSizes[axis], next = number / size;
      offset += (number - next * size) * arrangement_.outputStrides[axis];
      number = next;
    }
    return offset;
  }

  void writeOne(const RunMemory& memory, int64_t offset, const char* partial) const {
    char* target = static_cast<char*>(memory.buffers[output_.buffer]) + static_cast<size_t>(offset) * bytes_;
    if (dtype_ == DType::Float32) {
      double wide;
      std::memcpy(&wide, partial, 8);
      const float value = static_cast<float>(wide);
      std::memcpy(target, &value, 4);
    } else {
      std::memcpy(target, partial, bytes_);
    }
  }

  void write(const RunMemory& memory, int64_t unit, const char* partial, int64_t width) const {
    const size_t axes = arrangement_.keptSizes.size();
    if (!arrangement_.byColumns) return writeOne(memory, offsetOf(unit, axes), partial);
    const int64_t stride = arrangement_.outputStrides.back();
    int64_t offset = offsetOf(unit / stretches_, axes - 1) + unit % stretches_ * kTile * stride;
    if (stride == 1) {
      folding_.narrow(static_cast<char*>(memory.buffers[output_.buffer]) + static_cast<size_t>(offset) * bytes_,
                      partial, static_cast<size_t>(width));
      return;
    }
    for (int64_t c = 0; c < width; c++, offset += stride) {
      writeOne(memory, offset, partial + static_cast<size_t>(c) * partialBytes_);
    }
  }

  void dispatchPosition(Frame& frame, const RunMemory& memory, int64_t unit) const {
    switch (dtype_) {
      case DType::Float32: return findPosition<float>(frame, memory, unit);
      case DType::Float64: return findPosition<double>(frame, memory, unit);
      case DType::Int32: return findPosition<int32_t>(frame, memory, unit);
      case DType::UInt32: return findPosition<uint32_t>(frame, memory, unit);
      case DType::Bool: return findPosition<uint8_t>(frame, memory, unit);
    }
  }

  // The first NaN, else the first extreme element.
  template <class T>
  void findPosition(Frame& frame, const RunMemory& memory, int64_t unit) const {
    T best{};
    int64_t at = 0, position = 0;
    for (int64_t number = 0; number < tilesPerUnit_; number++) {
      const TileShape tile = tileOf(unit, number);
      const T* value = static_cast<const T*>(program_.run(frame, memory.buffers, tile));
      const int64_t n = tile.rows * tile.cols;
      const bool largest = reducer_ == Reducer::Argmax;
      for (int64_t i = 0; i < n; i++, position++) {
        const T x = value[i];
        if (position == 0 || ((largest ? x > best : x < best) || x != x)) {
          if (best != best) break;  // the first NaN stays
          best = x;
          at = position;
        }
      }
      if (best != best) break;
    }
    int32_t* output = static_cast<int32_t*>(memory.buffers[output_.buffer]);
    output[offsetOf(unit, arrangement_.keptSizes.size())] = static_cast<int32_t>(at);
  }

  Reducer reducer_;
  bool position_;
  Arrangement arrangement_;
  TileProgram program_;
  View output_;
  DType dtype_;
  Folding folding_;
  size_t bytes_ = 4, partialBytes_ = 8, frameBytes_ = 0;
  int64_t kept_ = 0, reduced_ = 0;
  int64_t units_ = 0, width_ = 1, rowsPerUnit_ = 1, stretches_ = 1, tilesPerUnit_ = 1;
  int64_t chunks_ = 1, unitsPerTask_ = 1;
  bool whole_ = false, splitChunks_ = false;
};

// A reduction that keeps the rows of a strip.
class ReduceRows final : public StripPart {
 public:
  ReduceRows(const Plan& plan, const Step& step, const Kernels& kernels, int64_t rows)
      : reduce_(plan, step, kernels, true), perRow_(reduce_.kept() / rows) {
    scratchBytes = reduce_.slotBytes;
  }
  void run(const PartMemory& memory, const Rows& rows) const override {
    const RunMemory own{memory.buffers, nullptr, memory.scratch, 0, 1};
    if (reduce_.nothingReduced()) reduce_.zero(own, rows.first * perRow_, rows.end * perRow_);
    else reduce_.units(own, 0, rows.first * perRow_, rows.end * perRow_);
  }

 private:
  Reduce reduce_;
  int64_t perRow_;
};

}  // namespace

std::unique_ptr<StripPart> prepareReduceRows(const Plan& plan, const Step& step, const Kernels& kernels, int64_t rows) {
  return std::make_unique<ReduceRows>(plan, step, kernels, rows);
}

std::unique_ptr<PreparedStep> prepareReduce(const Plan& plan, const Step& step, const Kernels& kernels) {
  return std::make_unique<Reduce>(plan, step, kernels);
}

}  // namespace fluxion
