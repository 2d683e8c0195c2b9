#include "libraries.h"

#include <dirent.h>
#include <dlfcn.h>
#include <sys/stat.h>

namespace fluxion::cuda {
namespace {

bool exists(const std::string& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0;
}

std::string joined(const std::vector<std::string>& items, const char* separator) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : separator) + item;
  return text;
}

// What the loader says, without the path that it begins with.
std::string loaderMessage() {
  const char* text = dlerror();
  return text == nullptr ? "the loader does not say why" : text;
}

std::string placesText(const std::vector<std::string>& folders) {
  std::vector<std::string> there;
  for (const std::string& folder : folders) {
    if (exists(folder)) there.push_back(folder);
  }
  const size_t others = folders.size() - there.size();
  std::string text = there.empty() ? "the loader's own path" : joined(there, ", ") + ", and the loader's own path";
  if (others > 0) {
    text += " (" + std::to_string(others) + (others == 1 ? " other folder does" : " other folders do") + " not exist)";
  }
  return text;
}

}  // namespace

void* Library::optionalFunction(const char* name) const { return dlsym(handle, name); }

void Library::close() {
  if (handle != nullptr) dlclose(handle);
  handle = nullptr;
}

Library findLibrary(const LibraryNames& names, const std::vector<std::string>& folders,
                    const std::function<std::string(const Library&)>& problem) {
  std::vector<std::string> faults;
  const auto serves = [&](Library& library) {
    std::string fault;
    try {
      fault = problem(library);
    } catch (const Error& error) {
      fault = error.what();
    }
    if (fault.empty()) return true;
    faults.push_back(library.path + ": " + fault);
    library.close();
    return false;
  };
  for (const std::string& folder : folders) {
    for (const std::string& file : names.files) {
      Library library{nullptr, folder + "/" + file};
      if (!exists(library.path)) continue;
      library.handle = dlopen(library.path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (library.handle == nullptr) faults.push_back(loaderMessage());
      else if (serves(library)) return library;
    }
  }
  for (const std::string& file : names.files) {
    Library library{dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL), file};
    if (library.handle != nullptr && serves(library)) return library;
  }
  std::string text = std::string(names.what) + (faults.empty() ? " was not found: " : " cannot be used: ");
  text += "looked for " + joined(names.files, ", ") + " in " + placesText(folders);
  if (!faults.empty()) text += "; " + joined(faults, "; ");
  throw Error(text);
}

void preload(const std::string& folder, const std::string& beginning) {
  DIR* const directory = opendir(folder.c_str());
  if (directory == nullptr) return;
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name;
    if (name.compare(0, beginning.size(), beginning) == 0) dlopen((folder + "/" + name).c_str(), RTLD_NOW | RTLD_GLOBAL);
  }
  closedir(directory);
}

void* Library::function(const char* name) const {
  void* const address = optionalFunction(name);
  if (address == nullptr) throw Error("it has no function " + std::string(name));
  return address;
}

}  // namespace fluxion::cuda
