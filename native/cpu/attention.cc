#include "attention.h"

#include "thread_pool.h"

namespace fluxion {

namespace {

constexpr int64_t kRows = 96;         // of a block of queries; halved twice, it is a multiple of every mr still
constexpr int64_t kFewTasks = 16;
constexpr int64_t kTasksAtOnce = 64;  // so many that threads end together
constexpr int64_t kManyEntries = 32;

}  // namespace

template <class T>
QueryBlocks<T>::QueryBlocks(const Step& step, const Kernels& kernels)
    : panels_(kernels, step.dtype), kernel_(kernels.attention[static_cast<int>(step.dtype)]),
      copyBytes_(kernels.copy[1]), entries_(elementCount(step.shape)), n_(step.attention.n), m_(step.attention.m),
      d_(step.attention.d), e_(step.attention.e), scale_(static_cast<T>(step.attention.scale)),
      causal_(step.attention.causal), q_(step.attention.q, step.shape), k_(step.attention.k, step.shape),
      v_(step.attention.v, step.shape), mask_(step.attention.mask, step.shape), outputs_(step.attention.outputs),
      rows_(kRows), scoreLd_(Panels<T>::spread(kKeys)) {
  while (rows_ > kRows / 4 && static_cast<double>(entries_) * static_cast<double>(ceilDivide(n_, rows_)) < kFewTasks) {
    rows_ /= 2;
  }
  blocks_ = ceilDivide(n_, rows_);
  writes_ = entries_ > 0 && n_ > 0 && ((outputs_[0] >= 0 && e_ > 0) || outputs_[1] >= 0);
  if (mask_.given()) maskAt_ = own_.add(1, kKeys, 1);
}

template <class T>
void QueryBlocks<T>::reserve() {
  const double work = static_cast<double>(n_) * static_cast<double>(m_) * static_cast<double>(d_ + e_);
  entryIsTask_ = entries_ > 1 && packed_.bytes() < 4'000'000 && (entries_ >= kManyEntries || work <= 1 << 18);
  group_ = std::min(std::max<int64_t>(entries_, 1), ceilDivide(kTasksAtOnce, std::max<int64_t>(blocks_, 1)));
  slotBytes = own_.bytes() + (entryIsTask_ ? packed_.bytes() : 0);
  sharedBytes = entryIsTask_ ? 0 : checkedBytes(static_cast<double>(group_) * static_cast<double>(packed_.bytes()));
}

template <class T>
void QueryBlocks<T>::run(const RunMemory& memory) const {
  if (!writes_) return;
  const auto computeBlock = [&](int64_t entry, int64_t block, const char* packed, int slot) {
    const int64_t row = block * rows_;
    compute(memory.buffers, entry, row, std::min(rows_, n_ - row), packed, memory.slot(slot));
  };
  const int64_t stretches = ceilDivide(m_, kStretch);
  const auto packStretch = [&](int64_t entry, int64_t stretch, char* packed) {
    pack(memory.buffers, entry, stretch * kStretch, std::min(m_, (stretch + 1) * kStretch), packed);
  };
  if (entryIsTask_) {
    const auto task = [&](int64_t entry, int slot) {
      char* packed = memory.slot(slot) + own_.bytes();
      for (int64_t stretch = 0; stretch < stretches; stretch++) packStretch(entry, stretch, packed);
      for (int64_t block = 0; block < blocks_; block++) computeBlock(entry, block, packed, slot);
    };
    return parallelFor(entries_, memory.slots, task);
  }
  for (int64_t first = 0; first < entries_; first += group_) {
    const int64_t count = std::min(group_, entries_ - first);
    const auto packedOf = [&](int64_t number) { return memory.shared + static_cast<size_t>(number) * packed_.bytes(); };
    const auto packTask = [&](int64_t task, int) {
      packStretch(first + task / stretches, task % stretches, packedOf(task / stretches));
    };
    parallelFor(count * stretches, memory.slots, packTask);
    // The last queries see most keys where only earlier ones are visible: long tasks go first.
    const auto task = [&](int64_t number, int slot) {
      computeBlock(first + number % count, blocks_ - 1 - number / count, packedOf(number % count), slot);
    };
    parallelFor(count * blocks_, memory.slots, task);
  }
}

template <class T>
void QueryBlocks<T>::hide(Pointers buffers, int64_t entry, int64_t row, int64_t rows, int64_t key, int64_t cols,
                          T* scores, char* own) const {
  const int64_t padded = panels_.padded(cols);
  const uint8_t* mask = mask_.given() ? mask_.entry(buffers, entry) + row * mask_.row + key * mask_.column : nullptr;
  for (int64_t r = 0; r < rows; r++, scores += scoreLd_) {
    const int64_t visible = causal_ ? std::clamp<int64_t>(row + r + 1 - key, 0, cols) : cols;
    if (mask != nullptr) {
      const uint8_t* shown = mask + r * mask_.row;
      if (mask_.column != 1) {
        uint8_t* dense = reinterpret_cast<uint8_t*>(own + maskAt_);
        copyBytes_(dense, visible, 1, shown, visible, mask_.column, 1, visible);
        shown = dense;
      }
      kernel_.hide(visible, scores, shown);
    }
    std::fill(scores + visible, scores + padded, -std::numeric_limits<T>::infinity());
  }
}

template class QueryBlocks<float>;
template class QueryBlocks<double>;

std::unique_ptr<PreparedStep> prepareAttention(const Step& step, const Kernels& kernels) {
  switch (step.attention.part) {
    case AttentionPart::Value: return prepareAttentionValue(step, kernels);
    case AttentionPart::Tangent: return prepareAttentionTangent(step, kernels);
    case AttentionPart::Cotangent: return prepareAttentionCotangent(step, kernels);
  }
  return nullptr;
}

}  // namespace fluxion
