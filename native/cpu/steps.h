// A step of a plan, prepared: everything that depends on shapes is settled when it is made.
#pragma once

#include <memory>

#include "kernels.h"
#include "tile.h"

namespace fluxion {

// The memory of one run. Nothing is allocated while steps run.
struct RunMemory {
  Pointers buffers;
  char* shared;       // of the step at hand
  char* slotMemory;   // one part of slotBytes for each thread
  size_t slotBytes;
  int slots;
  char* slot(int number) const { return slotMemory + static_cast<size_t>(number) * slotBytes; }
};

class PreparedStep {
 public:
  virtual ~PreparedStep() = default;
  virtual void run(const RunMemory& memory) const = 0;  // throws PlanError (an index out of range)
  virtual size_t heldBytes() const { return 0; }        // memory that it holds by itself while it runs
  size_t sharedBytes = 0, slotBytes = 0;
};

std::unique_ptr<PreparedStep> prepareMap(const Plan& plan, const Step& step, const Kernels& kernels);
std::unique_ptr<PreparedStep> prepareReduce(const Plan& plan, const Step& step, const Kernels& kernels);
std::unique_ptr<PreparedStep> prepareMatMul(const Plan& plan, const Step& step, const Kernels& kernels);
std::unique_ptr<PreparedStep> prepareGather(const Plan& plan, const Step& step);
std::unique_ptr<PreparedStep> prepareScatter(const Plan& plan, const Step& step);
std::unique_ptr<PreparedStep> prepareSort(const Plan& plan, const Step& step);
std::unique_ptr<PreparedStep> prepareLoop(const Plan& plan, const Step& step);
std::unique_ptr<PreparedStep> prepareAttention(const Step& step, const Kernels& kernels);
std::unique_ptr<PreparedStep> prepareCumsum(const Plan& plan, const Step& step);

inline size_t roundUpToLine(size_t bytes) { return (bytes + 63) / 64 * 64; }
// A size in doubles, so that absurd ones cannot overflow: throws PlanError.
size_t checkedBytes(double bytes);

}  // namespace fluxion
