// What g++'s sanitizers of alignment and bounds call, with their own names and layouts: ends the launch with the
// place in the source.
#pragma once

#include "threads.h"

namespace emulator {

struct SanitizedPlace {
  const char* file;
  unsigned line, column;
};

inline void misused(const char* what, const void* place) {
  const auto* at = static_cast<const SanitizedPlace*>(place);
  state.runtime->fault({what, at->file, int(at->line)});
}

}  // namespace emulator

extern "C" {
void __ubsan_handle_type_mismatch_v1(void* place, unsigned long) { emulator::misused("a misaligned access", place); }
void __ubsan_handle_out_of_bounds(void* place, unsigned long) {
  emulator::misused("an index outside of its array", place);
}
}
