#include "module.h"

namespace fluxion::cuda {
namespace {

constexpr size_t kSharedWithoutAsking = size_t{48} << 10;  // of a launch, in all; more must be allowed
constexpr int kMostParameters = 4096;

// How many parameters a kernel has; -1 where the driver cannot say.
int parametersOf(const Device& device, Function function) {
  if (device.driver.funcGetParamInfo == nullptr) return -1;
  for (int i = 0; i < kMostParameters; i++) {
    size_t offset = 0, size = 0;
    if (device.driver.funcGetParamInfo(function, static_cast<size_t>(i), &offset, &size) != kSuccess) return i;
    if (size != sizeof(Address)) return -1;
  }
  return -1;
}

}  // namespace

Module::Module(Device& device, const std::string& image) : device_(device) {
  device_.enter();
  device_.check(device_.driver.moduleLoadData(&module_, image.c_str()), "loading compiled code");
}

Module::~Module() {
  // Launched kernels must be through before their code goes.
  try {
    device_.enter();
    device_.check(device_.driver.streamSynchronize(device_.stream), "waiting for the device");
    device_.driver.moduleUnload(module_);
  } catch (const Error&) {
    // a lost context took the module with it
  }
}

Kernel& Module::find(const std::string& name) {
  const auto known = kernels_.find(name);
  if (known != kernels_.end()) return known->second;
  Kernel kernel;
  const Result result = device_.driver.moduleGetFunction(&kernel.function, module_, name.c_str());
  if (result == kNotFound) throw Error("the module has no kernel " + name);
  device_.check(result, "finding a kernel");
  int shared = 0;
  device_.check(device_.driver.funcGetAttribute(&kernel.threads, kFunctionMaxThreads, kernel.function),
                "reading an attribute of a kernel");
  device_.check(device_.driver.funcGetAttribute(&shared, kFunctionStaticShared, kernel.function),
                "reading an attribute of a kernel");
  kernel.sharedBytes = static_cast<size_t>(shared);
  kernel.parameters = parametersOf(device_, kernel.function);
  return kernels_.emplace(name, kernel).first->second;
}

Function Module::kernel(const std::string& name, int64_t threads, int64_t sharedBytes, size_t parameters) {
  const std::lock_guard<std::mutex> lock(mutex_);
  device_.enter();
  Kernel& kernel = find(name);
  if (threads > kernel.threads) {
    throw Error(std::to_string(threads) + " threads, but a block of " + name + " has at most " +
                std::to_string(kernel.threads));
  }
  if (kernel.parameters >= 0 && static_cast<size_t>(kernel.parameters) != parameters) {
    throw Error(name + " has " + std::to_string(kernel.parameters) + " parameters, not " + std::to_string(parameters));
  }
  const size_t dynamic = static_cast<size_t>(sharedBytes), most = static_cast<size_t>(device_.facts.sharedBytes);
  if (dynamic > most || kernel.sharedBytes + dynamic > most) {
    throw Error(std::to_string(kernel.sharedBytes + dynamic) + " bytes of shared memory, but a block has at most " +
                std::to_string(most));
  }
  if (kernel.sharedBytes + dynamic > kSharedWithoutAsking && dynamic > kernel.dynamicBytes) {
    device_.check(
        device_.driver.funcSetAttribute(kernel.function, kFunctionDynamicShared, static_cast<int>(dynamic)),
        "allowing shared memory");
    kernel.dynamicBytes = dynamic;
  }
  return kernel.function;
}

}  // namespace fluxion::cuda
