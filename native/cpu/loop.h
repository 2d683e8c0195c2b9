// A plan in a loop: its carried state lives here, twice, so that a step reads one copy and writes the other.
#pragma once

#include <atomic>

#include "runner.h"

namespace fluxion {

class Loop {
 public:
  // `inputs` are copied. Throws PlanError if the plan does not fit; see lib/backend/backend.ts.
  Loop(std::shared_ptr<Runner> runner, void* const* inputs, size_t carried);

  struct Outcome {
    int64_t completed, ran;
  };
  // On any thread; observed[i] has room for `steps` observations.
  Outcome run(int64_t steps, const std::vector<void*>& observed);

  size_t carried() const { return carried_; }
  size_t observations() const { return runner_->plan().outputs.size() - carried_; }
  const Runner& runner() const { return *runner_; }
  void* state(size_t index) const { return states_[current_].data() + places_[index]; }

  // All the running loops end after the step at hand: the process is about to exit.
  static std::atomic<bool> stopping;

 private:
  bool guardHolds(const void* value) const;

  std::shared_ptr<Runner> runner_;
  size_t carried_;
  std::unique_ptr<Runner::Workspace> workspace_;
  Memory states_[2];
  Memory constants_;
  std::vector<size_t> places_;  // of each input, in its memory
  int current_ = 0;
  std::vector<void*> inputs_, outputs_;
};

// Copies of inputs that outlive the call that gave them.
struct InputCopies {
  InputCopies(const Runner& runner, void* const* inputs, size_t first);
  Memory memory;
  std::vector<void*> pointers;
};

}  // namespace fluxion
