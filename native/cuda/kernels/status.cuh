// The state of a run, in device memory: the first parameter of every kernel. native/cuda/status.h mirrors it.
#pragma once

namespace fluxion {

struct Status {
  // The least (position << 32 | index) of the indices that were out of range; all ones: none was. A check is one block,
  // which looks at all indices before it writes: no thread of it stops for what another one has found.
  unsigned long long error;
  int errorOperation;   // the number of the check that found it, which its kernel has as a literal
  int stopped;          // a loop's guard was not finite: no later step may change anything
  long long completed;  // committed steps of the loop
  long long ran;        // steps that ran, the uncommitted one included
  long long slot;       // where the observations of the step at hand go
};

__device__ __forceinline__ bool stopped(const Status* status) {
  return status->stopped != 0 || status->error != ~0ull;
}

}  // namespace fluxion
