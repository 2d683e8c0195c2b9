// Gather, scatter and sort.
#include <algorithm>
#include <cstring>

#include "steps.h"
#include "thread_pool.h"

namespace fluxion {
namespace {

constexpr int64_t kElementsPerTask = 1 << 14;
constexpr int64_t kColumns = 128;  // of a scatter's task

// Reads index j once (the array may be shared with another thread, which must not turn a checked index
// into another one), checks it and counts negative ones from the end.
int64_t indexAt(const int32_t* indices, int64_t j, const Step& step) {
  const int64_t given = *static_cast<const volatile int32_t*>(indices + j);
  if (given < -step.size || given >= step.size) {
    // lib/backend/cpu.ts reads the site from the message: nothing else comes through every way of running a plan.
    throw PlanError("index " + std::to_string(given) + " is out of range for an axis of size " +
                    std::to_string(step.size) + (step.site < 0 ? "" : " at site " + std::to_string(step.site)));
  }
  return given < 0 ? given + step.size : given;
}

struct Indexing : PreparedStep {
  Indexing(const Plan& plan, const Step& s) : step(s), dtype(plan.buffers[static_cast<size_t>(s.input)].dtype) {
    sharedBytes = checkedBytes(static_cast<double>(step.count) * 8);
  }
  // Checked before anything is written.
  const int64_t* resolve(const RunMemory& memory) const {
    const int32_t* indices = static_cast<const int32_t*>(memory.buffers[step.indices]);
    int64_t* resolved = reinterpret_cast<int64_t*>(memory.shared);
    for (int64_t j = 0; j < step.count; j++) resolved[j] = indexAt(indices, j, step);
    return resolved;
  }
  Step step;
  DType dtype;
};

struct Gather final : Indexing {
  using Indexing::Indexing;
  void run(const RunMemory& memory) const override {
    const int64_t* indices = resolve(memory);
    const int64_t slices = step.outer * step.count;
    if (slices == 0 || step.inner == 0) return;
    const size_t bytes = static_cast<size_t>(step.inner) * byteSize(dtype);
    const char* input = static_cast<const char*>(memory.buffers[step.input]);
    char* output = static_cast<char*>(memory.buffers[step.output]);
    const int64_t perTask = std::max<int64_t>(1, kElementsPerTask / step.inner);
    const auto task = [&](int64_t number, int) {
      const int64_t end = std::min(slices, (number + 1) * perTask);
      for (int64_t slice = number * perTask; slice < end; slice++) {
        const int64_t from = slice / step.count * step.size + indices[slice % step.count];
        const char* source = input + static_cast<size_t>(from) * bytes;
        char* target = output + static_cast<size_t>(slice) * bytes;
        if (bytes == 4) std::memcpy(target, source, 4);
        else std::memcpy(target, source, bytes);
      }
    };
    parallelFor((slices + perTask - 1) / perTask, memory.slots, task);
  }
};

struct Scatter final : Indexing {
  using Indexing::Indexing;
  void run(const RunMemory& memory) const override {
    const int64_t* indices = resolve(memory);
    switch (dtype) {
      case DType::Float32: return add<float>(memory, indices);
      case DType::Float64: return add<double>(memory, indices);
      default: return add<uint32_t>(memory, indices);
    }
  }

  // One task for each block of columns at an outer index: additions to an element stay in the order of j.
  template <class T>
  void add(const RunMemory& memory, const int64_t* indices) const {
    const T* input = static_cast<const T*>(memory.buffers[step.input]);
    T* output = static_cast<T*>(memory.buffers[step.output]);
    if (step.inner == 0 || step.size == 0) return;
    const int64_t blocks = (step.inner + kColumns - 1) / kColumns;
    const auto task = [&](int64_t number, int) {
      const int64_t outer = number / blocks, column = number % blocks * kColumns;
      const int64_t columns = std::min(kColumns, step.inner - column);
      T* target = output + outer * step.size * step.inner + column;
      for (int64_t row = 0; row < step.size; row++) std::fill_n(target + row * step.inner, columns, T(0));
      const T* source = input + outer * step.count * step.inner + column;
      for (int64_t j = 0; j < step.count; j++, source += step.inner) {
        T* row = target + indices[j] * step.inner;
        for (int64_t i = 0; i < columns; i++) row[i] += source[i];
      }
    };
    parallelFor(step.outer * blocks, memory.slots, task);
  }
};

struct Sort final : PreparedStep {
  Sort(const Plan& plan, const Step& s) : step(s), dtype(plan.buffers[static_cast<size_t>(s.input)].dtype) {
    slotBytes = checkedBytes(static_cast<double>(step.size) * 32);
  }

  void run(const RunMemory& memory) const override {
    if (step.size == 0) return;
    switch (dtype) {
      case DType::Float32: return sortRows<float>(memory);
      case DType::Float64: return sortRows<double>(memory);
      case DType::Int32: return sortRows<int32_t>(memory);
      case DType::UInt32: return sortRows<uint32_t>(memory);
      case DType::Bool: return sortRows<uint8_t>(memory);
    }
  }

  // Pairs of key and position, merged bottom-up between two halves of the slot's memory: as
  // std::stable_sort, without its allocation, and on a copy that no other thread can change meanwhile.
  template <class T>
  void sortRows(const RunMemory& memory) const {
    struct Item {
      T key;
      int32_t at;
    };
    const auto before = [](const Item& a, const Item& b) {  // NaN comes last
      return a.key < b.key || (b.key != b.key && a.key == a.key);
    };
    const auto task = [&](int64_t row, int slot) {
      const T* input = static_cast<const T*>(memory.buffers[step.input]) + row * step.size;
      int32_t* output = static_cast<int32_t*>(memory.buffers[step.output]) + row * step.size;
      Item* from = reinterpret_cast<Item*>(memory.slot(slot));
      Item* to = from + step.size;
      for (int64_t i = 0; i < step.size; i++) from[i] = {input[i], static_cast<int32_t>(i)};
      constexpr int64_t kRun = 16;
      for (int64_t low = 0; low < step.size; low += kRun) {
        const int64_t high = std::min(step.size, low + kRun);
        for (int64_t i = low + 1; i < high; i++) {
          const Item item = from[i];
          int64_t j = i;
          for (; j > low && before(item, from[j - 1]); j--) from[j] = from[j - 1];
          from[j] = item;
        }
      }
      for (int64_t width = kRun; width < step.size; width *= 2) {
        for (int64_t low = 0; low < step.size; low += 2 * width) {
          const int64_t middle = std::min(step.size, low + width), high = std::min(step.size, low + 2 * width);
          std::merge(from + low, from + middle, from + middle, from + high, to + low, before);
        }
        std::swap(from, to);
      }
      for (int64_t i = 0; i < step.size; i++) output[i] = from[i].at;
    };
    parallelFor(step.outer, memory.slots, task);
  }

  Step step;
  DType dtype;
};

}  // namespace

std::unique_ptr<PreparedStep> prepareGather(const Plan& plan, const Step& step) {
  return std::make_unique<Gather>(plan, step);
}
std::unique_ptr<PreparedStep> prepareScatter(const Plan& plan, const Step& step) {
  return std::make_unique<Scatter>(plan, step);
}
std::unique_ptr<PreparedStep> prepareSort(const Plan& plan, const Step& step) {
  return std::make_unique<Sort>(plan, step);
}

}  // namespace fluxion
