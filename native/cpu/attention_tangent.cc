// The tangent of attention. Scores and their tangents are products with the same panels: the tangent's
// [dQ | Q] [K ; dK] has the columns of K and dK below one another.
#include "attention.h"

namespace fluxion {
namespace {

template <class T>
class AttentionTangent final : public QueryBlocks<T> {
  using Base = QueryBlocks<T>;
  using Base::packed_, Base::own_, Base::panels_, Base::rows_, Base::scoreLd_, Base::n_, Base::m_, Base::d_, Base::e_;
  using Base::q_, Base::k_, Base::v_, Base::kernel_;

 public:
  AttentionTangent(const Step& step, const Kernels& kernels)
      : Base(step, kernels), dq_(step.attention.directions[0], step.shape),
        dk_(step.attention.directions[1], step.shape), dv_(step.attention.directions[2], step.shape),
        o_(step.attention.o, step.shape), l_(step.attention.l, step.shape) {
    const bool sums = step.attention.outputs[0] >= 0;
    moves_ = dq_.given() || dk_.given();
    width_ = sums ? panels_.padded(e_) : 0;
    queryLd_ = Panels<T>::spread(2 * d_);
    depth_ = dk_.given() ? 2 * d_ : d_;
    keysAt_ = packed_.add(panels_.padded(m_), depth_, sizeof(T));
    valuesAt_ = packed_.add(m_, moves_ ? width_ : 0, sizeof(T));
    dValuesAt_ = packed_.add(m_, dv_.given() ? width_ : 0, sizeof(T));
    queriesAt_ = own_.add(rows_, queryLd_, sizeof(T));
    scoresAt_ = own_.add(rows_, scoreLd_, sizeof(T));
    dScoresAt_ = own_.add(rows_, scoreLd_, sizeof(T));
    outputAt_ = own_.add(rows_, width_, sizeof(T));
    logSumAt_ = own_.add(rows_, 1, sizeof(T));
    sumAt_ = own_.add(rows_, 1, sizeof(double));
    Base::reserve();
  }

 private:
  void pack(Pointers buffers, int64_t entry, int64_t from, int64_t to, char* packed) const override {
    T* const keys = reinterpret_cast<T*>(packed + keysAt_) + from * depth_;
    const int64_t width = panels_.width(), stride = depth_ * width;
    panels_.pack(keys, stride, k_.entry(buffers, entry) + from * k_.row, k_.column, k_.row, d_, to - from);
    if (dk_.given()) {
      const T* const dKeys = dk_.entry(buffers, entry) + from * dk_.row;
      panels_.pack(keys + d_ * width, stride, dKeys, dk_.column, dk_.row, d_, to - from);
    }
    if (width_ == 0) return;
    const auto packRows = [&](const Operand<T>& rows, size_t at) {
      panels_.pack(reinterpret_cast<T*>(packed + at) + from * width, m_ * width,
                   rows.entry(buffers, entry) + from * rows.row, rows.row, rows.column, to - from, e_);
    };
    if (moves_) packRows(v_, valuesAt_);
    if (dv_.given()) packRows(dv_, dValuesAt_);
  }

  void compute(Pointers buffers, int64_t entry, int64_t row, int64_t rows, const char* packed,
               char* own) const override {
    const T* keys = reinterpret_cast<const T*>(packed + keysAt_);
    const T* values = reinterpret_cast<const T*>(packed + valuesAt_);
    const T* dValues = reinterpret_cast<const T*>(packed + dValuesAt_);
    T *const queries = reinterpret_cast<T*>(own + queriesAt_), *const logSum = reinterpret_cast<T*>(own + logSumAt_);
    T *const scores = reinterpret_cast<T*>(own + scoresAt_), *const dScores = reinterpret_cast<T*>(own + dScoresAt_);
    T* const output = reinterpret_cast<T*>(own + outputAt_);
    double* const sum = reinterpret_cast<double*>(own + sumAt_);
    const int64_t width = panels_.width(), stride = depth_ * width;
    if (dq_.given()) dq_.copy(queries, queryLd_, dq_.entry(buffers, entry) + row * dq_.row, rows, d_, Base::scale_);
    q_.copy(queries + d_, queryLd_, q_.entry(buffers, entry) + row * q_.row, rows, d_, Base::scale_);
    l_.copy(logSum, 1, l_.entry(buffers, entry) + row * l_.row, rows, 1);
    std::fill_n(sum, rows, 0.0);
    std::fill_n(output, rows * width_, T(0));
    const int64_t seen = Base::visibleKeys(row, rows), skipped = dq_.given() ? 0 : d_;
    const int64_t moved = (dq_.given() ? d_ : 0) + (dk_.given() ? d_ : 0);
    for (int64_t key = 0; key < seen && (moves_ || (dv_.given() && width_ > 0)); key += Base::kKeys) {
      const int64_t cols = std::min(Base::kKeys, seen - key), padded = panels_.padded(cols);
      const T* const block = keys + key * depth_;
      panels_.multiply(scores, scoreLd_, false, queries + d_, queryLd_, block, stride, rows, d_, padded);
      Base::hide(buffers, entry, row, rows, key, cols, scores, own);
      if (moves_) {
        panels_.multiply(dScores, scoreLd_, false, queries + skipped, queryLd_, block + skipped * width, stride, rows,
                         moved, padded);
      }
      kernel_.weighRows(rows, padded, scores, moves_ ? dScores : nullptr, scoreLd_, logSum, sum);
      const auto addProduct = [&](const T* weights, const T* right) {
        panels_.multiply(output, width_, true, weights, scoreLd_, right + key * width, m_ * width, rows, cols, width_);
      };
      if (moves_) addProduct(dScores, values);
      if (dv_.given()) addProduct(scores, dValues);
    }
    finish(buffers, entry, row, rows, output, sum);
  }

  void finish(Pointers buffers, int64_t entry, int64_t row, int64_t rows, const T* output, const double* sum) const {
    T* const dO = Base::output(buffers, 0, entry, n_ * e_);
    T* const dL = Base::output(buffers, 1, entry, n_);
    const T* const o = o_.entry(buffers, entry);
    for (int64_t r = 0; r < rows; r++) {
      const T moved = static_cast<T>(sum[r]);
      if (dL != nullptr) dL[row + r] = moved;
      if (dO == nullptr) continue;
      const T* const result = o + (row + r) * o_.row;
      for (int64_t c = 0; c < e_; c++) {
        dO[(row + r) * e_ + c] = output[r * width_ + c] - moved * result[c * o_.column];
      }
    }
  }

  Operand<T> dq_, dk_, dv_, o_, l_;
  bool moves_;  // the scores do
  int64_t width_, queryLd_, depth_;
  size_t keysAt_, valuesAt_, dValuesAt_, queriesAt_, scoresAt_, dScoresAt_, outputAt_, logSumAt_, sumAt_;
};

}  // namespace

std::unique_ptr<PreparedStep> prepareAttentionTangent(const Step& step, const Kernels& kernels) {
  if (step.dtype == DType::Float32) return std::make_unique<AttentionTangent<float>>(step, kernels);
  return std::make_unique<AttentionTangent<double>>(step, kernels);
}

}  // namespace fluxion
