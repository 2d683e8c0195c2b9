// What memory holds that nobody has written: NaN as floats and as doubles, a great number as integers.
#pragma once

#include <cstdint>
#include <cstring>

namespace emulator {

// From an address that is a multiple of 4.
inline void fillWithGarbage(void* begin, size_t bytes) {
  constexpr uint32_t kGarbage = 0x7ff7a5a5;
  auto* words = static_cast<uint32_t*>(begin);
  for (size_t i = 0; i < bytes / 4; ++i) words[i] = kGarbage;
  memcpy(static_cast<char*>(begin) + bytes / 4 * 4, &kGarbage, bytes % 4);
}

}  // namespace emulator
