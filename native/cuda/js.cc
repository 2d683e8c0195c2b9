#include "js.h"

#include <cmath>

namespace fluxion::cuda {

int64_t integer(const Napi::Value& value, double low, double high, const std::string& what) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(number >= low && number <= high) || number != std::floor(number)) {
    throw Error(what + ": expected an integer from " + std::to_string(static_cast<int64_t>(low)) + " to " +
                std::to_string(static_cast<int64_t>(high)) +
                (value.IsNumber() ? ", got " + std::to_string(number) : ""));
  }
  return static_cast<int64_t>(number);
}

Bytes bytesOf(const Napi::Value& value, const std::string& what) {
  const napi_env env = value.Env();
  bool isArray = false;
  if (value.IsEmpty() || napi_is_typedarray(env, value, &isArray) != napi_ok || !isArray) {
    throw Error(what + ": expected a typed array");
  }
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok) {
    throw Error(what + ": an array that cannot be read");
  }
  if (data == nullptr && length > 0) throw Error(what + ": an array without memory (detached?)");
  return {data, length * value.As<Napi::TypedArray>().ElementSize()};
}

Bytes bytesOf(const Napi::Value& value, size_t expected, const std::string& what) {
  const Bytes bytes = bytesOf(value, what);
  if (bytes.size != expected) {
    throw Error(what + ": expected an array of " + std::to_string(expected) + " bytes, got " +
                std::to_string(bytes.size) + (bytes.size == 0 ? " (detached?)" : ""));
  }
  return bytes;
}

Napi::Array arrayOf(const Napi::Value& value, const std::string& what) {
  if (!value.IsArray()) throw Error(what + ": expected an array");
  return value.As<Napi::Array>();
}

std::string stringOf(const Napi::Value& value, const std::string& what) {
  if (!value.IsString()) throw Error(what + ": expected a string");
  return value.As<Napi::String>().Utf8Value();
}

void method(Napi::Env env, Napi::Object object, const char* name, Method body) {
  object.Set(name, Napi::Function::New(
                       env,
                       [body = std::move(body)](const Napi::CallbackInfo& info) {
                         return guarded(info.Env(), [&] { return body(info); });
                       },
                       name));
}

namespace {

class Work final : public Napi::AsyncWorker {
 public:
  Work(Napi::Env env, const Napi::Object& keep, std::function<void()> body,
       std::function<Napi::Value(Napi::Env)> result, std::function<void()> always)
      : Napi::AsyncWorker(env),
        deferred(Napi::Promise::Deferred::New(env)),
        keep_(Napi::Persistent(keep)),
        body_(std::move(body)),
        result_(std::move(result)),
        always_(std::move(always)) {}

  const Napi::Promise::Deferred deferred;

 private:
  void Execute() override {
    try {
      body_();
    } catch (const std::exception& error) {
      SetError(error.what());
    }
  }
  void OnOK() override {
    always_();
    settle([this] {
      try {
        deferred.Resolve(result_(Env()));
      } catch (const Error& error) {
        deferred.Reject(Napi::Error::New(Env(), error.what()).Value());
      }
    });
  }
  void OnError(const Napi::Error& error) override {
    always_();
    settle([&] { deferred.Reject(error.Value()); });
  }
  // In a worker that is being ended no JavaScript runs any more, and nobody waits for the promise.
  template <class F>
  static void settle(F body) {
    try {
      body();
    } catch (const Napi::Error&) {
    }
  }

  Napi::ObjectReference keep_;
  std::function<void()> body_;
  std::function<Napi::Value(Napi::Env)> result_;
  std::function<void()> always_;
};

}  // namespace

Napi::Value inBackground(Napi::Env env, const Napi::Object& keep, std::function<void()> body,
                         std::function<Napi::Value(Napi::Env)> result, std::function<void()> always) {
  // It deletes itself when it is done.
  Work* const work = new Work(env, keep, std::move(body), std::move(result), std::move(always));
  const Napi::Promise promise = work->deferred.Promise();
  work->Queue();
  return promise;
}

Instance& instanceOf(Napi::Env env) { return *env.GetInstanceData<Instance>(); }

}  // namespace fluxion::cuda
