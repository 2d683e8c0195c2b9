// NativeProgram, and NativeLoop.
#include "loop.h"
#include "objects.h"

namespace fluxion::cuda {
namespace {

std::vector<Shared> inputsOf(const Napi::Value& value, const Program& program) {
  const Napi::Array list = arrayOf(value, "inputs");
  if (list.Length() != program.body().inputs.size()) {
    throw Error("expected " + std::to_string(program.body().inputs.size()) + " inputs, got " +
                std::to_string(list.Length()));
  }
  std::vector<Shared> result;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const std::string what = "input " + std::to_string(i);
    result.push_back(bufferOf(list.Get(i), what));
    if (result.back()->bytes() != program.input(i).bytes) {
      throw Error(what + ": expected " + std::to_string(program.input(i).bytes) + " bytes, got " +
                  std::to_string(result.back()->bytes()));
    }
  }
  return result;
}

Napi::Array buffers(Napi::Env env, const std::vector<Shared>& blocks) {
  Napi::Array list = Napi::Array::New(env, blocks.size());
  for (size_t i = 0; i < blocks.size(); i++) list.Set(static_cast<uint32_t>(i), newBuffer(env, blocks[i]));
  return list;
}

double* secondsOf(const Napi::Value& value, const Program& program) {
  if (value.IsUndefined()) return nullptr;
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array ||
      value.As<Napi::TypedArray>().ElementLength() < static_cast<size_t>(program.body().steps)) {
    throw Error("run: seconds must be a Float64Array with an element for each step");
  }
  double* const seconds = value.As<Napi::Float64Array>().Data();
  std::fill_n(seconds, value.As<Napi::TypedArray>().ElementLength(), 0.0);
  return seconds;
}

struct HeldLoop {
  std::shared_ptr<Loop> loop;
  bool running = false;

  Loop& idle(const char* name) const {
    if (!loop) throw Error(std::string(name) + ": the loop is disposed");
    if (running) throw Error(std::string(name) + ": a run of the loop is under way");
    return *loop;
  }
};

struct State {
  Address address;
  Bytes data;
};
// Carried state call[0], and the array call[1] that is as long.
State stateOf(const Loop& loop, const Napi::CallbackInfo& call) {
  const int64_t index = integer(call[0], 0, 1e6, "index");
  const std::string what = "carried state " + std::to_string(index);
  if (index >= static_cast<int64_t>(loop.carried())) throw Error(what + " of " + std::to_string(loop.carried()));
  const size_t i = static_cast<size_t>(index);
  return {loop.state(i), bytesOf(call[1], loop.program().input(i).bytes, what)};
}

Napi::Value runLoop(const Napi::CallbackInfo& call, const std::shared_ptr<HeldLoop>& held) {
  const Loop& loop = held->idle("run");
  const int64_t steps = integer(call[0], 0, 9e15, "steps");
  const Napi::Array list = arrayOf(call[1], "observed");
  if (list.Length() != loop.observations()) {
    throw Error("run: expected " + std::to_string(loop.observations()) + " observed arrays, got " +
                std::to_string(list.Length()));
  }
  std::vector<char*> observed;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const size_t bytes = checkedMultiply(loop.program().output(loop.carried() + i).bytes, static_cast<size_t>(steps));
    observed.push_back(static_cast<char*>(bytesOf(list.Get(i), bytes, "observation " + std::to_string(i)).data));
  }
  const auto outcome = std::make_shared<Loop::Outcome>();
  const std::shared_ptr<Loop> kept = held->loop;  // a dispose while it runs frees it when it ends
  const std::shared_ptr<std::atomic<bool>> stopping = instanceOf(call.Env()).stopping;
  held->running = true;
  return inBackground(
      call.Env(), list, [kept, steps, observed, outcome, stopping] { *outcome = kept->run(steps, observed, *stopping); },
      [outcome](Napi::Env env) {
        Napi::Object result = Napi::Object::New(env);
        result.Set("completed", static_cast<double>(outcome->completed));
        result.Set("ran", static_cast<double>(outcome->ran));
        return result;
      },
      [held] { held->running = false; });
}

Napi::Value newLoop(Napi::Env env, std::shared_ptr<Loop> loop) {
  const auto held = std::make_shared<HeldLoop>();
  held->loop = std::move(loop);
  Napi::Object object = Napi::Object::New(env);
  method(env, object, "run", [held](const Napi::CallbackInfo& call) { return runLoop(call, held); });
  method(env, object, "read", [held](const Napi::CallbackInfo& call) {
    const State state = stateOf(held->idle("read"), call);
    copyToHost(device(), state.data.data, state.address, state.data.size, false);
    return call.Env().Undefined();
  });
  method(env, object, "write", [held](const Napi::CallbackInfo& call) {
    const State state = stateOf(held->idle("write"), call);
    copyToDevice(device(), state.address, state.data.data, state.data.size);
    return call.Env().Undefined();
  });
  method(env, object, "dispose", [held](const Napi::CallbackInfo& call) {
    held->loop.reset();
    return call.Env().Undefined();
  });
  return object;
}

}  // namespace

Napi::Value newProgram(Napi::Env env, std::shared_ptr<Program> program) {
  Napi::Object object = Napi::Object::New(env);
  method(env, object, "run", [program](const Napi::CallbackInfo& call) {
    const std::vector<Shared> inputs = inputsOf(call[0], *program);
    double* const seconds = secondsOf(call[1], *program);
    return buffers(call.Env(), withMemory(call.Env(), [&] { return program->run(inputs, seconds, false); }));
  });
  method(env, object, "runAsync", [program](const Napi::CallbackInfo& call) {
    const std::vector<Shared> inputs = inputsOf(call[0], *program);
    freeCollected(call.Env(), false);
    const auto outputs = std::make_shared<std::vector<Shared>>();
    return inBackground(
        call.Env(), call[0].As<Napi::Object>(),
        [program, inputs, outputs] { *outputs = program->run(inputs, nullptr, true); },
        [outputs](Napi::Env e) { return buffers(e, *outputs); }, [] {});
  });
  method(env, object, "loop", [program](const Napi::CallbackInfo& call) {
    const std::shared_ptr<Module> service = moduleOf(call[0]);
    const std::vector<Shared> inputs = inputsOf(call[1], *program);
    const size_t carried = static_cast<size_t>(integer(call[2], 0, 1e6, "carried"));
    return newLoop(call.Env(), withMemory(call.Env(), [&] {
                     return std::make_shared<Loop>(program, service, inputs, carried);
                   }));
  });
  method(env, object, "workspaceBytes", [program](const Napi::CallbackInfo& call) {
    return Napi::Number::New(call.Env(), static_cast<double>(program->arenaBytes() + program->workspaceBytes()));
  });
  return object;
}

}  // namespace fluxion::cuda
