// A loop inside of a plan: a plan of its own, run again and again. (loop.cc is the loop around a plan.)
#include <cstring>

#include "loop.h"

namespace fluxion {
namespace {

struct LoopStep final : PreparedStep {
  LoopStep(const Plan& plan, const Step& s) : step(s), runner(std::make_shared<Runner>(std::move(*step.body))) {
    step.body.reset();
    double bytes = 0;
    for (int carry : step.carries) {
      spareOffsets.push_back(static_cast<size_t>(bytes));
      bytes += static_cast<double>(roundUpToLine(plan.buffers[static_cast<size_t>(carry)].bytes()));
    }
    sharedBytes = checkedBytes(bytes);
    for (int carry : step.carries) carryBytes.push_back(plan.buffers[static_cast<size_t>(carry)].bytes());
    for (int x : step.xs) xBytes.push_back(sliceBytes(plan, x));
    for (int y : step.ys) yBytes.push_back(sliceBytes(plan, y));
  }

  size_t sliceBytes(const Plan& plan, int buffer) const {
    return step.length == 0 ? 0 : plan.buffers[static_cast<size_t>(buffer)].bytes() / static_cast<size_t>(step.length);
  }

  // The carries go to and fro between their results and spare memory, such that the last turn writes the results.
  void run(const RunMemory& memory) const override {
    if (step.length == 0) {
      for (size_t i = 0; i < step.carries.size(); i++) {
        if (carryBytes[i] > 0) std::memcpy(memory.buffers[step.carries[i]], memory.buffers[step.inits[i]], carryBytes[i]);
      }
      return;
    }
    std::unique_ptr<Runner::Workspace> workspace = runner->acquire();
    std::vector<void*> inputs, outputs;
    for (int buffer : step.consts) inputs.push_back(memory.buffers[buffer]);
    for (int buffer : step.inits) inputs.push_back(memory.buffers[buffer]);
    inputs.resize(inputs.size() + step.xs.size());
    outputs.resize(step.carries.size() + step.ys.size());
    const auto slice = [&](int buffer, int64_t place, size_t bytes) {
      return static_cast<char*>(memory.buffers[buffer]) + static_cast<size_t>(place) * bytes;
    };
    for (int64_t turn = 0; turn < step.length; turn++) {
      if (Loop::stopping.load(std::memory_order_relaxed)) throw PlanError("the process is about to exit");
      const int64_t place = step.reverse ? step.length - 1 - turn : turn;
      const bool toResults = (step.length - turn) % 2 == 1;
      void** xs = inputs.data() + step.consts.size() + step.inits.size();
      for (size_t i = 0; i < step.xs.size(); i++) xs[i] = slice(step.xs[i], place, xBytes[i]);
      for (size_t i = 0; i < step.carries.size(); i++) {
        outputs[i] = toResults ? memory.buffers[step.carries[i]] : memory.shared + spareOffsets[i];
      }
      for (size_t i = 0; i < step.ys.size(); i++) {
        outputs[step.carries.size() + i] = slice(step.ys[i], place, yBytes[i]);
      }
      runner->run(*workspace, inputs.data(), outputs.data());
      for (size_t i = 0; i < step.carries.size(); i++) inputs[step.consts.size() + i] = outputs[i];
    }
    runner->release(std::move(workspace));
  }

  size_t heldBytes() const override { return runner->workspaceBytes(); }

  Step step;
  std::shared_ptr<Runner> runner;
  std::vector<size_t> spareOffsets, carryBytes, xBytes, yBytes;
};

}  // namespace

std::unique_ptr<PreparedStep> prepareLoop(const Plan& plan, const Step& step) {
  return std::make_unique<LoopStep>(plan, step);
}

}  // namespace fluxion
