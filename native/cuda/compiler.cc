#include "compiler.h"

#include <algorithm>

namespace fluxion::cuda {
namespace {

void check(const NvrtcApi& nvrtc, NvrtcResult result, const char* what) {
  if (result != kNvrtcSuccess) throw Error(std::string(what) + ": " + nvrtc.getErrorString(result));
}

struct Source {
  Source(const NvrtcApi& api, const std::string& text, const std::vector<std::pair<std::string, std::string>>& headers)
      : nvrtc(api) {
    std::vector<const char*> names, texts;
    for (const auto& [name, content] : headers) {
      names.push_back(name.c_str());
      texts.push_back(content.c_str());
    }
    check(nvrtc,
          nvrtc.createProgram(&program, text.c_str(), "program.cu", static_cast<int>(names.size()), texts.data(),
                              names.data()),
          "reading CUDA source");
  }
  ~Source() { nvrtc.destroyProgram(&program); }
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  std::string log() const {
    size_t size = 0;
    if (nvrtc.getProgramLogSize(program, &size) != kNvrtcSuccess || size == 0) return "";
    std::string text(size, '\0');
    if (nvrtc.getProgramLog(program, &text[0]) != kNvrtcSuccess) return "";
    text.resize(std::min(text.size(), text.find('\0')));
    return text;
  }

  const NvrtcApi& nvrtc;
  NvrtcProgram program = nullptr;
};

// The best architecture that NVRTC has up to the device's.
int architectureFor(const NvrtcApi& nvrtc, int wanted) {
  int count = 0;
  check(nvrtc, nvrtc.getNumSupportedArchs(&count), "asking for NVRTC's architectures");
  std::vector<int> known(static_cast<size_t>(std::max(count, 0)));
  if (count > 0) check(nvrtc, nvrtc.getSupportedArchs(known.data()), "asking for NVRTC's architectures");
  int best = 0;
  for (int architecture : known) {
    if (architecture <= wanted) best = std::max(best, architecture);
  }
  if (best == 0) {
    throw Error("NVRTC has no code for this device, of compute capability " + std::to_string(wanted / 10) + "." +
                std::to_string(wanted % 10));
  }
  return best;
}

}  // namespace

std::string compile(Device& device, const std::string& source,
                    const std::vector<std::pair<std::string, std::string>>& headers,
                    const std::vector<std::string>& options) {
  const NvrtcApi& nvrtc = device.nvrtc;
  const int architecture = architectureFor(nvrtc, device.facts.architecture);
  const bool exact = architecture == device.facts.architecture;
  const std::string target =
      "--gpu-architecture=" + std::string(exact ? "sm_" : "compute_") + std::to_string(architecture);
  std::vector<const char*> arguments{target.c_str()};
  for (const std::string& option : options) arguments.push_back(option.c_str());

  const Source program(nvrtc, source, headers);
  const NvrtcResult result =
      nvrtc.compileProgram(program.program, static_cast<int>(arguments.size()), arguments.data());
  if (result != kNvrtcSuccess) {
    throw Error("compiling CUDA source failed (" + std::string(nvrtc.getErrorString(result)) + "): " + program.log());
  }
  size_t size = 0;
  const auto getSize = exact ? nvrtc.getCUBINSize : nvrtc.getPTXSize;
  const auto get = exact ? nvrtc.getCUBIN : nvrtc.getPTX;
  check(nvrtc, getSize(program.program, &size), "reading compiled code");
  std::string code(size, '\0');
  check(nvrtc, get(program.program, &code[0]), "reading compiled code");
  return code;
}

}  // namespace fluxion::cuda
