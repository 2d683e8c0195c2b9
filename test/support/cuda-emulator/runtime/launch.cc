#include "launch.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>
#include <vector>

#include "copies.h"
#include "faults.h"
#include "fiber.h"
#include "garbage.h"
#include "random.h"

namespace emulator {

namespace {

constexpr int kMaxThreads = 1024;
constexpr int kNobody = -1;

struct Thread {
  enum State : unsigned char { fresh, ready, atBarrier, atWarp, exited };
  State state;
  Fiber* fiber;  // null while it is fresh
  // What it waits for.
  Site site;
  unsigned mask;
  WarpOperation operation;
  void* lane;
};

bool same(const Site& a, const Site& b) {
  return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

// Dynamic shared memory: what is asked for ends at a page that nobody may touch.
class SharedMemory {
 public:
  SharedMemory() {
    const size_t page = size_t(sysconf(_SC_PAGESIZE));
    bytes_ = (kMost + page - 1) / page * page;
    void* memory = mmap(nullptr, bytes_ + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) abort();
    begin_ = static_cast<char*>(memory);
    mprotect(begin_ + bytes_, page, PROT_NONE);
  }
  char* last(size_t bytes) const { return begin_ + bytes_ - (bytes + 15) / 16 * 16; }

 private:
  static constexpr size_t kMost = 256 << 10;
  char* begin_;
  size_t bytes_;
};

// All numbers below `total`, in an order that does not look like one: each is the last plus a number prime to it.
class BlockOrder {
 public:
  BlockOrder(uint64_t total, Random& random) : total_(total), left_(total) {
    const auto limit = uint32_t(total < 0xffffffffu ? total : 0xffffffffu);
    step_ = 1 + random.below(limit);
    while (std::gcd(step_, total) != 1) ++step_;
    block = random.below(limit);
  }
  bool next() {
    if (left_ == 0) return false;
    --left_;
    block = (block + step_) % total_;
    return true;
  }
  uint64_t block;

 private:
  uint64_t total_, left_, step_;
};

// The launch that runs; the driver lets only one run at a time.
class Scheduler {
 public:
  Scheduler();

  Outcome run(const Module& module, const Kernel& kernel, const Grid& grid, void** arguments, std::string& message);

  void fiberMain();
  int barrier(Site site, bool predicate);
  void warp(Site site, unsigned mask, WarpOperation operation, void* lane);
  [[noreturn]] void fail(Outcome outcome, const std::string& message);

  PendingCopies copies[kMaxThreads];
  int running = kNobody;

 private:
  void runBlock();
  int pick();
  void makeReady(int thread);
  void resume(int thread, Continuation* from);
  void wait();
  std::string place() const;
  std::string whoWaits() const;

  Thread threads_[kMaxThreads];
  int runnable_[kMaxThreads];
  int runnableCount_ = 0;
  int count_ = 0, exited_ = 0;
  int arrived_ = 0, predicates_ = 0, barrierResult_ = 0;
  unsigned warpArrived_[kMaxThreads / 32];

  const Kernel* kernel_ = nullptr;
  State* state_ = nullptr;
  void** arguments_ = nullptr;
  Outcome outcome_ = Outcome::done;
  std::string message_;

  Continuation main_ = nullptr;
  FiberPool fibers_;
  SharedMemory shared_;
  Random random_;
};

Scheduler& scheduler() {
  static Scheduler instance;
  return instance;
}

const Runtime kRuntime = {
    [](Site site, bool predicate) { return scheduler().barrier(site, predicate); },
    [](Site site, unsigned mask, WarpOperation operation, void* lane) {
      scheduler().warp(site, mask, operation, lane);
    },
    [](void* to, const void* from, int bytes, int valid) {
      auto misaligned = [&](const void* address) { return reinterpret_cast<uintptr_t>(address) % unsigned(bytes) != 0; };
      if (misaligned(to) || (valid > 0 && misaligned(from))) {
        scheduler().fail(Outcome::misaligned, "a misaligned asynchronous copy");
      }
      if (valid < 0 || valid > bytes) scheduler().fail(Outcome::failed, "an asynchronous copy of too many bytes");
      scheduler().copies[scheduler().running].start(to, from, bytes, valid);
    },
    [] { scheduler().copies[scheduler().running].commit(); },
    [](int pending) { scheduler().copies[scheduler().running].wait(pending); },
    [](Site site) {
      const bool misaligned = strstr(site.what, "misaligned") != nullptr;
      scheduler().fail(misaligned ? Outcome::misaligned : Outcome::illegalAddress,
                       std::string(site.what) + " at " + site.file + ":" + std::to_string(site.line));
    },
};

uint64_t seed() {
  const char* text = getenv("FLUXION_EMULATED_SEED");
  return text == nullptr ? 1 : strtoull(text, nullptr, 10);
}

Scheduler::Scheduler() : fibers_([] { scheduler().fiberMain(); }), random_(seed()) {}

// A random one of those that can run; fresh ones have no fiber yet.
int Scheduler::pick() {
  if (runnableCount_ == 0) return kNobody;
  const int place = int(random_.below(uint32_t(runnableCount_)));
  const int thread = runnable_[place];
  runnable_[place] = runnable_[--runnableCount_];
  return thread;
}

void Scheduler::makeReady(int thread) {
  threads_[thread].state = Thread::ready;
  runnable_[runnableCount_++] = thread;
}

// Goes on with a thread, or with the launch when there is none.
void Scheduler::resume(int thread, Continuation* from) {
  if (thread == kNobody) {
    emulatorSwitch(from, main_);
    return;
  }
  Thread& next = threads_[thread];
  if (next.fiber == nullptr) {
    next.fiber = fibers_.take();
    next.fiber->thread = thread;
  }
  running = thread;
  emulatorSwitch(from, next.fiber->continuation);
}

// Lets others run until the running thread is ready and picked.
void Scheduler::wait() {
  const int self = running;
  const int next = pick();
  if (next != self) resume(next, &threads_[self].fiber->continuation);
  running = self;
  state_->threadIdx.x = unsigned(self);
}

// What a fiber does: the thread it was taken for, then fresh ones as long as they are picked.
void Scheduler::fiberMain() {
  for (;;) {
    Fiber* fiber = threads_[running].fiber;
    int next = running;
    do {
      running = fiber->thread = next;
      threads_[next].fiber = fiber;
      state_->threadIdx.x = unsigned(next);
      kernel_->call(arguments_);
      threads_[next].state = Thread::exited;
      ++exited_;
      next = pick();
    } while (next != kNobody && threads_[next].fiber == nullptr);
    fibers_.giveBack(fiber);
    resume(next, &fiber->continuation);
  }
}

int Scheduler::barrier(Site site, bool predicate) {
  Thread& self = threads_[running];
  self.state = Thread::atBarrier;
  self.site = site;
  predicates_ += predicate;
  if (++arrived_ == count_) {
    for (int i = 0; i < count_; ++i) {
      if (!same(threads_[i].site, site)) {
        fail(Outcome::failed, "threads meet at different barriers: " + whoWaits());
      }
    }
    barrierResult_ = predicates_;
    arrived_ = predicates_ = 0;
    for (int i = 0; i < count_; ++i) makeReady(i);
  }
  wait();
  return barrierResult_;
}

void Scheduler::warp(Site site, unsigned mask, WarpOperation operation, void* lane) {
  Thread& self = threads_[running];
  Thread* lanes = threads_ + running / 32 * 32;
  if (!(mask >> running % 32 & 1)) {
    fail(Outcome::failed, std::string(site.what) + " at " + site.file + ":" + std::to_string(site.line) +
                              " by a lane that its mask leaves out");
  }
  self.state = Thread::atWarp;
  self.site = site;
  self.mask = mask;
  self.operation = operation;
  self.lane = lane;
  unsigned& arrived = warpArrived_[running / 32];
  arrived |= 1u << running % 32;
  if ((arrived & mask) == mask) {
    void* records[32] = {};
    bool agreed = true;
    for (int i = 0; i < 32; ++i) {
      if (!(mask >> i & 1)) continue;
      records[i] = lanes[i].lane;
      agreed &= lanes[i].mask == mask && lanes[i].operation == operation && same(lanes[i].site, site);
    }
    if (agreed) {
      operation(records, mask);
      arrived &= ~mask;
      for (int i = 0; i < 32; ++i) {
        if (mask >> i & 1) makeReady(running / 32 * 32 + i);
      }
    }
  }
  wait();
}

std::string Scheduler::place() const {
  auto text = [](Index3 index) {
    return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
  };
  return std::string("kernel ") + kernel_->name + ", block " + text(state_->blockIdx) +
         (running == kNobody ? "" : ", thread " + std::to_string(running));
}

// "thread 0 and 31 others wait at __syncthreads (program.cu:7); ..."
std::string Scheduler::whoWaits() const {
  std::map<std::string, std::vector<int>> groups;
  for (int i = 0; i < count_; ++i) {
    const Thread& thread = threads_[i];
    std::string what = thread.state == Thread::exited ? "exited"
                                                      : std::string("at ") + thread.site.what + " (" + thread.site.file +
                                                            ":" + std::to_string(thread.site.line) + ")";
    groups[what].push_back(i);
  }
  std::string text;
  for (const auto& [what, members] : groups) {
    text += (text.empty() ? "thread " : "; thread ") + std::to_string(members[0]);
    if (members.size() > 1) text += " and " + std::to_string(members.size() - 1) + " others";
    text += " " + what;
  }
  return text;
}

void Scheduler::fail(Outcome outcome, const std::string& message) {
  outcome_ = outcome;
  message_ = place() + ": " + message;
  Continuation forgotten;
  emulatorSwitch(&forgotten, main_);
  abort();
}

void Scheduler::runBlock() {
  for (int i = 0; i < count_; ++i) {
    threads_[i].state = Thread::fresh;
    threads_[i].fiber = nullptr;
    runnable_[i] = i;
    copies[i].clear();
  }
  memset(warpArrived_, 0, sizeof(warpArrived_));
  runnableCount_ = count_;
  exited_ = arrived_ = predicates_ = 0;
  resume(pick(), &main_);
  running = kNobody;
  if (outcome_ == Outcome::done && exited_ != count_) {
    outcome_ = Outcome::failed;
    message_ = place() + ": threads wait for each other: " + whoWaits();
  }
}

Outcome Scheduler::run(const Module& module, const Kernel& kernel, const Grid& grid, void** arguments,
                       std::string& message) {
  kernel_ = &kernel;
  state_ = module.state;
  arguments_ = arguments;
  count_ = int(grid.threads);
  outcome_ = Outcome::done;
  state_->runtime = &kRuntime;
  state_->blockDim = {grid.threads, 1, 1};
  state_->gridDim = grid.blocks;
  state_->threadIdx = {0, 0, 0};
  state_->dynamicShared = shared_.last(grid.sharedBytes);

  BlockOrder order(uint64_t(grid.blocks.x) * grid.blocks.y * grid.blocks.z, random_);
  FaultTrap trap;
  const int signal = sigsetjmp(trap.target, 1);
  if (signal == 0) {
    while (outcome_ == Outcome::done && order.next()) {
      const uint64_t block = order.block;
      state_->blockIdx = {unsigned(block % grid.blocks.x), unsigned(block / grid.blocks.x % grid.blocks.y),
                          unsigned(block / grid.blocks.x / grid.blocks.y)};
      fillWithGarbage(module.sharedBegin, size_t(module.sharedEnd - module.sharedBegin));
      fillWithGarbage(state_->dynamicShared, (grid.sharedBytes + 15) / 16 * 16);
      runBlock();
    }
  } else {
    const bool address = signal == SIGSEGV || signal == SIGBUS;
    outcome_ = address ? Outcome::illegalAddress : Outcome::failed;
    char text[32];
    snprintf(text, sizeof(text), "%p", FaultTrap::faultAddress);
    message_ = place() + ": " +
               (address ? std::string("an access to memory that is not its own, at ") + text
                        : signal == SIGFPE ? "a division of an integer by zero" : "an illegal instruction");
  }
  if (outcome_ != Outcome::done) fibers_.reset();
  message = message_;
  running = kNobody;
  return outcome_;
}

}  // namespace

Outcome launch(const Module& module, const Kernel& kernel, const Grid& grid, void** arguments, std::string& message) {
  return scheduler().run(module, kernel, grid, arguments, message);
}

}  // namespace emulator
