// What all calls of the driver share: one lock, the thread's context, and the error that a bad kernel leaves behind.
#pragma once

#include <mutex>
#include <set>

#include "abi.h"

namespace emulator {

// Of a call: holds the lock, and says with what the call must fail before it begins. A kernel's error stays.
class __attribute__((visibility("default"))) Call {
 public:
  Call();
  CUresult error() const { return error_; }

 private:
  std::lock_guard<std::recursive_mutex> lock_;
  CUresult error_;
};

// All later calls fail with this.
void breakContext(CUresult error, const char* why);
bool isBroken();

// FLUXION_EMULATED_CHECKS is not 0.
bool checksMemory();

// Objects that were made and not destroyed.
template <class T>
class Handles {
 public:
  T add(T handle) {
    live_.insert(handle);
    return handle;
  }
  bool has(T handle) const { return live_.count(handle) > 0; }
  bool remove(T handle) { return live_.erase(handle) > 0; }

 private:
  std::set<T> live_;
};

}  // namespace emulator

// The beginning of a call.
#define BEGIN_CALL         \
  emulator::Call call;     \
  if (call.error() != CUDA_SUCCESS) return call.error()
#define REQUIRE(condition, error) \
  if (!(condition)) return error
