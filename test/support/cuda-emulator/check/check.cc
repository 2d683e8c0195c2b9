// Runs a kernel of a program through the emulated driver and NVRTC, and prints what it wrote.
//
//   check SOURCE HEADERS KERNEL BLOCKS THREADS SHARED LAUNCHES ELEMENTS VALUE...
//
// The kernel gets x with the values, and y of ELEMENTS floats. With more launches than 1, a graph is captured
// with one launch and launched as often. Prints the floats of y, or "error NAME" of the first call that fails; of a
// program that does not compile its log.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "../driver/abi.h"

extern "C" {
CUresult cuInit(unsigned);
CUresult cuGetErrorName(CUresult, const char**);
CUresult cuDevicePrimaryCtxRetain(CUcontext*, CUdevice);
CUresult cuCtxSetCurrent(CUcontext);
CUresult cuMemAlloc_v2(CUdeviceptr*, size_t);
CUresult cuMemFree_v2(CUdeviceptr);
CUresult cuMemsetD8Async(CUdeviceptr, unsigned char, size_t, CUstream);
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr, const void*, size_t, CUstream);
CUresult cuMemcpyDtoHAsync_v2(void*, CUdeviceptr, size_t, CUstream);
CUresult cuStreamCreate(CUstream*, unsigned);
CUresult cuStreamSynchronize(CUstream);
CUresult cuStreamBeginCapture_v2(CUstream, int);
CUresult cuStreamEndCapture(CUstream, CUgraph*);
CUresult cuGraphInstantiateWithFlags(CUgraphExec*, CUgraph, unsigned long long);
CUresult cuGraphLaunch(CUgraphExec, CUstream);
CUresult cuModuleLoadData(CUmodule*, const void*);
CUresult cuModuleGetFunction(CUfunction*, CUmodule, const char*);
CUresult cuFuncSetAttribute(CUfunction, int, int);
CUresult cuLaunchKernel(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream,
                        void**, void**);
int nvrtcCreateProgram(void**, const char*, const char*, int, const char* const*, const char* const*);
int nvrtcCompileProgram(void*, int, const char* const*);
int nvrtcGetCUBINSize(void*, size_t*);
int nvrtcGetCUBIN(void*, char*);
int nvrtcGetProgramLogSize(void*, size_t*);
int nvrtcGetProgramLog(void*, char*);
}

namespace {

void check(CUresult result) {
  if (result == CUDA_SUCCESS) return;
  const char* name = "";
  cuGetErrorName(result, &name);
  printf("error %s\n", name);
  exit(0);
}

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<char> compile(const std::string& source, const std::filesystem::path& headers) {
  std::vector<std::string> names, texts;
  for (const auto& entry : std::filesystem::directory_iterator(headers)) {
    if (entry.path().extension() != ".cuh") continue;
    names.push_back(entry.path().filename());
    texts.push_back(read(entry.path()));
  }
  std::vector<const char*> nameOf, textOf;
  for (size_t i = 0; i < names.size(); ++i) nameOf.push_back(names[i].c_str()), textOf.push_back(texts[i].c_str());
  void* program = nullptr;
  nvrtcCreateProgram(&program, source.c_str(), "check.cu", int(names.size()), textOf.data(), nameOf.data());
  const char* options[] = {"-std=c++17", "--fmad=false", "--gpu-architecture=sm_90"};
  size_t size = 0;
  if (nvrtcCompileProgram(program, 3, options) != 0) {
    nvrtcGetProgramLogSize(program, &size);
    std::string log(size, ' ');
    nvrtcGetProgramLog(program, log.data());
    printf("%s", log.c_str());
    exit(0);
  }
  nvrtcGetCUBINSize(program, &size);
  std::vector<char> image(size);
  nvrtcGetCUBIN(program, image.data());
  return image;
}

}  // namespace

int main(int, char** arguments) {
  const std::vector<char> image = compile(read(arguments[1]), arguments[2]);
  const auto number = [&](int i) { return unsigned(atoi(arguments[i])); };
  const unsigned blocks = number(4), threads = number(5), shared = number(6), launches = number(7);
  std::vector<float> x, y(number(8));
  for (int i = 9; arguments[i] != nullptr; ++i) x.push_back(float(atof(arguments[i])));

  CUcontext context;
  CUstream stream;
  CUmodule module;
  CUfunction function;
  CUdeviceptr from, to;
  check(cuInit(0));
  check(cuDevicePrimaryCtxRetain(&context, 0));
  check(cuCtxSetCurrent(context));
  check(cuStreamCreate(&stream, 1));
  check(cuModuleLoadData(&module, image.data()));
  check(cuModuleGetFunction(&function, module, arguments[3]));
  check(cuMemAlloc_v2(&from, 4 * x.size()));
  check(cuMemAlloc_v2(&to, 4 * y.size()));
  check(cuMemcpyHtoDAsync_v2(from, x.data(), 4 * x.size(), stream));
  check(cuMemsetD8Async(to, 0, 4 * y.size(), stream));
  void* parameters[] = {&from, &to};
  auto launch = [&] {
    check(cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, shared, stream, parameters, nullptr));
  };
  if (launches == 1) {
    launch();
  } else {
    CUgraph graph;
    CUgraphExec exec;
    check(cuStreamBeginCapture_v2(stream, 1));
    launch();
    check(cuStreamEndCapture(stream, &graph));
    check(cuGraphInstantiateWithFlags(&exec, graph, 0));
    for (unsigned i = 0; i < launches; ++i) check(cuGraphLaunch(exec, stream));
  }
  check(cuStreamSynchronize(stream));
  check(cuMemcpyDtoHAsync_v2(y.data(), to, 4 * y.size(), stream));
  check(cuStreamSynchronize(stream));
  check(cuMemFree_v2(to));
  for (float value : y) printf("%.9g\n", double(value));
}
