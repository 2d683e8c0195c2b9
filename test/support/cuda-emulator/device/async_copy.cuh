// In place of the project's header of this name: a copy is done when its thread waits for it, as late as it may be on a
// device; until then its target holds garbage.
#pragma once

namespace fluxion {

template <int Size>
inline void copyAsync(void* target, const void* source, int bytes = Size) {
  static_assert(Size == 4 || Size == 8 || Size == 16);
  emulator::state.runtime->copyAsync(target, source, Size, bytes);
}

inline void commitCopies() { emulator::state.runtime->commitCopies(); }

template <int N>
inline void waitCopies() {
  emulator::state.runtime->waitForCopies(N);
}

}  // namespace fluxion
