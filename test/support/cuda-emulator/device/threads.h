// The built-in variables, barriers, and fences.
#pragma once

#include "interface.h"

namespace emulator {

static State state;

// Where a device function was called: the default argument of its last parameter.
inline constexpr Site site(const char* what, const char* file, int line) { return {what, file, line}; }

}  // namespace emulator

static const emulator::Index3& threadIdx = emulator::state.threadIdx;
static const emulator::Index3& blockIdx = emulator::state.blockIdx;
static const emulator::Index3& blockDim = emulator::state.blockDim;
static const emulator::Index3& gridDim = emulator::state.gridDim;
constexpr int warpSize = 32;

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  emulator::state.runtime->barrier({"__syncthreads", file, line}, false);
}
inline int __syncthreads_count(int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return emulator::state.runtime->barrier({"__syncthreads_count", file, line}, predicate != 0);
}
inline int __syncthreads_or(int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return emulator::state.runtime->barrier({"__syncthreads_or", file, line}, predicate != 0) > 0;
}
inline int __syncthreads_and(int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return emulator::state.runtime->barrier({"__syncthreads_and", file, line}, predicate == 0) == 0;
}

// One thread runs at a time, so memory is always in order.
inline void __threadfence() { __asm__ volatile("" ::: "memory"); }
inline void __threadfence_block() { __threadfence(); }
inline void __threadfence_system() { __threadfence(); }
inline void __nanosleep(unsigned) {}
