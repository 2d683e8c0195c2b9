// In place of the project's header of this name.
#pragma once

namespace fluxion {

inline unsigned tf32(float x) {
  const unsigned bits = __float_as_uint(x);
  return isfinite(x) ? (bits + 0x1000u) & ~0x1fffu : bits;
}

inline unsigned bfloat16x2(float low, float high) { return emulator::bfloat16(high) << 16 | emulator::bfloat16(low); }

inline void multiplyTf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMULATED_SITE) {
  emulator::Fragments mine{d, a, b};
  emulator::state.runtime->warp({"multiplyTf32", file, line}, ~0u, emulator::tf32Product, &mine);
}

inline void multiplyBfloat16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMULATED_SITE) {
  emulator::Fragments mine{d, a, b};
  emulator::state.runtime->warp({"multiplyBfloat16", file, line}, ~0u, emulator::bfloat16Product, &mine);
}

}  // namespace fluxion
