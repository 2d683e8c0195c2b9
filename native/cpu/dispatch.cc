// Chooses the instruction set once, when the addon is loaded.
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace fluxion {

namespace isa_baseline { const Kernels& kernels(); }
#if defined(FLUXION_X86)
namespace isa_avx2 { const Kernels& kernels(); }
namespace isa_avx512 { const Kernels& kernels(); }
#endif

const InstructionSets& instructionSets() {
  static const InstructionSets sets = [] {
    InstructionSets found{};
#if defined(FLUXION_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
      found.table[found.count++] = &isa_avx512::kernels();
    }
    if (avx2) found.table[found.count++] = &isa_avx2::kernels();
#endif
    found.table[found.count++] = &isa_baseline::kernels();
    return found;
  }();
  return sets;
}

namespace {
std::atomic<const Kernels*> selected{nullptr};
}

void selectKernels(const char* name) {
  const InstructionSets& sets = instructionSets();
  std::string known;
  for (int i = 0; i < sets.count; i++) {
    if (std::strcmp(sets.table[i]->name, name) == 0) {
      selected = sets.table[i];
      return;
    }
    known += std::string(i ? ", " : "") + sets.table[i]->name;
  }
  throw PlanError("no instruction set \"" + std::string(name) + "\" here; this machine has " + known);
}

const Kernels& currentKernels() {
  if (selected == nullptr) {
    const char* wanted = std::getenv("FLUXION_ISA");
    if (wanted != nullptr && *wanted != 0) selectKernels(wanted);
    else selected = instructionSets().table[0];
  }
  return *selected;
}

}  // namespace fluxion
