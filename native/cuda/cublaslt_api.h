// What this addon uses of cuBLASLt, the library of matrix products (libcublasLt.so), of CUDA 11 and later.
#pragma once

#include <cstddef>
#include <cstdint>

#include "driver_api.h"

namespace fluxion::cuda {

using LtStatus = int;  // cublasStatus_t
using LtHandle = struct LtHandleObject*;
using LtMatmulDesc = struct LtMatmulDescObject*;
using LtMatrixLayout = struct LtMatrixLayoutObject*;
using LtPreference = struct LtPreferenceObject*;

constexpr LtStatus kLtSuccess = 0;       // CUBLAS_STATUS_SUCCESS
constexpr LtStatus kLtNotSupported = 15;  // CUBLAS_STATUS_NOT_SUPPORTED

constexpr int kReal32 = 0;  // CUDA_R_32F
constexpr int kReal64 = 1;  // CUDA_R_64F

constexpr int kCompute32 = 68;          // CUBLAS_COMPUTE_32F
constexpr int kCompute64 = 70;          // CUBLAS_COMPUTE_64F
constexpr int kCompute32Bfloat16 = 75;  // CUBLAS_COMPUTE_32F_FAST_16BF
constexpr int kCompute32Tf32 = 77;      // CUBLAS_COMPUTE_32F_FAST_TF32

constexpr int kOperationNone = 0;       // CUBLAS_OP_N
constexpr int kOperationTranspose = 1;  // CUBLAS_OP_T

constexpr int kDescTransA = 3;       // CUBLASLT_MATMUL_DESC_TRANSA, int32
constexpr int kDescTransB = 4;       // CUBLASLT_MATMUL_DESC_TRANSB, int32
constexpr int kDescEpilogue = 7;     // CUBLASLT_MATMUL_DESC_EPILOGUE, uint32
constexpr int kDescBiasPointer = 8;  // CUBLASLT_MATMUL_DESC_BIAS_POINTER, void*

constexpr uint32_t kEpilogueDefault = 1;  // CUBLASLT_EPILOGUE_DEFAULT
constexpr uint32_t kEpilogueBias = 4;     // CUBLASLT_EPILOGUE_BIAS

constexpr int kLayoutBatchCount = 5;   // CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, int32
constexpr int kLayoutBatchOffset = 6;  // CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, int64, in elements

constexpr int kPreferenceWorkspace = 1;         // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64
constexpr int kPreferenceReductionSchemes = 3;  // CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32
constexpr int kPreferenceAlignmentA = 5;        // CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32
constexpr int kPreferenceAlignmentB = 6;        // CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32
constexpr int kPreferenceAlignmentC = 7;        // CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, uint32
constexpr int kPreferenceAlignmentD = 8;        // CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, uint32

constexpr uint32_t kReductionComputeType = 2;  // CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
constexpr uint32_t kReductionOutputType = 4;   // CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE

struct LtAlgorithm {  // cublasLtMatmulAlgo_t
  uint64_t data[8];
};

struct LtHeuristic {  // cublasLtMatmulHeuristicResult_t
  LtAlgorithm algorithm;
  size_t workspaceBytes;
  LtStatus state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(LtHeuristic) == 96, "as the library lays it out");

// X(our name, the library's symbol, parameters): each returns an LtStatus. Attributes are (which, value, its bytes).
#define FLUXION_CUBLASLT_FUNCTIONS(X)                                                                              \
  X(create, cublasLtCreate, (LtHandle * handle))                                                                   \
  X(descCreate, cublasLtMatmulDescCreate, (LtMatmulDesc * desc, int computeType, int scaleType))                   \
  X(descDestroy, cublasLtMatmulDescDestroy, (LtMatmulDesc desc))                                                   \
  X(descSetAttribute, cublasLtMatmulDescSetAttribute,                                                              \
    (LtMatmulDesc desc, int attribute, const void* value, size_t bytes))                                           \
  X(layoutCreate, cublasLtMatrixLayoutCreate,                                                                      \
    (LtMatrixLayout * layout, int type, uint64_t rows, uint64_t columns, int64_t leadingDimension))                \
  X(layoutDestroy, cublasLtMatrixLayoutDestroy, (LtMatrixLayout layout))                                           \
  X(layoutSetAttribute, cublasLtMatrixLayoutSetAttribute,                                                          \
    (LtMatrixLayout layout, int attribute, const void* value, size_t bytes))                                       \
  X(preferenceCreate, cublasLtMatmulPreferenceCreate, (LtPreference * preference))                                 \
  X(preferenceDestroy, cublasLtMatmulPreferenceDestroy, (LtPreference preference))                                 \
  X(preferenceSetAttribute, cublasLtMatmulPreferenceSetAttribute,                                                  \
    (LtPreference preference, int attribute, const void* value, size_t bytes))                                     \
  X(getHeuristic, cublasLtMatmulAlgoGetHeuristic,                                                                  \
    (LtHandle handle, LtMatmulDesc desc, LtMatrixLayout a, LtMatrixLayout b, LtMatrixLayout c, LtMatrixLayout d,   \
     LtPreference preference, int requested, LtHeuristic* results, int* returned))                                 \
  X(matmul, cublasLtMatmul,                                                                                        \
    (LtHandle handle, LtMatmulDesc desc, const void* alpha, const void* a, LtMatrixLayout aLayout, const void* b,  \
     LtMatrixLayout bLayout, const void* beta, const void* c, LtMatrixLayout cLayout, void* d,                     \
     LtMatrixLayout dLayout, const LtAlgorithm* algorithm, void* workspace, size_t workspaceBytes, Stream stream))

struct CublasLtApi {
#define FLUXION_MEMBER(name, symbol, parameters) LtStatus(*name) parameters = nullptr;
  FLUXION_CUBLASLT_FUNCTIONS(FLUXION_MEMBER)
#undef FLUXION_MEMBER
  size_t (*getVersion)() = nullptr;        // cublasLtGetVersion
  size_t (*getCudartVersion)() = nullptr;  // cublasLtGetCudartVersion
};

}  // namespace fluxion::cuda
