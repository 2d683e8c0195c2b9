#include "context.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "memory.h"

struct CUctx_st {};

namespace emulator {

namespace {

std::recursive_mutex mutex;
bool initialized = false;
CUctx_st primary;
thread_local CUcontext current = nullptr;
CUresult sticky = CUDA_SUCCESS;

}  // namespace

Call::Call() : lock_(mutex) {
  error_ = !initialized ? CUDA_ERROR_NOT_INITIALIZED
           : current == nullptr ? CUDA_ERROR_INVALID_CONTEXT
                                : sticky;
}

void breakContext(CUresult error, const char* why) {
  fprintf(stderr, "CUDA emulator: %s\n", why);
  if (sticky == CUDA_SUCCESS) sticky = error;
}

bool isBroken() { return sticky != CUDA_SUCCESS; }

bool checksMemory() {
  static const char* text = getenv("FLUXION_EMULATED_CHECKS");
  return text == nullptr || strcmp(text, "0") != 0;
}

}  // namespace emulator

using namespace emulator;

CUDA_API CUresult cuInit(unsigned flags) {
  REQUIRE(flags == 0, CUDA_ERROR_INVALID_VALUE);
  std::lock_guard<std::recursive_mutex> lock(mutex);
  initialized = true;
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuDriverGetVersion(int* version) {
  REQUIRE(version, CUDA_ERROR_INVALID_VALUE);
  *version = 13000;
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceGetCount(int* count) {
  REQUIRE(initialized, CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(count, CUDA_ERROR_INVALID_VALUE);
  *count = 1;
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  REQUIRE(initialized, CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(device, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(ordinal == 0, CUDA_ERROR_INVALID_DEVICE);
  *device = 0;
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  REQUIRE(initialized, CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  REQUIRE(name && length > 0, CUDA_ERROR_INVALID_VALUE);
  snprintf(name, size_t(length), "fluxion emulator");
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  REQUIRE(initialized, CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  REQUIRE(bytes, CUDA_ERROR_INVALID_VALUE);
  *bytes = memoryLimit();
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
  REQUIRE(initialized, CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  REQUIRE(value, CUDA_ERROR_INVALID_VALUE);
  switch (attribute) {
    case 1: *value = 1024; return CUDA_SUCCESS;            // MAX_THREADS_PER_BLOCK
    case 8: *value = 48 << 10; return CUDA_SUCCESS;        // MAX_SHARED_MEMORY_PER_BLOCK
    case 10: *value = 32; return CUDA_SUCCESS;             // WARP_SIZE
    case 12: *value = 65536; return CUDA_SUCCESS;          // MAX_REGISTERS_PER_BLOCK
    case 16: *value = 132; return CUDA_SUCCESS;            // MULTIPROCESSOR_COUNT
    case 38: *value = 50 << 20; return CUDA_SUCCESS;       // L2_CACHE_SIZE
    case 39: *value = 2048; return CUDA_SUCCESS;           // MAX_THREADS_PER_MULTIPROCESSOR
    case 75: *value = 9; return CUDA_SUCCESS;              // COMPUTE_CAPABILITY_MAJOR
    case 76: *value = 0; return CUDA_SUCCESS;              // COMPUTE_CAPABILITY_MINOR
    case 81: *value = 233472; return CUDA_SUCCESS;         // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
    case 97: *value = 232448; return CUDA_SUCCESS;         // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}

CUDA_API CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  REQUIRE(initialized, CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  REQUIRE(context, CUDA_ERROR_INVALID_VALUE);
  *context = &primary;
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  REQUIRE(initialized, CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuCtxSetCurrent(CUcontext context) {
  REQUIRE(initialized, CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(context == nullptr || context == &primary, CUDA_ERROR_INVALID_CONTEXT);
  current = context;
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuCtxSynchronize() {
  BEGIN_CALL;
  return CUDA_SUCCESS;
}
