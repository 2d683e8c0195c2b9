#include "compile.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "kernels.h"

extern char** environ;

namespace emulator {

namespace {

namespace fs = std::filesystem;

// Where this library lies, beside the folder `device` with what a kernel sees.
fs::path libraryFolder() {
  Dl_info about;
  dladdr(reinterpret_cast<const void*>(&libraryFolder), &about);
  return fs::canonical(about.dli_fname).parent_path();
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

fs::path temporaryFolder() {
  std::string path = (fs::temp_directory_path() / "fluxion-nvrtc-XXXXXX").string();
  return mkdtemp(path.data()) ? path : "";
}

// Internal linkage for all of the program, so that what is not used is not compiled; then the table of its kernels.
std::string translationUnit(const std::string& name, const std::vector<KernelName>& kernels) {
  std::string text = "#include \"cuda.h\"\nnamespace {\n#include \"" + name + "\"\n}\nnamespace emulator {\n";
  text += "const Kernel kernels[] = {\n";
  for (const KernelName& kernel : kernels) {
    text += "  Entry<::" + kernel.name + ">::of(\"" + kernel.name + "\", " + kernel.launchBounds + "),\n";
  }
  text += "  {},\n};\nextern \"C\" [[gnu::visibility(\"default\")]] const Module* fluxionEmulatedModule() {\n";
  text += "  static const Module module{&state, kernels, " + std::to_string(kernels.size()) +
          ", emulatedSharedBegin, emulatedSharedEnd};\n  return &module;\n}\n}\n";
  return text;
}

std::vector<std::string> command(const fs::path& device, const std::vector<std::string>& definitions,
                                 int architecture) {
  std::vector<std::string> words = {
      "g++", "-std=c++17", "-Og", "-fPIC", "-shared", "-s",
#if defined(__x86_64__)
      "-march=native",
#endif
      // The device's arithmetic.
      "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fwrapv", "-fno-strict-aliasing",
      // Checks.
      "-fsanitize=alignment,bounds", "-Wall", "-Wextra", "-Werror=return-type", "-Werror=uninitialized",
      "-Werror=overflow", "-Werror=div-by-zero", "-Werror=shift-count-overflow", "-Werror=vla",
      "-Wno-unknown-pragmas", "-Wno-unused", "-Wno-sign-compare", "-Wno-psabi", "-fmax-errors=20",
      "-fno-diagnostics-show-caret", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics",
      // The layout that the emulator looks at.
      "-fvisibility=hidden", "-fdata-sections", "-nodefaultlibs", "-Wl,-T," + (device / "shared.ld").string(),
      "-U_FORTIFY_SOURCE", "-fno-stack-protector", "-D__CUDA_ARCH__=" + std::to_string(architecture * 10),
      "-nostdinc", "-isystem", device.string()};
  words.insert(words.end(), definitions.begin(), definitions.end());
  for (const char* word : {"unit.cc", "-o", "program.so", "-lm", "-lc", "-lgcc"}) words.push_back(word);
  return words;
}

// Runs it in a folder with its output in "log"; gives whether it succeeded.
bool run(const std::vector<std::string>& words, const fs::path& folder) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  posix_spawn_file_actions_addopen(&actions, 1, "log", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t process;
  const int failure = posix_spawnp(&process, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) {
    write(folder / "log", "g++ was not found\n");
    return false;
  }
  int status = 0;
  while (waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

std::string hash(const std::string& text) {
  uint64_t a = 0xcbf29ce484222325u, b = 0x9e3779b97f4a7c15u;
  for (unsigned char c : text) {
    a = (a ^ c) * 0x100000001b3u;
    b = (b + c) * 0xff51afd7ed558ccdu;
    b ^= b >> 29;
  }
  char name[40];
  snprintf(name, sizeof(name), "%016llx%016llx", static_cast<unsigned long long>(a), static_cast<unsigned long long>(b));
  return name;
}

}  // namespace

Compilation compile(const std::string& source, const std::string& name,
                    const std::map<std::string, std::string>& givenHeaders,
                    const std::vector<std::string>& definitions, int architecture) {
  const fs::path library = libraryFolder(), device = library / "device";
  std::map<std::string, std::string> headers = givenHeaders;
  for (auto& [header, text] : headers) {
    const fs::path ours = device / header;
    if (ours.extension() == ".cuh" && fs::exists(ours)) text = read(ours);
  }
  const std::string unit = translationUnit(name, findKernels(source, headers));
  const std::vector<std::string> words = command(device, definitions, architecture);

  // What was compiled before by this build of the emulator lies beside it.
  std::string all = unit + '\0' + source;
  for (const auto& [header, text] : headers) all += '\0' + header + '\0' + text;
  for (const std::string& word : words) all += '\0' + word;
  const fs::path kept = library / "kernels" / hash(all);
  if (fs::exists(kept)) return {true, read(kept), ""};

  const fs::path folder = temporaryFolder();
  if (folder.empty()) return {false, "", "no temporary folder can be made\n"};
  for (const auto& [header, text] : headers) write(folder / header, text);
  write(folder / name, source);
  write(folder / "unit.cc", unit);
  Compilation result{run(words, folder), "", ""};
  result.log = read(folder / "log");
  if (result.succeeded) {
    result.image = read(folder / "program.so");
    std::error_code ignored;
    fs::create_directories(kept.parent_path(), ignored);
    const fs::path partial = kept.string() + "." + std::to_string(getpid());
    fs::copy_file(folder / "program.so", partial, fs::copy_options::overwrite_existing, ignored);
    fs::rename(partial, kept, ignored);
  }
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  return result;
}

}  // namespace emulator
