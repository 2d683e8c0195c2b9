// Faults of the processor while a kernel runs, such as an access to a page that is not there, end the kernel's launch
// and not the process.
#pragma once

#include <csetjmp>

namespace emulator {

class FaultTrap {
 public:
  FaultTrap();
  ~FaultTrap();
  FaultTrap(const FaultTrap&) = delete;

  // The fault comes back from sigsetjmp(trap.target, 1) with the signal's number.
  sigjmp_buf target;
  static void* faultAddress;
};

}  // namespace emulator
