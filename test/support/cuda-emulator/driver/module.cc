// Modules: the shared library that the emulated NVRTC made of a program, loaded from a file of its own.
#include <dlfcn.h>
#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../device/interface.h"
#include "../runtime/launch.h"
#include "context.h"
#include "memory.h"
#include "stream.h"

struct CUfunc_st {
  const emulator::Module* module;
  const emulator::Kernel* kernel;
  int maxDynamicShared = 48 << 10;
};

struct CUmod_st {
  void* library;
  std::vector<std::unique_ptr<CUfunc_st>> functions;
};

namespace emulator {

namespace {

constexpr int kSharedWithoutAsking = 48 << 10;
constexpr int kSharedAtMost = 232448;

Handles<CUmodule> modules;
Handles<CUfunction> functions;

// The section table is the end of what the linker writes.
size_t imageBytes(const void* image) {
  Elf64_Ehdr header;
  memcpy(&header, image, sizeof(header));
  return header.e_shoff + size_t(header.e_shnum) * header.e_shentsize;
}

void* openImage(const void* image) {
  const char* folder = getenv("TMPDIR");
  std::string path = std::string(folder ? folder : "/tmp") + "/fluxion-module-XXXXXX";
  const int file = mkstemp(path.data());
  if (file < 0) return nullptr;
  const size_t bytes = imageBytes(image);
  size_t written = 0;
  while (written < bytes) {
    const ssize_t more = write(file, static_cast<const char*>(image) + written, bytes - written);
    if (more <= 0) break;
    written += size_t(more);
  }
  close(file);
  void* library = written == bytes ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
  unlink(path.c_str());
  return library;
}

// Of the first address among the arguments that is no device memory, its number; -1 when there is none. An empty
// buffer may have any address that ends an allocation, or none.
int foreignAddress(const Kernel& kernel, void** arguments) {
  for (int i = 0; i < kernel.parameters; ++i) {
    if (!kernel.pointers[i]) continue;
    CUdeviceptr address;
    memcpy(&address, arguments[i], sizeof(address));
    if (address != 0 && !isDeviceMemory(address, 0)) return i;
  }
  return -1;
}

bool allGuardsHold(const Kernel& kernel, void** arguments) {
  for (int i = 0; i < kernel.parameters; ++i) {
    if (!kernel.pointers[i]) continue;
    CUdeviceptr address;
    memcpy(&address, arguments[i], sizeof(address));
    if (!guardsHold(address)) return false;
  }
  return true;
}

// The launch itself succeeds; what the kernel did wrong is the answer of the next call.
CUresult runKernel(const CUfunc_st& function, const Grid& grid, void** arguments) {
  const Kernel& kernel = *function.kernel;
  const int foreign = foreignAddress(kernel, arguments);
  if (foreign >= 0) {
    const std::string message = std::string("kernel ") + kernel.name + " was given an address for its parameter " +
                                std::to_string(foreign) + " that is no device memory";
    breakContext(CUDA_ERROR_ILLEGAL_ADDRESS, message.c_str());
    return CUDA_SUCCESS;
  }
  std::string message;
  const Outcome outcome = launch(*function.module, kernel, grid, arguments, message);
  if (outcome != Outcome::done) {
    breakContext(outcome == Outcome::illegalAddress ? CUDA_ERROR_ILLEGAL_ADDRESS
                 : outcome == Outcome::misaligned   ? CUDA_ERROR_MISALIGNED_ADDRESS
                                                    : CUDA_ERROR_LAUNCH_FAILED,
                 message.c_str());
  } else if (!allGuardsHold(kernel, arguments)) {
    message = std::string("kernel ") + kernel.name + " wrote beside the bounds of a buffer";
    breakContext(CUDA_ERROR_ILLEGAL_ADDRESS, message.c_str());
  }
  return CUDA_SUCCESS;
}

}  // namespace

}  // namespace emulator

using namespace emulator;

CUDA_API CUresult cuModuleLoadData(CUmodule* result, const void* image) {
  BEGIN_CALL;
  REQUIRE(result && image, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(memcmp(image, ELFMAG, SELFMAG) == 0, CUDA_ERROR_INVALID_IMAGE);
  void* library = openImage(image);
  REQUIRE(library, CUDA_ERROR_INVALID_IMAGE);
  auto* about = reinterpret_cast<const Module* (*)()>(dlsym(library, "fluxionEmulatedModule"));
  if (about == nullptr) {
    dlclose(library);
    return CUDA_ERROR_INVALID_IMAGE;
  }
  const Module& description = *about();
  auto* module = new CUmod_st{library, {}};
  for (int i = 0; i < description.count; ++i) {
    module->functions.push_back(std::make_unique<CUfunc_st>(CUfunc_st{&description, &description.kernels[i]}));
    functions.add(module->functions.back().get());
  }
  *result = modules.add(module);
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuModuleUnload(CUmodule module) {
  BEGIN_CALL;
  REQUIRE(modules.remove(module), CUDA_ERROR_INVALID_HANDLE);
  for (auto& function : module->functions) functions.remove(function.get());
  dlclose(module->library);
  delete module;
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuModuleGetFunction(CUfunction* result, CUmodule module, const char* name) {
  BEGIN_CALL;
  REQUIRE(result && name, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(modules.has(module), CUDA_ERROR_INVALID_HANDLE);
  for (auto& function : module->functions) {
    if (strcmp(function->kernel->name, name) != 0) continue;
    *result = function.get();
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_NOT_FOUND;
}

CUDA_API CUresult cuFuncGetAttribute(int* value, int attribute, CUfunction function) {
  BEGIN_CALL;
  REQUIRE(value, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(functions.has(function), CUDA_ERROR_INVALID_HANDLE);
  switch (attribute) {
    case 0: *value = function->kernel->maxThreads; return CUDA_SUCCESS;  // MAX_THREADS_PER_BLOCK
    case 1: *value = 0; return CUDA_SUCCESS;                             // SHARED_SIZE_BYTES: not known by kernel
    case 3: *value = 0; return CUDA_SUCCESS;                             // LOCAL_SIZE_BYTES
    case 4: *value = 32; return CUDA_SUCCESS;                            // NUM_REGS
    case 8: *value = function->maxDynamicShared; return CUDA_SUCCESS;    // MAX_DYNAMIC_SHARED_SIZE_BYTES
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}

CUDA_API CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  BEGIN_CALL;
  REQUIRE(functions.has(function), CUDA_ERROR_INVALID_HANDLE);
  if (attribute == 9) return CUDA_SUCCESS;  // PREFERRED_SHARED_MEMORY_CARVEOUT
  REQUIRE(attribute == 8 && value >= 0 && value <= kSharedAtMost, CUDA_ERROR_INVALID_VALUE);
  function->maxDynamicShared = value;
  return CUDA_SUCCESS;
}

// As a device lays parameters out: each at a multiple of its size.
CUDA_API CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t* offset, size_t* size) {
  BEGIN_CALL;
  REQUIRE(offset, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(functions.has(function), CUDA_ERROR_INVALID_HANDLE);
  REQUIRE(index < size_t(function->kernel->parameters), CUDA_ERROR_INVALID_VALUE);
  size_t at = 0;
  for (size_t i = 0; i <= index; ++i) {
    const size_t bytes = size_t(function->kernel->sizes[i]);
    at = (at + bytes - 1) / bytes * bytes;
    if (i < index) at += bytes;
  }
  *offset = at;
  if (size != nullptr) *size = size_t(function->kernel->sizes[index]);
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuLaunchKernel(CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX,
                                 unsigned blockY, unsigned blockZ, unsigned sharedBytes, CUstream stream,
                                 void** parameters, void** extra) {
  BEGIN_CALL;
  REQUIRE(functions.has(function), CUDA_ERROR_INVALID_HANDLE);
  const Kernel& kernel = *function->kernel;
  REQUIRE(gridX > 0 && gridX <= 0x7fffffff && gridY > 0 && gridY <= 65535 && gridZ > 0 && gridZ <= 65535,
          CUDA_ERROR_INVALID_VALUE);
  REQUIRE(blockX > 0 && blockX <= 1024, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(blockY == 1 && blockZ == 1, CUDA_ERROR_NOT_SUPPORTED);
  REQUIRE(int(blockX) <= kernel.maxThreads, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
  REQUIRE(sharedBytes <= unsigned(std::max(function->maxDynamicShared, kSharedWithoutAsking)),
          CUDA_ERROR_INVALID_VALUE);
  REQUIRE(extra == nullptr && (parameters != nullptr || kernel.parameters == 0), CUDA_ERROR_INVALID_VALUE);
  // The arguments are read now, whenever the kernel runs.
  std::vector<std::vector<char>> values;
  for (int i = 0; i < kernel.parameters; ++i) {
    REQUIRE(parameters[i], CUDA_ERROR_INVALID_VALUE);
    const char* value = static_cast<const char*>(parameters[i]);
    values.emplace_back(value, value + kernel.sizes[i]);
  }
  const Grid grid{{gridX, gridY, gridZ}, blockX, sharedBytes};
  return enqueue(stream, [function, grid, values = std::move(values)] {
    std::vector<void*> arguments;
    for (const auto& value : values) arguments.push_back(const_cast<char*>(value.data()));
    return runKernel(*function, grid, arguments.data());
  });
}
