// The binary interface of NVRTC, as far as the addon uses it (native/cuda/nvrtc_api.h).
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "compile.h"

enum nvrtcResult {
  NVRTC_SUCCESS = 0,
  NVRTC_ERROR_INVALID_INPUT = 3,
  NVRTC_ERROR_INVALID_PROGRAM = 4,
  NVRTC_ERROR_INVALID_OPTION = 5,
  NVRTC_ERROR_COMPILATION = 6,
};

struct Program {
  std::string source, name;
  std::map<std::string, std::string> headers;
  std::string log, image;
};

namespace {

using Lock = std::lock_guard<std::mutex>;
std::mutex mutex;
std::set<Program*> programs;

bool isProgram(Program* program) {
  Lock lock(mutex);
  return programs.count(program) > 0;
}

const std::vector<int> kArchitectures = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};

bool startsWith(const std::string& text, const std::string& start) { return text.compare(0, start.size(), start) == 0; }

// What the options mean for g++; false for one that is not known.
struct Options {
  int architecture = 75;
  std::vector<std::string> definitions;

  bool take(const std::string& option, const char* value, bool& usedValue) {
    for (const char* name : {"--gpu-architecture", "-arch"}) {
      if (startsWith(option, std::string(name) + "=")) return setArchitecture(option.substr(strlen(name) + 1));
      if (option == name && value != nullptr) {
        usedValue = true;
        return setArchitecture(value);
      }
    }
    for (const char* start : {"-D", "-U"}) {
      if (startsWith(option, start) && option.size() > 2) {
        definitions.push_back(option);
        return true;
      }
    }
    for (const char* known : {"--std=c++17", "-std=c++17", "--fmad=false", "-fmad=false", "--device-as-default-execution-space",
                              "-default-device", "-lineinfo", "--generate-line-info", "-dopt=on", "--minimal", "-w",
                              "--disable-warnings", "--restrict", "-restrict"}) {
      if (option == known) return true;
    }
    for (const char* start : {"--ptxas-options", "--maxrregcount", "-maxrregcount", "--diag-suppress", "--split-compile"}) {
      if (startsWith(option, std::string(start) + "=")) return true;
    }
    return false;
  }

  bool setArchitecture(const std::string& name) {
    if (!startsWith(name, "sm_")) return false;  // the others give no machine code
    architecture = atoi(name.c_str() + 3);
    for (int known : kArchitectures) {
      if (known == architecture) return true;
    }
    return false;
  }
};

nvrtcResult copyOut(const std::string& text, char* target) {
  if (target == nullptr) return NVRTC_ERROR_INVALID_INPUT;
  memcpy(target, text.data(), text.size());
  return NVRTC_SUCCESS;
}

}  // namespace

#define NVRTC_API extern "C" __attribute__((visibility("default")))

NVRTC_API const char* nvrtcGetErrorString(nvrtcResult result) {
  switch (result) {
    case NVRTC_SUCCESS: return "NVRTC_SUCCESS";
    case NVRTC_ERROR_INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
    case NVRTC_ERROR_INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
    case NVRTC_ERROR_INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
    case NVRTC_ERROR_COMPILATION: return "NVRTC_ERROR_COMPILATION";
  }
  return "NVRTC_ERROR unknown";
}

NVRTC_API nvrtcResult nvrtcVersion(int* major, int* minor) {
  if (major == nullptr || minor == nullptr) return NVRTC_ERROR_INVALID_INPUT;
  *major = 13;
  *minor = 0;
  return NVRTC_SUCCESS;
}

NVRTC_API nvrtcResult nvrtcGetNumSupportedArchs(int* count) {
  if (count == nullptr) return NVRTC_ERROR_INVALID_INPUT;
  *count = int(kArchitectures.size());
  return NVRTC_SUCCESS;
}

NVRTC_API nvrtcResult nvrtcGetSupportedArchs(int* architectures) {
  if (architectures == nullptr) return NVRTC_ERROR_INVALID_INPUT;
  for (int architecture : kArchitectures) *architectures++ = architecture;
  return NVRTC_SUCCESS;
}

NVRTC_API nvrtcResult nvrtcCreateProgram(Program** program, const char* source, const char* name, int headerCount,
                                         const char* const* headers, const char* const* includeNames) {
  if (program == nullptr || source == nullptr || headerCount < 0) return NVRTC_ERROR_INVALID_INPUT;
  if (headerCount > 0 && (headers == nullptr || includeNames == nullptr)) return NVRTC_ERROR_INVALID_INPUT;
  auto* made = new Program{source, name != nullptr && *name != '\0' ? name : "default_program", {}, "", ""};
  for (int i = 0; i < headerCount; ++i) made->headers[includeNames[i]] = headers[i];
  Lock lock(mutex);
  programs.insert(made);
  *program = made;
  return NVRTC_SUCCESS;
}

NVRTC_API nvrtcResult nvrtcDestroyProgram(Program** program) {
  if (program == nullptr || !isProgram(*program)) return NVRTC_ERROR_INVALID_PROGRAM;
  Lock lock(mutex);
  programs.erase(*program);
  delete *program;
  *program = nullptr;
  return NVRTC_SUCCESS;
}

NVRTC_API nvrtcResult nvrtcCompileProgram(Program* program, int optionCount, const char* const* texts) {
  if (!isProgram(program)) return NVRTC_ERROR_INVALID_PROGRAM;
  Options options;
  for (int i = 0; i < optionCount; ++i) {
    bool usedValue = false;
    if (!options.take(texts[i], i + 1 < optionCount ? texts[i + 1] : nullptr, usedValue)) {
      program->log = std::string("nvrtc: error: invalid value for option: ") + texts[i] + "\n";
      return NVRTC_ERROR_INVALID_OPTION;
    }
    i += usedValue;
  }
  auto compiled = emulator::compile(program->source, program->name, program->headers, options.definitions,
                                    options.architecture);
  program->log = compiled.log;
  program->image = compiled.image;
  return compiled.succeeded ? NVRTC_SUCCESS : NVRTC_ERROR_COMPILATION;
}

NVRTC_API nvrtcResult nvrtcGetCUBINSize(Program* program, size_t* size) {
  if (!isProgram(program)) return NVRTC_ERROR_INVALID_PROGRAM;
  if (size == nullptr) return NVRTC_ERROR_INVALID_INPUT;
  *size = program->image.size();
  return NVRTC_SUCCESS;
}

NVRTC_API nvrtcResult nvrtcGetCUBIN(Program* program, char* code) {
  if (!isProgram(program) || program->image.empty()) return NVRTC_ERROR_INVALID_PROGRAM;
  return copyOut(program->image, code);
}

// A device could not run PTX that is no PTX: there is none.
NVRTC_API nvrtcResult nvrtcGetPTXSize(Program* program, size_t* size) {
  if (!isProgram(program)) return NVRTC_ERROR_INVALID_PROGRAM;
  if (size == nullptr) return NVRTC_ERROR_INVALID_INPUT;
  *size = 1;
  return NVRTC_SUCCESS;
}

NVRTC_API nvrtcResult nvrtcGetPTX(Program* program, char* text) {
  if (!isProgram(program)) return NVRTC_ERROR_INVALID_PROGRAM;
  return copyOut(std::string(1, '\0'), text);
}

NVRTC_API nvrtcResult nvrtcGetProgramLogSize(Program* program, size_t* size) {
  if (!isProgram(program)) return NVRTC_ERROR_INVALID_PROGRAM;
  if (size == nullptr) return NVRTC_ERROR_INVALID_INPUT;
  *size = program->log.size() + 1;
  return NVRTC_SUCCESS;
}

NVRTC_API nvrtcResult nvrtcGetProgramLog(Program* program, char* log) {
  if (!isProgram(program)) return NVRTC_ERROR_INVALID_PROGRAM;
  return copyOut(program->log + '\0', log);
}
