// What the sources that are compiled once for each instruction set share. CMake sets FLUXION_ISA_NAMESPACE.
//
// Nothing with external linkage may be instantiated here under two sets of flags (an inline function of the
// standard library, say): the linker would keep one copy, perhaps the one with instructions that this machine
// lacks. So these sources use plain pointers, builtins and templates of their own in anonymous namespaces.
#pragma once

#include "kernels.h"

namespace fluxion {
namespace FLUXION_ISA_NAMESPACE {
void fillElementwise(Kernels& kernels);
void fillFold(Kernels& kernels);
void fillGemm(Kernels& kernels);
void fillAttention(Kernels& kernels);
const Kernels& kernels();
}  // namespace FLUXION_ISA_NAMESPACE
}  // namespace fluxion
