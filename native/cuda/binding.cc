// The CUDA toolkit that this addon was built against. The runtime is linked statically,
// so the addon also loads on a machine without a GPU driver.
#include <cuda_runtime_api.h>
#include <napi.h>

#include <string>

namespace {

// 13000 -> "13.0"
std::string versionText(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

Napi::Value toolkitVersion(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), versionText(CUDART_VERSION));
}

// The number of devices that the driver offers; 0 where there is no driver.
Napi::Value deviceCount(const Napi::CallbackInfo& info) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
  return Napi::Number::New(info.Env(), count);
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("toolkitVersion", Napi::Function::New<toolkitVersion>(env, "toolkitVersion"));
  exports.Set("deviceCount", Napi::Function::New<deviceCount>(env, "deviceCount"));
  return exports;
}

}  // namespace

NODE_API_MODULE(fluxion_cuda, init)
