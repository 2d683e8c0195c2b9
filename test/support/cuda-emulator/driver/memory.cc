#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "../runtime/garbage.h"
#include "context.h"
#include "stream.h"

namespace emulator {

namespace {

constexpr size_t kAlignment = 256;  // the driver's
constexpr int kGuard = 0x5A;
constexpr size_t kChecked = 256;    // bytes that are checked before an allocation

// A page that nobody may touch lies before and behind; the memory ends as near to the latter as its alignment allows,
// and the rest is filled with a pattern.
struct Allocation {
  size_t bytes;
  char* mapped;
  size_t mappedBytes;
};

std::map<CUdeviceptr, Allocation> device;
std::map<CUdeviceptr, size_t> host;
size_t used = 0;

size_t roundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

size_t pageBytes() { return size_t(sysconf(_SC_PAGESIZE)); }

const std::pair<const CUdeviceptr, Allocation>* find(CUdeviceptr address) {
  auto next = device.upper_bound(address);
  if (next == device.begin()) return nullptr;
  const auto& found = *--next;
  return address <= found.first + found.second.bytes ? &found : nullptr;
}

bool holdPattern(const char* begin, const char* end) {
  for (const char* at = begin; at < end; ++at) {
    if (*at != kGuard) return false;
  }
  return true;
}

bool guardsHold(CUdeviceptr address, const Allocation& allocation) {
  if (!checksMemory()) return true;
  const char* begin = reinterpret_cast<const char*>(address);
  const char* first = allocation.mapped + pageBytes();
  const char* last = allocation.mapped + allocation.mappedBytes - pageBytes();
  const char* checked = size_t(begin - first) > kChecked ? begin - kChecked : first;
  return holdPattern(checked, begin) && holdPattern(begin + allocation.bytes, last);
}

}  // namespace

size_t memoryLimit() {
  const char* text = getenv("FLUXION_EMULATED_MEMORY");
  return text == nullptr ? size_t(8) << 30 : strtoull(text, nullptr, 10);
}

bool guardsHold(CUdeviceptr address) {
  const auto* found = find(address);
  return found == nullptr || guardsHold(found->first, found->second);
}

bool isDeviceMemory(CUdeviceptr address, size_t bytes) {
  if (const auto* found = find(address)) return address + bytes <= found->first + found->second.bytes;
  auto next = host.upper_bound(address);
  if (next == host.begin()) return false;
  --next;
  return address + bytes <= next->first + next->second;
}

}  // namespace emulator

using namespace emulator;

CUDA_API CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  BEGIN_CALL;
  REQUIRE(free && total, CUDA_ERROR_INVALID_VALUE);
  *total = memoryLimit();
  *free = used < *total ? *total - used : 0;
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
  BEGIN_CALL;
  REQUIRE(address && bytes > 0, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(!forbiddenByCapture(), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  const size_t limit = memoryLimit();
  REQUIRE(bytes <= limit && used <= limit - bytes, CUDA_ERROR_OUT_OF_MEMORY);
  const size_t page = pageBytes(), size = roundUp(bytes, kAlignment), pages = roundUp(size, page);
  void* mapped = mmap(nullptr, pages + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(mapped != MAP_FAILED, CUDA_ERROR_OUT_OF_MEMORY);
  char* first = static_cast<char*>(mapped) + page;
  if (mprotect(first, pages, PROT_READ | PROT_WRITE) != 0) {
    munmap(mapped, pages + 2 * page);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  char* begin = first + pages - size;
  if (checksMemory()) {
    memset(first, kGuard, size_t(begin - first));
    fillWithGarbage(begin, bytes);
    memset(begin + bytes, kGuard, size - bytes);
  }
  *address = reinterpret_cast<CUdeviceptr>(begin);
  device[*address] = {bytes, static_cast<char*>(mapped), pages + 2 * page};
  used += bytes;
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuMemFree_v2(CUdeviceptr address) {
  BEGIN_CALL;
  if (address == 0) return CUDA_SUCCESS;
  auto found = device.find(address);
  REQUIRE(found != device.end(), CUDA_ERROR_INVALID_VALUE);
  REQUIRE(!forbiddenByCapture(), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  const Allocation allocation = found->second;
  const bool held = guardsHold(address, allocation);
  device.erase(found);
  used -= allocation.bytes;
  munmap(allocation.mapped, allocation.mappedBytes);
  if (held) return CUDA_SUCCESS;
  breakContext(CUDA_ERROR_ILLEGAL_ADDRESS, "memory that is freed was written beside its bounds");
  return CUDA_ERROR_ILLEGAL_ADDRESS;
}

CUDA_API CUresult cuMemAllocHost_v2(void** memory, size_t bytes) {
  BEGIN_CALL;
  REQUIRE(memory && bytes > 0, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(!forbiddenByCapture(), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  *memory = malloc(bytes);
  REQUIRE(*memory, CUDA_ERROR_OUT_OF_MEMORY);
  fillWithGarbage(*memory, bytes);
  host[reinterpret_cast<CUdeviceptr>(*memory)] = bytes;
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuMemHostAlloc(void** memory, size_t bytes, unsigned) { return cuMemAllocHost_v2(memory, bytes); }

CUDA_API CUresult cuMemFreeHost(void* memory) {
  BEGIN_CALL;
  REQUIRE(host.erase(reinterpret_cast<CUdeviceptr>(memory)) == 1, CUDA_ERROR_INVALID_VALUE);
  free(memory);
  return CUDA_SUCCESS;
}

// Copies and fills: the addresses are checked when the call is made, the bytes move when the stream gets there.

CUDA_API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  BEGIN_CALL;
  if (bytes == 0) return CUDA_SUCCESS;
  REQUIRE(from && isDeviceMemory(to, bytes), CUDA_ERROR_INVALID_VALUE);
  return enqueue(stream, [=] {
    memcpy(reinterpret_cast<void*>(to), from, bytes);
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  BEGIN_CALL;
  if (bytes == 0) return CUDA_SUCCESS;
  REQUIRE(to && isDeviceMemory(from, bytes), CUDA_ERROR_INVALID_VALUE);
  return enqueue(stream, [=] {
    memcpy(to, reinterpret_cast<const void*>(from), bytes);
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  BEGIN_CALL;
  if (bytes == 0) return CUDA_SUCCESS;
  REQUIRE(isDeviceMemory(to, bytes) && isDeviceMemory(from, bytes), CUDA_ERROR_INVALID_VALUE);
  return enqueue(stream, [=] {
    memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
  BEGIN_CALL;
  if (count == 0) return CUDA_SUCCESS;
  REQUIRE(isDeviceMemory(to, count), CUDA_ERROR_INVALID_VALUE);
  return enqueue(stream, [=] {
    memset(reinterpret_cast<void*>(to), value, count);
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
  BEGIN_CALL;
  if (count == 0) return CUDA_SUCCESS;
  REQUIRE(to % 4 == 0 && isDeviceMemory(to, 4 * count), CUDA_ERROR_INVALID_VALUE);
  return enqueue(stream, [=] {
    for (size_t i = 0; i < count; ++i) reinterpret_cast<unsigned*>(to)[i] = value;
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  return cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr);
}

CUDA_API CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  return cuMemcpyDtoHAsync_v2(to, from, bytes, nullptr);
}
