// The dynamic shared memory of a block, aligned to 16 bytes.
#pragma once

namespace fluxion {

__device__ __forceinline__ char* dynamicShared() {
  extern __shared__ __align__(16) char memory[];
  return memory;
}

}  // namespace fluxion
