#include "thread_pool.h"

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "../common/plan.h"

namespace fluxion {
namespace {

constexpr int kMaxThreads = 256;
constexpr int kSpins = 2000;

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int checked(long count, const std::string& given) {
  if (count < 1 || count > kMaxThreads) {
    throw PlanError("the number of threads is " + given + "; use an integer from 1 to 256");
  }
  return static_cast<int>(count);
}

int initialCount() {
  if (const char* text = std::getenv("FLUXION_NUM_THREADS"); text != nullptr && *text != 0) {
    char* end = nullptr;
    const long count = std::strtol(text, &end, 10);
    return checked(*end == 0 ? count : 0, "FLUXION_NUM_THREADS=\"" + std::string(text) + "\"");
  }
  int count = 0;
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
#endif
  if (count < 1) count = static_cast<int>(std::thread::hardware_concurrency());
  return count < 1 ? 1 : count > kMaxThreads ? kMaxThreads : count;
}

class Pool {
 public:
  int count() {
    const std::lock_guard<std::mutex> lock(countMutex_);
    if (count_ == 0) count_ = initialCount();
    return count_;
  }
  void setCount(int count) {
    const std::lock_guard<std::mutex> lock(countMutex_);
    count_ = checked(count, std::to_string(count));
  }

  void run(int64_t tasks, int slots, Task f, void* context) {
    int threads = slots;
    if (tasks < threads) threads = static_cast<int>(tasks);
    std::unique_lock<std::mutex> job(jobMutex_, std::defer_lock);
    if (threads <= 1 || !job.try_lock() || !grow(threads - 1)) {
      for (int64_t task = 0; task < tasks; task++) f(context, task, 0);
      return;
    }
    f_ = f;
    context_ = context;
    tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    left_.store(0, std::memory_order_relaxed);
    gate_.store(kOpen | static_cast<uint32_t>(threads - 1) << 16, std::memory_order_release);
    {
      const std::lock_guard<std::mutex> lock(sleepMutex_);
      epoch_.fetch_add(1, std::memory_order_release);
    }
    if (sleeping_.load(std::memory_order_seq_cst) > 0) {
      keepAway();
      wake_.notify_all();
    }
    work(0);
    // Only those who came in are waited for: a thread that is slow to wake delays nobody.
    const uint32_t entered = gate_.exchange(0, std::memory_order_acq_rel) & 0xffff;
    for (int spins = 0; left_.load(std::memory_order_acquire) != entered; spins++) {
      if (spins < 20000) pause();
      else std::this_thread::yield();
    }
  }

 private:
  // Threads are detached and the pool is never destroyed: they sleep through the end of the process.
  bool grow(int workers) {
    while (workers_ < workers) {
      try {
        std::thread(&Pool::loop, this, epoch_.load()).detach();
      } catch (...) {
        return false;
      }
      workers_++;
    }
    return true;
  }

  void work(int slot) {
    for (;;) {
      const int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
      if (task >= tasks_) return;
      f_(context_, task, slot);
    }
  }

  // The slot in the open job, or 0 if there is none or it has helpers enough.
  int enter() {
    uint32_t gate = gate_.load(std::memory_order_acquire);
    while ((gate & kOpen) != 0 && (gate & 0xffff) < ((gate & ~kOpen) >> 16)) {
      if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) {
        return static_cast<int>(gate & 0xffff) + 1;
      }
    }
    return 0;
  }

  // A worker that wakes on the core of the thread that woke it waits for that core, for milliseconds, or takes it
  // away. So before workers are woken, they are barred from it; the scheduler chooses among the others.
  void keepAway() {
#if defined(__linux__)
    const int core = sched_getcpu();
    const std::lock_guard<std::mutex> lock(idsMutex_);
    if (core < 0 || (core == barred_ && steered_ == ids_.size())) return;
    cpu_set_t others = allowed_;
    CPU_CLR(core, &others);
    if (CPU_COUNT(&others) == 0) return;
    for (const pid_t id : ids_) sched_setaffinity(id, sizeof others, &others);
    barred_ = core;
    steered_ = ids_.size();
#endif
  }

  void announce() {
#if defined(__linux__)
    const std::lock_guard<std::mutex> lock(idsMutex_);
    if (ids_.empty()) sched_getaffinity(0, sizeof allowed_, &allowed_);
    ids_.push_back(static_cast<pid_t>(syscall(SYS_gettid)));
#endif
  }

  void loop(uint64_t seen) {
    announce();
    for (;;) {
      for (int spins = 0; epoch_.load(std::memory_order_acquire) == seen && spins < kSpins; spins++) pause();
      if (epoch_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(sleepMutex_);
        sleeping_.fetch_add(1);
        wake_.wait(lock, [&] { return epoch_.load(std::memory_order_acquire) != seen; });
        sleeping_.fetch_sub(1);
      }
      seen = epoch_.load(std::memory_order_acquire);
      if (const int slot = enter(); slot != 0) {
        work(slot);
        left_.fetch_add(1, std::memory_order_release);
      }
    }
  }

  std::mutex countMutex_;
  int count_ = 0;

  std::mutex jobMutex_;
  int workers_ = 0;
  Task f_ = nullptr;
  void* context_ = nullptr;
  int64_t tasks_ = 0;
  alignas(64) std::atomic<int64_t> next_{0};
  // kOpen | most helpers << 16 | helpers that came in
  static constexpr uint32_t kOpen = 0x80000000u;
  alignas(64) std::atomic<uint32_t> gate_{0};
  std::atomic<uint32_t> left_{0};
  alignas(64) std::atomic<uint64_t> epoch_{0};
#if defined(__linux__)
  std::mutex idsMutex_;
  std::vector<pid_t> ids_;
  cpu_set_t allowed_{};  // the cores that the process was given
  int barred_ = -1;
  size_t steered_ = 0;
#endif
  std::mutex sleepMutex_;
  std::condition_variable wake_;
  std::atomic<int> sleeping_{0};
};

Pool& pool() {
  static Pool* const instance = new Pool;
  return *instance;
}

}  // namespace

int threadCount() { return pool().count(); }
void setThreadCount(int count) { pool().setCount(count); }
void parallelFor(int64_t tasks, int slots, Task f, void* context) { pool().run(tasks, slots, f, context); }

}  // namespace fluxion
