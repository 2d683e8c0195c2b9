#include "graph.h"

#include "context.h"

struct CUgraph_st {
  std::vector<emulator::Work> work;
};

struct CUgraphExec_st {
  std::vector<emulator::Work> work;
};

namespace emulator {

namespace {
Handles<CUgraph> graphs;
Handles<CUgraphExec> execs;
}  // namespace

CUgraph makeGraph(std::vector<Work> work) { return graphs.add(new CUgraph_st{std::move(work)}); }

}  // namespace emulator

using namespace emulator;

CUDA_API CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long) {
  BEGIN_CALL;
  REQUIRE(exec, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(graphs.has(graph), CUDA_ERROR_INVALID_VALUE);
  *exec = execs.add(new CUgraphExec_st{graph->work});
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  BEGIN_CALL;
  REQUIRE(execs.has(exec), CUDA_ERROR_INVALID_VALUE);
  return enqueue(stream, [work = exec->work] {
    for (const Work& piece : work) {
      if (isBroken()) break;
      if (CUresult error = piece()) return error;
    }
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuGraphDestroy(CUgraph graph) {
  BEGIN_CALL;
  REQUIRE(graphs.remove(graph), CUDA_ERROR_INVALID_VALUE);
  delete graph;
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuGraphExecDestroy(CUgraphExec exec) {
  BEGIN_CALL;
  REQUIRE(execs.remove(exec), CUDA_ERROR_INVALID_VALUE);
  delete exec;
  return CUDA_SUCCESS;
}
