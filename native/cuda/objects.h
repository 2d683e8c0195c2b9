// The objects that JavaScript holds: buffers, modules, programs with their loops.
#pragma once

#include "js.h"
#include "program.h"

namespace fluxion::cuda {

void defineBuffer(Napi::Env env);
Napi::Value newBuffer(Napi::Env env, Shared block);
// Throws Error for anything but a buffer that still has its memory.
Shared bufferOf(const Napi::Value& value, const std::string& what);

Napi::Value newModule(Napi::Env env, std::shared_ptr<Module> module);
std::shared_ptr<Module> moduleOf(const Napi::Value& value);

Napi::Value newProgram(Napi::Env env, std::shared_ptr<Program> program);

// Gives an object a native one that lives as long, under a tag that no other object has.
template <class T>
void hold(Napi::Env env, const Napi::Object& object, const napi_type_tag& tag, T* native,
          void (*release)(Napi::Env, T*)) {
  object.TypeTag(&tag);
  struct Held {
    T* native;
    void (*release)(Napi::Env, T*);
  };
  const auto finalize = [](napi_env raw, void* data, void*) {
    const std::unique_ptr<Held> held(static_cast<Held*>(data));
    held->release(raw, held->native);
  };
  if (napi_wrap(env, object, new Held{native, release}, finalize, nullptr, nullptr) != napi_ok) {
    throw Error("an object cannot be made");
  }
}

template <class T>
T* held(const Napi::Value& value, const napi_type_tag& tag) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&tag)) return nullptr;
  void* data = nullptr;
  if (napi_unwrap(value.Env(), value, &data) != napi_ok) return nullptr;
  return *static_cast<T**>(data);
}

}  // namespace fluxion::cuda
