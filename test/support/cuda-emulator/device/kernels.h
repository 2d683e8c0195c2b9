// The table of a module's kernels: how each is called with an array of the addresses of its arguments.
#pragma once

#include "threads.h"

namespace emulator {

template <auto kernel>
struct Entry;

template <int... i>
struct Numbers {};

template <class T>
constexpr bool isPointer = false;
template <class T>
constexpr bool isPointer<T*> = true;

template <class... P, void (*kernel)(P...)>
struct Entry<kernel> {
  static constexpr int sizes[] = {int(sizeof(P))..., 0};
  static constexpr bool pointers[] = {isPointer<P>..., false};

  template <int... i>
  static void apply([[maybe_unused]] void** arguments, Numbers<i...>) {
    kernel(*static_cast<P*>(arguments[i])...);
  }
  static void call(void** arguments) { apply(arguments, Numbers<__integer_pack(sizeof...(P))...>()); }
  static constexpr Kernel of(const char* name, int maxThreads, int = 0, int = 0) {
    return {name, call, int(sizeof...(P)), sizes, pointers, maxThreads};
  }
};

}  // namespace emulator

// The linker's (shared.ld).
extern "C" char emulatedSharedBegin[], emulatedSharedEnd[];
