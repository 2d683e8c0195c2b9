// Atomic operations: one thread runs at a time. The overloads are CUDA's.
#pragma once

#define EMULATED_ATOMIC(name, T, expression)  \
  inline T name(T* address, T value) {        \
    T old = *address;                         \
    *address = expression;                    \
    return old;                               \
  }
#define EMULATED_INTEGER_ATOMICS(T)                                 \
  EMULATED_ATOMIC(atomicMin, T, value < old ? value : old)          \
  EMULATED_ATOMIC(atomicMax, T, old < value ? value : old)          \
  EMULATED_ATOMIC(atomicAnd, T, old & value)                        \
  EMULATED_ATOMIC(atomicOr, T, old | value)                         \
  EMULATED_ATOMIC(atomicXor, T, old ^ value)                        \
  EMULATED_ATOMIC(atomicExch, T, value)                             \
  inline T atomicCAS(T* address, T compare, T value) {              \
    T old = *address;                                               \
    if (old == compare) *address = value;                           \
    return old;                                                     \
  }
EMULATED_INTEGER_ATOMICS(int)
EMULATED_INTEGER_ATOMICS(unsigned)
EMULATED_INTEGER_ATOMICS(unsigned long long)
EMULATED_ATOMIC(atomicMin, long long, value < old ? value : old)
EMULATED_ATOMIC(atomicMax, long long, old < value ? value : old)
EMULATED_ATOMIC(atomicExch, float, value)
EMULATED_ATOMIC(atomicAdd, int, int(unsigned(old) + unsigned(value)))
EMULATED_ATOMIC(atomicAdd, unsigned, old + value)
EMULATED_ATOMIC(atomicAdd, unsigned long long, old + value)
EMULATED_ATOMIC(atomicAdd, float, old + value)
EMULATED_ATOMIC(atomicAdd, double, old + value)
EMULATED_ATOMIC(atomicSub, int, int(unsigned(old) - unsigned(value)))
EMULATED_ATOMIC(atomicSub, unsigned, old - value)
EMULATED_ATOMIC(atomicInc, unsigned, old >= value ? 0u : old + 1)
EMULATED_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)
#undef EMULATED_INTEGER_ATOMICS
#undef EMULATED_ATOMIC
