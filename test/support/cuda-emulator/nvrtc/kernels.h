// Finds the kernels of a program in its text.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

namespace emulator {

struct KernelName {
  std::string name;
  std::string launchBounds;  // "256, 2", or "1024"
};

// All `extern "C" __global__ void name(`, of the text and of the headers that it includes, directly or not.
std::vector<KernelName> findKernels(const std::string& source, const std::map<std::string, std::string>& headers);

}  // namespace emulator
