// A map: the tiles of its expression, some at a time.
#include <algorithm>
#include <cmath>

#include "steps.h"
#include "thread_pool.h"

namespace fluxion {
namespace {

class Map final : public PreparedStep {
 public:
  Map(const Plan& plan, const Step& step, const Kernels& kernels) : program_(make(plan, step, kernels)) {
    slotBytes = program_.frameBytes();
    // About 10 to 50 us of work for a thread at a time.
    tilesPerTask_ = std::clamp<int64_t>(256 / (1 + program_.cost()), 2, 64);
  }

  void run(const RunMemory& memory) const override {
    const int64_t tiles = program_.tiles();
    const auto task = [&](int64_t number, int slot) {
      Frame frame = program_.begin(memory.slot(slot), memory.buffers);
      const int64_t end = std::min(tiles, (number + 1) * tilesPerTask_);
      for (int64_t t = number * tilesPerTask_; t < end; t++) program_.run(frame, memory.buffers, program_.tile(t));
    };
    parallelFor((tiles + tilesPerTask_ - 1) / tilesPerTask_, memory.slots, task);
  }

 private:
  static TileProgram make(const Plan& plan, const Step& step, const Kernels& kernels) {
    Space space = Space::of(step.shape, step.expression, true);
    space.dropUnits();
    // Elementwise, so any order of the axes will do: that of the first output.
    if (space.count() > 0) {
      space.sortBy(space.strides.size() - step.expression.outputs.size());
      space.merge();
      blockTransposed(space);
    }
    return TileProgram(plan, step.expression, space, true, kernels);
  }

  // Where a reference walks memory across the columns and in order down the rows (a transpose), tiles of
  // 16 rows by 32 columns use whole cache lines on both sides: the columns are split, and the rows go between.
  static void blockTransposed(Space& space) {
    constexpr int64_t kColumns = 32, kRows = kTile / kColumns;
    const size_t rank = space.sizes.size();
    if (rank < 2 || rank >= kMaxRank || space.sizes[rank - 2] < kRows) return;
    const int64_t columns = space.sizes[rank - 1];
    if (columns <= kColumns || columns % kColumns != 0) return;
    const bool transposed = std::any_of(space.strides.begin(), space.strides.end(), [&](const auto& s) {
      return std::fabs(s[rank - 1]) > 8 && std::fabs(s[rank - 2]) == 1;
    });
    if (!transposed) return;
    space.sizes[rank - 1] = kColumns;
    space.sizes.insert(space.sizes.end() - 2, columns / kColumns);
    for (auto& s : space.strides) s.insert(s.end() - 2, s[rank - 1] * static_cast<double>(kColumns));
  }

  TileProgram program_;
  int64_t tilesPerTask_;
};

}  // namespace

std::unique_ptr<PreparedStep> prepareMap(const Plan& plan, const Step& step, const Kernels& kernels) {
  return std::make_unique<Map>(plan, step, kernels);
}

}  // namespace fluxion
