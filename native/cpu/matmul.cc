// The matrix product as a step of its own. A task computes a block of rows by columns of C and runs the
// expression on it at once, while it is in the cache.
//
// How the work is cut depends on shapes and the instruction set alone:
//   tasks    blocks of rows by kColumnBlock columns (a multiple of a tile, or all columns)
//   k        blocks of kDepth keep a panel in a core's caches; with few tasks and a long k, chunks of k are
//            tasks too, and their products are added in order
//   batches  B shared by all: packed once; small products: a batch is a task; otherwise one after another
#include "fused_product.h"

#include <algorithm>

#include "thread_pool.h"

namespace fluxion {

namespace {

constexpr int64_t kRowBlock = 48;     // a multiple of every mr
constexpr int64_t kColumnBlock = 512;
constexpr int64_t kDepth = 512;
constexpr int64_t kFewTasks = 8;

class MatMul final : public PreparedStep {
 public:
  MatMul(const Plan& plan, const Step& step, const Kernels& kernels)
      : dtype_(step.dtype), fused_(plan, step, kernels, kDepth), product_(fused_.product()), m_(product_.m()),
        n_(product_.n()), k_(product_.k()), batches_(elementCount(step.shape)) {
    if (batches_ == 0 || m_ == 0 || n_ == 0) return;
    chooseTasks(step);
    reserve();
  }

  void run(const RunMemory& memory) const override {
    if (batches_ == 0 || m_ == 0 || n_ == 0) return;
    if (batchIsTask_) {
      const auto task = [&](int64_t batch, int slot) {
        char* packed = memory.slot(slot) + packedAt_;
        product_.packAll(memory.buffers, batch, 0, k_, packed);
        for (int64_t number = 0; number < blocks_; number++) {
          fused_.run(memory.buffers, memory.slot(slot), batch, block(number), packed);
        }
      };
      return parallelFor(batches_, memory.slots, task);
    }
    // Batches that share B run together.
    const int64_t groups = sharedB_ ? 1 : batches_, perGroup = batches_ / groups;
    for (int64_t group = 0; group < groups; group++) {
      const auto packTask = [&](int64_t task, int) {
        product_.pack(memory.buffers, group, 0, k_, task, memory.shared);
      };
      parallelFor(product_.packTasks(0, k_), memory.slots, packTask);
      if (chunks_ > 1) {
        runChunks(memory, group, perGroup);
        continue;
      }
      const auto task = [&](int64_t number, int slot) {
        fused_.run(memory.buffers, memory.slot(slot), group + number / blocks_, block(number % blocks_), memory.shared);
      };
      parallelFor(perGroup * blocks_, memory.slots, task);
    }
  }

 private:
  void chooseTasks(const Step& step) {
    rowBlock_ = kRowBlock;
    columnBlock_ = std::min(n_, kColumnBlock);
    const int64_t across = ceilDivide(n_, columnBlock_);
    if (batches_ * ceilDivide(m_, rowBlock_) * across < 32) rowBlock_ = kRowBlock / 2;
    blocks_ = ceilDivide(m_, rowBlock_) * across;
    sharedB_ = true;
    for (size_t axis = 0; axis < step.shape.size(); axis++) {
      if (step.shape[axis] > 1 && product_.right().strides[axis] != 0) sharedB_ = false;
    }
    const double work = static_cast<double>(m_) * static_cast<double>(n_) * static_cast<double>(k_);
    batchIsTask_ = !sharedB_ && batches_ > 1 && product_.packedBytes(k_) < 4'000'000 &&
                   (work <= 1 << 20 || batches_ >= 32);
    chunkDepth_ = std::max<int64_t>(k_, 1);
    const int64_t tasks = (sharedB_ ? batches_ : 1) * blocks_;
    if (!batchIsTask_ && !product_.dots() && tasks < kFewTasks && k_ >= FusedProduct::kLongDepth) {
      chunkDepth_ = std::max<int64_t>(2 * kDepth, ceilDivide(ceilDivide(k_, 32), kDepth) * kDepth);
    }
    chunks_ = ceilDivide(std::max<int64_t>(k_, 1), chunkDepth_);
  }

  // A thread's memory: the product's, a block of C where it is added from chunks, and B packed where a batch is a task.
  void reserve() {
    blockAt_ = fused_.scratchBytes(rowBlock_, columnBlock_);
    packedAt_ = blockAt_;
    if (chunks_ > 1) packedAt_ += roundUpToLine(static_cast<size_t>(rowBlock_ * columnBlock_) * product_.elementBytes());
    const size_t packedBytes = product_.packedBytes(k_);
    slotBytes = packedAt_ + (batchIsTask_ ? packedBytes : 0);
    sharedBytes = batchIsTask_ ? 0 : packedBytes;
    partialAt_ = sharedBytes;
    if (chunks_ > 1) {
      const double elements = static_cast<double>(sharedB_ ? batches_ : 1) * static_cast<double>(m_) *
                              static_cast<double>(n_) * static_cast<double>(chunks_);
      sharedBytes += checkedBytes(elements * static_cast<double>(product_.elementBytes()));
    }
  }

  Block block(int64_t number) const {
    const int64_t across = ceilDivide(n_, columnBlock_);
    const int64_t row = number / across * rowBlock_, col = number % across * columnBlock_;
    return {row, std::min(rowBlock_, m_ - row), col, std::min(columnBlock_, n_ - col)};
  }

  void runChunks(const RunMemory& memory, int64_t group, int64_t perGroup) const {
    const int64_t bytes = static_cast<int64_t>(product_.elementBytes()), area = m_ * n_;
    char* partials = memory.shared + partialAt_;
    const auto place = [&](int64_t batch, int64_t chunk, const Block& part) {
      return partials + ((batch * chunks_ + chunk) * area + part.row * n_ + part.col) * bytes;
    };
    const auto task = [&](int64_t number, int slot) {
      const int64_t chunk = number % chunks_, rest = number / chunks_, batch = rest / blocks_;
      const Block part = block(rest % blocks_);
      const int64_t from = chunk * chunkDepth_, to = std::min(k_, from + chunkDepth_);
      fused_.multiply(memory.buffers, memory.slot(slot), group + batch, part, {from, to, 0, k_}, memory.shared,
                      place(batch, chunk, part), n_);
    };
    parallelFor(perGroup * blocks_ * chunks_, memory.slots, task);
    const auto combine = [&](int64_t number, int slot) {
      const int64_t batch = number / blocks_;
      const Block part = block(number % blocks_);
      char* c = memory.slot(slot) + blockAt_;
      for (int64_t r = 0; r < part.rows; r++) {
        Block row = part;
        row.row += r;
        sumPartials(dtype_, c + r * part.cols * bytes, place(batch, 0, row), chunks_, area, part.cols);
      }
      fused_.finish(memory.buffers, memory.slot(slot), group + batch, part, c);
    };
    parallelFor(perGroup * blocks_, memory.slots, combine);
  }

  DType dtype_;
  FusedProduct fused_;
  const Product& product_;
  int64_t m_, n_, k_, batches_;
  bool sharedB_ = true, batchIsTask_ = false;
  int64_t rowBlock_ = kRowBlock, columnBlock_ = 1, blocks_ = 0, chunkDepth_ = 1, chunks_ = 1;
  size_t blockAt_ = 0, packedAt_ = 0, partialAt_ = 0;
};

}  // namespace

std::unique_ptr<PreparedStep> prepareMatMul(const Plan& plan, const Step& step, const Kernels& kernels) {
  return std::make_unique<MatMul>(plan, step, kernels);
}

}  // namespace fluxion
