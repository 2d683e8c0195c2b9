// Copies from global to shared memory that run while the thread goes on.
//
// A thread starts copies, closes a group of them with `commitCopies`, and `waitCopies<N>` returns when all but its N
// latest groups are in shared memory. What other threads copied is there after they have waited and all have met at
// a __syncthreads.
#pragma once

namespace fluxion {

// Starts a copy of `bytes` (0 .. Size) bytes to `target` and sets the others of its Size bytes to 0. Size is 4, 8 or
// 16, and both addresses are multiples of it. With bytes = 0 nothing is read: `source` may be any address.
template <int Size>
__device__ __forceinline__ void copyAsync(void* target, const void* source, int bytes = Size) {
  static_assert(Size == 4 || Size == 8 || Size == 16);
  const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(target));
  // Only copies of 16 bytes can pass by the L1 cache, which would not see them again.
  if constexpr (Size == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(source), "r"(bytes) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared), "l"(source), "n"(Size), "r"(bytes)
                 : "memory");
  }
}

// Closes the group of the copies that this thread started since the last call; it may be empty.
__device__ __forceinline__ void commitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int N>
__device__ __forceinline__ void waitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

}  // namespace fluxion
