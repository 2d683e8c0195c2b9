// From JavaScript's description of a program to the native one, with every check that keeps it within its buffers.
#pragma once

#include <napi.h>

#include "body.h"

namespace fluxion::cuda {

// Throws Error that names the operation at fault.
std::unique_ptr<Body> parseProgram(Device& device, Module& module, const Napi::Value& value, Whole& whole);

}  // namespace fluxion::cuda
