// cuBLASLt's matrix product as far as the addon uses it (native/cuda/cublaslt_api.h): column-major, transposed or not,
// in strided batches, with a bias; sums in double, rounded once.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <vector>

#include "../driver/abi.h"
#include "../driver/context.h"
#include "../driver/memory.h"
#include "../driver/stream.h"

#define CUBLASLT_API extern "C" __attribute__((visibility("default")))

namespace {

enum Status { success = 0, notInitialized = 1, invalidValue = 7, executionFailed = 13, notSupported = 15 };

constexpr int kReal32 = 0, kReal64 = 1;
constexpr int kCompute32 = 68, kCompute64 = 70, kComputeBfloat16 = 75, kComputeTf32 = 77;
constexpr unsigned kEpilogueDefault = 1, kEpilogueBias = 4;

struct Desc {
  int compute, scale;
  int transposeA = 0, transposeB = 0;
  unsigned epilogue = kEpilogueDefault;
  const void* bias = nullptr;
};

struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t leading;
  int batch = 1;
  int64_t step = 0;

  // Elements that a batch reaches.
  uint64_t reach() const { return uint64_t(step) * (batch - 1) + uint64_t(leading) * (columns - 1) + rows; }
};

struct Preference {
  uint64_t workspace = 0;
};

struct Algorithm {
  uint64_t data[8];
};

struct Heuristic {
  Algorithm algorithm;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

constexpr uint64_t kOurAlgorithm = 0x666c7578696f6e;

template <class T>
Status set(T& target, const void* value, size_t bytes) {
  if (value == nullptr || bytes != sizeof(T)) return invalidValue;
  memcpy(&target, value, sizeof(T));
  return success;
}

// What a tensor core reads of an operand: `bits` bits of mantissa, to the nearest, ties to even.
float rounded(float x, int bits) {
  if (!std::isfinite(x)) return x;
  uint32_t u;
  memcpy(&u, &x, 4);
  const int dropped = 23 - bits;
  u += (1u << (dropped - 1)) - 1 + (u >> dropped & 1);
  u &= ~((1u << dropped) - 1);
  memcpy(&x, &u, 4);
  return x;
}

float operand(float x, int compute) {
  return compute == kComputeTf32 ? rounded(x, 10) : compute == kComputeBfloat16 ? rounded(x, 7) : x;
}
double operand(double x, int) { return x; }

struct Product {
  Desc desc;
  Layout a, b, c, d;
  const void *aData, *bData, *cData;
  void* dData;
  double alpha, beta;
};

template <class T>
void multiply(const Product& product) {
  const auto& [desc, la, lb, lc, ld, a, b, c, d, alpha, beta] = product;
  const uint64_t m = ld.rows, n = ld.columns, k = desc.transposeA ? la.rows : la.columns;
  for (int batch = 0; batch < ld.batch; ++batch) {
    const T* aAt = static_cast<const T*>(a) + batch * la.step;
    const T* bAt = static_cast<const T*>(b) + batch * lb.step;
    const T* cAt = static_cast<const T*>(c) + batch * lc.step;
    T* dAt = static_cast<T*>(d) + batch * ld.step;
    // op(A) by rows and op(B) by columns, so that a sum reads both in order.
    std::vector<double> rows(m * k), columns(n * k);
    for (uint64_t i = 0; i < m; ++i) {
      for (uint64_t l = 0; l < k; ++l) {
        rows[i * k + l] = operand(desc.transposeA ? aAt[i * la.leading + l] : aAt[l * la.leading + i], desc.compute);
      }
    }
    for (uint64_t j = 0; j < n; ++j) {
      for (uint64_t l = 0; l < k; ++l) {
        columns[j * k + l] = operand(desc.transposeB ? bAt[l * lb.leading + j] : bAt[j * lb.leading + l], desc.compute);
      }
    }
    for (uint64_t j = 0; j < n; ++j) {
      for (uint64_t i = 0; i < m; ++i) {
        double sum = 0;
        for (uint64_t l = 0; l < k; ++l) sum += rows[i * k + l] * columns[j * k + l];
        sum *= alpha;
        if (beta != 0) sum += beta * double(cAt[j * lc.leading + i]);
        if (desc.epilogue == kEpilogueBias) sum += double(static_cast<const T*>(desc.bias)[i]);
        dAt[j * ld.leading + i] = T(sum);
      }
    }
  }
}

// Whether shapes and types fit each other.
bool fits(const Desc& desc, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  const uint64_t m = desc.transposeA ? a.columns : a.rows, k = desc.transposeA ? a.rows : a.columns;
  const uint64_t n = desc.transposeB ? b.rows : b.columns, inner = desc.transposeB ? b.columns : b.rows;
  if (m == 0 || n == 0 || k == 0 || k != inner) return false;
  if (d.rows != m || d.columns != n || c.rows != m || c.columns != n) return false;
  const int type = desc.compute == kCompute64 ? kReal64 : kReal32;
  if (desc.scale != type) return false;
  for (const Layout* layout : {&a, &b, &c, &d}) {
    if (layout->type != type || layout->leading < int64_t(layout->rows) || layout->batch != d.batch) return false;
  }
  return true;
}

bool isCompute(int compute) {
  return compute == kCompute32 || compute == kCompute64 || compute == kComputeBfloat16 || compute == kComputeTf32;
}

}  // namespace

CUBLASLT_API size_t cublasLtGetVersion() { return 130000; }
CUBLASLT_API size_t cublasLtGetCudartVersion() { return 13000; }

CUBLASLT_API Status cublasLtCreate(void** handle) {
  static int theHandle;
  emulator::Call call;
  if (handle == nullptr) return invalidValue;
  if (call.error() != CUDA_SUCCESS) return notInitialized;
  *handle = &theHandle;
  return success;
}

CUBLASLT_API Status cublasLtDestroy(void* handle) { return handle == nullptr ? notInitialized : success; }

CUBLASLT_API Status cublasLtMatmulDescCreate(Desc** desc, int compute, int scale) {
  if (desc == nullptr || !isCompute(compute)) return invalidValue;
  *desc = new Desc{compute, scale};
  return success;
}

CUBLASLT_API Status cublasLtMatmulDescDestroy(Desc* desc) {
  delete desc;
  return success;
}

CUBLASLT_API Status cublasLtMatmulDescSetAttribute(Desc* desc, int attribute, const void* value, size_t bytes) {
  if (desc == nullptr) return invalidValue;
  switch (attribute) {
    case 3: return set(desc->transposeA, value, bytes);
    case 4: return set(desc->transposeB, value, bytes);
    case 7: return set(desc->epilogue, value, bytes);
    case 8: return set(desc->bias, value, bytes);
    default: return invalidValue;
  }
}

CUBLASLT_API Status cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns,
                                               int64_t leading) {
  if (layout == nullptr) return invalidValue;
  *layout = new Layout{type, rows, columns, leading};
  return success;
}

CUBLASLT_API Status cublasLtMatrixLayoutDestroy(Layout* layout) {
  delete layout;
  return success;
}

CUBLASLT_API Status cublasLtMatrixLayoutSetAttribute(Layout* layout, int attribute, const void* value, size_t bytes) {
  if (layout == nullptr) return invalidValue;
  switch (attribute) {
    case 5: return set(layout->batch, value, bytes);
    case 6: return set(layout->step, value, bytes);
    default: return invalidValue;
  }
}

CUBLASLT_API Status cublasLtMatmulPreferenceCreate(Preference** preference) {
  if (preference == nullptr) return invalidValue;
  *preference = new Preference;
  return success;
}

CUBLASLT_API Status cublasLtMatmulPreferenceDestroy(Preference* preference) {
  delete preference;
  return success;
}

CUBLASLT_API Status cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value,
                                                         size_t bytes) {
  if (preference == nullptr) return invalidValue;
  uint32_t ignored;
  switch (attribute) {
    case 1: return set(preference->workspace, value, bytes);
    case 3: case 5: case 6: case 7: case 8: return set(ignored, value, bytes);
    default: return invalidValue;
  }
}

CUBLASLT_API Status cublasLtMatmulAlgoGetHeuristic(void* handle, Desc* desc, Layout* a, Layout* b, Layout* c, Layout* d,
                                                   Preference* preference, int requested, Heuristic* results,
                                                   int* returned) {
  if (handle == nullptr) return notInitialized;
  if (!desc || !a || !b || !c || !d || !preference || !results || !returned || requested < 1) return invalidValue;
  *returned = 0;
  if (!fits(*desc, *a, *b, *c, *d)) return notSupported;
  results[0] = Heuristic{{{kOurAlgorithm}}, 0, success, 1, {}};
  *returned = 1;
  return success;
}

CUBLASLT_API Status cublasLtMatmul(void* handle, Desc* desc, const void* alpha, const void* a, Layout* aLayout,
                                   const void* b, Layout* bLayout, const void* beta, const void* c, Layout* cLayout,
                                   void* d, Layout* dLayout, const Algorithm* algorithm, void* workspace,
                                   size_t workspaceBytes, CUstream stream) {
  using emulator::isDeviceMemory;
  if (handle == nullptr) return notInitialized;
  if (!desc || !alpha || !a || !aLayout || !b || !bLayout || !beta || !cLayout || !d || !dLayout) return invalidValue;
  if (algorithm != nullptr && algorithm->data[0] != kOurAlgorithm) return invalidValue;
  if (!fits(*desc, *aLayout, *bLayout, *cLayout, *dLayout)) return invalidValue;
  if (desc->epilogue != kEpilogueDefault && desc->epilogue != kEpilogueBias) return notSupported;
  emulator::Call call;
  if (call.error() != CUDA_SUCCESS) return executionFailed;
  const bool wide = desc->compute == kCompute64;
  auto number = [wide](const void* at) { return wide ? *static_cast<const double*>(at) : *static_cast<const float*>(at); };
  const Product product{*desc, *aLayout, *bLayout, *cLayout, *dLayout, a, b, c, d, number(alpha), number(beta)};
  auto reaches = [wide](const void* data, const Layout& layout) {
    return isDeviceMemory(reinterpret_cast<CUdeviceptr>(data), layout.reach() * (wide ? 8 : 4));
  };
  const bool biased = desc->epilogue == kEpilogueBias;
  if (!reaches(a, *aLayout) || !reaches(b, *bLayout) || !reaches(d, *dLayout)) return invalidValue;
  if (product.beta != 0 && (c == nullptr || !reaches(c, *cLayout))) return invalidValue;
  if (biased && !isDeviceMemory(reinterpret_cast<CUdeviceptr>(desc->bias), dLayout->rows * (wide ? 8 : 4))) {
    return invalidValue;
  }
  if (workspaceBytes > 0 && !isDeviceMemory(reinterpret_cast<CUdeviceptr>(workspace), workspaceBytes)) {
    return invalidValue;
  }
  const CUresult result = emulator::enqueue(stream, [product, wide] {
    if (wide) multiply<double>(product);
    else multiply<float>(product);
    return CUDA_SUCCESS;
  });
  return result == CUDA_SUCCESS ? success : executionFailed;
}
