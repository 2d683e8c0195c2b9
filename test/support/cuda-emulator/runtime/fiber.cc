#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

// Saves the registers that a called function must preserve on the stack, then takes up the other stack.
#if defined(__x86_64__)

asm(R"(
.text
.globl emulatorSwitch
.hidden emulatorSwitch
.type emulatorSwitch, @function
emulatorSwitch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulatorSwitch, .-emulatorSwitch
)");

namespace {
// Six registers, where to go on, and a return address that keeps the stack aligned as after a call.
constexpr int kSavedWords = 8, kEntryWord = 6;
}  // namespace

#elif defined(__aarch64__)

asm(R"(
.text
.globl emulatorSwitch
.hidden emulatorSwitch
.type emulatorSwitch, %function
emulatorSwitch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size emulatorSwitch, .-emulatorSwitch
)");

namespace {
constexpr int kSavedWords = 20, kEntryWord = 11;  // x30
}  // namespace

#else
#error "the CUDA emulator switches stacks on x86-64 and arm64 only"
#endif

namespace emulator {

namespace {
size_t pageBytes() {
  static const size_t bytes = size_t(sysconf(_SC_PAGESIZE));
  return bytes;
}
}  // namespace

Fiber::Fiber() {
  void* memory = mmap(nullptr, pageBytes() + stackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) abort();
  memory_ = static_cast<char*>(memory);
  mprotect(memory_, pageBytes(), PROT_NONE);
}

Fiber::~Fiber() { munmap(memory_, pageBytes() + stackBytes); }

void Fiber::reset(void (*entry)()) {
  auto* top = reinterpret_cast<uint64_t*>(memory_ + pageBytes() + stackBytes);
  uint64_t* saved = top - kSavedWords;
  memset(saved, 0, kSavedWords * sizeof(uint64_t));
  saved[kEntryWord] = reinterpret_cast<uint64_t>(entry);
  continuation = saved;
}

}  // namespace emulator
