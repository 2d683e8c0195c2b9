// What this addon uses of the CUDA driver (libcuda.so.1), declared here so that no toolkit is needed to build it.
// The names and numbers are those of the driver's binary interface, of CUDA 11.4 and later.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fluxion::cuda {

using Result = int;            // CUresult
using DeviceNumber = int;      // CUdevice
using Address = unsigned long long;  // CUdeviceptr
using Context = struct ContextObject*;
using Stream = struct StreamObject*;
using Event = struct EventObject*;
using ModuleObject = struct ModuleObjectBody*;
using Function = struct FunctionObject*;
using Graph = struct GraphObject*;
using GraphExec = struct GraphExecObject*;

constexpr Result kSuccess = 0;               // CUDA_SUCCESS
constexpr Result kOutOfMemory = 2;           // CUDA_ERROR_OUT_OF_MEMORY
constexpr Result kDeinitialized = 4;         // CUDA_ERROR_DEINITIALIZED
constexpr Result kNoDevice = 100;            // CUDA_ERROR_NO_DEVICE
constexpr Result kEccUncorrectable = 214;    // CUDA_ERROR_ECC_UNCORRECTABLE
constexpr Result kNotFound = 500;            // CUDA_ERROR_NOT_FOUND
constexpr Result kIllegalAddress = 700;      // CUDA_ERROR_ILLEGAL_ADDRESS
constexpr Result kLaunchTimeout = 702;       // CUDA_ERROR_LAUNCH_TIMEOUT
constexpr Result kContextIsDestroyed = 709;  // CUDA_ERROR_CONTEXT_IS_DESTROYED
constexpr Result kAssert = 710;              // CUDA_ERROR_ASSERT
constexpr Result kHardwareStackError = 714;  // CUDA_ERROR_HARDWARE_STACK_ERROR
constexpr Result kIllegalInstruction = 715;  // CUDA_ERROR_ILLEGAL_INSTRUCTION
constexpr Result kMisalignedAddress = 716;   // CUDA_ERROR_MISALIGNED_ADDRESS
constexpr Result kInvalidAddressSpace = 717;  // CUDA_ERROR_INVALID_ADDRESS_SPACE
constexpr Result kInvalidPc = 718;           // CUDA_ERROR_INVALID_PC
constexpr Result kLaunchFailed = 719;        // CUDA_ERROR_LAUNCH_FAILED
constexpr Result kUnknown = 999;             // CUDA_ERROR_UNKNOWN

constexpr int kMultiprocessorCount = 16;      // CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
constexpr int kComputeCapabilityMajor = 75;   // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
constexpr int kComputeCapabilityMinor = 76;   // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
constexpr int kSharedMemoryPerBlockOptin = 97;  // CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN

constexpr int kFunctionMaxThreads = 0;     // CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK
constexpr int kFunctionStaticShared = 1;   // CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES
constexpr int kFunctionDynamicShared = 8;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

constexpr unsigned kStreamNonBlocking = 1;    // CU_STREAM_NON_BLOCKING
constexpr unsigned kEventDefault = 0;         // CU_EVENT_DEFAULT
constexpr unsigned kEventBlockingSync = 1;    // CU_EVENT_BLOCKING_SYNC
constexpr unsigned kEventDisableTiming = 2;   // CU_EVENT_DISABLE_TIMING
constexpr int kCaptureThreadLocal = 1;        // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL

// X(our name, the library's symbol, parameters): each returns a Result.
#define FLUXION_DRIVER_FUNCTIONS(X)                                                                             \
  X(init, cuInit, (unsigned flags))                                                                             \
  X(driverGetVersion, cuDriverGetVersion, (int* version))                                                       \
  X(getErrorName, cuGetErrorName, (Result error, const char** text))                                            \
  X(getErrorString, cuGetErrorString, (Result error, const char** text))                                        \
  X(deviceGetCount, cuDeviceGetCount, (int* count))                                                             \
  X(deviceGet, cuDeviceGet, (DeviceNumber* device, int ordinal))                                                \
  X(deviceGetName, cuDeviceGetName, (char* name, int length, DeviceNumber device))                              \
  X(deviceGetAttribute, cuDeviceGetAttribute, (int* value, int attribute, DeviceNumber device))                 \
  X(deviceTotalMem, cuDeviceTotalMem_v2, (size_t* bytes, DeviceNumber device))                                  \
  X(devicePrimaryCtxRetain, cuDevicePrimaryCtxRetain, (Context* context, DeviceNumber device))                  \
  X(ctxSetCurrent, cuCtxSetCurrent, (Context context))                                                          \
  X(memGetInfo, cuMemGetInfo_v2, (size_t* free, size_t* total))                                                 \
  X(memAlloc, cuMemAlloc_v2, (Address* address, size_t bytes))                                                  \
  X(memFree, cuMemFree_v2, (Address address))                                                                   \
  X(memAllocHost, cuMemAllocHost_v2, (void** memory, size_t bytes))                                             \
  X(memFreeHost, cuMemFreeHost, (void* memory))                                                                 \
  X(memcpyHtoDAsync, cuMemcpyHtoDAsync_v2, (Address to, const void* from, size_t bytes, Stream stream))         \
  X(memcpyDtoHAsync, cuMemcpyDtoHAsync_v2, (void* to, Address from, size_t bytes, Stream stream))               \
  X(memcpyDtoDAsync, cuMemcpyDtoDAsync_v2, (Address to, Address from, size_t bytes, Stream stream))             \
  X(memsetD8Async, cuMemsetD8Async, (Address to, unsigned char value, size_t count, Stream stream))             \
  X(streamCreate, cuStreamCreate, (Stream * stream, unsigned flags))                                            \
  X(streamSynchronize, cuStreamSynchronize, (Stream stream))                                                    \
  X(streamBeginCapture, cuStreamBeginCapture_v2, (Stream stream, int mode))                                     \
  X(streamEndCapture, cuStreamEndCapture, (Stream stream, Graph * graph))                                       \
  X(eventCreate, cuEventCreate, (Event * event, unsigned flags))                                                \
  X(eventRecord, cuEventRecord, (Event event, Stream stream))                                                   \
  X(eventSynchronize, cuEventSynchronize, (Event event))                                                        \
  X(eventElapsedTime, cuEventElapsedTime, (float* milliseconds, Event start, Event end))                        \
  X(eventDestroy, cuEventDestroy_v2, (Event event))                                                             \
  X(moduleLoadData, cuModuleLoadData, (ModuleObject * module, const void* image))                               \
  X(moduleUnload, cuModuleUnload, (ModuleObject module))                                                        \
  X(moduleGetFunction, cuModuleGetFunction, (Function * function, ModuleObject module, const char* name))       \
  X(funcGetAttribute, cuFuncGetAttribute, (int* value, int attribute, Function function))                       \
  X(funcSetAttribute, cuFuncSetAttribute, (Function function, int attribute, int value))                        \
  X(launchKernel, cuLaunchKernel,                                                                               \
    (Function function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, unsigned blockY,       \
     unsigned blockZ, unsigned sharedBytes, Stream stream, void** parameters, void** extra))                    \
  X(graphInstantiate, cuGraphInstantiateWithFlags, (GraphExec * exec, Graph graph, unsigned long long flags))   \
  X(graphLaunch, cuGraphLaunch, (GraphExec exec, Stream stream))                                                \
  X(graphDestroy, cuGraphDestroy, (Graph graph))                                                                \
  X(graphExecDestroy, cuGraphExecDestroy, (GraphExec exec))

// Not in every driver: from 12.4 on. Null where it is missing.
#define FLUXION_OPTIONAL_DRIVER_FUNCTIONS(X) \
  X(funcGetParamInfo, cuFuncGetParamInfo, (Function function, size_t index, size_t* offset, size_t* size))

struct DriverApi {
#define FLUXION_MEMBER(name, symbol, parameters) Result(*name) parameters = nullptr;
  FLUXION_DRIVER_FUNCTIONS(FLUXION_MEMBER)
  FLUXION_OPTIONAL_DRIVER_FUNCTIONS(FLUXION_MEMBER)
#undef FLUXION_MEMBER
};

}  // namespace fluxion::cuda
