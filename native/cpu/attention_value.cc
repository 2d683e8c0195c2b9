// Attention forwards: a softmax over one block of keys after another. What was summed before is brought down to the
// new maximum.
#include <cmath>

#include "attention.h"

namespace fluxion {
namespace {

template <class T>
class AttentionValue final : public QueryBlocks<T> {
  using Base = QueryBlocks<T>;
  using Base::packed_, Base::own_, Base::panels_, Base::rows_, Base::scoreLd_, Base::n_, Base::m_, Base::d_, Base::e_;
  using Base::q_, Base::k_, Base::v_, Base::kernel_;

 public:
  AttentionValue(const Step& step, const Kernels& kernels) : Base(step, kernels) {
    const bool sums = step.attention.outputs[0] >= 0;
    width_ = sums ? panels_.padded(e_) : 0;
    queryLd_ = Panels<T>::spread(d_);
    keysAt_ = packed_.add(panels_.padded(m_), d_, sizeof(T));
    valuesAt_ = packed_.add(m_, width_, sizeof(T));
    queriesAt_ = own_.add(rows_, queryLd_, sizeof(T));
    scoresAt_ = own_.add(rows_, scoreLd_, sizeof(T));
    outputAt_ = own_.add(rows_, width_, sizeof(T));
    maximumAt_ = own_.add(rows_, 1, sizeof(T));
    sumAt_ = own_.add(rows_, 1, sizeof(double));
    Base::reserve();
  }

 private:
  void pack(Pointers buffers, int64_t entry, int64_t from, int64_t to, char* packed) const override {
    T *const keys = reinterpret_cast<T*>(packed + keysAt_), *const values = reinterpret_cast<T*>(packed + valuesAt_);
    const int64_t width = panels_.width();
    panels_.pack(keys + from * d_, d_ * width, k_.entry(buffers, entry) + from * k_.row, k_.column, k_.row, d_,
                 to - from);
    if (width_ == 0) return;
    panels_.pack(values + from * width, m_ * width, v_.entry(buffers, entry) + from * v_.row, v_.row, v_.column,
                 to - from, e_);
  }

  void compute(Pointers buffers, int64_t entry, int64_t row, int64_t rows, const char* packed,
               char* own) const override {
    const T* keys = reinterpret_cast<const T*>(packed + keysAt_);
    const T* values = reinterpret_cast<const T*>(packed + valuesAt_);
    T *const queries = reinterpret_cast<T*>(own + queriesAt_), *const scores = reinterpret_cast<T*>(own + scoresAt_);
    T *const output = reinterpret_cast<T*>(own + outputAt_), *const maximum = reinterpret_cast<T*>(own + maximumAt_);
    double* const sum = reinterpret_cast<double*>(own + sumAt_);
    const int64_t width = panels_.width();
    q_.copy(queries, queryLd_, q_.entry(buffers, entry) + row * q_.row, rows, d_, Base::scale_);
    std::fill_n(maximum, rows, -std::numeric_limits<T>::infinity());
    std::fill_n(sum, rows, 0.0);
    const int64_t seen = Base::visibleKeys(row, rows);
    if (seen == 0) std::fill_n(output, rows * width_, T(0));
    for (int64_t key = 0; key < seen; key += Base::kKeys) {
      const int64_t cols = std::min(Base::kKeys, seen - key), padded = panels_.padded(cols);
      panels_.multiply(scores, scoreLd_, false, queries, queryLd_, keys + key * d_, d_ * width, rows, d_, padded);
      Base::hide(buffers, entry, row, rows, key, cols, scores, own);
      kernel_.softmax(rows, padded, scores, scoreLd_, maximum, sum, output, width_, key == 0 ? 0 : width_);
      panels_.multiply(output, width_, key > 0, scores, scoreLd_, values + key * width, m_ * width, rows, cols, width_);
    }
    finish(buffers, entry, row, rows, output, maximum, sum);
  }

  void finish(Pointers buffers, int64_t entry, int64_t row, int64_t rows, const T* output, const T* maximum,
              const double* sum) const {
    T* const o = Base::output(buffers, 0, entry, n_ * e_);
    T* const l = Base::output(buffers, 1, entry, n_);
    for (int64_t r = 0; r < rows; r++) {
      const bool none = sum[r] == 0;
      if (l != nullptr) {
        l[row + r] = none ? std::numeric_limits<T>::infinity()
                          : static_cast<T>(static_cast<double>(maximum[r]) + std::log(sum[r]));
      }
      if (o == nullptr) continue;
      const T inverse = none ? T(1) : static_cast<T>(1 / sum[r]);
      for (int64_t c = 0; c < e_; c++) o[(row + r) * e_ + c] = output[r * width_ + c] * inverse;
    }
  }

  int64_t width_, queryLd_;
  size_t keysAt_, valuesAt_, queriesAt_, scoresAt_, outputAt_, maximumAt_, sumAt_;
};

}  // namespace

std::unique_ptr<PreparedStep> prepareAttentionValue(const Step& step, const Kernels& kernels) {
  if (step.dtype == DType::Float32) return std::make_unique<AttentionValue<float>>(step, kernels);
  return std::make_unique<AttentionValue<double>>(step, kernels);
}

}  // namespace fluxion
