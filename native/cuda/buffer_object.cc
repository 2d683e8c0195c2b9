// NativeBuffer, and NativeModule.
#include "objects.h"

namespace fluxion::cuda {
namespace {

constexpr napi_type_tag kBufferTag = {0x6a7d1f0b5c2e4893, 0x91b3e5d7f8204c6a};
constexpr napi_type_tag kModuleTag = {0x2c94e8a1b7360fd5, 0x83f5a06b9de1c247};

struct Handle {
  Shared block;
};

// Only newBuffer makes instances.
thread_local bool constructing = false;

napi_value construct(napi_env env, napi_callback_info info) {
  napi_value self = nullptr;
  if (!constructing) napi_throw_type_error(env, nullptr, "a device buffer comes from upload or run");
  else napi_get_cb_info(env, info, nullptr, nullptr, &self, nullptr);
  return self;
}

// The collector does not see device memory: it is told how much hangs on its objects.
void account(Napi::Env env, const Block& block, int sign) {
  Napi::MemoryManagement::AdjustExternalMemory(env, sign * static_cast<int64_t>(block.bytes()));
}

void release(Napi::Env env, Handle* handle) {
  if (handle->block) account(env, *handle->block, -1);
  delete handle;
}

}  // namespace

Shared bufferOf(const Napi::Value& value, const std::string& what) {
  const Handle* const handle = held<Handle>(value, kBufferTag);
  if (handle == nullptr) throw Error(what + ": expected a buffer of the device");
  if (!handle->block) throw Error(what + ": the buffer is disposed");
  return handle->block;
}

void defineBuffer(Napi::Env env) {
  napi_value made = nullptr;
  if (napi_define_class(env, "NativeBuffer", NAPI_AUTO_LENGTH, construct, nullptr, 0, nullptr, &made) != napi_ok) {
    throw Error("a class cannot be defined");
  }
  const Napi::Function constructor(env, made);
  const Napi::Object prototype = constructor.Get("prototype").As<Napi::Object>();
  method(env, prototype, "read", [](const Napi::CallbackInfo& call) {
    const Shared block = bufferOf(call.This(), "read");
    const Bytes target = bytesOf(call[0], block->bytes(), "read");
    copyToHost(device(), target.data, block->address(), target.size, false);
    return call.Env().Undefined();
  });
  method(env, prototype, "readAsync", [](const Napi::CallbackInfo& call) {
    const Shared block = bufferOf(call.This(), "readAsync");
    const Bytes target = bytesOf(call[0], block->bytes(), "readAsync");
    return inBackground(
        call.Env(), call[0].As<Napi::Object>(),
        [block, target] { copyToHost(device(), target.data, block->address(), target.size, true); },
        [](Napi::Env env) { return env.Undefined(); }, [] {});
  });
  method(env, prototype, "dispose", [](const Napi::CallbackInfo& call) {
    Handle* const handle = held<Handle>(call.This(), kBufferTag);
    if (handle == nullptr) throw Error("dispose: expected a buffer of the device");
    if (handle->block) account(call.Env(), *handle->block, -1);
    handle->block.reset();
    return call.Env().Undefined();
  });
  instanceOf(env).bufferClass = Napi::Persistent(constructor);
}

Napi::Value newBuffer(Napi::Env env, Shared block) {
  constructing = true;
  Napi::Object object;
  try {
    object = instanceOf(env).bufferClass.New({});
  } catch (...) {
    constructing = false;
    throw;
  }
  constructing = false;
  account(env, *block, 1);
  object.Set("bytes", static_cast<double>(block->bytes()));
  hold(env, object, kBufferTag, new Handle{std::move(block)}, release);
  return object;
}

Napi::Value newModule(Napi::Env env, std::shared_ptr<Module> module) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("brand", "module");
  using Kept = std::shared_ptr<Module>;
  hold<Kept>(env, object, kModuleTag, new Kept(std::move(module)), [](Napi::Env, Kept* kept) { delete kept; });
  return object;
}

std::shared_ptr<Module> moduleOf(const Napi::Value& value) {
  const auto* const kept = held<std::shared_ptr<Module>>(value, kModuleTag);
  if (kept == nullptr) throw Error("expected a loaded module");
  return *kept;
}

}  // namespace fluxion::cuda
