// Device memory: a pool that keeps what is given back, buffers, and copies to the host.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <utility>

#include "device.h"

namespace fluxion::cuda {

// Throws Error where the sum or product does not fit.
size_t checkedAdd(size_t a, size_t b);
size_t checkedMultiply(size_t a, size_t b);
constexpr size_t kAlignment = 256;
// The next multiple of kAlignment.
size_t aligned(size_t bytes);

struct OutOfMemory : Error {
  using Error::Error;
};

// Memory comes from the driver in segments, which are cut into pieces; a piece that is given back joins its free
// neighbours. What is given back may be taken again at once, even while the device still works with it: there is one
// stream, so the next use comes after the last one.
class Pool {
 public:
  explicit Pool(Device& device) : device_(device) {}
  // Throws OutOfMemory that says `what` needs the memory. Addresses are multiples of kAlignment.
  Address take(size_t bytes, const std::string& what);
  void give(Address address);
  // Gives segments without a taken piece back to the driver.
  void release();

  struct Figures {
    size_t used, cached, free, total;
  };
  Figures figures();

 private:
  struct Piece {
    size_t bytes;
    Address segment;
    bool free;
  };
  using Pieces = std::map<Address, Piece>;
  using Free = std::set<std::pair<size_t, Address>>;

  bool addSegment(size_t bytes);
  void releaseLocked();
  Free& freeOf(size_t segmentBytes);

  Device& device_;
  std::mutex mutex_;
  Pieces pieces_;
  std::map<Address, size_t> segments_;
  Free freeSmall_, freeLarge_;
  size_t used_ = 0, held_ = 0;
};

// Memory that goes back to the pool with its owner. Zero bytes have address 0.
class Block {
 public:
  Block() = default;
  Block(Device& device, size_t bytes, const std::string& what)
      : device_(&device), bytes_(bytes), address_(bytes == 0 ? 0 : device.pool->take(bytes, what)) {}
  ~Block() {
    if (address_ != 0) device_->pool->give(address_);
  }
  Block(Block&& other) noexcept
      : device_(other.device_), bytes_(other.bytes_), address_(std::exchange(other.address_, 0)) {}
  Block& operator=(Block&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(bytes_, other.bytes_);
    std::swap(address_, other.address_);
    return *this;
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  size_t bytes() const { return bytes_; }
  Address address() const { return address_; }

 private:
  Device* device_ = nullptr;
  size_t bytes_ = 0;
  Address address_ = 0;
};

// Page-locked memory of the host, which the device copies to while the process does other things.
class Pinned {
 public:
  Pinned() = default;
  Pinned(Device& device, size_t bytes);
  ~Pinned();
  Pinned(Pinned&& other) noexcept : device_(other.device_), data_(std::exchange(other.data_, nullptr)) {}
  Pinned& operator=(Pinned&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    return *this;
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  char* data() const { return static_cast<char*>(data_); }

 private:
  Device* device_ = nullptr;
  void* data_ = nullptr;
};

// Page-locked chunks through which copies to the host go.
class Staging {
 public:
  static constexpr size_t kChunk = size_t{4} << 20;
  explicit Staging(Device& device) : device_(device) {}
  Pinned take();
  void give(Pinned chunk);

 private:
  Device& device_;
  std::mutex mutex_;
  std::vector<Pinned> chunks_;
};

// Waits for what was started before. A `blocking` wait leaves the processor to others. Not to be called in a turn.
void copyToHost(Device& device, void* target, Address source, size_t bytes, bool blocking);
// The data may change as soon as it returns. Not to be called in a turn.
void copyToDevice(Device& device, Address target, const void* source, size_t bytes);

}  // namespace fluxion::cuda
