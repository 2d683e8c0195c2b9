// A pool of threads that spin briefly before they sleep: a kernel takes microseconds, waking a sleeping
// thread takes tens of them.
#pragma once

#include <cstdint>

namespace fluxion {

// How many threads run a job at most: FLUXION_NUM_THREADS, or the processors this process may use.
int threadCount();             // throws PlanError if FLUXION_NUM_THREADS is no number from 1 to 256
void setThreadCount(int count);  // throws PlanError

// Runs f(context, task, slot) for every task; slot < slots tells concurrent calls of one job apart.
// `f` must not throw. Tasks are begun in their order, each by any thread, and end in any order: what a task does may
// depend on its number alone. While another job holds the pool, the caller runs its tasks itself.
using Task = void (*)(void* context, int64_t task, int slot);
void parallelFor(int64_t tasks, int slots, Task f, void* context);

template <class F>
void parallelFor(int64_t tasks, int slots, const F& body) {
  const auto call = [](void* context, int64_t task, int slot) { (*static_cast<const F*>(context))(task, slot); };
  parallelFor(tasks, slots, static_cast<Task>(call), const_cast<F*>(&body));
}

}  // namespace fluxion
