// Checks of what JavaScript passes in, and objects that hold native ones.
#pragma once

#include <napi.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>

#include "libraries.h"

namespace fluxion::cuda {

// A number that is an integer from `low` to `high`.
int64_t integer(const Napi::Value& value, double low, double high, const std::string& what);

struct Bytes {
  void* data;
  size_t size;
};
// The memory of a typed array. Asked for at every call, as an array may have been detached or resized meanwhile.
Bytes bytesOf(const Napi::Value& value, const std::string& what);
Bytes bytesOf(const Napi::Value& value, size_t expected, const std::string& what);

Napi::Array arrayOf(const Napi::Value& value, const std::string& what);
std::string stringOf(const Napi::Value& value, const std::string& what);

// Runs `body` such that errors of ours become JavaScript's.
template <class F>
Napi::Value guarded(Napi::Env env, F body) {
  try {
    return body();
  } catch (const Error& error) {
    throw Napi::Error::New(env, error.what());
  } catch (const std::bad_alloc&) {
    throw Napi::Error::New(env, "out of memory");
  }
}

using Method = std::function<Napi::Value(const Napi::CallbackInfo&)>;
// A property that is a function of closures: no receiver that a caller could exchange.
void method(Napi::Env env, Napi::Object object, const char* name, Method body);

// What a worker of the thread pool does, as a promise. `body` runs off the main thread; `result` and `always` on it.
// `keep` is not collected meanwhile.
Napi::Value inBackground(Napi::Env env, const Napi::Object& keep, std::function<void()> body,
                         std::function<Napi::Value(Napi::Env)> result, std::function<void()> always);

struct BufferHandle;

// Each addon instance (of a worker thread) ends its own loops, and has its own buffers.
struct Instance {
  std::shared_ptr<std::atomic<bool>> stopping = std::make_shared<std::atomic<bool>>(false);
  Napi::FunctionReference bufferClass;
  std::unordered_set<BufferHandle*> buffers;  // that have memory
  napi_ref canary = nullptr;                  // weak, to an object that nobody holds
};
Instance& instanceOf(Napi::Env env);

}  // namespace fluxion::cuda
