// Threads of control that give the processor to each other by themselves.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace emulator {

// Where a thread of control stopped: its stack pointer, all else lies on its stack.
using Continuation = void*;

// Stops here, saved in `from`, and goes on at `to`.
extern "C" void emulatorSwitch(Continuation* from, Continuation to);

// A stack with a page below it that nobody may touch.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;

  // Makes it start at `entry` next time, which must never return.
  void reset(void (*entry)());

  Continuation continuation = nullptr;
  int thread = 0;  // what it runs

  static constexpr size_t stackBytes = 128 << 10;

 private:
  char* memory_;
};

// Fibers that run nothing, to be used again.
class FiberPool {
 public:
  explicit FiberPool(void (*entry)()) : entry_(entry) {}

  Fiber* take() {
    if (idle_.empty()) {
      all_.push_back(std::make_unique<Fiber>());
      all_.back()->reset(entry_);
      return all_.back().get();
    }
    Fiber* fiber = idle_.back();
    idle_.pop_back();
    return fiber;
  }

  void giveBack(Fiber* fiber) { idle_.push_back(fiber); }

  // Forgets what all fibers were doing.
  void reset() {
    idle_.clear();
    for (auto& fiber : all_) {
      fiber->reset(entry_);
      idle_.push_back(fiber.get());
    }
  }

 private:
  void (*entry_)();
  std::vector<std::unique_ptr<Fiber>> all_;
  std::vector<Fiber*> idle_;
};

}  // namespace emulator
