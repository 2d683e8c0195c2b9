// Compiles only where the addon's own declarations of CUDA's binary interfaces agree with the toolkit's headers.
#define __CUDA_API_VERSION_INTERNAL  // functions by the names of their symbols, not by macros
#include <cuda.h>

#include <type_traits>

#ifdef HAS_NVRTC_H
#include <nvrtc.h>
#endif
#ifdef HAS_CUBLASLT_H
#include <cublasLt.h>
#endif

#include "cublaslt_api.h"
#include "driver_api.h"
#include "nvrtc_api.h"

using namespace fluxion::cuda;

// Equal to a caller: both pointers, or numbers (enumerations are numbers) of one size.
template <class A, class B>
constexpr bool same = std::is_pointer_v<A> == std::is_pointer_v<B> && sizeof(A) == sizeof(B);

template <class A, class B>
struct Agree : std::false_type {};
template <class R, class... A, class S, class... B>
struct Agree<R (*)(A...), S (*)(B...)> {
  static constexpr bool check() {
    if constexpr (sizeof...(A) != sizeof...(B)) return false;
    else return same<R, S> && (same<A, B> && ...);
  }
  static constexpr bool value = check();
};

#define AGREE(name, symbol, parameters) \
  static_assert(Agree<decltype(Api::name), decltype(&::symbol)>::value, #symbol);

namespace driver {
using Api = DriverApi;
FLUXION_DRIVER_FUNCTIONS(AGREE)
#if CUDA_VERSION >= 12040
FLUXION_OPTIONAL_DRIVER_FUNCTIONS(AGREE)
#endif

#define EQUAL(ours, theirs) static_assert(static_cast<long long>(ours) == static_cast<long long>(theirs), #theirs);
EQUAL(kSuccess, CUDA_SUCCESS)
EQUAL(kOutOfMemory, CUDA_ERROR_OUT_OF_MEMORY)
EQUAL(kDeinitialized, CUDA_ERROR_DEINITIALIZED)
EQUAL(kNoDevice, CUDA_ERROR_NO_DEVICE)
EQUAL(kEccUncorrectable, CUDA_ERROR_ECC_UNCORRECTABLE)
EQUAL(kNotFound, CUDA_ERROR_NOT_FOUND)
EQUAL(kIllegalAddress, CUDA_ERROR_ILLEGAL_ADDRESS)
EQUAL(kLaunchTimeout, CUDA_ERROR_LAUNCH_TIMEOUT)
EQUAL(kContextIsDestroyed, CUDA_ERROR_CONTEXT_IS_DESTROYED)
EQUAL(kAssert, CUDA_ERROR_ASSERT)
EQUAL(kHardwareStackError, CUDA_ERROR_HARDWARE_STACK_ERROR)
EQUAL(kIllegalInstruction, CUDA_ERROR_ILLEGAL_INSTRUCTION)
EQUAL(kMisalignedAddress, CUDA_ERROR_MISALIGNED_ADDRESS)
EQUAL(kInvalidAddressSpace, CUDA_ERROR_INVALID_ADDRESS_SPACE)
EQUAL(kInvalidPc, CUDA_ERROR_INVALID_PC)
EQUAL(kLaunchFailed, CUDA_ERROR_LAUNCH_FAILED)
EQUAL(kUnknown, CUDA_ERROR_UNKNOWN)
EQUAL(kMultiprocessorCount, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
EQUAL(kComputeCapabilityMajor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
EQUAL(kComputeCapabilityMinor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
EQUAL(kSharedMemoryPerBlockOptin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
EQUAL(kFunctionMaxThreads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)
EQUAL(kFunctionStaticShared, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)
EQUAL(kFunctionDynamicShared, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
EQUAL(kStreamNonBlocking, CU_STREAM_NON_BLOCKING)
EQUAL(kEventDefault, CU_EVENT_DEFAULT)
EQUAL(kEventBlockingSync, CU_EVENT_BLOCKING_SYNC)
EQUAL(kEventDisableTiming, CU_EVENT_DISABLE_TIMING)
EQUAL(kCaptureThreadLocal, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
static_assert(same<Result, CUresult> && same<DeviceNumber, CUdevice> && same<Address, CUdeviceptr>);
}  // namespace driver

#ifdef HAS_NVRTC_H
namespace compiler {
using Api = NvrtcApi;
FLUXION_NVRTC_FUNCTIONS(AGREE)
AGREE(getErrorString, nvrtcGetErrorString, )
EQUAL(kNvrtcSuccess, NVRTC_SUCCESS)
}  // namespace compiler
#endif

#ifdef HAS_CUBLASLT_H
namespace products {
using Api = CublasLtApi;
FLUXION_CUBLASLT_FUNCTIONS(AGREE)
AGREE(getVersion, cublasLtGetVersion, )
AGREE(getCudartVersion, cublasLtGetCudartVersion, )
EQUAL(kLtSuccess, CUBLAS_STATUS_SUCCESS)
EQUAL(kLtNotSupported, CUBLAS_STATUS_NOT_SUPPORTED)
EQUAL(kReal32, CUDA_R_32F)
EQUAL(kReal64, CUDA_R_64F)
EQUAL(kCompute32, CUBLAS_COMPUTE_32F)
EQUAL(kCompute64, CUBLAS_COMPUTE_64F)
EQUAL(kCompute32Bfloat16, CUBLAS_COMPUTE_32F_FAST_16BF)
EQUAL(kCompute32Tf32, CUBLAS_COMPUTE_32F_FAST_TF32)
EQUAL(kOperationNone, CUBLAS_OP_N)
EQUAL(kOperationTranspose, CUBLAS_OP_T)
EQUAL(kDescTransA, CUBLASLT_MATMUL_DESC_TRANSA)
EQUAL(kDescTransB, CUBLASLT_MATMUL_DESC_TRANSB)
EQUAL(kDescEpilogue, CUBLASLT_MATMUL_DESC_EPILOGUE)
EQUAL(kDescBiasPointer, CUBLASLT_MATMUL_DESC_BIAS_POINTER)
EQUAL(kEpilogueDefault, CUBLASLT_EPILOGUE_DEFAULT)
EQUAL(kEpilogueBias, CUBLASLT_EPILOGUE_BIAS)
EQUAL(kLayoutBatchCount, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT)
EQUAL(kLayoutBatchOffset, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET)
EQUAL(kPreferenceWorkspace, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
EQUAL(kPreferenceReductionSchemes, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
EQUAL(kPreferenceAlignmentA, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES)
EQUAL(kPreferenceAlignmentB, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES)
EQUAL(kPreferenceAlignmentC, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES)
EQUAL(kPreferenceAlignmentD, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES)
EQUAL(kReductionComputeType, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)
EQUAL(kReductionOutputType, CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE)
static_assert(sizeof(LtAlgorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(sizeof(LtHeuristic) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(LtHeuristic, workspaceBytes) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(LtHeuristic, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));
}  // namespace products
#endif
