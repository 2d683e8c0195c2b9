// Graphs: what a captured stream recorded, in its order.
#pragma once

#include <vector>

#include "stream.h"

namespace emulator {

CUgraph makeGraph(std::vector<Work> work);

}  // namespace emulator
