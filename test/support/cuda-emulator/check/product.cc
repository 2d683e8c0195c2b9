// A product by the emulated cuBLASLt:
//
//   product COMPUTE TRANSPOSE_A TRANSPOSE_B BATCH M N K BIAS
//
// D[b] = op(A[b]) op(B[b]) (+ bias, by rows), column-major, with A[i] = sin(i), B[i] = cos(i), bias[i] = i in memory
// order, of float (COMPUTE 68, 75, 77) or double (70). The product is recorded in a graph, which is launched once.
// Prints D in memory order.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "../driver/abi.h"

extern "C" {
CUresult cuInit(unsigned);
CUresult cuDevicePrimaryCtxRetain(CUcontext*, CUdevice);
CUresult cuCtxSetCurrent(CUcontext);
CUresult cuMemAlloc_v2(CUdeviceptr*, size_t);
CUresult cuStreamCreate(CUstream*, unsigned);
CUresult cuStreamBeginCapture_v2(CUstream, int);
CUresult cuStreamEndCapture(CUstream, CUgraph*);
CUresult cuGraphInstantiateWithFlags(CUgraphExec*, CUgraph, unsigned long long);
CUresult cuGraphLaunch(CUgraphExec, CUstream);
CUresult cuMemcpyHtoD_v2(CUdeviceptr, const void*, size_t);
CUresult cuMemcpyDtoH_v2(void*, CUdeviceptr, size_t);
int cublasLtCreate(void**);
int cublasLtMatmulDescCreate(void**, int, int);
int cublasLtMatmulDescSetAttribute(void*, int, const void*, size_t);
int cublasLtMatrixLayoutCreate(void**, int, uint64_t, uint64_t, int64_t);
int cublasLtMatrixLayoutSetAttribute(void*, int, const void*, size_t);
int cublasLtMatmul(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*, void*,
                   void*, void*, const void*, void*, size_t, CUstream);
}

namespace {

void check(int status) {
  if (status == 0) return;
  printf("error %d\n", status);
  exit(0);
}

template <class T>
void run(int compute, bool transposeA, bool transposeB, int batch, int m, int n, int k, bool biased) {
  const int type = sizeof(T) == 8;
  auto upload = [](int count, auto value) {
    std::vector<T> data;
    for (int i = 0; i < count; ++i) data.push_back(T(value(i)));
    CUdeviceptr address;
    check(cuMemAlloc_v2(&address, sizeof(T) * data.size()));
    check(cuMemcpyHtoD_v2(address, data.data(), sizeof(T) * data.size()));
    return reinterpret_cast<void*>(address);
  };
  void* const a = upload(batch * m * k, [](int i) { return std::sin(i); });
  void* const b = upload(batch * k * n, [](int i) { return std::cos(i); });
  void* const d = upload(batch * m * n, [](int) { return 0; });
  void* const bias = upload(m, [](int i) { return i; });

  auto layout = [&](int rows, int columns) {
    void* made;
    const int64_t step = int64_t(rows) * columns;
    check(cublasLtMatrixLayoutCreate(&made, type, uint64_t(rows), uint64_t(columns), rows));
    check(cublasLtMatrixLayoutSetAttribute(made, 5, &batch, sizeof(batch)));
    check(cublasLtMatrixLayoutSetAttribute(made, 6, &step, sizeof(step)));
    return made;
  };
  void *handle, *desc;
  const int ta = transposeA, tb = transposeB;
  check(cublasLtCreate(&handle));
  check(cublasLtMatmulDescCreate(&desc, compute, type));
  check(cublasLtMatmulDescSetAttribute(desc, 3, &ta, sizeof(ta)));
  check(cublasLtMatmulDescSetAttribute(desc, 4, &tb, sizeof(tb)));
  if (biased) {
    const unsigned epilogue = 4;
    check(cublasLtMatmulDescSetAttribute(desc, 7, &epilogue, sizeof(epilogue)));
    check(cublasLtMatmulDescSetAttribute(desc, 8, &bias, sizeof(bias)));
  }
  void* const aLayout = transposeA ? layout(k, m) : layout(m, k);
  void* const bLayout = transposeB ? layout(n, k) : layout(k, n);
  void* const dLayout = layout(m, n);

  CUstream stream;
  CUgraph graph;
  CUgraphExec exec;
  const T one = 1, zero = 0;
  check(cuStreamCreate(&stream, 1));
  check(cuStreamBeginCapture_v2(stream, 1));
  check(cublasLtMatmul(handle, desc, &one, a, aLayout, b, bLayout, &zero, d, dLayout, d, dLayout, nullptr, nullptr, 0,
                       stream));
  check(cuStreamEndCapture(stream, &graph));
  check(cuGraphInstantiateWithFlags(&exec, graph, 0));
  check(cuGraphLaunch(exec, stream));
  std::vector<T> result(size_t(batch) * m * n);
  check(cuMemcpyDtoH_v2(result.data(), reinterpret_cast<CUdeviceptr>(d), sizeof(T) * result.size()));
  for (T value : result) printf("%.17g\n", double(value));
}

}  // namespace

int main(int, char** arguments) {
  CUcontext context;
  check(cuInit(0));
  check(cuDevicePrimaryCtxRetain(&context, 0));
  check(cuCtxSetCurrent(context));
  int v[8];
  for (int i = 0; i < 8; ++i) v[i] = atoi(arguments[i + 1]);
  if (v[0] == 70) run<double>(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]);
  else run<float>(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]);
}
