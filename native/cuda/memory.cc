#include "memory.h"

#include <algorithm>
#include <cstring>

namespace fluxion::cuda {
namespace {

constexpr size_t kGrain = 512;                    // pieces are multiples of it
constexpr size_t kSmall = size_t{1} << 20;        // pieces up to it share segments
constexpr size_t kSegment = size_t{2} << 20;      // of small pieces; larger ones are multiples of it
constexpr size_t kKeptChunks = 4;

}  // namespace

size_t checkedAdd(size_t a, size_t b) {
  size_t sum;
  if (__builtin_add_overflow(a, b, &sum)) throw Error("a size is too large");
  return sum;
}

size_t checkedMultiply(size_t a, size_t b) {
  size_t product;
  if (__builtin_mul_overflow(a, b, &product)) throw Error("a size is too large");
  return product;
}

size_t aligned(size_t bytes) { return checkedAdd(bytes, kAlignment - 1) / kAlignment * kAlignment; }

Pool::Free& Pool::freeOf(size_t segmentBytes) { return segmentBytes == kSegment ? freeSmall_ : freeLarge_; }

Address Pool::take(size_t bytes, const std::string& what) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const size_t size = checkedAdd(bytes, kGrain - 1) / kGrain * kGrain;
  const bool small = size <= kSmall;
  // Large segments are never of kSegment bytes, so that a segment's size says whose it is.
  const size_t fresh =
      small ? kSegment : std::max(2 * kSegment, checkedAdd(size, kSegment - 1) / kSegment * kSegment);
  Free& free = small ? freeSmall_ : freeLarge_;
  auto found = free.lower_bound({size, 0});
  if (found == free.end()) {
    if (!addSegment(fresh)) {
      releaseLocked();
      if (!addSegment(fresh)) {
        size_t left = 0, total = 0;
        device_.driver.memGetInfo(&left, &total);
        throw OutOfMemory("out of memory on the device: " + what + " needs " + std::to_string(bytes) + " bytes; " +
                          std::to_string(used_) + " are in use by tensors and programs, " + std::to_string(left) +
                          " free of " + std::to_string(total));
      }
    }
    found = free.lower_bound({size, 0});
  }
  const Address address = found->second;
  free.erase(found);
  Piece& piece = pieces_.at(address);
  piece.free = false;
  const size_t rest = piece.bytes - size;
  if (rest > (small ? 0 : kSmall)) {
    piece.bytes = size;
    pieces_.emplace(address + size, Piece{rest, piece.segment, true});
    free.insert({rest, address + size});
  }
  used_ += piece.bytes;
  return address;
}

void Pool::give(Address address) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto at = pieces_.find(address);
  if (at == pieces_.end()) return;
  used_ -= at->second.bytes;
  at->second.free = true;
  Free& free = freeOf(segments_.at(at->second.segment));
  const auto joins = [&](Pieces::iterator left, Pieces::iterator right) {
    return right != pieces_.end() && left->second.free && right->second.free &&
           left->second.segment == right->second.segment;
  };
  if (const auto next = std::next(at); joins(at, next)) {
    free.erase({next->second.bytes, next->first});
    at->second.bytes += next->second.bytes;
    pieces_.erase(next);
  }
  if (at != pieces_.begin()) {
    if (const auto before = std::prev(at); joins(before, at)) {
      free.erase({before->second.bytes, before->first});
      before->second.bytes += at->second.bytes;
      pieces_.erase(at);
      at = before;
    }
  }
  free.insert({at->second.bytes, at->first});
}

bool Pool::addSegment(size_t bytes) {
  device_.enter();
  Address address = 0;
  const Result result = device_.driver.memAlloc(&address, bytes);
  if (result == kOutOfMemory) return false;
  device_.check(result, "allocating memory on the device");
  segments_[address] = bytes;
  pieces_[address] = {bytes, address, true};
  freeOf(bytes).insert({bytes, address});
  held_ += bytes;
  return true;
}

void Pool::release() {
  const std::lock_guard<std::mutex> lock(mutex_);
  device_.enter();
  releaseLocked();
}

void Pool::releaseLocked() {
  for (auto segment = segments_.begin(); segment != segments_.end();) {
    const auto [address, bytes] = *segment;
    const auto piece = pieces_.find(address);
    if (!piece->second.free || piece->second.bytes != bytes) {
      ++segment;
      continue;
    }
    // The driver waits for the device before it frees.
    device_.check(device_.driver.memFree(address), "freeing memory of the device");
    freeOf(bytes).erase({bytes, address});
    pieces_.erase(piece);
    segment = segments_.erase(segment);
    held_ -= bytes;
  }
}

Pool::Figures Pool::figures() {
  const std::lock_guard<std::mutex> lock(mutex_);
  device_.enter();
  Figures result{used_, held_ - used_, 0, 0};
  device_.check(device_.driver.memGetInfo(&result.free, &result.total), "reading the device's memory");
  return result;
}

Pinned::Pinned(Device& device, size_t bytes) : device_(&device) {
  device.enter();
  if (bytes > 0) device.check(device.driver.memAllocHost(&data_, bytes), "allocating page-locked memory");
}

Pinned::~Pinned() {
  if (data_ != nullptr) device_->driver.memFreeHost(data_);
}

Pinned Staging::take() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!chunks_.empty()) {
      Pinned chunk = std::move(chunks_.back());
      chunks_.pop_back();
      return chunk;
    }
  }
  return Pinned(device_, kChunk);
}

void Staging::give(Pinned chunk) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (chunks_.size() < kKeptChunks) chunks_.push_back(std::move(chunk));
}

void copyToHost(Device& device, void* target, Address source, size_t bytes, bool blocking) {
  if (bytes == 0) return device.enter();
  struct Lane {
    Lane(Device& d, bool blocks) : device(d), chunk(d.staging->take()), mark(d, false, blocks) {}
    ~Lane() { device.staging->give(std::move(chunk)); }
    void start(Address from, size_t length) {
      const Turn turn(device);
      device.check(device.driver.memcpyDtoHAsync(chunk.data(), from, length, device.stream), "copying to the host");
      mark.record();
    }
    Device& device;
    Pinned chunk;
    Mark mark;
  };
  // One lane copies while the other is emptied.
  std::unique_ptr<Lane> lanes[2];
  const size_t parts = (bytes + Staging::kChunk - 1) / Staging::kChunk;
  const auto lengthOf = [&](size_t part) { return std::min(Staging::kChunk, bytes - part * Staging::kChunk); };
  const auto start = [&](size_t part) {
    std::unique_ptr<Lane>& lane = lanes[part % 2];
    if (!lane) lane = std::make_unique<Lane>(device, blocking);
    lane->start(source + part * Staging::kChunk, lengthOf(part));
  };
  start(0);
  for (size_t part = 0; part < parts; part++) {
    if (part + 1 < parts) start(part + 1);
    Lane& lane = *lanes[part % 2];
    lane.mark.wait();
    std::memcpy(static_cast<char*>(target) + part * Staging::kChunk, lane.chunk.data(), lengthOf(part));
  }
}

void copyToDevice(Device& device, Address target, const void* source, size_t bytes) {
  if (bytes == 0) return device.enter();
  // From pageable memory: the driver has staged the data when it returns.
  const Turn turn(device);
  device.check(device.driver.memcpyHtoDAsync(target, source, bytes, device.stream), "copying to the device");
}

}  // namespace fluxion::cuda
