// The objects that JavaScript holds: buffers, modules, programs with their loops.
#pragma once

#include "js.h"
#include "program.h"

namespace fluxion::cuda {

void defineBuffer(Napi::Env env);
Napi::Value newBuffer(Napi::Env env, Shared block);
// Throws Error for anything but a buffer that still has its memory.
Shared bufferOf(const Napi::Value& value, const std::string& what);

// Frees the memory of buffers that were collected; Node runs their finalizers only when the event loop turns, which a
// program without `await` does not come to. `force`: collects now.
void freeCollected(Napi::Env env, bool force);

// Runs `body`; where memory is out, frees what was not collected yet, and runs it again.
template <class F>
auto withMemory(Napi::Env env, F body) {
  freeCollected(env, false);
  try {
    return body();
  } catch (const OutOfMemory&) {
  }
  freeCollected(env, true);
  return body();
}

Napi::Value newModule(Napi::Env env, std::shared_ptr<Module> module);
std::shared_ptr<Module> moduleOf(const Napi::Value& value);

Napi::Value newProgram(Napi::Env env, std::shared_ptr<Program> program);

}  // namespace fluxion::cuda
