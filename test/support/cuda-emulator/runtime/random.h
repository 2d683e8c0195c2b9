// A small generator for the orders in which threads and blocks run.
#pragma once

#include <cstdint>

namespace emulator {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {
    for (int i = 0; i < 4; ++i) next();
  }

  // Below `limit`.
  uint32_t below(uint32_t limit) { return uint32_t(uint64_t(next()) * limit >> 32); }

 private:
  uint32_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return uint32_t(state_ >> 32);
  }

  uint64_t state_;
};

}  // namespace emulator
