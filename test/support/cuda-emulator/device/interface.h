// What a compiled kernel and the emulator know of each other. Both sides include this; it uses no other header.
#pragma once

namespace emulator {

struct Index3 {
  unsigned x, y, z;
};

// A place in the source, and what is called there.
struct Site {
  const char* what;
  const char* file;
  int line;
};

// Does a warp's operation for all lanes of the mask at once; `lanes[i]` is the record that lane i waits with.
using WarpOperation = void (*)(void* const* lanes, unsigned mask);

// What device functions ask of the scheduler.
struct Runtime {
  // Waits for all threads of the block; gives the number of those whose predicate was not 0.
  int (*barrier)(Site site, bool predicate);
  // Waits for the lanes of the mask.
  void (*warp)(Site site, unsigned mask, WarpOperation operation, void* lane);
  // Copies `valid` bytes and zeroes up to `bytes`, but not before the thread has waited for the copy's group.
  void (*copyAsync)(void* to, const void* from, int bytes, int valid);
  void (*commitCopies)();
  // Waits until at most `pending` of the newest groups are open.
  void (*waitForCopies)(int pending);
  // Ends the launch: the program did what a device forbids.
  void (*fault)(Site site);
};

// The built-in variables of the thread that runs.
struct State {
  Index3 threadIdx, blockIdx, blockDim, gridDim;
  char* dynamicShared;
  const Runtime* runtime;
};

struct Kernel {
  const char* name;
  // Runs one thread.
  void (*call)(void** arguments);
  int parameters;
  const int* sizes;          // of the parameters, in bytes
  const bool* pointers;      // which parameters are addresses
  int maxThreads;            // __launch_bounds__
};

struct Module {
  State* state;
  const Kernel* kernels;
  int count;
  char* sharedBegin;  // all static __shared__ variables
  char* sharedEnd;
};

}  // namespace emulator
