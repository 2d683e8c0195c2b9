// Runs a plan: its prepared steps in order, over one set of memory for each run under way.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "steps.h"

namespace fluxion {

// 64-byte aligned memory.
class Memory {
 public:
  Memory() = default;
  explicit Memory(size_t bytes);  // throws PlanError where there is not so much
  ~Memory();
  Memory(Memory&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
  Memory& operator=(Memory&& other) noexcept;
  char* data() const { return data_; }

 private:
  char* data_ = nullptr;
};

class Runner {
 public:
  explicit Runner(Plan plan);

  const Plan& plan() const { return plan_; }
  const Buffer& input(size_t i) const { return plan_.buffers[static_cast<size_t>(plan_.inputs[i])]; }
  const Buffer& output(size_t i) const { return plan_.buffers[static_cast<size_t>(plan_.outputs[i])]; }

  // What a run needs besides inputs and outputs. A workspace serves one run at a time; they are kept for
  // later runs.
  struct Workspace {
    int slots = 0;
    Memory memory;
    char *slotMemory = nullptr, *shared = nullptr;  // parts of it; the arena is at its beginning
    std::vector<void*> buffers;
  };
  std::unique_ptr<Workspace> acquire();
  // Bytes of a workspace, and of those of the plans that steps hold.
  size_t workspaceBytes() const;
  void release(std::unique_ptr<Workspace> workspace);

  // Runs on any thread. Throws PlanError. `seconds`: where given, gets the time of each step.
  void run(Workspace& workspace, void* const* inputs, void* const* outputs, double* seconds = nullptr) const;

 private:
  Plan plan_;
  std::vector<std::unique_ptr<PreparedStep>> steps_;
  size_t sharedBytes_ = 0, slotBytes_ = 0;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> idle_;
};

}  // namespace fluxion
