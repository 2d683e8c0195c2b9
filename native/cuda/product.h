// Matrix products by cuBLASLt.
#pragma once

#include "body.h"

namespace fluxion::cuda {

// The library's description of a product and the algorithm that it chose for it.
class ProductPlan {
 public:
  // The operands' alignments are those of their first elements in every run.
  ProductPlan(Device& device, const Product& product, const std::vector<BufferSpec>& buffers);
  ~ProductPlan();
  ProductPlan(const ProductPlan&) = delete;
  ProductPlan& operator=(const ProductPlan&) = delete;

  size_t workspaceBytes() const { return workspaceBytes_; }
  // In a turn of the caller's.
  void run(const std::vector<Address>& buffers, Address workspace);

 private:
  void describe();
  void choose(const std::vector<BufferSpec>& buffers);
  void release();
  LtMatrixLayout layout(int64_t rows, int64_t columns, const Matrix& matrix);
  Address first(const std::vector<Address>& buffers, int buffer, int64_t offset) const;

  Device& device_;
  Product product_;
  LtMatmulDesc desc_ = nullptr;
  LtMatrixLayout a_ = nullptr, b_ = nullptr, c_ = nullptr;
  LtAlgorithm algorithm_{};
  size_t workspaceBytes_ = 0;
};

}  // namespace fluxion::cuda
