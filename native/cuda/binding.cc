// What JavaScript sees; lib/backend/cuda/addon.ts describes it.
#include <dlfcn.h>
#include <napi.h>

#include "compiler.h"
#include "objects.h"
#include "parse.h"

namespace fluxion::cuda {
namespace {

Napi::Value open(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  const Napi::Array list = arrayOf(call[0], "folders");
  std::vector<std::string> folders;
  for (uint32_t i = 0; i < list.Length(); i++) folders.push_back(stringOf(list.Get(i), "folders"));
  const DeviceFacts& facts = openDevice(folders).facts;
  Napi::Object result = Napi::Object::New(env);
  result.Set("name", facts.name);
  result.Set("architecture", facts.architecture);
  result.Set("multiprocessors", facts.multiprocessors);
  result.Set("sharedBytes", facts.sharedBytes);
  result.Set("memoryBytes", static_cast<double>(facts.memoryBytes));
  result.Set("driver", facts.driverVersion);
  result.Set("nvrtc", facts.nvrtcVersion);
  Napi::Object cublas = Napi::Object::New(env);
  if (facts.cublasMissing.empty()) cublas.Set("version", facts.cublasVersion);
  else cublas.Set("missing", facts.cublasMissing);
  result.Set("cublas", cublas);
  Napi::Array libraries = Napi::Array::New(env);
  for (size_t i = 0; i < facts.libraries.size(); i++) libraries.Set(static_cast<uint32_t>(i), facts.libraries[i]);
  result.Set("libraries", libraries);
  return result;
}

Napi::Value compileSource(const Napi::CallbackInfo& call) {
  const std::string source = stringOf(call[0], "source");
  if (!call[1].IsObject()) throw Error("headers: expected an object");
  const Napi::Object given = call[1].As<Napi::Object>();
  const Napi::Array names = given.GetPropertyNames();
  std::vector<std::pair<std::string, std::string>> headers;
  for (uint32_t i = 0; i < names.Length(); i++) {
    const std::string name = stringOf(names.Get(i), "headers");
    headers.emplace_back(name, stringOf(given.Get(name), name));
  }
  const Napi::Array list = arrayOf(call[2], "options");
  std::vector<std::string> options;
  for (uint32_t i = 0; i < list.Length(); i++) options.push_back(stringOf(list.Get(i), "options"));
  const std::string code = compile(device(), source, headers, options);
  Napi::Uint8Array image = Napi::Uint8Array::New(call.Env(), code.size());
  std::copy(code.begin(), code.end(), reinterpret_cast<char*>(image.Data()));
  return image;
}

Napi::Value load(const Napi::CallbackInfo& call) {
  const Bytes bytes = bytesOf(call[0], "image");
  // A copy: the driver reads up to a zero where it is text.
  const std::string image(static_cast<const char*>(bytes.data), bytes.size);
  if (image.empty()) throw Error("image: there is no code");
  return newModule(call.Env(), std::make_shared<Module>(device(), image));
}

Napi::Value createProgram(const Napi::CallbackInfo& call) {
  std::shared_ptr<Module> module = moduleOf(call[0]);
  Whole whole;
  std::unique_ptr<Body> body = parseProgram(device(), *module, call[1], whole);
  return newProgram(call.Env(),
                    std::make_shared<Program>(device(), std::move(module), std::move(body), std::move(whole)));
}

Napi::Value upload(const Napi::CallbackInfo& call) {
  const Bytes bytes = bytesOf(call[0], "upload");
  Device& target = device();
  auto block =
      withMemory(call.Env(), [&] { return std::make_shared<Block>(target, bytes.size, "a tensor"); });
  copyToDevice(target, block->address(), bytes.data, bytes.size);
  return newBuffer(call.Env(), std::move(block));
}

Napi::Value memory(const Napi::CallbackInfo& call) {
  const Pool::Figures figures = device().pool->figures();
  Napi::Object result = Napi::Object::New(call.Env());
  result.Set("used", static_cast<double>(figures.used));
  result.Set("cached", static_cast<double>(figures.cached));
  result.Set("free", static_cast<double>(figures.free));
  result.Set("total", static_cast<double>(figures.total));
  return result;
}

// Other threads may still run code of this library when Node unloads it with the last worker that loaded it.
void pinLibrary() {
  static const int here = 0;
  Dl_info info;
  if (dladdr(&here, &info) != 0 && info.dli_fname != nullptr) dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE);
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  pinLibrary();
  env.SetInstanceData(new Instance);
  defineBuffer(env);
  method(env, exports, "open", open);
  method(env, exports, "compile", compileSource);
  method(env, exports, "load", load);
  method(env, exports, "createProgram", createProgram);
  method(env, exports, "upload", upload);
  method(env, exports, "memory", memory);
  method(env, exports, "releaseCache", [](const Napi::CallbackInfo& call) {
    device().pool->release();
    return call.Env().Undefined();
  });
  method(env, exports, "stop", [](const Napi::CallbackInfo& call) {
    *instanceOf(call.Env()).stopping = true;
    return call.Env().Undefined();
  });
  return exports;
}

}  // namespace
}  // namespace fluxion::cuda

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return fluxion::cuda::init(env, exports); }
NODE_API_MODULE(fluxion_cuda, Init)
