// Measures the machine with threads of its own, all busy at once from one starting line: the pool's threads join a
// job when they can, which suits work that is shared out, and would leave a measurement short of threads.
#include "peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <numeric>
#include <string>
#include <system_error>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <sched.h>
#endif

#include "kernels.h"
#include "runner.h"
#include "steps.h"

namespace fluxion {

namespace isa_baseline { PeakKernels peakKernels(); }
#if defined(FLUXION_X86)
namespace isa_avx2 { PeakKernels peakKernels(); }
namespace isa_avx512 { PeakKernels peakKernels(); }
#endif

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A thread that the system delays may start later than others.
double secondsSinceFirst(const std::vector<Clock::time_point>& starts) {
  return secondsSince(*std::min_element(starts.begin(), starts.end()));
}

PeakKernels kernelsInUse() {
#if defined(FLUXION_X86)
  const char* name = currentKernels().name;
  if (std::strcmp(name, "avx512") == 0) return isa_avx512::peakKernels();
  if (std::strcmp(name, "avx2") == 0) return isa_avx2::peakKernels();
#endif
  return isa_baseline::peakKernels();
}

int checkedThreads(int64_t threads) {
  if (threads < 1 || threads > 256) {
    throw PlanError("the number of threads is " + std::to_string(threads) + "; use an integer from 1 to 256");
  }
  return static_cast<int>(threads);
}

// Where threads wait for each other, busily, so that they go on within a microsecond.
class StartingLine {
 public:
  explicit StartingLine(int threads) : threads_(threads) {}
  void wait() {
    const int turn = turn_.load();
    if (waiting_.fetch_add(1) + 1 == threads_) {
      waiting_ = 0;
      turn_.fetch_add(1);
      return;
    }
    while (turn_.load() == turn) std::this_thread::yield();  // there may be fewer cores than threads
  }

 private:
  const int threads_;
  std::atomic<int> waiting_{0}, turn_{0};
};

// Gives each thread a core of its own while there are any: two on one core, as new threads often begin, would be
// measured long before the system parts them. The system chooses among the cores that are left, and where it put a
// thread, the thread stays. The caller may go anywhere again when this ends.
class Places {
#if defined(__linux__)
 public:
  Places() {
    sched_getaffinity(0, sizeof allowed_, &allowed_);
    left_ = allowed_;
    take();
  }
  ~Places() { sched_setaffinity(0, sizeof allowed_, &allowed_); }
  void take() {
    if (CPU_COUNT(&left_) == 0) {
      sched_setaffinity(0, sizeof allowed_, &allowed_);
      return;
    }
    sched_setaffinity(0, sizeof left_, &left_);
    cpu_set_t here;
    CPU_ZERO(&here);
    const int core = sched_getcpu();
    CPU_SET(core, &here);
    sched_setaffinity(0, sizeof here, &here);
    CPU_CLR(core, &left_);
  }

 private:
  cpu_set_t allowed_{}, left_{};
#else
 public:
  void take() {}
#endif
};

// body(thread) on every thread at once; the caller is thread 0. Where the machine gives fewer threads, none begins.
template <class Body>
void together(int threads, const Body& body) {
  Places places;
  std::vector<std::thread> others;
  std::atomic<int> placed{1};
  std::atomic<bool> all{false}, failed{false};
  try {
    for (int thread = 1; thread < threads; thread++) {
      others.emplace_back([&, thread] {
        while (placed != thread) std::this_thread::yield();
        places.take();
        placed++;
        while (!all && !failed) std::this_thread::yield();
        if (!failed) body(thread);
      });
    }
    while (placed != threads) std::this_thread::yield();
    all = true;
    body(0);
  } catch (const std::system_error&) {
    failed = true;
  }
  for (std::thread& other : others) other.join();
  if (failed) throw PlanError("cannot start " + std::to_string(threads) + " threads");
}

}  // namespace

double measurePeak(int64_t threads, double seconds) {
  const int count = checkedThreads(threads);
  if (!(seconds > 0 && seconds <= 60)) {
    throw PlanError("the peak is measured for " + std::to_string(seconds) + " seconds; use more than 0, at most 60");
  }
  const PeakKernels kernels = kernelsInUse();
  constexpr int kWindows = 5;
  constexpr int64_t kRounds = 2000;  // some 10 us between looks at the clock
  const double window = seconds / kWindows;
  std::vector<int64_t> rounds(static_cast<size_t>(count));
  std::vector<Clock::time_point> starts(static_cast<size_t>(count));
  double best = 0;
  StartingLine line(count);
  together(count, [&](int thread) {
    volatile float sink = 0;
    for (int i = 0; i < kWindows; i++) {
      int64_t mine = 0;
      line.wait();
      const Clock::time_point start = starts[static_cast<size_t>(thread)] = Clock::now();
      do {
        sink = sink + kernels.multiplyAdds(kRounds);
        mine += kRounds;
      } while (secondsSince(start) < window);
      rounds[static_cast<size_t>(thread)] = mine;
      line.wait();
      if (thread != 0) continue;
      const int64_t all = std::accumulate(rounds.begin(), rounds.end(), int64_t{0});
      best = std::max(best, static_cast<double>(all) * kernels.flopsPerRound / secondsSinceFirst(starts));
    }
  });
  return best;
}

double measureBandwidth(int64_t threads, int64_t bytes) {
  const int count = checkedThreads(threads);
  const int64_t size = bytes / static_cast<int64_t>(sizeof(float));
  if (size < 1) {
    throw PlanError("the bandwidth is measured on arrays of " + std::to_string(bytes) + " bytes; use at least 4");
  }
  const PeakKernels kernels = kernelsInUse();
  const size_t length = checkedBytes(static_cast<double>(size) * sizeof(float));
  const Memory a(length), b(length), c(length);
  constexpr int kPasses = 5;
  double best = 0;
  std::vector<Clock::time_point> starts(static_cast<size_t>(count));
  StartingLine line(count);
  together(count, [&](int thread) {
    const int64_t from = size * thread / count, to = size * (thread + 1) / count;
    float *mine = reinterpret_cast<float*>(a.data()) + from, *left = reinterpret_cast<float*>(b.data()) + from,
          *right = reinterpret_cast<float*>(c.data()) + from;
    std::fill_n(mine, to - from, 0.0f);  // the first touch, which gives memory its place, is not measured
    std::fill_n(left, to - from, 1.0f);
    std::fill_n(right, to - from, 2.0f);
    for (int pass = 0; pass < kPasses; pass++) {
      line.wait();
      starts[static_cast<size_t>(thread)] = Clock::now();
      kernels.triad(mine, left, right, 0.5f, to - from);
      line.wait();
      if (thread == 0) best = std::max(best, 3.0 * static_cast<double>(length) / secondsSinceFirst(starts));
    }
  });
  return best;
}

}  // namespace fluxion
