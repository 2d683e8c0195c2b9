// What this addon uses of NVRTC, the run-time compiler (libnvrtc.so), of CUDA 11.2 and later.
#pragma once

#include <cstddef>

namespace fluxion::cuda {

using NvrtcResult = int;  // nvrtcResult
using NvrtcProgram = struct NvrtcProgramObject*;

constexpr NvrtcResult kNvrtcSuccess = 0;      // NVRTC_SUCCESS

// X(our name, the library's symbol, parameters): each returns an NvrtcResult.
#define FLUXION_NVRTC_FUNCTIONS(X)                                                                               \
  X(version, nvrtcVersion, (int* major, int* minor))                                                             \
  X(getNumSupportedArchs, nvrtcGetNumSupportedArchs, (int* count))                                               \
  X(getSupportedArchs, nvrtcGetSupportedArchs, (int* architectures))                                             \
  X(createProgram, nvrtcCreateProgram,                                                                           \
    (NvrtcProgram * program, const char* source, const char* name, int headerCount, const char* const* headers, \
     const char* const* includeNames))                                                                           \
  X(destroyProgram, nvrtcDestroyProgram, (NvrtcProgram * program))                                               \
  X(compileProgram, nvrtcCompileProgram, (NvrtcProgram program, int optionCount, const char* const* options))    \
  X(getPTXSize, nvrtcGetPTXSize, (NvrtcProgram program, size_t * size))                                          \
  X(getPTX, nvrtcGetPTX, (NvrtcProgram program, char* text))                                                     \
  X(getCUBINSize, nvrtcGetCUBINSize, (NvrtcProgram program, size_t * size))                                      \
  X(getCUBIN, nvrtcGetCUBIN, (NvrtcProgram program, char* code))                                                 \
  X(getProgramLogSize, nvrtcGetProgramLogSize, (NvrtcProgram program, size_t * size))                            \
  X(getProgramLog, nvrtcGetProgramLog, (NvrtcProgram program, char* log))

struct NvrtcApi {
#define FLUXION_MEMBER(name, symbol, parameters) NvrtcResult(*name) parameters = nullptr;
  FLUXION_NVRTC_FUNCTIONS(FLUXION_MEMBER)
#undef FLUXION_MEMBER
  const char* (*getErrorString)(NvrtcResult result) = nullptr;  // nvrtcGetErrorString
};

}  // namespace fluxion::cuda
