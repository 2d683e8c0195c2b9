// Runs a kernel: its blocks one after another, the threads of a block as fibers, both in random order.
#pragma once

#include <string>

#include "../device/interface.h"

namespace emulator {

enum class Outcome { done, illegalAddress, misaligned, failed };

struct Grid {
  Index3 blocks;
  unsigned threads;
  size_t sharedBytes;
};

// On a failure, `message` says what the kernel did and where.
Outcome launch(const Module& module, const Kernel& kernel, const Grid& grid, void** arguments, std::string& message);

}  // namespace emulator
