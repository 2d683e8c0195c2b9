// The table of inner loops. Each instruction set compiles the same sources (elementwise.cc, fold.cc,
// gemm_kernel.cc, attention_kernel.cc) with its own flags and fills a table of its own; the rest of the addon is compiled once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../common/plan.h"

namespace fluxion {

// Elements of a tile: a register of the widest dtype is 4 KiB, so a dozen live registers fit the L1 cache.
constexpr int kTile = 512;

// out[i] = f(args[0][i], ...), n <= kTile. `out` may be one of the arguments.
using ElementwiseFn = void (*)(void* out, const void* const* args, size_t n);

// Two operations of the same arguments in one pass over them, with the bits that each gives alone. `first` and
// `second` differ; either may be one of the arguments.
using PairFn = void (*)(void* first, void* second, const void* const* args, size_t n);
struct Pair {
  Op first, second;
  DType dtype;
  PairFn function;
};
constexpr int kPairs = 3;

// dst[r * dstRow + c * dstCol] = src[r * srcRow + c * srcCol], strides in elements.
using CopyFn = void (*)(void* dst, int64_t dstRow, int64_t dstCol, const void* src, int64_t srcRow, int64_t srcCol,
                        int64_t rows, int64_t cols);

// A partial result of a reduction is wider than its elements: double for floats, the dtype itself otherwise,
// in places of 8 bytes.
// partial[c] = partial[c] (op) x[r * cols + c], for all r in order.
using FoldColumnsFn = void (*)(void* partial, const void* x, size_t rows, size_t cols);

// Rows of C by nr columns: C = A B, C += A B, or C = start + A B with a row `start` that is added to every row; where
// there is a `scale`, an array like C with rows `ldScale` apart, C is then multiplied by it, element by element.
// The rows of A are in tiles of mr: `aTile` from one to the next. `aStride`: of rows when A is row-major, of k
// otherwise; the other stride is 1. bStride, ldc: of rows. All in elements. The rows of B and C are dense.
enum class Begin { Zero, C, Row };
struct Panel {
  int64_t rows, k;
  const void* a;
  int64_t aStride, aTile;
  const void* b;
  int64_t bStride;
  void* c;
  int64_t ldc;
  Begin begin;
  const void* start;
  const void* scale;
  int64_t ldScale;
};
using PanelFn = void (*)(const Panel& panel);
// C = start + A B^T with up to kDotColumns columns; A and B are contiguous along k, and so are the rows of C.
// `start` may be null. aStride, ldc: of rows, in elements.
constexpr int64_t kDotColumns = 4;
using DotFn = void (*)(int64_t rows, int64_t k, const void* a, int64_t aStride, const void* bt, int64_t columns,
                       const void* start, void* c, int64_t ldc);
using PackFn = void (*)(void* packed, const void* b, int64_t kStride, int64_t nStride, int64_t k, int64_t n);

using PackTilesFn = void (*)(void* packed, const void* a, int64_t kStride, int64_t k, int64_t rows);

struct GemmKernel {
  int mr = 0, nr = 0;  // a tile that is computed at once
  PanelFn rowMajor = nullptr, columnMajor = nullptr;
  PackFn packPanel = nullptr;  // one panel of nr columns, zero where n < nr
  PackTilesFn packTiles = nullptr;  // rows of A, whose columns lie dense, in tiles of mr
  DotFn dot = nullptr;
};

// Attention's scores, in rows `ld` elements apart. The number of columns is a multiple of GemmKernel::nr; a score of
// -infinity is that of a hidden key. Sums of rows are doubles.
struct AttentionKernel {
  // s[i] = -infinity where shown[i] is 0, for any n.
  void (*hide)(int64_t n, void* s, const uint8_t* shown) = nullptr;
  // A block of keys more of a softmax. maximum[r] = max(maximum[r], row r); s = exp(s - maximum[r]), which is added to
  // sum[r]. What was summed before, sum[r] and `width` elements of row r of `o`, is multiplied by
  // exp(old maximum - new one). (Where the maximum is -infinity, 0 takes its place.) width: a multiple of nr.
  void (*softmax)(int64_t rows, int64_t cols, void* s, int64_t ld, void* maximum, double* sum, void* o, int64_t ldo,
                  int64_t width) = nullptr;
  // s = P = exp(s - l[r]); x = P x, and 0 where P is 0, which is added to sum[r]. x may be null.
  void (*weighRows)(int64_t rows, int64_t cols, void* s, void* x, int64_t ld, const void* l, double* sum) = nullptr;
  // s = P = exp(s - l[c]); x = P (x - shift[c]), and 0 where P is 0. x may be null.
  void (*weighColumns)(int64_t rows, int64_t cols, void* s, void* x, int64_t ld, const void* l,
                       const void* shift) = nullptr;
};

struct Kernels {
  const char* name = nullptr;
  ElementwiseFn op[kOps][kDTypes] = {};  // by dtype of the last argument
  ElementwiseFn cast[kDTypes][kDTypes] = {};  // [from][to]
  Pair pairs[kPairs] = {};
  CopyFn copy[9] = {};                   // by bytes of an element
  FoldColumnsFn foldColumns[3][kDTypes] = {};  // sum, max, min
  FoldColumnsFn foldTall[3][kDTypes] = {};  // the same, faster, for some tens of rows
  FoldColumnsFn foldRows[3][kDTypes] = {};  // partial[r] = fold of row r (overwrites)
  GemmKernel gemm[kDTypes];
  AttentionKernel attention[kDTypes];
};

// The sets that this build has and this machine can run, best first.
struct InstructionSets {
  const Kernels* table[4];
  int count;
};
const InstructionSets& instructionSets();
// The set that new plans use: FLUXION_ISA or the best.
const Kernels& currentKernels();
void selectKernels(const char* name);  // throws PlanError if there is no such set

}  // namespace fluxion
