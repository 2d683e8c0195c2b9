#include "loop.h"

#include <cmath>
#include <cstring>

namespace fluxion {

std::atomic<bool> Loop::stopping{false};

InputCopies::InputCopies(const Runner& runner, void* const* inputs, size_t first) {
  const size_t count = runner.plan().inputs.size();
  size_t bytes = 0;
  for (size_t i = first; i < count; i++) bytes += roundUpToLine(runner.input(i).bytes());
  memory = Memory(bytes);
  char* place = memory.data();
  for (size_t i = first; i < count; i++) {
    const size_t size = runner.input(i).bytes();
    if (size > 0) std::memcpy(place, inputs[i], size);
    pointers.push_back(place);
    place += roundUpToLine(size);
  }
}

Loop::Loop(std::shared_ptr<Runner> runner, void* const* inputs, size_t carried)
    : runner_(std::move(runner)), carried_(carried) {
  const Plan& plan = runner_->plan();
  if (carried > plan.inputs.size() || carried > plan.outputs.size()) {
    throw PlanError("loop: " + std::to_string(carried) + " carried values, but the plan has " +
                    std::to_string(plan.inputs.size()) + " inputs and " + std::to_string(plan.outputs.size()) +
                    " outputs");
  }
  size_t bytes = 0;
  for (size_t i = 0; i < carried; i++) {
    const Buffer &in = runner_->input(i), &out = runner_->output(i);
    if (in.dtype != out.dtype || in.size != out.size) {
      throw PlanError("loop: input " + std::to_string(i) + " and output " + std::to_string(i) +
                      " differ in dtype or size");
    }
    places_.push_back(bytes);
    bytes += roundUpToLine(in.bytes());
  }
  if (observations() > 0) {
    const Buffer& guard = runner_->output(plan.outputs.size() - 1);
    if (!isFloat(guard.dtype) || guard.size != 1) throw PlanError("loop: the last output is not a float scalar");
  }
  for (Memory& state : states_) state = Memory(bytes);
  for (size_t i = 0; i < carried; i++) {
    if (runner_->input(i).size > 0) std::memcpy(state(i), inputs[i], runner_->input(i).bytes());
  }
  InputCopies rest(*runner_, inputs, carried);
  constants_ = std::move(rest.memory);
  inputs_.resize(carried);
  inputs_.insert(inputs_.end(), rest.pointers.begin(), rest.pointers.end());
  outputs_.resize(plan.outputs.size());
  workspace_ = runner_->acquire();
}

bool Loop::guardHolds(const void* value) const {
  if (runner_->output(outputs_.size() - 1).dtype == DType::Float32) return std::isfinite(*static_cast<const float*>(value));
  return std::isfinite(*static_cast<const double*>(value));
}

Loop::Outcome Loop::run(int64_t steps, const std::vector<void*>& observed) {
  Outcome outcome{0, 0};
  while (outcome.completed < steps && !stopping.load(std::memory_order_relaxed)) {
    for (size_t i = 0; i < carried_; i++) {
      inputs_[i] = states_[current_].data() + places_[i];
      outputs_[i] = states_[1 - current_].data() + places_[i];
    }
    for (size_t i = 0; i < observed.size(); i++) {
      const size_t bytes = runner_->output(carried_ + i).bytes();
      outputs_[carried_ + i] = static_cast<char*>(observed[i]) + static_cast<size_t>(outcome.ran) * bytes;
    }
    runner_->run(*workspace_, inputs_.data(), outputs_.data());
    outcome.ran++;
    if (!observed.empty() && !guardHolds(outputs_.back())) break;
    current_ = 1 - current_;
    outcome.completed++;
  }
  return outcome;
}

}  // namespace fluxion
