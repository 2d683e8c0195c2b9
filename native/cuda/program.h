// A program on the device, and how its operations are put on the stream.
#pragma once

#include "body.h"
#include "status.h"

namespace fluxion::cuda {

using Shared = std::shared_ptr<Block>;

// The times between the steps of a run.
class Stopwatch {
 public:
  explicit Stopwatch(Device& device) : device_(device) {}
  // Before the operations of a step; -1 after all.
  void begin(int step);
  // Adds to each step's seconds what it took.
  void read(double* seconds) const;

 private:
  Device& device_;
  std::vector<std::pair<int, std::unique_ptr<Mark>>> marks_;
};

class Program {
 public:
  Program(Device& device, std::shared_ptr<Module> module, std::unique_ptr<Body> body, Whole whole)
      : device_(device), module_(std::move(module)), body_(std::move(body)), whole_(std::move(whole)) {}

  const Body& body() const { return *body_; }
  Device& device() const { return device_; }
  const BufferSpec& input(size_t i) const { return body_->buffers[static_cast<size_t>(body_->inputs[i])]; }
  const BufferSpec& output(size_t i) const { return body_->buffers[static_cast<size_t>(body_->outputs[i])]; }
  size_t arenaBytes() const { return body_->totalBytes; }
  size_t workspaceBytes() const { return whole_.workspaceBytes; }

  // Gives outputs that may still be computed. It waits where the program has checks, where `seconds` is given (one for
  // each step), and where it is told to.
  std::vector<Shared> run(const std::vector<Shared>& inputs, double* seconds, bool wait);

  struct Places {
    Address arena, workspace, status;
  };
  // In a turn of the caller's.
  void enqueue(const std::vector<Address>& inputs, const std::vector<Address>& outputs, const Places& places,
               Stopwatch* watch = nullptr) const;
  // Throws Error where a check has failed.
  void examine(const Status& status) const;

 private:
  Device& device_;
  std::shared_ptr<Module> module_;
  std::unique_ptr<Body> body_;
  Whole whole_;
};

}  // namespace fluxion::cuda
