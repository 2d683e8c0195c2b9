#include "folding.h"

namespace fluxion {

Folding::Folding(Reducer reducer, DType dtype, const Kernels& kernels)
    : reducer_(reducer), dtype_(dtype), bytes_(byteSize(dtype)) {
  const int type = static_cast<int>(dtype), kind = static_cast<int>(reducer);
  const Op op = reducer == Reducer::Sum ? Op::Add : reducer == Reducer::Max ? Op::Maximum : Op::Minimum;
  const int wide = dtype == DType::Float32 ? static_cast<int>(DType::Float64) : type;
  combine_ = kernels.op[static_cast<int>(op)][type];
  foldColumns_ = kernels.foldColumns[kind][type];
  foldTall_ = kernels.foldTall[kind][type];
  foldRows_ = kernels.foldRows[kind][type];
  widen_ = kernels.cast[type][wide];
  narrow_ = kernels.cast[wide][type];
}

void Folding::foldPartials(char* partial, const char* other, int64_t n) const {
  if (dtype_ != DType::Float32) return foldColumns_(partial, other, 1, static_cast<size_t>(n));
  double* t = reinterpret_cast<double*>(partial);
  const double* p = reinterpret_cast<const double*>(other);
  for (int64_t i = 0; i < n; i++) {
    switch (reducer_) {
      case Reducer::Sum: t[i] += p[i]; break;
      case Reducer::Max: t[i] = t[i] > p[i] || t[i] != t[i] ? t[i] : p[i]; break;
      default: t[i] = t[i] < p[i] || t[i] != t[i] ? t[i] : p[i];
    }
  }
}

}  // namespace fluxion
