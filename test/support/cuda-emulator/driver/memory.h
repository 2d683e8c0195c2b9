// Device memory: host memory with guards around it.
#pragma once

#include <string>

#include "abi.h"

namespace emulator {

// FLUXION_EMULATED_MEMORY, or 8 GiB.
size_t memoryLimit();

// Whether all of it lies in one allocation of device memory, or of host memory that the driver gave.
__attribute__((visibility("default"))) bool isDeviceMemory(CUdeviceptr address, size_t bytes);

// Whether nothing was written beside the allocation that holds the address.
bool guardsHold(CUdeviceptr address);

}  // namespace emulator
