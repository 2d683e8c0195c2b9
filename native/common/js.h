// Checks of what JavaScript passes in.
#pragma once

#include <napi.h>

#include <cstring>
#include <string>

#include "plan.h"

namespace fluxion {

inline napi_typedarray_type arrayType(DType dtype) {
  switch (dtype) {
    case DType::Float32: return napi_float32_array;
    case DType::Float64: return napi_float64_array;
    case DType::Int32: return napi_int32_array;
    case DType::UInt32: return napi_uint32_array;
    case DType::Bool: break;
  }
  return napi_uint8_array;
}

inline const char* arrayTypeName(napi_typedarray_type type) {
  switch (type) {
    case napi_float32_array: return "float32";
    case napi_float64_array: return "float64";
    case napi_int32_array: return "int32";
    case napi_uint32_array: return "uint32";
    case napi_uint8_array: return "bool";
    default: return "another kind of";
  }
}

// The data of a typed array of this buffer's dtype and size; `what` names it in the error.
// Asked for on every run, as an array may have been detached or resized meanwhile: then its length is 0.
inline void* arrayData(Napi::Env env, napi_value value, const Buffer& buffer, const std::string& what) {
  const std::string expected = what + ": expected " + kDTypeNames[static_cast<int>(buffer.dtype)] + " array of " +
                               std::to_string(buffer.size) + " elements, got ";
  bool isArray = false;
  if (napi_is_typedarray(env, value, &isArray) != napi_ok || !isArray) {
    throw PlanError(expected + "something that is not a typed array");
  }
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok) {
    throw PlanError(expected + "an array that cannot be read");
  }
  if (type != arrayType(buffer.dtype)) throw PlanError(expected + arrayTypeName(type) + " array");
  if (length != static_cast<size_t>(buffer.size)) {
    throw PlanError(expected + std::to_string(length) + (length == 0 ? " (detached?)" : ""));
  }
  if (data == nullptr && length > 0) throw PlanError(expected + "an array without memory (detached?)");
  return data;
}

// A number that is an integer from 0 to `most`.
inline int64_t integerArgument(const Napi::Value& value, double most, const char* what) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0 && number <= most) || number != static_cast<double>(static_cast<int64_t>(number))) {
    throw PlanError(std::string(what) + ": expected an integer from 0 to " +
                    std::to_string(static_cast<int64_t>(most)) +
                    (value.IsNumber() ? ", got " + std::to_string(number) : ""));
  }
  return static_cast<int64_t>(number);
}

}  // namespace fluxion
