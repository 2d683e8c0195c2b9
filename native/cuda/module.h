// Loaded machine code and its kernels.
#pragma once

#include <map>
#include <memory>

#include "device.h"

namespace fluxion::cuda {

struct Kernel {
  Function function = nullptr;
  int threads = 0;          // of a block, at most
  size_t sharedBytes = 0;   // static ones
  size_t dynamicBytes = 0;  // that a launch may ask for so far
  int parameters = -1;      // -1: the driver does not say
};

class Module {
 public:
  // `image` is machine code, or PTX text.
  Module(Device& device, const std::string& image);
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // The kernel of this name, ready for such a launch. Throws Error where it is not there, or cannot be launched so.
  Function kernel(const std::string& name, int64_t threads, int64_t sharedBytes, size_t parameters);

 private:
  Kernel& find(const std::string& name);

  Device& device_;
  ModuleObject module_ = nullptr;
  std::mutex mutex_;
  std::map<std::string, Kernel> kernels_;
};

}  // namespace fluxion::cuda
