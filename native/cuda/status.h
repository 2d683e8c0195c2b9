// The state of a run, as kernels/status.cuh has it on the device.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fluxion::cuda {

struct Status {
  uint64_t error = ~uint64_t{0};
  int32_t errorOperation = -1;
  int32_t stopped = 0;
  int64_t completed = 0;
  int64_t ran = 0;
  int64_t slot = 0;
};
static_assert(sizeof(Status) == 40 && offsetof(Status, errorOperation) == 8 && offsetof(Status, stopped) == 12 &&
                  offsetof(Status, completed) == 16 && offsetof(Status, ran) == 24 && offsetof(Status, slot) == 32,
              "kernels/status.cuh lays it out so");

// What the commit kernel reads of an observation; as kernels/commit.cuh has it.
struct Observation {
  uint64_t from, to;
  int64_t bytes;
};
static_assert(sizeof(Observation) == 24, "kernels/commit.cuh lays it out so");

}  // namespace fluxion::cuda
