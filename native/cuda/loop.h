// A loop around a program: its state lives on the device, twice, so that a step reads one copy and writes the other.
#pragma once

#include <deque>

#include "program.h"

namespace fluxion::cuda {

class Loop {
 public:
  // Carried inputs are copied; the others are kept as they are. `service` has the kernels of kernels/commit.cuh.
  Loop(std::shared_ptr<Program> program, std::shared_ptr<Module> service, const std::vector<Shared>& inputs,
       size_t carried);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  struct Outcome {
    int64_t completed, ran;
  };
  // On a worker's thread; observed[i] has room for `steps` observations. Ends early where `stopping` is set.
  Outcome run(int64_t steps, const std::vector<char*>& observed, const std::atomic<bool>& stopping);

  size_t carried() const { return carried_; }
  size_t observations() const { return program_->body().outputs.size() - carried_; }
  const Program& program() const { return *program_; }
  Address state(size_t index) const { return states_[current_].address() + places_[index]; }

 private:
  // Steps that were launched together, and what comes back of them.
  struct Piece {
    Pinned observed, status;
    std::unique_ptr<Mark> end;
  };

  Outcome runPieces(int64_t steps, const std::vector<char*>& observed, const std::atomic<bool>& stopping);
  void checkOutputs() const;
  void placeObservations();
  void enqueueStep(int side);
  void capture(int side);
  void launchStep(int side);
  void launchPiece(Piece& piece, int64_t steps, int side);
  size_t bytesOf(size_t observation) const { return program_->output(carried_ + observation).bytes; }

  Device& device_;
  std::shared_ptr<Program> program_;
  std::shared_ptr<Module> service_;
  size_t carried_;
  bool waitsForEachStep_ = false, captures_ = true, warm_ = false;
  std::vector<Shared> constants_;
  Block states_[2];
  std::vector<size_t> places_;  // of each carried value, in a state
  int current_ = 0;
  Block arena_, workspace_, status_;
  // What a step observes, and the ring of what the steps of a piece have observed.
  Block observed_, ring_, table_;
  std::vector<size_t> observedPlaces_, ringPlaces_;
  int64_t ringSteps_ = 1;
  std::vector<size_t> large_;  // observations that have a launch of their own; the table begins with the others
  size_t small_ = 0;
  Function record_ = nullptr, commit_ = nullptr;
  GraphExec graphs_[2] = {nullptr, nullptr};
  Piece pieces_[2];
};

}  // namespace fluxion::cuda
