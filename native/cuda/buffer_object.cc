// NativeBuffer, and NativeModule.
#include "objects.h"

namespace fluxion::cuda {

struct BufferHandle {
  Shared block;
  napi_ref object = nullptr;  // weak
};

namespace {

using Handle = BufferHandle;

constexpr napi_type_tag kBufferTag = {0x6a7d1f0b5c2e4893, 0x91b3e5d7f8204c6a};
constexpr napi_type_tag kModuleTag = {0x2c94e8a1b7360fd5, 0x83f5a06b9de1c247};

// Only newBuffer makes instances.
thread_local bool constructing = false;

napi_value construct(napi_env env, napi_callback_info info) {
  napi_value self = nullptr;
  if (!constructing) napi_throw_type_error(env, nullptr, "a device buffer comes from upload or run");
  else napi_get_cb_info(env, info, nullptr, nullptr, &self, nullptr);
  return self;
}

// What an object with this tag, which no other object has, was given; null for any other value.
void* wrapped(const Napi::Value& value, const napi_type_tag& tag) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&tag)) return nullptr;
  void* data = nullptr;
  return napi_unwrap(value.Env(), value, &data) == napi_ok ? data : nullptr;
}

// The collector does not see device memory: it is told how much hangs on its objects.
void account(Napi::Env env, const Block& block, int sign) {
  Napi::MemoryManagement::AdjustExternalMemory(env, sign * static_cast<int64_t>(block.bytes()));
}

void drop(Napi::Env env, Handle* handle) {
  if (!handle->block) return;
  account(env, *handle->block, -1);
  handle->block.reset();
  instanceOf(env).buffers.erase(handle);
}

void finalize(napi_env raw, void* data, void*) {
  Handle* const handle = static_cast<Handle*>(data);
  const Napi::Env env(raw);
  if (handle->block) account(env, *handle->block, -1);
  if (Instance* const instance = env.GetInstanceData<Instance>()) instance->buffers.erase(handle);
  napi_delete_reference(env, handle->object);
  delete handle;
}

Handle* handleOf(const Napi::Value& value) { return static_cast<Handle*>(wrapped(value, kBufferTag)); }

bool isCollected(Napi::Env env, napi_ref reference) {
  napi_value value = nullptr;
  return napi_get_reference_value(env, reference, &value) == napi_ok && value == nullptr;
}

}  // namespace

Shared bufferOf(const Napi::Value& value, const std::string& what) {
  const Handle* const handle = handleOf(value);
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
    Handle* const handle = handleOf(call.This());
    if (handle == nullptr) throw Error("dispose: expected a buffer of the device");
    drop(call.Env(), handle);
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
  object.TypeTag(&kBufferTag);
  auto handle = std::make_unique<Handle>();
  handle->block = std::move(block);
  if (napi_wrap(env, object, handle.get(), finalize, nullptr, &handle->object) != napi_ok) {
    throw Error("an object cannot be made");
  }
  instanceOf(env).buffers.insert(handle.release());
  return object;
}

void freeCollected(Napi::Env env, bool force) {
  Instance& instance = instanceOf(env);
  const Napi::HandleScope scope(env);
  if (force) {
    // V8 collects at once when it is told of more memory than it may hold.
    constexpr int64_t kPressure = int64_t{1} << 50;
    Napi::MemoryManagement::AdjustExternalMemory(env, kPressure);
    Napi::MemoryManagement::AdjustExternalMemory(env, -kPressure);
  }
  // Where the canary still lives there was no collection since the last look.
  if (instance.canary != nullptr && !isCollected(env, instance.canary)) return;
  if (instance.canary != nullptr) napi_delete_reference(env, instance.canary);
  instance.canary = nullptr;
  napi_create_reference(env, Napi::Object::New(env), 0, &instance.canary);
  std::vector<Handle*> collected;
  for (Handle* handle : instance.buffers) {
    if (isCollected(env, handle->object)) collected.push_back(handle);
  }
  for (Handle* handle : collected) drop(env, handle);
}

Napi::Value newModule(Napi::Env env, std::shared_ptr<Module> module) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("brand", "module");
  object.TypeTag(&kModuleTag);
  using Kept = std::shared_ptr<Module>;
  auto kept = std::make_unique<Kept>(std::move(module));
  const auto release = [](napi_env, void* data, void*) { delete static_cast<Kept*>(data); };
  if (napi_wrap(env, object, kept.get(), release, nullptr, nullptr) != napi_ok) {
    throw Error("an object cannot be made");
  }
  kept.release();
  return object;
}

std::shared_ptr<Module> moduleOf(const Napi::Value& value) {
  const auto* const kept = static_cast<std::shared_ptr<Module>*>(wrapped(value, kModuleTag));
  if (kept == nullptr) throw Error("expected a loaded module");
  return *kept;
}

}  // namespace fluxion::cuda
