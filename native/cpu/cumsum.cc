// Running sums along an axis.
#include <algorithm>

#include "steps.h"
#include "thread_pool.h"

namespace fluxion {
namespace {

constexpr int64_t kElementsPerTask = 1 << 14;
// Columns whose sums run side by side; they stay in the L1 cache.
constexpr int64_t kColumns = 256;

struct Cumsum final : PreparedStep {
  Cumsum(const Plan& plan, const Step& s) : step(s), dtype(plan.buffers[static_cast<size_t>(s.input)].dtype) {}

  void run(const RunMemory& memory) const override {
    switch (dtype) {
      case DType::Float32: return add<float, double>(memory);
      case DType::Float64: return add<double, double>(memory);
      default: return add<uint32_t, uint32_t>(memory);  // int32 wraps to the same bits
    }
  }

  // Each column is added in its order by one thread, so that the bits do not depend on how columns are shared out.
  template <class T, class Sum>
  void add(const RunMemory& memory) const {
    if (step.size == 0 || step.inner == 0) return;
    const int64_t blocks = (step.inner + kColumns - 1) / kColumns;
    const int64_t units = step.outer * blocks;
    const int64_t perTask = std::max<int64_t>(1, kElementsPerTask / std::min(step.inner, kColumns) / step.size);
    const T* input = static_cast<const T*>(memory.buffers[step.input]);
    T* output = static_cast<T*>(memory.buffers[step.output]);
    const int64_t first = step.reverse ? (step.size - 1) * step.inner : 0;
    const int64_t stride = step.reverse ? -step.inner : step.inner;
    const auto task = [&](int64_t number, int) {
      const int64_t end = std::min(units, (number + 1) * perTask);
      for (int64_t unit = number * perTask; unit < end; unit++) {
        const int64_t column = unit % blocks * kColumns;
        const int64_t at = unit / blocks * step.size * step.inner + first + column;
        columns<T, Sum>(input + at, output + at, stride, std::min(kColumns, step.inner - column));
      }
    };
    parallelFor((units + perTask - 1) / perTask, memory.slots, task);
  }

  template <class T, class Sum>
  void columns(const T* input, T* output, int64_t stride, int64_t count) const {
    if (count == 1) {
      Sum sum = 0;
      for (int64_t j = 0; j < step.size; j++) {
        sum += static_cast<Sum>(input[j * stride]);
        output[j * stride] = static_cast<T>(sum);
      }
      return;
    }
    Sum sums[kColumns] = {};
    for (int64_t j = 0; j < step.size; j++) {
      const T* x = input + j * stride;
      T* y = output + j * stride;
      for (int64_t i = 0; i < count; i++) {
        sums[i] += static_cast<Sum>(x[i]);
        y[i] = static_cast<T>(sums[i]);
      }
    }
  }

  Step step;
  DType dtype;
};

}  // namespace

std::unique_ptr<PreparedStep> prepareCumsum(const Plan& plan, const Step& step) {
  return std::make_unique<Cumsum>(plan, step);
}

}  // namespace fluxion
