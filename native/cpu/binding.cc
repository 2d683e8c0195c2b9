// What JavaScript sees. Plans and loops are objects of closures: there is no receiver that a caller could
// mix up, and what a closure holds lives as long as it does.
#include <napi.h>
#if !defined(_WIN32)
#include <dlfcn.h>
#endif

#include <functional>

#include "../common/js.h"
#include "loop.h"
#include "peak.h"
#include "thread_pool.h"

namespace fluxion {
namespace {

// Turns every C++ exception into a JavaScript one.
template <class F>
Napi::Value guarded(Napi::Env env, F&& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw Napi::Error::New(env, "out of memory");
  } catch (const std::exception& error) {
    throw Napi::Error::New(env, error.what());
  }
}

template <class F>
void method(Napi::Env env, Napi::Object object, const char* name, F body) {
  object.Set(name, Napi::Function::New(env, [body](const Napi::CallbackInfo& info) {
               return guarded(info.Env(), [&] { return body(info); });
             }, name));
}

// The data of all the arrays of a list: inputs or outputs from number `first`, each `times` long.
std::vector<void*> arrays(const Napi::CallbackInfo& info, size_t argument, const Runner& runner, bool inputs,
                          size_t first = 0, int64_t times = 1) {
  const std::vector<int>& numbers = inputs ? runner.plan().inputs : runner.plan().outputs;
  const size_t count = numbers.size() - first;
  const char* kind = inputs ? "input" : "output";
  if (!info[argument].IsArray()) throw PlanError(std::string(kind) + "s: expected an array");
  const Napi::Array list = info[argument].As<Napi::Array>();
  if (list.Length() != count) {
    throw PlanError("expected " + std::to_string(count) + " " + kind + "s, got " + std::to_string(list.Length()));
  }
  std::vector<napi_value> values(count);
  for (size_t i = 0; i < count; i++) values[i] = list.Get(static_cast<uint32_t>(i));
  // Only now, when no getter of the list can run any more, are data pointers taken.
  std::vector<void*> data(count);
  for (size_t i = 0; i < count; i++) {
    Buffer buffer = runner.plan().buffers[static_cast<size_t>(numbers[first + i])];
    if (__builtin_mul_overflow(buffer.size, times, &buffer.size)) throw PlanError("too many steps");
    data[i] = arrayData(info.Env(), values[i], buffer, std::string(kind) + " " + std::to_string(first + i));
  }
  return data;
}

// Work off the JavaScript thread that settles a promise. `keep` holds the arrays that it writes.
class Work : public Napi::AsyncWorker {
 public:
  using Body = std::function<void()>;
  using Settle = std::function<Napi::Value(Napi::Env)>;
  static Napi::Value start(Napi::Env env, Napi::Object keep, Body body, Settle result, std::function<void()> always) {
    auto* work = new Work(env, keep, std::move(body), std::move(result), std::move(always));
    const Napi::Promise promise = work->deferred_.Promise();
    work->Queue();
    return promise;
  }

 private:
  Work(Napi::Env env, Napi::Object keep, Body body, Settle result, std::function<void()> always)
      : Napi::AsyncWorker(env, "fluxion"), deferred_(Napi::Promise::Deferred::New(env)),
        keep_(Napi::Persistent(keep)), body_(std::move(body)), result_(std::move(result)), always_(std::move(always)) {}

  void Execute() override {
    try {
      body_();
    } catch (const std::bad_alloc&) {
      SetError("out of memory");
    } catch (const std::exception& error) {
      SetError(error.what());
    }
  }
  void OnOK() override {
    always_();
    deferred_.Resolve(result_(Env()));
  }
  void OnError(const Napi::Error& error) override {
    always_();
    deferred_.Reject(error.Value());
  }

  Napi::Promise::Deferred deferred_;
  Napi::ObjectReference keep_;
  Body body_;
  Settle result_;
  std::function<void()> always_;
};

// Returns a workspace also where a run throws.
struct Borrowed {
  explicit Borrowed(Runner& r) : runner(r), workspace(r.acquire()) {}
  ~Borrowed() { runner.release(std::move(workspace)); }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  Runner& runner;
  std::unique_ptr<Runner::Workspace> workspace;
};

// loop(inputs, carried) -> { run(steps, observed), read(i, target), write(i, source), dispose() }
Napi::Value makeLoop(const Napi::CallbackInfo& info, const std::shared_ptr<Runner>& runner) {
  const Napi::Env env = info.Env();
  const size_t carried = static_cast<size_t>(integerArgument(info[1], 1e6, "carried"));
  struct Held {
    std::shared_ptr<Loop> loop;
    bool running = false;
  };
  const std::vector<void*> inputs = arrays(info, 0, *runner, true);
  auto held = std::make_shared<Held>();
  held->loop = std::make_shared<Loop>(runner, inputs.data(), carried);

  const auto idle = [](const Held& h, const char* name) -> Loop& {
    if (!h.loop) throw PlanError(std::string(name) + ": the loop is disposed");
    if (h.running) throw PlanError(std::string(name) + ": a run of the loop is under way");
    return *h.loop;
  };
  const auto stateBuffer = [](const Loop& loop, int64_t index) -> const Buffer& {
    if (index >= static_cast<int64_t>(loop.carried())) {
      throw PlanError("carried state " + std::to_string(index) + " of " + std::to_string(loop.carried()));
    }
    return loop.runner().input(static_cast<size_t>(index));
  };

  Napi::Object object = Napi::Object::New(env);
  method(env, object, "run", [held, idle](const Napi::CallbackInfo& call) {
    Loop& loop = idle(*held, "run");
    const int64_t steps = integerArgument(call[0], 9e15, "steps");
    std::vector<void*> observed = arrays(call, 1, loop.runner(), false, loop.carried(), steps);
    auto outcome = std::make_shared<Loop::Outcome>();
    std::shared_ptr<Loop> kept = held->loop;  // a dispose while it runs frees it when it ends
    held->running = true;
    return Work::start(
        call.Env(), call[1].As<Napi::Object>(), [kept, steps, observed, outcome] { *outcome = kept->run(steps, observed); },
        [outcome](Napi::Env e) {
          Napi::Object result = Napi::Object::New(e);
          result.Set("completed", static_cast<double>(outcome->completed));
          result.Set("ran", static_cast<double>(outcome->ran));
          return result;
        },
        [held] { held->running = false; });
  });
  method(env, object, "read", [held, idle, stateBuffer](const Napi::CallbackInfo& call) {
    Loop& loop = idle(*held, "read");
    const int64_t index = integerArgument(call[0], 1e6, "index");
    const Buffer& buffer = stateBuffer(loop, index);
    void* target = arrayData(call.Env(), call[1], buffer, "carried state " + std::to_string(index));
    if (buffer.size > 0) std::memcpy(target, loop.state(static_cast<size_t>(index)), buffer.bytes());
    return call.Env().Undefined();
  });
  method(env, object, "write", [held, idle, stateBuffer](const Napi::CallbackInfo& call) {
    Loop& loop = idle(*held, "write");
    const int64_t index = integerArgument(call[0], 1e6, "index");
    const Buffer& buffer = stateBuffer(loop, index);
    const void* source = arrayData(call.Env(), call[1], buffer, "carried state " + std::to_string(index));
    if (buffer.size > 0) std::memcpy(loop.state(static_cast<size_t>(index)), source, buffer.bytes());
    return call.Env().Undefined();
  });
  method(env, object, "dispose", [held](const Napi::CallbackInfo& call) {
    held->loop.reset();
    return call.Env().Undefined();
  });
  return object;
}

// A Float64Array with a place for each step of a plan, or null where none is given.
double* timesOf(const Napi::Value& value, const Runner& runner) {
  if (value.IsUndefined()) return nullptr;
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array ||
      value.As<Napi::TypedArray>().ElementLength() != runner.plan().steps.size()) {
    throw PlanError("run: seconds must be a Float64Array with an element for each step");
  }
  return value.As<Napi::Float64Array>().Data();
}

// createPlan(words) -> { run(inputs, outputs, seconds?), runAsync(inputs, outputs), loop(inputs, carried), workspaceBytes() }
Napi::Value createPlan(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) {
    throw PlanError("createPlan: expected a Float64Array");
  }
  const Napi::Float64Array words = info[0].As<Napi::Float64Array>();
  const auto runner = std::make_shared<Runner>(parsePlan(words.Data(), words.ElementLength()));

  Napi::Object object = Napi::Object::New(env);
  method(env, object, "run", [runner](const Napi::CallbackInfo& call) {
    const std::vector<void*> inputs = arrays(call, 0, *runner, true), outputs = arrays(call, 1, *runner, false);
    double* const seconds = timesOf(call[2], *runner);
    const Borrowed borrowed(*runner);
    runner->run(*borrowed.workspace, inputs.data(), outputs.data(), seconds);
    return call.Env().Undefined();
  });
  method(env, object, "runAsync", [runner](const Napi::CallbackInfo& call) {
    const std::vector<void*> inputs = arrays(call, 0, *runner, true), outputs = arrays(call, 1, *runner, false);
    const auto copies = std::make_shared<InputCopies>(*runner, inputs.data(), 0);
    return Work::start(
        call.Env(), call[1].As<Napi::Object>(),
        [runner, copies, outputs] {
          const Borrowed borrowed(*runner);
          runner->run(*borrowed.workspace, copies->pointers.data(), outputs.data());
        },
        [](Napi::Env e) { return e.Undefined(); }, [] {});
  });
  method(env, object, "loop", [runner](const Napi::CallbackInfo& call) { return makeLoop(call, runner); });
  method(env, object, "workspaceBytes", [runner](const Napi::CallbackInfo& call) {
    return Napi::Number::New(call.Env(), static_cast<double>(runner->workspaceBytes()));
  });
  return object;
}

Napi::Array names(Napi::Env env, int count, const std::function<const char*(int)>& name) {
  Napi::Array list = Napi::Array::New(env, static_cast<size_t>(count));
  for (int i = 0; i < count; i++) list.Set(static_cast<uint32_t>(i), Napi::String::New(env, name(i)));
  return list;
}

// The threads of the pool run code of this library for as long as the process lives, but Node unloads an
// addon when the last worker that loaded it ends: hold on to it.
void pinLibrary() {
#if !defined(_WIN32)
  static const int here = 0;
  Dl_info info;
  if (dladdr(&here, &info) != 0 && info.dli_fname != nullptr) dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE);
#endif
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  pinLibrary();
  exports.Set("ops", names(env, kOps, [](int i) { return kOpInfo[i].name; }));
  exports.Set("dtypes", names(env, kDTypes, [](int i) { return kDTypeNames[i]; }));
  exports.Set("reducers", names(env, kReducers, [](int i) { return kReducerNames[i]; }));
  exports.Set("stepKinds", names(env, kStepKinds, [](int i) { return kStepKindNames[i]; }));
  exports.Set("attentionParts", names(env, kAttentionParts, [](int i) { return kAttentionPartNames[i]; }));
  exports.Set("bufferKinds", names(env, kBufferKinds, [](int i) { return kBufferKindNames[i]; }));
  const InstructionSets& sets = instructionSets();
  exports.Set("instructionSets", names(env, sets.count, [&](int i) { return sets.table[i]->name; }));
  method(env, exports, "createPlan", createPlan);
  method(env, exports, "instructionSet", [](const Napi::CallbackInfo& call) {
    return Napi::String::New(call.Env(), currentKernels().name);
  });
  method(env, exports, "setInstructionSet", [](const Napi::CallbackInfo& call) {
    selectKernels(call[0].IsString() ? call[0].As<Napi::String>().Utf8Value().c_str() : "");
    return call.Env().Undefined();
  });
  method(env, exports, "threads", [](const Napi::CallbackInfo& call) {
    return Napi::Number::New(call.Env(), threadCount());
  });
  method(env, exports, "setThreads", [](const Napi::CallbackInfo& call) {
    setThreadCount(static_cast<int>(integerArgument(call[0], 1e9, "setThreads")));
    return call.Env().Undefined();
  });
  method(env, exports, "measurePeak", [](const Napi::CallbackInfo& call) {
    const int64_t threads = integerArgument(call[0], 256, "measurePeak: threads");
    if (!call[1].IsNumber()) throw PlanError("measurePeak: seconds: expected a number");
    return Napi::Number::New(call.Env(), measurePeak(threads, call[1].As<Napi::Number>().DoubleValue()));
  });
  method(env, exports, "measureBandwidth", [](const Napi::CallbackInfo& call) {
    const int64_t threads = integerArgument(call[0], 256, "measureBandwidth: threads");
    const int64_t bytes = integerArgument(call[1], 1e12, "measureBandwidth: bytes");
    return Napi::Number::New(call.Env(), measureBandwidth(threads, bytes));
  });
  method(env, exports, "stop", [](const Napi::CallbackInfo& call) {
    Loop::stopping = true;
    return call.Env().Undefined();
  });
  return exports;
}

}  // namespace
}  // namespace fluxion

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return fluxion::init(env, exports); }
NODE_API_MODULE(fluxion_cpu, Init)
