// The library's matrices are column-major, ours row-major: what is X to us is X^T to it. So it computes
// C^T = op(B)^T op(A)^T, with the operands exchanged, and C^T has n rows, along which a bias of n elements is added.
#include "product.h"

#include <algorithm>

namespace fluxion::cuda {
namespace {

constexpr size_t kWorkspace = size_t{32} << 20;

void check(LtStatus status, const char* what) {
  if (status == kLtSuccess) return;
  throw Error(std::string("cuBLASLt: ") + what + ": status " + std::to_string(status));
}

// The largest power of two up to 256 that divides all of them.
uint32_t alignmentOf(std::initializer_list<size_t> values) {
  size_t bits = kAlignment;
  for (size_t value : values) bits |= value;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

uint32_t alignmentOf(const Product& product, const Matrix& matrix, const std::vector<BufferSpec>& buffers) {
  const size_t bytes = product.elementBytes();
  const size_t step = product.batch > 1 ? static_cast<size_t>(matrix.step) * bytes : 0;
  return alignmentOf({buffers[static_cast<size_t>(matrix.buffer)].alignment,
                      static_cast<size_t>(matrix.offset) * bytes, step});
}

}  // namespace

ProductPlan::ProductPlan(Device& device, const Product& product, const std::vector<BufferSpec>& buffers)
    : device_(device), product_(product) {
  if (device_.blasHandle == nullptr) throw Error("cuBLASLt is not there: " + device_.facts.cublasMissing);
  device_.enter();
  try {
    describe();
    choose(buffers);
  } catch (...) {
    release();
    throw;
  }
}

ProductPlan::~ProductPlan() { release(); }

void ProductPlan::release() {
  for (LtMatrixLayout layout : {a_, b_, c_}) {
    if (layout != nullptr) device_.blas.layoutDestroy(layout);
  }
  if (desc_ != nullptr) device_.blas.descDestroy(desc_);
}

LtMatrixLayout ProductPlan::layout(int64_t rows, int64_t columns, const Matrix& matrix) {
  LtMatrixLayout result = nullptr;
  check(device_.blas.layoutCreate(&result, product_.float64 ? kReal64 : kReal32, static_cast<uint64_t>(rows),
                                  static_cast<uint64_t>(columns), matrix.row),
        "describing a matrix");
  const int32_t batch = static_cast<int32_t>(product_.batch);
  LtStatus status = device_.blas.layoutSetAttribute(result, kLayoutBatchCount, &batch, sizeof batch);
  if (status == kLtSuccess) {
    status = device_.blas.layoutSetAttribute(result, kLayoutBatchOffset, &matrix.step, sizeof matrix.step);
  }
  if (status != kLtSuccess) device_.blas.layoutDestroy(result);
  check(status, "describing a batch");
  return result;
}

void ProductPlan::describe() {
  const Product& p = product_;
  int compute = kCompute64;
  if (!p.float64) {
    compute = p.precision == Precision::Float32 ? kCompute32
              : p.precision == Precision::Tf32  ? kCompute32Tf32
                                                : kCompute32Bfloat16;
  }
  check(device_.blas.descCreate(&desc_, compute, p.float64 ? kReal64 : kReal32), "describing a product");
  const auto set = [&](int attribute, const auto& value) {
    check(device_.blas.descSetAttribute(desc_, attribute, &value, sizeof value), "describing a product");
  };
  const int32_t first = p.b.transposed ? kOperationTranspose : kOperationNone;
  const int32_t second = p.a.transposed ? kOperationTranspose : kOperationNone;
  set(kDescTransA, first);
  set(kDescTransB, second);
  set(kDescEpilogue, p.bias >= 0 ? kEpilogueBias : kEpilogueDefault);
  b_ = p.b.transposed ? layout(p.k, p.n, p.b) : layout(p.n, p.k, p.b);
  a_ = p.a.transposed ? layout(p.m, p.k, p.a) : layout(p.k, p.m, p.a);
  c_ = layout(p.n, p.m, p.c);
}

void ProductPlan::choose(const std::vector<BufferSpec>& buffers) {
  struct Preference {
    explicit Preference(const CublasLtApi& api) : blas(api) {
      check(blas.preferenceCreate(&object), "making a preference");
    }
    ~Preference() { blas.preferenceDestroy(object); }
    const CublasLtApi& blas;
    LtPreference object = nullptr;
  } preference(device_.blas);
  const auto set = [&](int attribute, const auto& value) {
    check(device_.blas.preferenceSetAttribute(preference.object, attribute, &value, sizeof value),
          "setting a preference");
  };
  set(kPreferenceWorkspace, uint64_t{kWorkspace});
  // Parts of a sum are added in a fixed order, so that results have the same bits in each run.
  set(kPreferenceReductionSchemes, kReductionComputeType | kReductionOutputType);
  set(kPreferenceAlignmentA, alignmentOf(product_, product_.b, buffers));
  set(kPreferenceAlignmentB, alignmentOf(product_, product_.a, buffers));
  set(kPreferenceAlignmentC, alignmentOf(product_, product_.c, buffers));
  set(kPreferenceAlignmentD, alignmentOf(product_, product_.c, buffers));
  LtHeuristic found{};
  int count = 0;
  const LtStatus status = device_.blas.getHeuristic(device_.blasHandle, desc_, b_, a_, c_, c_, preference.object, 1,
                                                    &found, &count);
  if (status == kLtNotSupported || (status == kLtSuccess && (count == 0 || found.state != kLtSuccess))) {
    throw Error("cuBLASLt has no algorithm for this product");
  }
  check(status, "choosing an algorithm");
  algorithm_ = found.algorithm;
  workspaceBytes_ = found.workspaceBytes;
}

Address ProductPlan::first(const std::vector<Address>& buffers, int buffer, int64_t offset) const {
  return buffers[static_cast<size_t>(buffer)] + static_cast<size_t>(offset) * product_.elementBytes();
}

void ProductPlan::run(const std::vector<Address>& buffers, Address workspace) {
  const Product& p = product_;
  const auto pointer = [&](int buffer, int64_t offset) {
    return reinterpret_cast<void*>(first(buffers, buffer, offset));
  };
  if (p.bias >= 0) {
    const void* const bias = pointer(p.bias, p.biasOffset);
    check(device_.blas.descSetAttribute(desc_, kDescBiasPointer, &bias, sizeof bias), "setting a bias");
  }
  const double one64 = 1, zero64 = 0;
  const float one32 = 1, zero32 = 0;
  const void* const one = p.float64 ? static_cast<const void*>(&one64) : &one32;
  const void* const zero = p.float64 ? static_cast<const void*>(&zero64) : &zero32;
  void* const c = pointer(p.c.buffer, p.c.offset);
  check(device_.blas.matmul(device_.blasHandle, desc_, one, pointer(p.b.buffer, p.b.offset), b_,
                            pointer(p.a.buffer, p.a.offset), a_, zero, c, c_, c, c_, &algorithm_,
                            reinterpret_cast<void*>(workspace), workspaceBytes_, device_.stream),
        "multiplying matrices");
}

}  // namespace fluxion::cuda
