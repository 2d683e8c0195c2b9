// In place of the project's header of this name: dynamic shared memory is the emulator's, and ends where a page that
// nobody may touch begins.
#pragma once

namespace fluxion {

inline char* dynamicShared() { return emulator::state.dynamicShared; }

}  // namespace fluxion
