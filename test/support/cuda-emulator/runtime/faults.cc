#include "faults.h"

#include <signal.h>
#include <sys/mman.h>

#include <cstdlib>

namespace emulator {

void* FaultTrap::faultAddress = nullptr;

namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
struct sigaction before[4];
thread_local FaultTrap* current = nullptr;

void handle(int number, siginfo_t* information, void* context) {
  if (current != nullptr) {
    FaultTrap::faultAddress = information->si_addr;
    siglongjmp(current->target, number);
  }
  // Not ours: as if this handler was not there.
  for (int i = 0; i < 4; ++i) {
    if (kSignals[i] != number) continue;
    if (before[i].sa_flags & SA_SIGINFO && before[i].sa_sigaction != nullptr) {
      before[i].sa_sigaction(number, information, context);
    } else {
      sigaction(number, &before[i], nullptr);
    }
  }
}

void install() {
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (int i = 0; i < 4; ++i) sigaction(kSignals[i], &action, &before[i]);
}

// The handler's own stack, since a fiber's may be what has run over.
struct SignalStack {
  SignalStack() : memory(malloc(bytes)) {
    stack_t stack = {};
    stack.ss_sp = memory;
    stack.ss_size = bytes;
    sigaltstack(&stack, nullptr);
  }
  ~SignalStack() {
    stack_t stack = {};
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, nullptr);
    free(memory);
  }
  static constexpr size_t bytes = 64 << 10;
  void* memory;
};

}  // namespace

FaultTrap::FaultTrap() {
  static const bool installed = (install(), true);
  static thread_local SignalStack stack;
  (void)installed;
  (void)stack;
  current = this;
}

FaultTrap::~FaultTrap() { current = nullptr; }

}  // namespace emulator
