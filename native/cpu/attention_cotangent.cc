// The cotangents of attention. A block holds keys by queries, the transposes of P and G, so that what belongs to a
// query is a row of numbers beside it, and K and V are read as they lie.
//
// The queries of an entry are dealt out in slices, and each slice sums its own cotangents of K and V; with several
// slices they are added in order at the end.
#include <cstring>

#include "attention.h"
#include "thread_pool.h"

namespace fluxion {
namespace {

constexpr int64_t kQueries = 96;   // of a block: a third of it is a multiple of every panel's width
constexpr int64_t kKeys = 128;     // of a block
constexpr int64_t kStretch = 512;  // of keys that are packed, or added, at a time
constexpr int64_t kTasks = 8;      // entries times slices, about

template <class T>
class AttentionCotangent final : public PreparedStep {
 public:
  AttentionCotangent(const Step& step, const Kernels& kernels)
      : AttentionCotangent(step, step.attention, kernels) {}

  void run(const RunMemory& memory) const override {
    if (entries_ == 0 || (!wantsQ_ && !wantsK_ && !wantsV_)) return;
    const int64_t stretches = ceilDivide(m_, kStretch);
    const auto stretchEnd = [&](int64_t stretch) { return std::min(m_, (stretch + 1) * kStretch); };
    if (slices_ == 1) {
      const auto task = [&](int64_t entry, int slot) {
        char *const own = memory.slot(slot), *const packed = own + own_.bytes(), *const sums = packed + packed_.bytes();
        for (int64_t s = 0; s < stretches; s++) pack(memory.buffers, entry, s * kStretch, stretchEnd(s), packed);
        computeSlice(memory.buffers, entry, 0, packed, sums, own);
        for (int64_t s = 0; s < stretches; s++) finish(memory.buffers, entry, s * kStretch, stretchEnd(s), sums);
      };
      return parallelFor(entries_, memory.slots, task);
    }
    const auto packedOf = [&](int64_t entry) { return memory.shared + static_cast<size_t>(entry) * packed_.bytes(); };
    char* const allSums = packedOf(entries_);
    const auto sumsOf = [&](int64_t entry) { return allSums + static_cast<size_t>(entry * slices_) * sums_.bytes(); };
    const auto packTask = [&](int64_t task, int) {
      const int64_t stretch = task % stretches;
      pack(memory.buffers, task / stretches, stretch * kStretch, stretchEnd(stretch), packedOf(task / stretches));
    };
    parallelFor(entries_ * stretches, memory.slots, packTask);
    const auto sliceTask = [&](int64_t task, int slot) {
      const int64_t entry = task / slices_, slice = task % slices_;
      char* const sums = sumsOf(entry) + static_cast<size_t>(slice) * sums_.bytes();
      computeSlice(memory.buffers, entry, slice, packedOf(entry), sums, memory.slot(slot));
    };
    parallelFor(entries_ * slices_, memory.slots, sliceTask);
    const auto finishTask = [&](int64_t task, int) {
      const int64_t stretch = task % stretches;
      finish(memory.buffers, task / stretches, stretch * kStretch, stretchEnd(stretch), sumsOf(task / stretches));
    };
    parallelFor(entries_ * stretches, memory.slots, finishTask);
  }

 private:
  AttentionCotangent(const Step& step, const Attention& a, const Kernels& kernels)
      : panels_(kernels, step.dtype), kernel_(kernels.attention[static_cast<int>(step.dtype)]),
        copyBytes_(kernels.copy[1]), entries_(elementCount(step.shape)), n_(a.n), m_(a.m), d_(a.d), e_(a.e),
        scale_(static_cast<T>(a.scale)), causal_(a.causal), q_(a.q, step.shape), k_(a.k, step.shape),
        v_(a.v, step.shape), o_(a.o, step.shape), l_(a.l, step.shape), cO_(a.directions[0], step.shape),
        cL_(a.directions[1], step.shape), mask_(a.mask, step.shape), outputs_(a.outputs) {
    wantsQ_ = outputs_[0] >= 0 && n_ > 0 && d_ > 0;
    wantsK_ = outputs_[1] >= 0 && m_ > 0 && d_ > 0;
    wantsV_ = outputs_[2] >= 0 && m_ > 0 && e_ > 0;
    rows_ = kQueries;
    const double entries = static_cast<double>(entries_);
    while (rows_ > kQueries / 3 && entries * static_cast<double>(ceilDivide(n_, rows_)) < kTasks) rows_ -= kQueries / 3;
    blocks_ = ceilDivide(n_, rows_);
    const int64_t wanted = ceilDivide(kTasks, std::max<int64_t>(entries_, 1));
    slices_ = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(blocks_, 1));
    scoreLd_ = Panels<T>::spread(rows_);
    featureLd_ = Panels<T>::spread(d_);
    valueLd_ = Panels<T>::spread(e_);
    features_ = panels_.padded(d_);
    values_ = panels_.padded(e_);
    reserve();
  }

  void reserve() {
    const bool weighs = wantsQ_ || wantsK_;
    keysAt_ = packed_.add(m_, featureLd_, sizeof(T));
    valuesAt_ = packed_.add(m_, weighs ? valueLd_ : 0, sizeof(T));
    keyPanelsAt_ = packed_.add(m_, wantsQ_ ? features_ : 0, sizeof(T));
    sumKAt_ = sums_.add(m_, wantsK_ ? features_ : 0, sizeof(T));
    sumVAt_ = sums_.add(m_, wantsV_ ? values_ : 0, sizeof(T));
    queriesAt_ = own_.add(rows_, featureLd_, sizeof(T));
    queriesTurnedAt_ = own_.add(d_, rows_, sizeof(T));
    queryPanelsAt_ = own_.add(rows_, features_, sizeof(T));
    cOTurnedAt_ = own_.add(e_, rows_, sizeof(T));
    cOPanelsAt_ = own_.add(rows_, values_, sizeof(T));
    logSumAt_ = own_.add(rows_, 1, sizeof(T));
    shiftAt_ = own_.add(rows_, 1, sizeof(T));
    weightsAt_ = own_.add(kKeys, scoreLd_, sizeof(T));
    cScoresAt_ = own_.add(kKeys, scoreLd_, sizeof(T));
    cQAt_ = own_.add(rows_, features_, sizeof(T));
    maskAt_ = own_.add(mask_.given() ? kKeys : 0, rows_, 1);
    if (slices_ == 1) {
      slotBytes = checkedBytes(static_cast<double>(own_.bytes() + packed_.bytes() + sums_.bytes()));
      return;
    }
    slotBytes = own_.bytes();
    const double sums = static_cast<double>(slices_) * static_cast<double>(sums_.bytes());
    sharedBytes = checkedBytes(static_cast<double>(entries_) * (static_cast<double>(packed_.bytes()) + sums));
  }

  // K and V row by row, and K in panels.
  void pack(Pointers buffers, int64_t entry, int64_t from, int64_t to, char* packed) const {
    const T* const keys = k_.entry(buffers, entry) + from * k_.row;
    k_.copy(at(packed, keysAt_) + from * featureLd_, featureLd_, keys, to - from, d_);
    if (wantsQ_ || wantsK_) {
      const T* const values = v_.entry(buffers, entry) + from * v_.row;
      v_.copy(at(packed, valuesAt_) + from * valueLd_, valueLd_, values, to - from, e_);
    }
    if (!wantsQ_) return;
    const int64_t width = panels_.width();
    panels_.pack(at(packed, keyPanelsAt_) + from * width, m_ * width, keys, k_.row, k_.column, to - from, d_);
  }

  // Every so many blocks of queries, so that each slice has early and late ones.
  void computeSlice(Pointers buffers, int64_t entry, int64_t slice, const char* packed, char* sums, char* own) const {
    std::memset(sums, 0, sums_.bytes());
    for (int64_t block = slice; block < blocks_; block += slices_) {
      const int64_t row = block * rows_, rows = std::min(rows_, n_ - row);
      prepareQueries(buffers, entry, row, rows, own);
      const int64_t seen = causal_ ? std::min(m_, row + rows) : m_;
      if (seen == 0) std::fill_n(at(own, cQAt_), rows * features_, T(0));
      for (int64_t key = 0; key < seen; key += kKeys) {
        computeBlock(buffers, entry, row, rows, key, std::min(kKeys, seen - key), packed, sums, own);
      }
      T* const cQ = output(buffers, 0, entry, n_ * d_);
      for (int64_t r = 0; r < rows && cQ != nullptr; r++) {
        for (int64_t c = 0; c < d_; c++) cQ[(row + r) * d_ + c] = scale_ * at(own, cQAt_)[r * features_ + c];
      }
    }
  }

  // Queries (times the scale) and the cotangents of O, turned and in panels; beside them L and
  // shift = rowsum(cO * O) - cL. Where a panel is wider than there are queries, L = infinity makes all weights 0.
  void prepareQueries(Pointers buffers, int64_t entry, int64_t row, int64_t rows, char* own) const {
    const int64_t width = panels_.width(), padded = panels_.padded(rows);
    T *const queries = at(own, queriesAt_), *const logSum = at(own, logSumAt_), *const shift = at(own, shiftAt_);
    q_.copy(queries, featureLd_, q_.entry(buffers, entry) + row * q_.row, rows, d_, scale_);
    panels_.pack(at(own, queriesTurnedAt_), d_ * width, queries, 1, featureLd_, d_, rows);
    panels_.pack(at(own, queryPanelsAt_), rows * width, queries, featureLd_, 1, rows, d_);
    l_.copy(logSum, 1, l_.entry(buffers, entry) + row * l_.row, rows, 1);
    std::fill(logSum + rows, logSum + padded, std::numeric_limits<T>::infinity());
    std::fill_n(shift, padded, T(0));
    const T* const cO = cO_.given() ? cO_.entry(buffers, entry) + row * cO_.row : nullptr;
    const T* const cL = cL_.given() ? cL_.entry(buffers, entry) + row * cL_.row : nullptr;
    const T* const o = o_.entry(buffers, entry) + row * o_.row;
    for (int64_t r = 0; r < rows; r++) {
      double sum = 0;
      for (int64_t c = 0; c < e_ && cO != nullptr; c++) {
        const T cotangent = cO[r * cO_.row + c * cO_.column], result = o[r * o_.row + c * o_.column];
        sum += static_cast<double>(cotangent) * static_cast<double>(result);
      }
      shift[r] = static_cast<T>(sum - (cL != nullptr ? static_cast<double>(cL[r * cL_.row]) : 0.0));
    }
    if (cO == nullptr) return;
    panels_.pack(at(own, cOTurnedAt_), e_ * width, cO, cO_.column, cO_.row, e_, rows);
    panels_.pack(at(own, cOPanelsAt_), rows * width, cO, cO_.row, cO_.column, rows, e_);
  }

  void computeBlock(Pointers buffers, int64_t entry, int64_t row, int64_t rows, int64_t key, int64_t keys,
                    const char* packed, char* sums, char* own) const {
    const int64_t width = panels_.width(), padded = panels_.padded(rows);
    T *const weights = at(own, weightsAt_), *const cScores = at(own, cScoresAt_);
    const bool weighs = wantsQ_ || wantsK_;
    panels_.multiply(weights, scoreLd_, false, at(packed, keysAt_) + key * featureLd_, featureLd_,
                     at(own, queriesTurnedAt_), d_ * width, keys, d_, padded);
    hide(buffers, entry, row, rows, key, keys, weights, own);
    if (weighs && cO_.given()) {
      panels_.multiply(cScores, scoreLd_, false, at(packed, valuesAt_) + key * valueLd_, valueLd_, at(own, cOTurnedAt_),
                       e_ * width, keys, e_, padded);
    } else if (weighs) {
      std::fill_n(cScores, keys * scoreLd_, T(0));
    }
    kernel_.weighColumns(keys, padded, weights, weighs ? cScores : nullptr, scoreLd_, at(own, logSumAt_),
                         at(own, shiftAt_));
    if (wantsQ_) {
      panels_.multiplyTransposed(at(own, cQAt_), features_, key > 0, cScores, scoreLd_,
                                 at(packed, keyPanelsAt_) + key * width, m_ * width, rows, keys, features_);
    }
    if (wantsK_) {
      panels_.multiply(at(sums, sumKAt_) + key * features_, features_, true, cScores, scoreLd_, at(own, queryPanelsAt_),
                       rows * width, keys, rows, features_);
    }
    if (wantsV_ && cO_.given()) {
      panels_.multiply(at(sums, sumVAt_) + key * values_, values_, true, weights, scoreLd_, at(own, cOPanelsAt_),
                       rows * width, keys, rows, values_);
    }
  }

  // Puts -infinity at the hidden ones of scores of keys by queries.
  void hide(Pointers buffers, int64_t entry, int64_t row, int64_t rows, int64_t key, int64_t keys, T* scores,
            char* own) const {
    const uint8_t* mask = mask_.given() ? mask_.entry(buffers, entry) + row * mask_.row + key * mask_.column : nullptr;
    if (mask == nullptr && (!causal_ || key + keys <= row + 1)) return;
    uint8_t* const shown = reinterpret_cast<uint8_t*>(own + maskAt_);  // keys by queries
    if (mask != nullptr) copyBytes_(shown, 1, rows_, mask, mask_.row, mask_.column, rows, keys);
    for (int64_t j = 0; j < keys; j++, scores += scoreLd_) {
      const int64_t earlier = causal_ ? std::clamp<int64_t>(key + j - row, 0, rows) : 0;
      std::fill_n(scores, earlier, -std::numeric_limits<T>::infinity());
      if (mask != nullptr) kernel_.hide(rows, scores, shown + j * rows_);
    }
  }

  // The slices' sums of the keys from .. to, added in order.
  void finish(Pointers buffers, int64_t entry, int64_t from, int64_t to, const char* sums) const {
    const auto add = [&](T* result, size_t place, int64_t width, int64_t columns) {
      if (result == nullptr) return;
      for (int64_t j = from; j < to; j++) {
        T* const row = result + j * columns;
        const T* part = at(sums, place) + j * width;
        std::copy_n(part, columns, row);
        for (int64_t slice = 1; slice < slices_; slice++) {
          part = at(sums + static_cast<size_t>(slice) * sums_.bytes(), place) + j * width;
          for (int64_t c = 0; c < columns; c++) row[c] += part[c];
        }
      }
    };
    add(output(buffers, 1, entry, m_ * d_), sumKAt_, features_, d_);
    add(output(buffers, 2, entry, m_ * e_), sumVAt_, values_, e_);
  }

  static T* at(char* memory, size_t place) { return reinterpret_cast<T*>(memory + place); }
  static const T* at(const char* memory, size_t place) { return reinterpret_cast<const T*>(memory + place); }
  T* output(Pointers buffers, size_t number, int64_t entry, int64_t size) const {
    return resultOf<T>(buffers, outputs_, number, entry, size);
  }

  Panels<T> panels_;
  AttentionKernel kernel_;
  CopyFn copyBytes_;
  int64_t entries_, n_, m_, d_, e_;
  T scale_;
  bool causal_;
  Operand<T> q_, k_, v_, o_, l_, cO_, cL_;
  Operand<uint8_t> mask_;
  std::vector<int> outputs_;
  bool wantsQ_, wantsK_, wantsV_;
  int64_t rows_, blocks_, slices_;
  int64_t scoreLd_, featureLd_, valueLd_;  // from row to row of scores, of K and Q, of V
  int64_t features_, values_;              // d and e in whole panels
  Places packed_, sums_, own_;             // of an entry; of a slice; of a thread
  size_t keysAt_ = 0, valuesAt_ = 0, keyPanelsAt_ = 0, sumKAt_ = 0, sumVAt_ = 0;
  size_t queriesAt_ = 0, queriesTurnedAt_ = 0, queryPanelsAt_ = 0, cOTurnedAt_ = 0, cOPanelsAt_ = 0;
  size_t logSumAt_ = 0, shiftAt_ = 0, weightsAt_ = 0, cScoresAt_ = 0, cQAt_ = 0, maskAt_ = 0;
};

}  // namespace

std::unique_ptr<PreparedStep> prepareAttentionCotangent(const Step& step, const Kernels& kernels) {
  if (step.dtype == DType::Float32) return std::make_unique<AttentionCotangent<float>>(step, kernels);
  return std::make_unique<AttentionCotangent<double>>(step, kernels);
}

}  // namespace fluxion
