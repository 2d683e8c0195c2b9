// The matrix product. B is packed into panels of nr columns, which are then read in order; the rows of A
// are taken where they lie, if one of their strides is 1. A task computes a block of rows by columns of C
// and runs the expression on it at once, while it is in the cache.
//
// How the work is cut depends on shapes and the instruction set alone:
//   tasks    kRowBlock rows by kColumnBlock columns (a multiple of a tile, or all columns)
//   k        blocks of kDepth keep a panel in the L1 cache; with few tasks and a long k, chunks of k are
//            tasks too, and their products are added in order
//   batches  B shared by all: packed once; small products: a batch is a task; otherwise one after another
#include <algorithm>
#include <cstring>

#include "steps.h"
#include "thread_pool.h"

namespace fluxion {
namespace {

constexpr int64_t kRowBlock = 48;     // a multiple of every mr
constexpr int64_t kColumnBlock = 512;
constexpr int64_t kDepth = 256;
constexpr int64_t kPackDepth = 512;
constexpr int64_t kFewTasks = 8;

int64_t ceilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

class MatMul final : public PreparedStep {
 public:
  MatMul(const Plan& plan, const Step& step, const Kernels& kernels)
      : m_(step.m), n_(step.n), k_(step.k), batches_(elementCount(step.shape)), batch_(step.shape), a_(step.a),
        b_(step.b), bytes_(byteSize(step.dtype)), isFloat_(fluxion::isFloat(step.dtype)), kernel_(kernels.gemm[static_cast<int>(step.dtype)]),
        copy_(kernels.copy[bytes_]), epilogue_(plan, step.expression, epilogueSpace(step), true, kernels) {
    const size_t rank = batch_.size();
    aRow_ = a_.strides[rank];
    aDepth_ = a_.strides[rank + 1];
    bDepth_ = b_.strides[rank];
    bColumn_ = b_.strides[rank + 1];
    if (batches_ == 0 || m_ == 0 || n_ == 0) return;
    chooseReading();
    chooseTasks();
    choosePlain(step);
    reserve();
  }

  void run(const RunMemory& memory) const override {
    if (batches_ == 0 || m_ == 0 || n_ == 0) return;
    if (batchIsTask_) {
      const auto task = [&](int64_t batch, int slot) {
        char* packed = memory.slot(slot) + packedAt_;
        for (int64_t part = 0; part < packTasks_; part++) pack(memory, batch, part, packed);
        for (int64_t block = 0; block < blocks_; block++) finish(memory, slot, batch, block, packed);
      };
      return parallelFor(batches_, memory.slots, task);
    }
    // Batches that share B run together.
    const int64_t groups = sharedB_ ? 1 : batches_, perGroup = batches_ / groups;
    for (int64_t group = 0; group < groups; group++) {
      const auto packTask = [&](int64_t part, int) { pack(memory, group, part, memory.shared); };
      parallelFor(packTasks_, memory.slots, packTask);
      if (chunks_ > 1) {
        runChunks(memory, group, perGroup);
        continue;
      }
      const auto task = [&](int64_t number, int slot) {
        finish(memory, slot, group + number / blocks_, number % blocks_, memory.shared);
      };
      parallelFor(perGroup * blocks_, memory.slots, task);
    }
  }

 private:
  struct Block {
    int64_t row, rows, col, cols;
  };

  // [batch..., m, n] with the columns on their own: blocks of rows are consecutive rows of this space.
  static Space epilogueSpace(const Step& step) {
    std::vector<int64_t> shape = step.shape;
    shape.push_back(step.m);
    shape.push_back(step.n);
    const Space all = Space::of(shape, step.expression, true);
    Space space = all.axes(0, shape.size() - 1);
    space.dropUnits();
    if (all.count() > 0) space.merge();
    space.append(all.axes(shape.size() - 1, shape.size()));
    return space;
  }

  void chooseReading() {
    dot_ = n_ <= 4 && k_ >= 32 && aDepth_ == 1;
    rowMajor_ = aDepth_ == 1;
    // Rows a multiple of a page apart fall into one set of the L1 cache.
    const bool conflict = aRow_ * static_cast<int64_t>(bytes_) % 2048 == 0 && aRow_ != 0;
    packA_ = !dot_ && (rowMajor_ ? conflict && n_ > kernel_.nr : aRow_ != 1);
    panels_ = ceilDivide(n_, kernel_.nr);
  }

  void chooseTasks() {
    rowBlock_ = kRowBlock;
    columnBlock_ = n_ <= kColumnBlock ? n_ : kColumnBlock;
    const int64_t across = ceilDivide(n_, columnBlock_);
    if (batches_ * ceilDivide(m_, rowBlock_) * across < 32) rowBlock_ = kRowBlock / 2;
    blocks_ = ceilDivide(m_, rowBlock_) * across;
    sharedB_ = true;
    for (size_t axis = 0; axis < batch_.size(); axis++) {
      if (batch_[axis] > 1 && b_.strides[axis] != 0) sharedB_ = false;
    }
    const double work = static_cast<double>(m_) * static_cast<double>(n_) * static_cast<double>(k_);
    const double packedB = static_cast<double>(k_) * static_cast<double>(panels_ * kernel_.nr * 8);
    batchIsTask_ = !sharedB_ && batches_ > 1 && packedB < 4e6 && (work <= 1 << 20 || batches_ >= 32);
    packTasks_ = dot_ ? 1 : panels_ * std::max<int64_t>(1, ceilDivide(k_, kPackDepth));
    chunkDepth_ = std::max<int64_t>(k_, 1);
    const int64_t tasks = (sharedB_ ? batches_ : 1) * blocks_;
    if (!batchIsTask_ && !dot_ && tasks < kFewTasks && k_ >= 1024) {
      chunkDepth_ = std::max<int64_t>(2 * kDepth, ceilDivide(ceilDivide(k_, 32), kDepth) * kDepth);
    }
    chunks_ = ceilDivide(std::max<int64_t>(k_, 1), chunkDepth_);
  }

  // An expression that only stores the product needs no pass of its own.
  void choosePlain(const Step& step) {
    const Expression& e = step.expression;
    if (e.instructions.size() != 1 || e.outputs.size() != 1) return;
    const View& view = e.outputs[0].view;
    const size_t rank = batch_.size();
    // Rows must not overlap within a kernel's store.
    if (view.strides[rank + 1] != 1 && n_ > 1) return;
    plain_ = true;
    plainView_ = view;
  }

  void reserve() {
    frameBytes_ = roundUpToLine(epilogue_.frameBytes());
    const double block = static_cast<double>(rowBlock_ * columnBlock_) * 8;
    blockAt_ = frameBytes_;
    edgeAt_ = blockAt_ + roundUpToLine(checkedBytes(block));
    leftAt_ = edgeAt_ + roundUpToLine(static_cast<size_t>(kMaxMicroRows * kernel_.nr) * bytes_);
    packedAt_ = leftAt_ + (packA_ ? static_cast<size_t>((kRowBlock + kMaxMicroRows) * kDepth) * bytes_ : 0);
    const double packed = static_cast<double>(k_) * static_cast<double>(panels_ * kernel_.nr) *
                          static_cast<double>(bytes_);
    const size_t packedBytes = roundUpToLine(checkedBytes(packed));
    slotBytes = packedAt_ + (batchIsTask_ ? packedBytes : 0);
    sharedBytes = batchIsTask_ ? 0 : packedBytes;
    partialAt_ = sharedBytes;
    if (chunks_ > 1) {
      const double elements = static_cast<double>(sharedB_ ? batches_ : 1) * static_cast<double>(m_) *
                              static_cast<double>(n_) * static_cast<double>(chunks_);
      sharedBytes += checkedBytes(elements * static_cast<double>(bytes_));
    }
  }

  const char* operand(const RunMemory& memory, const View& view, int64_t batch) const {
    return static_cast<const char*>(memory.buffers[view.buffer]) +
           batchOffset(view, batch) * static_cast<int64_t>(bytes_);
  }

  int64_t batchOffset(const View& view, int64_t batch) const {
    int64_t offset = view.offset;
    for (size_t axis = batch_.size(); axis-- > 0;) {
      offset += batch % batch_[axis] * view.strides[axis];
      batch /= batch_[axis];
    }
    return offset;
  }

  // Part of B: a panel's stretch of k, or all of it transposed for dot products.
  void pack(const RunMemory& memory, int64_t batch, int64_t part, char* packed) const {
    if (k_ == 0) return;
    const char* b = operand(memory, b_, batch);
    const int64_t bytes = static_cast<int64_t>(bytes_);
    if (dot_) return copy_(packed, k_, 1, b, bColumn_, bDepth_, n_, k_);
    const int64_t panel = part % panels_, from = part / panels_ * kPackDepth, col = panel * kernel_.nr;
    kernel_.packPanel(packed + (panel * k_ + from) * kernel_.nr * bytes,
                      b + (from * bDepth_ + col * bColumn_) * bytes, bDepth_, bColumn_,
                      std::min(kPackDepth, k_ - from), std::min<int64_t>(kernel_.nr, n_ - col));
  }

  Block block(int64_t number) const {
    const int64_t across = ceilDivide(n_, columnBlock_);
    const int64_t row = number / across * rowBlock_, col = number % across * columnBlock_;
    return {row, std::min(rowBlock_, m_ - row), col, std::min(columnBlock_, n_ - col)};
  }

  // A block of C, all of k, and what follows it.
  void finish(const RunMemory& memory, int slot, int64_t batch, int64_t number, const char* packed) const {
    const Block part = block(number);
    if (plain_) {
      const size_t rank = batch_.size();
      const int64_t stride = plainView_.strides[rank];
      char* c = static_cast<char*>(memory.buffers[plainView_.buffer]) +
                (batchOffset(plainView_, batch) + part.row * stride + part.col) * static_cast<int64_t>(bytes_);
      return multiply(memory, slot, batch, part, 0, k_, packed, c, stride);
    }
    char* c = memory.slot(slot) + blockAt_;
    multiply(memory, slot, batch, part, 0, k_, packed, c, part.cols);
    express(memory, slot, batch, part, c);
  }

  // C block = A[rows, from .. to] B[from .. to, columns]
  void multiply(const RunMemory& memory, int slot, int64_t batch, const Block& part, int64_t from, int64_t to,
                const char* packed, char* c, int64_t ldc) const {
    const int64_t bytes = static_cast<int64_t>(bytes_);
    if (from >= to) {
      for (int64_t r = 0; r < part.rows; r++) std::memset(c + r * ldc * bytes, 0, static_cast<size_t>(part.cols * bytes));
      return;
    }
    const char* a = operand(memory, a_, batch) + part.row * aRow_ * bytes;
    if (dot_) {
      for (int64_t r = 0; r < part.rows; r++) kernel_.dot(k_, a + r * aRow_ * bytes, packed, n_, c + r * ldc * bytes);
      return;
    }
    const int64_t nr = kernel_.nr, mr = kernel_.mr;
    char* left = memory.slot(slot) + leftAt_;
    for (int64_t k0 = from; k0 < to; k0 += kDepth) {
      const int64_t depth = std::min(kDepth, to - k0);
      const char* origin = a + k0 * aDepth_ * bytes;
      if (packA_) packRows(origin, part.rows, depth, left);
      for (int64_t col = 0; col < part.cols; col += nr) {
        const char* panel = packed + ((part.col + col) / nr * k_ + k0) * nr * bytes;
        const int64_t cols = std::min(nr, part.cols - col);
        for (int64_t row = 0; row < part.rows; row += mr) {
          const int64_t rows = std::min(mr, part.rows - row);
          const char* strip = packA_ ? left + row * depth * bytes : origin + row * aRow_ * bytes;
          const MicroFn micro = packA_ || !rowMajor_ ? kernel_.columnMajor[rows] : kernel_.rowMajor[rows];
          const int64_t stride = packA_ ? mr : rowMajor_ ? aRow_ : aDepth_;
          char* target = c + (row * ldc + col) * bytes;
          if (cols == nr) {
            micro(depth, strip, stride, panel, target, ldc, k0 > from);
            continue;
          }
          // Fewer columns than the kernel writes: by way of a full tile.
          char* edge = memory.slot(slot) + edgeAt_;
          const size_t width = static_cast<size_t>(cols * bytes);
          if (k0 > from) {
            for (int64_t r = 0; r < rows; r++) std::memcpy(edge + r * nr * bytes, target + r * ldc * bytes, width);
          }
          micro(depth, strip, stride, panel, edge, nr, k0 > from);
          for (int64_t r = 0; r < rows; r++) std::memcpy(target + r * ldc * bytes, edge + r * nr * bytes, width);
        }
      }
    }
  }

  // Strips of mr rows, each [depth][mr].
  void packRows(const char* a, int64_t rows, int64_t depth, char* left) const {
    const int64_t bytes = static_cast<int64_t>(bytes_), mr = kernel_.mr;
    for (int64_t row = 0; row < rows; row += mr) {
      copy_(left + row * depth * bytes, mr, 1, a + row * aRow_ * bytes, aDepth_, aRow_, depth, std::min(mr, rows - row));
    }
  }

  void runChunks(const RunMemory& memory, int64_t group, int64_t perGroup) const {
    const int64_t bytes = static_cast<int64_t>(bytes_), area = m_ * n_;
    char* partials = memory.shared + partialAt_;
    const auto place = [&](int64_t batch, int64_t chunk, const Block& part) {
      return partials + ((batch * chunks_ + chunk) * area + part.row * n_ + part.col) * bytes;
    };
    const auto task = [&](int64_t number, int slot) {
      const int64_t chunk = number % chunks_, rest = number / chunks_, batch = rest / blocks_;
      const Block part = block(rest % blocks_);
      const int64_t from = chunk * chunkDepth_, to = std::min(k_, from + chunkDepth_);
      multiply(memory, slot, group + batch, part, from, to, memory.shared, place(batch, chunk, part), n_);
    };
    parallelFor(perGroup * blocks_ * chunks_, memory.slots, task);
    const auto combine = [&](int64_t number, int slot) {
      const int64_t batch = number / blocks_;
      const Block part = block(number % blocks_);
      char* c = memory.slot(slot) + blockAt_;
      for (int64_t r = 0; r < part.rows; r++) {
        Block row = part;
        row.row += r;
        sumChunks(c + r * part.cols * bytes, place(batch, 0, row), area, part.cols);
      }
      express(memory, slot, group + batch, part, c);
    };
    parallelFor(perGroup * blocks_, memory.slots, combine);
  }

  void sumChunks(char* c, const char* first, int64_t area, int64_t cols) const {
    std::memcpy(c, first, static_cast<size_t>(cols) * bytes_);
    for (int64_t chunk = 1; chunk < chunks_; chunk++) {
      const char* next = first + chunk * area * static_cast<int64_t>(bytes_);
      if (isFloat_) {
        if (bytes_ == 4) addRow<float>(c, next, cols);
        else addRow<double>(c, next, cols);
      } else {
        addRow<uint32_t>(c, next, cols);
      }
    }
  }
  template <class T>
  static void addRow(char* c, const char* next, int64_t cols) {
    T* to = reinterpret_cast<T*>(c);
    const T* from = reinterpret_cast<const T*>(next);
    for (int64_t i = 0; i < cols; i++) to[i] += from[i];
  }

  // The expression on a block of C that lies dense at `c`.
  void express(const RunMemory& memory, int slot, int64_t batch, const Block& part, const char* c) const {
    Frame frame = epilogue_.begin(memory.slot(slot), memory.buffers);
    const int64_t bytes = static_cast<int64_t>(bytes_), step = epilogue_.tileRows();
    for (int64_t row = 0; row < part.rows; row += step) {
      const int64_t rows = std::min(step, part.rows - row);
      for (int64_t col = 0; col < part.cols; col += kTile) {
        const TileShape tile{batch * m_ + part.row + row, rows, part.col + col, std::min<int64_t>(kTile, part.cols - col)};
        epilogue_.run(frame, memory.buffers, tile, c + (row * part.cols + col) * bytes, part.cols);
      }
    }
  }

  int64_t m_, n_, k_, batches_;
  std::vector<int64_t> batch_;
  View a_, b_;
  size_t bytes_;
  bool isFloat_;
  GemmKernel kernel_;
  CopyFn copy_;
  TileProgram epilogue_;
  int64_t aRow_ = 0, aDepth_ = 0, bDepth_ = 0, bColumn_ = 0;
  bool dot_ = false, rowMajor_ = false, packA_ = false, sharedB_ = true, batchIsTask_ = false, plain_ = false;
  View plainView_;
  int64_t panels_ = 0, rowBlock_ = kRowBlock, columnBlock_ = 1, blocks_ = 0, packTasks_ = 0;
  int64_t chunkDepth_ = 1, chunks_ = 1;
  size_t frameBytes_ = 0, blockAt_ = 0, edgeAt_ = 0, leftAt_ = 0, packedAt_ = 0, partialAt_ = 0;
};

}  // namespace

std::unique_ptr<PreparedStep> prepareMatMul(const Plan& plan, const Step& step, const Kernels& kernels) {
  return std::make_unique<MatMul>(plan, step, kernels);
}

}  // namespace fluxion
