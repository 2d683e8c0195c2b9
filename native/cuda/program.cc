#include "program.h"

#include <cstring>

#include "product.h"

namespace fluxion::cuda {
namespace {

// The operations of a body, in order, on the device's stream. Nothing here waits, so that it can be captured.
class Enqueuing {
 public:
  Enqueuing(Device& device, const Program::Places& places, Stopwatch* watch)
      : device_(device), places_(places), watch_(watch) {}

  void run(const Body& body, const std::vector<Address>& inputs, const std::vector<Address>& outputs, Address arena) {
    std::vector<Address> at(body.buffers.size());
    for (size_t i = 0; i < at.size(); i++) at[i] = arena + body.buffers[i].offset;
    for (size_t i = 0; i < inputs.size(); i++) at[static_cast<size_t>(body.inputs[i])] = inputs[i];
    for (size_t i = 0; i < outputs.size(); i++) at[static_cast<size_t>(body.outputs[i])] = outputs[i];
    const Address behind = arena + aligned(body.arenaBytes);
    for (const Operation& operation : body.operations) {
      if (watch_ != nullptr) watch_->begin(operation.step);
      if (const auto* launch = std::get_if<Launch>(&operation.what)) run(*launch, at);
      else if (const auto* zero = std::get_if<Zero>(&operation.what)) run(*zero, body, at);
      else if (const auto* product = std::get_if<Product>(&operation.what)) {
        if (product->plan) product->plan->run(at, places_.workspace);
      } else run(std::get<Turns>(operation.what), at, behind);
    }
  }

 private:
  void run(const Launch& launch, const std::vector<Address>& at) {
    arguments_.clear();
    arguments_.push_back(const_cast<Address*>(&places_.status));
    for (int buffer : launch.buffers) arguments_.push_back(const_cast<Address*>(&at[static_cast<size_t>(buffer)]));
    device_.check(device_.driver.launchKernel(launch.function, launch.grid[0], launch.grid[1], launch.grid[2],
                                              launch.threads, 1, 1, launch.sharedBytes, device_.stream,
                                              arguments_.data(), nullptr),
                  "launching a kernel");
  }

  void run(const Zero& zero, const Body& body, const std::vector<Address>& at) {
    const size_t number = static_cast<size_t>(zero.buffer), bytes = body.buffers[number].bytes;
    if (bytes == 0) return;
    device_.check(device_.driver.memsetD8Async(at[number], 0, bytes, device_.stream), "setting memory to zero");
  }

  // The carries go to and fro between their results and spare memory, such that the last turn writes the results.
  void run(const Turns& turns, const std::vector<Address>& at, Address spare) {
    const auto place = [&](int buffer) { return at[static_cast<size_t>(buffer)]; };
    if (turns.length == 0) {
      for (size_t i = 0; i < turns.carries.size(); i++) {
        if (turns.carryBytes[i] == 0) continue;
        device_.check(device_.driver.memcpyDtoDAsync(place(turns.carries[i]), place(turns.inits[i]),
                                                     turns.carryBytes[i], device_.stream),
                      "copying on the device");
      }
      return;
    }
    // Times are those of the whole plan's steps.
    Stopwatch* const watch = std::exchange(watch_, nullptr);
    std::vector<Address> inputs, outputs(turns.carries.size() + turns.ys.size());
    for (int buffer : turns.consts) inputs.push_back(place(buffer));
    for (int buffer : turns.inits) inputs.push_back(place(buffer));
    const size_t firstX = inputs.size();
    inputs.resize(firstX + turns.xs.size());
    for (int64_t turn = 0; turn < turns.length; turn++) {
      const size_t slice = static_cast<size_t>(turns.reverse ? turns.length - 1 - turn : turn);
      const bool toResults = (turns.length - turn) % 2 == 1;
      for (size_t i = 0; i < turns.xs.size(); i++) inputs[firstX + i] = place(turns.xs[i]) + slice * turns.xBytes[i];
      for (size_t i = 0; i < turns.carries.size(); i++) {
        outputs[i] = toResults ? place(turns.carries[i]) : spare + turns.spareOffsets[i];
      }
      for (size_t i = 0; i < turns.ys.size(); i++) {
        outputs[turns.carries.size() + i] = place(turns.ys[i]) + slice * turns.yBytes[i];
      }
      run(*turns.body, inputs, outputs, spare + turns.spareBytes);
      for (size_t i = 0; i < turns.carries.size(); i++) inputs[turns.consts.size() + i] = outputs[i];
    }
    watch_ = watch;
  }

  Device& device_;
  const Program::Places places_;
  Stopwatch* watch_;
  std::vector<void*> arguments_;
};

}  // namespace

void Stopwatch::begin(int step) {
  if (!marks_.empty() && marks_.back().first == step) return;
  marks_.emplace_back(step, std::make_unique<Mark>(device_, true, false));
  marks_.back().second->record();
}

void Stopwatch::read(double* seconds) const {
  for (size_t i = 0; i + 1 < marks_.size(); i++) {
    seconds[marks_[i].first] += marks_[i + 1].second->secondsSince(*marks_[i].second);
  }
}

void Program::enqueue(const std::vector<Address>& inputs, const std::vector<Address>& outputs, const Places& places,
                      Stopwatch* watch) const {
  Enqueuing(device_, places, watch).run(*body_, inputs, outputs, places.arena);
  if (watch != nullptr) watch->begin(-1);
}

std::vector<Shared> Program::run(const std::vector<Shared>& inputs, double* seconds, bool wait) {
  std::vector<Shared> outputs;
  std::vector<Address> from, to;
  for (const Shared& input : inputs) from.push_back(input->address());
  for (size_t i = 0; i < body_->outputs.size(); i++) {
    outputs.push_back(std::make_shared<Block>(device_, output(i).bytes, "a result"));
    to.push_back(outputs.back()->address());
  }
  // They go back to the pool when the work that uses them is on the stream: whoever takes them next comes after it.
  const Block arena(device_, arenaBytes(), "a program"), workspace(device_, workspaceBytes(), "a matrix product");
  const bool checks = !whole_.checks.empty();
  const Block own(device_, checks ? sizeof(Status) : 0, "a status");
  const Address status = checks ? own.address() : device_.runningStatus;

  std::unique_ptr<Stopwatch> watch;
  if (seconds != nullptr) watch = std::make_unique<Stopwatch>(device_);
  std::unique_ptr<Mark> end;
  if (seconds != nullptr || wait) end = std::make_unique<Mark>(device_, false, wait);
  {
    const Turn turn(device_);
    if (checks) {
      device_.check(device_.driver.memcpyDtoDAsync(status, device_.runningStatus, sizeof(Status), device_.stream),
                    "copying on the device");
    }
    enqueue(from, to, {arena.address(), workspace.address(), status}, watch.get());
    if (end) end->record();
  }
  if (checks) {
    Status result;
    copyToHost(device_, &result, status, sizeof result, wait);
    examine(result);
  }
  if (end) end->wait();
  if (watch) watch->read(seconds);
  return outputs;
}

void Program::examine(const Status& status) const {
  if (status.error == ~uint64_t{0}) return;
  const auto found = whole_.checks.find(status.errorOperation);
  if (found == whole_.checks.end()) {
    throw Error("a kernel reports an error of check " + std::to_string(status.errorOperation) + ", which is not there");
  }
  // lib/backend/cuda reads the site from the message, as that of the cpu backend.
  const auto& [size, site] = found->second;
  const int32_t index = static_cast<int32_t>(static_cast<uint32_t>(status.error));
  throw Error("index " + std::to_string(index) + " is out of range for an axis of size " + std::to_string(size) +
              (site < 0 ? "" : " at site " + std::to_string(site)));
}

}  // namespace fluxion::cuda
