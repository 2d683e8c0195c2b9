#include "strip.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <thread>

#include "thread_pool.h"

namespace fluxion {
namespace {

// Tasks of several parts, numbered through.
struct Tasks {
  std::vector<int64_t> ends;
  std::vector<size_t> parts;

  void add(size_t part, int64_t count) {
    if (count == 0) return;
    ends.push_back(total() + count);
    parts.push_back(part);
  }
  int64_t total() const { return ends.empty() ? 0 : ends.back(); }
  // The part, and the number of the task within it.
  std::pair<size_t, int64_t> operator[](int64_t number) const {
    const size_t at = static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), number) - ends.begin());
    return {parts[at], number - (at > 0 ? ends[at - 1] : 0)};
  }
};

// Whose turn it is to add to a partial sum.
class alignas(64) Turn {
 public:
  void await(int64_t turn) const {
    for (int spins = 0; now_.load(std::memory_order_acquire) != turn; spins++) {
      if (spins > 1000) std::this_thread::yield();
    }
  }
  void pass() { now_.fetch_add(1, std::memory_order_release); }

 private:
  std::atomic<int64_t> now_{0};
};

class Strip final : public PreparedStep {
 public:
  Strip(const Plan& plan, const Step& step, const Kernels& kernels)
      : rows_(step.rows), block_(step.block), chunks_(static_cast<int64_t>(step.chunks.size())), sums_(step.sumCount),
        pointerBytes_(roundUpToLine(plan.buffers.size() * sizeof(void*))),
        localBytes_(static_cast<size_t>(step.localBytes)), bufferCount_(plan.buffers.size()) {
    starts_.push_back(0);
    for (int64_t chunk : step.chunks) starts_.push_back(starts_.back() + chunk);
    for (int number : step.locals) {
      const Buffer& buffer = plan.buffers[static_cast<size_t>(number)];
      locals_.push_back({static_cast<size_t>(number), static_cast<size_t>(buffer.offset), buffer.bytes() / static_cast<size_t>(rows_)});
    }
    place(turnsAt_, static_cast<size_t>(sums_) * sizeof(Turn));
    size_t scratch = 0;
    for (const Step& inner : step.parts) {
      parts_.push_back({prepare(plan, inner, kernels), 0, 0});
      Part& part = parts_.back();
      scratch = std::max(scratch, part.part->scratchBytes);
      place(part.sumsAt, part.part->sumBytes);
      finish_.add(parts_.size() - 1, part.part->finishTasks());
      packOnce(parts_.size() - 1);
    }
    slotBytes = pointerBytes_ + localBytes_ + roundUpToLine(scratch);
  }

  void run(const RunMemory& memory) const override {
    for (int64_t sum = 0; sum < sums_; sum++) new (turns(memory) + sum) Turn;
    const auto pack = [&](int64_t number, int) {
      const auto [index, task] = packs_[number];
      const Product& product = *parts_[index].part->product();
      product.pack(memory.buffers, 0, 0, product.k(), task, memory.shared + parts_[index].packedAt);
    };
    parallelFor(packs_.total(), memory.slots, pack);
    const auto runRows = [&](int64_t chunk, int slot) { runChunk(memory, chunk, slot); };
    parallelFor(chunks_, memory.slots, runRows);
    const auto finish = [&](int64_t number, int slot) {
      const auto [index, task] = finish_[number];
      parts_[index].part->finish(partMemory(memory, parts_[index], memory.buffers, slot), task);
    };
    parallelFor(finish_.total(), memory.slots, finish);
  }

 private:
  struct Part {
    std::unique_ptr<StripPart> part;
    size_t sumsAt, packedAt;  // in the shared memory
  };
  struct Local {
    size_t number, offset, rowBytes;
  };

  std::unique_ptr<StripPart> prepare(const Plan& plan, const Step& inner, const Kernels& kernels) const {
    switch (inner.kind) {
      case StepKind::Map: return prepareMapRows(plan, inner, kernels, rows_);
      case StepKind::Reduce:
        return inner.sums ? prepareReduceSum(plan, inner, kernels, sums_) : prepareReduceRows(plan, inner, kernels, rows_);
      default:
        return inner.sums ? prepareProductSum(plan, inner, kernels, sums_, block_)
                          : prepareProductRows(plan, inner, kernels, block_);
    }
  }

  Turn* turns(const RunMemory& memory) const { return reinterpret_cast<Turn*>(memory.shared + turnsAt_); }

  void place(size_t& at, size_t bytes) {
    at = sharedBytes;
    sharedBytes += roundUpToLine(bytes);
  }

  // Products with one right side - the primal's and the tangent's - share its packing.
  void packOnce(size_t index) {
    const Product* product = parts_[index].part->product();
    if (product == nullptr) return;
    for (size_t i = 0; i < index; i++) {
      const Product* other = parts_[i].part->product();
      if (other == nullptr || !other->packsAs(*product)) continue;
      parts_[index].packedAt = parts_[i].packedAt;
      return;
    }
    place(parts_[index].packedAt, product->packedBytes(product->k()));
    packs_.add(index, product->packTasks(0, product->k()));
  }

  PartMemory partMemory(const RunMemory& memory, const Part& part, Pointers buffers, int slot) const {
    return {buffers, memory.slot(slot) + pointerBytes_ + localBytes_, memory.shared + part.sumsAt,
            memory.shared + part.packedAt};
  }

  void runChunk(const RunMemory& memory, int64_t chunk, int slot) const {
    char* const own = memory.slot(slot);
    void** const pointers = reinterpret_cast<void**>(own);
    std::copy_n(memory.buffers, bufferCount_, pointers);
    const int64_t begin = starts_[static_cast<size_t>(chunk)], end = starts_[static_cast<size_t>(chunk) + 1];
    // Chunks are begun in their order, so the one that is waited for is under way, or done.
    const int64_t sum = chunk % sums_, turn = chunk / sums_;
    turns(memory)[sum].await(turn);
    for (int64_t first = begin; first < end; first += block_) {
      for (const Local& local : locals_) {
        // Row `first` lies at the start of the local memory. The address of row 0 may lie outside of it; only
        // rows of the block are touched.
        const uintptr_t start = reinterpret_cast<uintptr_t>(own + pointerBytes_ + local.offset);
        pointers[local.number] = reinterpret_cast<void*>(start - static_cast<size_t>(first) * local.rowBytes);
      }
      const Rows rows{first, std::min(end, first + block_), sum, turn == 0 && first == begin};
      for (const Part& part : parts_) part.part->run(partMemory(memory, part, pointers, slot), rows);
    }
    turns(memory)[sum].pass();
  }

  int64_t rows_, block_, chunks_, sums_;
  std::vector<int64_t> starts_;  // first row of each chunk, and the end
  size_t pointerBytes_, localBytes_, bufferCount_;
  std::vector<Local> locals_;
  std::vector<Part> parts_;
  size_t turnsAt_ = 0;  // in the shared memory
  Tasks packs_, finish_;
};

}  // namespace

std::unique_ptr<PreparedStep> prepareStrip(const Plan& plan, const Step& step, const Kernels& kernels) {
  return std::make_unique<Strip>(plan, step, kernels);
}

}  // namespace fluxion
