// An expression made ready to run tile by tile.
//
// The iteration space is a matrix: its columns are the last axis, its rows all the others in row-major
// order. A tile is up to kTile elements: some whole rows, or a part of one row. Each instruction runs over
// the whole tile before the next one, so that it is one SIMD loop over L1-resident registers.
#pragma once

#include <vector>

#include "kernels.h"

namespace fluxion {

// An iteration space whose axes may be dropped, merged and reordered, with what strides over it:
// strides[r][axis] for each reference r.
struct Space {
  std::vector<int64_t> sizes;
  std::vector<std::vector<double>> strides;

  // References in the order: loads and indexes of the expression as they come, then its outputs if asked.
  static Space of(const std::vector<int64_t>& shape, const Expression& expression, bool withOutputs);
  static Space unit(size_t references);             // one axis of one element
  Space axes(size_t begin, size_t end) const;       // a part of the axes
  void append(const Space& inner);                  // more axes inside of these
  void moveAxis(size_t from, size_t to);
  void dropUnits();
  void merge();                                     // joins neighbours that every reference crosses evenly
  void sortBy(size_t reference);                    // largest stride of a reference outside
  int64_t count() const;
};

// What a thread needs to run a tile; see TileProgram::frameBytes.
struct Frame {
  char* registers;
  const void** values;  // where each value's tile is, for the tile at hand
  int64_t* index;       // first row of the tile
};

// Where buffers are, for the run at hand.
using Pointers = void* const*;

struct TileShape {
  int64_t row, rows, col, cols;
};

class TileProgram {
 public:
  // `space` has the strides of the loads and indexes, then those of the outputs if `withOutputs`. No tile has more
  // than `width` columns; where the space has more, tiles that begin at multiples of `width` may have several rows.
  TileProgram(const Plan& plan, const Expression& expression, const Space& space, bool withOutputs,
              const Kernels& kernels, int64_t width = kTile);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t tileRows() const { return tileRows_; }  // rows of a full tile
  // Tiles that cover all rows and columns, row by row, and the shape of the nth.
  int64_t tiles() const { return tiles_; }
  TileShape tile(int64_t number) const;

  // A thread's memory. A frame is set up at `memory` (64-byte aligned) and started by `begin`, which fills
  // the registers that no tile changes, as far as tiles of up to so many rows need them.
  size_t frameBytes() const { return frameBytes_; }
  Frame begin(char* memory, Pointers buffers, int64_t rows = kTile) const;

  // Where an expression that only loads elements which lie dense in memory has this row; null for any other.
  const char* direct(Pointers buffers, int64_t row) const;

  // Runs one tile: rows and columns as given by tile(), or any part of rows; several rows are whole or `width` wide.
  // Returns the tile of value `wanted` (outputs are written if the program has them).
  const void* run(Frame& frame, Pointers buffers, const TileShape& tile, const void* accumulator = nullptr,
                  int64_t accumulatorStride = 0) const;
  int64_t cost() const;  // of a tile, about: a pass of additions is 1

 private:
  struct Strided {
    int buffer = -1;
    size_t bytes = 4;
    double start = 0;              // offset of an index
    int64_t offset = 0;
    std::vector<int64_t> strides;  // loads, outputs
    std::vector<double> steps;     // indexes
    bool invariant = false;        // the same for every tile
    bool dense = false;            // element after element, in the order of the space
  };
  struct TileInstruction {
    Op op;
    DType dtype;
    ElementwiseFn function = nullptr;
    int args[4];
    int argCount;
    size_t slot = 0;      // byte offset of its register
    int strided = -1;     // load, index
    double constant = 0;
    int output = -1;      // the output that it may write in place
    PairFn pair = nullptr;     // computes this and one later instruction,
    int first = -1, second = -1;  // which of the two is which result
    bool computed = false;     // by an earlier one, as its pair
  };
  struct Output {
    int value;
    Strided target;
  };

  int64_t offsetOf(const Strided& s, const int64_t* index, int64_t col) const;
  bool contiguous(const Strided& s, const Frame& frame, const TileShape& tile) const;
  void copy(const Strided& s, const Frame& frame, const TileShape& tile, char* base, char* dense, bool store) const;
  void fillIndex(const TileInstruction& in, const Frame& frame, const TileShape& tile, void* out) const;
  void findPairs();
  void allocateRegisters(const std::vector<bool>& keep);

  std::vector<int64_t> sizes_;
  int64_t rows_, columns_, width_, tileRows_, tiles_;
  bool allDense_ = true;  // every load and output is dense or invariant
  std::vector<Strided> refs_;
  std::vector<TileInstruction> instructions_;
  std::vector<Output> outputs_;
  int wanted_;
  size_t registerBytes_ = 0, frameBytes_ = 0;
  const Kernels* kernels_;
};

}  // namespace fluxion
