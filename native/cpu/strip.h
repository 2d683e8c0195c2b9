// A strip: steps that run together, block after block of their common rows (lib/compile/strip.ts says why).
#pragma once

#include "product.h"

namespace fluxion {

// Rows first .. end. What a part sums over them goes into one of its partial sums, and may be the first there.
struct Rows {
  int64_t first, end, sum;
  bool opensSum;
};

// What a part of a strip finds while it runs on a thread.
struct PartMemory {
  Pointers buffers;  // those of local buffers such that their rows lie as if the buffer were whole
  char* scratch;     // of the thread, 64-byte aligned
  char* sums;        // the part's own, shared by all threads
  const char* packed;  // the right side of its product
};

class StripPart {
 public:
  virtual ~StripPart() = default;
  // A block of rows. The blocks of a partial sum come in order, one at a time.
  virtual void run(const PartMemory& memory, const Rows& rows) const = 0;
  // After all rows: the sum of the partial sums, in tasks of its own.
  virtual int64_t finishTasks() const { return 0; }
  virtual void finish(const PartMemory&, int64_t /*task*/) const {}
  // The product whose right side all rows share; it is packed before the rows begin.
  virtual const Product* product() const { return nullptr; }

  size_t scratchBytes = 0, sumBytes = 0;
};

std::unique_ptr<StripPart> prepareMapRows(const Plan& plan, const Step& step, const Kernels& kernels, int64_t rows);
std::unique_ptr<StripPart> prepareReduceRows(const Plan& plan, const Step& step, const Kernels& kernels, int64_t rows);
std::unique_ptr<StripPart> prepareReduceSum(const Plan& plan, const Step& step, const Kernels& kernels, int64_t sums);
std::unique_ptr<StripPart> prepareProductRows(const Plan& plan, const Step& step, const Kernels& kernels, int64_t block);
std::unique_ptr<StripPart> prepareProductSum(const Plan& plan, const Step& step, const Kernels& kernels, int64_t sums,
                                             int64_t block);
std::unique_ptr<PreparedStep> prepareStrip(const Plan& plan, const Step& step, const Kernels& kernels);

}  // namespace fluxion
