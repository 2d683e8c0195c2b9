// Compiles a CUDA program with g++ to a shared library.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace emulator {

struct Compilation {
  bool succeeded;
  std::string image;
  std::string log;
};

Compilation compile(const std::string& source, const std::string& name,
                    const std::map<std::string, std::string>& headers, const std::vector<std::string>& definitions,
                    int architecture);

}  // namespace emulator
