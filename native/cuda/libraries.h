// Finds and opens shared libraries at run time.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace fluxion::cuda {

// Its message is for the user.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// An open library; it stays open for as long as the process lives unless `close` is called.
struct Library {
  void* handle = nullptr;
  std::string path;

  // Throws Error where the library lacks it.
  void* function(const char* name) const;
  void* optionalFunction(const char* name) const;
  void close();
};

struct LibraryNames {
  const char* what;                // for messages: "the NVIDIA driver"
  std::vector<std::string> files;  // best first
};

// Tries the names in each folder, in order, and then in the loader's own path. `problem` says why an open library does
// not serve (empty: it does); then the search goes on. Throws Error that says what was looked for, where, and what was
// wrong with what was found.
Library findLibrary(const LibraryNames& names, const std::vector<std::string>& folders,
                    const std::function<std::string(const Library&)>& problem);

// Opens every file of the folder whose name begins so.
void preload(const std::string& folder, const std::string& beginning);

}  // namespace fluxion::cuda
