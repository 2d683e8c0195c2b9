// A program as data: what lib/backend/cuda/program.ts describes, parsed and checked.
#pragma once

#include <map>
#include <memory>
#include <variant>
#include <vector>

#include "memory.h"
#include "module.h"

namespace fluxion::cuda {

class ProductPlan;
struct Body;

enum class Kind { Input, Output, Temporary };

struct BufferSpec {
  Kind kind;
  size_t bytes;
  size_t offset;     // of a temporary, in the arena
  size_t alignment;  // of its address: a power of two
};

struct Launch {
  Function function;
  unsigned grid[3];
  unsigned threads, sharedBytes;
  std::vector<int> buffers;
};

struct Zero {
  int buffer;
};

struct Matrix {
  int buffer = 0;
  int64_t offset = 0, row = 0, step = 0;  // in elements
  bool transposed = false;
};

enum class Precision { Float32, Tf32, Bfloat16 };

struct Product {
  bool float64 = false;
  Precision precision = Precision::Float32;
  int64_t batch = 0, m = 0, n = 0, k = 0;
  Matrix a, b, c;
  int bias = -1;  // a buffer, or none
  int64_t biasOffset = 0;
  std::shared_ptr<ProductPlan> plan;  // null where there is nothing to compute
  size_t elementBytes() const { return float64 ? 8 : 4; }
};

struct Turns {
  int64_t length = 0;
  bool reverse = false;
  std::unique_ptr<Body> body;
  std::vector<int> consts, inits, carries, xs, ys;
  std::vector<size_t> carryBytes, spareOffsets;  // of each carry
  size_t spareBytes = 0;                         // of all
  std::vector<size_t> xBytes, yBytes;            // of a turn's slice
};

struct Operation {
  int step;
  std::variant<Launch, Zero, Product, Turns> what;
};

struct Check {
  int64_t size;
  int64_t site;  // negative: none
};

struct Body {
  std::vector<BufferSpec> buffers;
  std::vector<int> inputs, outputs;
  size_t arenaBytes = 0;
  std::vector<Operation> operations;
  // The arena, and behind it the spare memory and arenas of loops, which are used one after the other.
  size_t totalBytes = 0;
  int steps = 0;  // one more than the largest step
  // Outputs that are written by something that does not look at the status: a memset, a copy, a library's product.
  std::vector<bool> uncheckedOutputs;
  // How much is launched in one run, with all turns.
  double launches = 0;
};

// What holds for a program with all of its loops.
struct Whole {
  std::map<int64_t, Check> checks;  // by number
  size_t workspaceBytes = 0;        // of products
};

}  // namespace fluxion::cuda
