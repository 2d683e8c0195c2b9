#include "runner.h"

#include <chrono>
#include <cstdlib>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "strip.h"
#include "thread_pool.h"

namespace fluxion {

// What a step writes and the next one reads lies scattered over small pages otherwise, and the caches and the TLB
// then serve some processes much better than others.
constexpr size_t kHugePage = size_t{1} << 21;

size_t checkedBytes(double bytes) {
  if (bytes > 1e14) throw PlanError("a step needs " + std::to_string(bytes) + " bytes of memory");
  return static_cast<size_t>(bytes);
}

Memory::Memory(size_t bytes) {
  if (bytes == 0) return;
  const size_t page = bytes >= kHugePage ? kHugePage : 64;
  const size_t whole = (bytes + page - 1) / page * page;
  data_ = static_cast<char*>(std::aligned_alloc(page, whole));
  if (data_ == nullptr) throw PlanError("cannot allocate " + std::to_string(bytes) + " bytes");
#if defined(__linux__)
  if (page == kHugePage) madvise(data_, whole, MADV_HUGEPAGE);  // a wish: without it all works, with more TLB misses
#endif
}

Memory::~Memory() { std::free(data_); }

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  return *this;
}

Runner::Runner(Plan plan) : plan_(std::move(plan)) {
  const Kernels& kernels = currentKernels();
  for (const Step& step : plan_.steps) {
    std::unique_ptr<PreparedStep> prepared;
    switch (step.kind) {
      case StepKind::Map: prepared = prepareMap(plan_, step, kernels); break;
      case StepKind::Reduce: prepared = prepareReduce(plan_, step, kernels); break;
      case StepKind::MatMul: prepared = prepareMatMul(plan_, step, kernels); break;
      case StepKind::Gather: prepared = prepareGather(plan_, step); break;
      case StepKind::Scatter: prepared = prepareScatter(plan_, step); break;
      case StepKind::Sort: prepared = prepareSort(plan_, step); break;
      case StepKind::Loop: prepared = prepareLoop(plan_, step); break;
      case StepKind::Attention: prepared = prepareAttention(step, kernels); break;
      case StepKind::Cumsum: prepared = prepareCumsum(plan_, step); break;
      case StepKind::Strip: prepared = prepareStrip(plan_, step, kernels); break;
    }
    sharedBytes_ = std::max(sharedBytes_, prepared->sharedBytes);
    slotBytes_ = std::max(slotBytes_, roundUpToLine(prepared->slotBytes));
    steps_.push_back(std::move(prepared));
  }
}

std::unique_ptr<Runner::Workspace> Runner::acquire() {
  const int slots = threadCount();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    while (!idle_.empty()) {
      std::unique_ptr<Workspace> workspace = std::move(idle_.back());
      idle_.pop_back();
      if (workspace->slots == slots) return workspace;
    }
  }
  auto workspace = std::make_unique<Workspace>();
  workspace->slots = slots;
  // In one piece, so that it lies on few large pages: what a thread works on then shares no sets of its cache by chance.
  const size_t arenaBytes = roundUpToLine(static_cast<size_t>(plan_.arenaBytes));
  const size_t slotBytes = slotBytes_ * static_cast<size_t>(slots);
  workspace->memory = Memory(checkedBytes(static_cast<double>(arenaBytes) + static_cast<double>(slotBytes) +
                                          static_cast<double>(sharedBytes_)));
  workspace->slotMemory = workspace->memory.data() + arenaBytes;
  workspace->shared = workspace->slotMemory + slotBytes;
  workspace->buffers.resize(plan_.buffers.size());
  for (size_t i = 0; i < plan_.buffers.size(); i++) {
    const Buffer& buffer = plan_.buffers[i];
    if (buffer.kind == BufferKind::Temporary) {
      workspace->buffers[i] = workspace->memory.data() + buffer.offset;
    }
  }
  return workspace;
}

size_t Runner::workspaceBytes() const {
  double bytes = static_cast<double>(roundUpToLine(static_cast<size_t>(plan_.arenaBytes))) +
                 static_cast<double>(slotBytes_) * threadCount() + static_cast<double>(sharedBytes_);
  for (const auto& step : steps_) bytes += static_cast<double>(step->heldBytes());
  return checkedBytes(bytes);
}

void Runner::release(std::unique_ptr<Workspace> workspace) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (idle_.size() < 2) idle_.push_back(std::move(workspace));
}

void Runner::run(Workspace& workspace, void* const* inputs, void* const* outputs, double* seconds) const {
  for (size_t i = 0; i < plan_.inputs.size(); i++) workspace.buffers[static_cast<size_t>(plan_.inputs[i])] = inputs[i];
  for (size_t i = 0; i < plan_.outputs.size(); i++) {
    workspace.buffers[static_cast<size_t>(plan_.outputs[i])] = outputs[i];
  }
  const RunMemory memory{workspace.buffers.data(), workspace.shared, workspace.slotMemory, slotBytes_, workspace.slots};
  for (const auto& step : steps_) {
    if (seconds == nullptr) {
      step->run(memory);
      continue;
    }
    const auto begun = std::chrono::steady_clock::now();
    step->run(memory);
    *seconds++ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  }
}

}  // namespace fluxion
