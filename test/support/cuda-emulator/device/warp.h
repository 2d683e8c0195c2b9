// Shuffles, votes and reductions of a warp: each lane waits with a record for those of the mask, then the last to
// come does the operation for all.
#pragma once

#include "threads.h"

namespace emulator {

inline unsigned lane() { return state.threadIdx.x % 32; }

template <class T>
struct Shuffled {
  T value;
  int source;
  T result;
};

// A lane that reads one outside of the mask gets garbage, since CUDA does not define what it gets.
template <class T>
void shuffle(void* const* lanes, unsigned mask) {
  for (int i = 0; i < 32; ++i) {
    if (!(mask >> i & 1)) continue;
    auto* mine = static_cast<Shuffled<T>*>(lanes[i]);
    if (mask >> mine->source & 1) {
      mine->result = static_cast<Shuffled<T>*>(lanes[mine->source])->value;
    } else {
      __builtin_memset(&mine->result, 0xFF, sizeof(T));
    }
  }
}

template <class T>
T shuffled(Site site, unsigned mask, T value, int source) {
  Shuffled<T> record{value, source, value};
  state.runtime->warp(site, mask, shuffle<T>, &record);
  return record.result;
}

struct Vote {
  bool predicate;
  unsigned result;
};

inline void ballot(void* const* lanes, unsigned mask) {
  unsigned result = 0;
  for (int i = 0; i < 32; ++i) {
    if (mask >> i & 1 && static_cast<Vote*>(lanes[i])->predicate) result |= 1u << i;
  }
  for (int i = 0; i < 32; ++i) {
    if (mask >> i & 1) static_cast<Vote*>(lanes[i])->result = result;
  }
}

inline unsigned vote(Site site, unsigned mask, bool predicate) {
  Vote record{predicate, 0};
  state.runtime->warp(site, mask, ballot, &record);
  return record.result;
}

inline void meet(void* const*, unsigned) {}

// Combine has `static T of(T, T)`.
template <class T, class Combine>
void reduce(void* const* lanes, unsigned mask) {
  int first = __builtin_ctz(mask);
  T result = *static_cast<T*>(lanes[first]);
  for (int i = first + 1; i < 32; ++i) {
    if (mask >> i & 1) result = Combine::of(result, *static_cast<T*>(lanes[i]));
  }
  for (int i = 0; i < 32; ++i) {
    if (mask >> i & 1) *static_cast<T*>(lanes[i]) = result;
  }
}

template <class T> struct Add { static T of(T a, T b) { return T(unsigned(a) + unsigned(b)); } };
template <class T> struct Min { static T of(T a, T b) { return b < a ? b : a; } };
template <class T> struct Max { static T of(T a, T b) { return a < b ? b : a; } };
template <class T> struct And { static T of(T a, T b) { return a & b; } };
template <class T> struct Or { static T of(T a, T b) { return a | b; } };
template <class T> struct Xor { static T of(T a, T b) { return a ^ b; } };

}  // namespace emulator

#define EMULATED_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATED_SITE) {
  emulator::state.runtime->warp({"__syncwarp", file, line}, mask, emulator::meet, nullptr);
}

// As on a device: within the lane's group of `width`; a source outside of it is the lane itself.
#define EMULATED_SHUFFLES(T)                                                                                    \
  inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATED_SITE) {                     \
    int group = emulator::lane() & ~(width - 1);                                                                \
    return emulator::shuffled<T>({"__shfl_sync", file, line}, mask, value, group + (source & (width - 1)));     \
  }                                                                                                             \
  inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMULATED_SITE) {              \
    int lane = emulator::lane(), source = lane - int(delta);                                                    \
    if (source < (lane & ~(width - 1))) source = lane;                                                          \
    return emulator::shuffled<T>({"__shfl_up_sync", file, line}, mask, value, source);                          \
  }                                                                                                             \
  inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMULATED_SITE) {            \
    int lane = emulator::lane(), source = lane + int(delta);                                                    \
    if (source > (lane | (width - 1))) source = lane;                                                           \
    return emulator::shuffled<T>({"__shfl_down_sync", file, line}, mask, value, source);                        \
  }                                                                                                             \
  inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMULATED_SITE) {                   \
    int lane = emulator::lane(), source = lane ^ bits;                                                          \
    if (source > (lane | (width - 1))) source = lane;                                                           \
    return emulator::shuffled<T>({"__shfl_xor_sync", file, line}, mask, value, source);                         \
  }
EMULATED_SHUFFLES(int)
EMULATED_SHUFFLES(unsigned)
EMULATED_SHUFFLES(long)
EMULATED_SHUFFLES(unsigned long)
EMULATED_SHUFFLES(long long)
EMULATED_SHUFFLES(unsigned long long)
EMULATED_SHUFFLES(float)
EMULATED_SHUFFLES(double)
#undef EMULATED_SHUFFLES

inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATED_SITE) {
  return emulator::vote({"__ballot_sync", file, line}, mask, predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate, EMULATED_SITE) {
  return emulator::vote({"__any_sync", file, line}, mask, predicate != 0) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EMULATED_SITE) {
  return emulator::vote({"__all_sync", file, line}, mask, predicate == 0) == 0;
}

#define EMULATED_REDUCTION(name, T, Combine)                                                                    \
  inline T name(unsigned mask, T value, EMULATED_SITE) {                                                        \
    emulator::state.runtime->warp({#name, file, line}, mask, emulator::reduce<T, emulator::Combine<T>>, &value); \
    return value;                                                                                               \
  }
EMULATED_REDUCTION(__reduce_add_sync, int, Add)
EMULATED_REDUCTION(__reduce_add_sync, unsigned, Add)
EMULATED_REDUCTION(__reduce_min_sync, int, Min)
EMULATED_REDUCTION(__reduce_min_sync, unsigned, Min)
EMULATED_REDUCTION(__reduce_max_sync, int, Max)
EMULATED_REDUCTION(__reduce_max_sync, unsigned, Max)
EMULATED_REDUCTION(__reduce_and_sync, unsigned, And)
EMULATED_REDUCTION(__reduce_or_sync, unsigned, Or)
EMULATED_REDUCTION(__reduce_xor_sync, unsigned, Xor)
#undef EMULATED_REDUCTION
