// The host launches pieces of several steps, one piece ahead of the one that it waits for. At the end of each step a
// kernel looks at the guard and commits the step, or stops the run: then all that is launched already does nothing.
//
// After a stop the next step, launched already, would write over the state that was committed last. Our kernels do not,
// as they look at the status; a memset, a copy or a library's product does not look. So where one of those
// writes to the state itself, the host waits for each step before it launches the next. What they write elsewhere
// (temporaries, observations that are not recorded any more) is of no consequence.
#include "loop.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

namespace fluxion::cuda {
namespace {

constexpr size_t kRingBytes = size_t{32} << 20;
constexpr int64_t kMostSteps = 256;    // of a piece
constexpr double kPieceSeconds = 5e-3;  // what a piece should take: short enough to answer to a stop, long against a wait
constexpr double kMostCaptured = 2e5;  // operations of a graph
constexpr size_t kLarge = size_t{64} << 10;  // bytes of an observation that one block should not copy

}  // namespace

Loop::Loop(std::shared_ptr<Program> program, std::shared_ptr<Module> service, const std::vector<Shared>& inputs,
           size_t carried)
    : device_(program->device()), program_(std::move(program)), service_(std::move(service)), carried_(carried) {
  checkOutputs();
  size_t bytes = 0;
  for (size_t i = 0; i < carried; i++) {
    places_.push_back(bytes);
    bytes = checkedAdd(bytes, aligned(program_->input(i).bytes));
    if (program_->body().uncheckedOutputs[i]) waitsForEachStep_ = true;
  }
  captures_ = program_->body().launches <= kMostCaptured;
  for (Block& state : states_) state = Block(device_, bytes, "the state of a loop");
  arena_ = Block(device_, program_->arenaBytes(), "a program");
  workspace_ = Block(device_, program_->workspaceBytes(), "a matrix product");
  status_ = Block(device_, sizeof(Status), "a status");
  record_ = service_->kernel("fluxion_record", 256, 0, 2);
  commit_ = service_->kernel("fluxion_commit", 256, 0, 5);
  placeObservations();
  const Turn turn(device_);
  for (size_t i = 0; i < carried; i++) {
    if (program_->input(i).bytes == 0) continue;
    device_.check(device_.driver.memcpyDtoDAsync(state(i), inputs[i]->address(), program_->input(i).bytes, device_.stream),
                  "copying on the device");
  }
  constants_.assign(inputs.begin() + static_cast<std::ptrdiff_t>(carried), inputs.end());
}

Loop::~Loop() {
  for (GraphExec graph : graphs_) {
    if (graph != nullptr) device_.driver.graphExecDestroy(graph);
  }
}

void Loop::checkOutputs() const {
  const Body& body = program_->body();
  if (carried_ > body.inputs.size() || carried_ > body.outputs.size()) {
    throw Error("loop: " + std::to_string(carried_) + " carried values, but the program has " +
                std::to_string(body.inputs.size()) + " inputs and " + std::to_string(body.outputs.size()) + " outputs");
  }
  for (size_t i = 0; i < carried_; i++) {
    if (program_->input(i).bytes != program_->output(i).bytes) {
      throw Error("loop: input " + std::to_string(i) + " and output " + std::to_string(i) + " differ in size");
    }
  }
  if (observations() == 0) return;
  const size_t guard = bytesOf(observations() - 1);
  if (guard != 4 && guard != 8) throw Error("loop: the last output is not a float scalar");
}

void Loop::placeObservations() {
  size_t step = 0;
  for (size_t i = 0; i < observations(); i++) {
    observedPlaces_.push_back(step);
    step = checkedAdd(step, aligned(bytesOf(i)));
  }
  ringSteps_ = std::clamp<int64_t>(static_cast<int64_t>(kRingBytes / std::max<size_t>(step, 1)), 1, kMostSteps);
  size_t ring = 0;
  for (size_t i = 0; i < observations(); i++) {
    ringPlaces_.push_back(ring);
    ring = checkedAdd(ring, aligned(checkedMultiply(bytesOf(i), static_cast<size_t>(ringSteps_))));
  }
  observed_ = Block(device_, step, "what a loop observes");
  ring_ = Block(device_, ring, "what a loop observes");
  std::vector<Observation> small, large;
  for (size_t i = 0; i < observations(); i++) {
    if (bytesOf(i) == 0) continue;
    const Observation observation{observed_.address() + observedPlaces_[i], ring_.address() + ringPlaces_[i],
                                  static_cast<int64_t>(bytesOf(i))};
    if (bytesOf(i) < kLarge) small.push_back(observation);
    else {
      large.push_back(observation);
      large_.push_back(bytesOf(i));
    }
  }
  small_ = small.size();
  small.insert(small.end(), large.begin(), large.end());
  table_ = Block(device_, small.size() * sizeof(Observation), "what a loop observes");
  copyToDevice(device_, table_.address(), small.data(), table_.bytes());
  for (Piece& piece : pieces_) {
    piece.observed = Pinned(device_, ring);
    piece.status = Pinned(device_, sizeof(Status));
    piece.end = std::make_unique<Mark>(device_, false, true);
  }
}

// From states_[side] to the other one.
void Loop::enqueueStep(int side) {
  std::vector<Address> inputs, outputs;
  for (size_t place : places_) {
    inputs.push_back(states_[side].address() + place);
    outputs.push_back(states_[1 - side].address() + place);
  }
  for (const Shared& constant : constants_) inputs.push_back(constant->address());
  for (size_t place : observedPlaces_) outputs.push_back(observed_.address() + place);
  Address status = status_.address();
  program_->enqueue(inputs, outputs, {arena_.address(), workspace_.address(), status});

  for (size_t i = 0; i < large_.size(); i++) {
    Address observation = table_.address() + (small_ + i) * sizeof(Observation);
    void* arguments[] = {&status, &observation};
    const unsigned blocks = static_cast<unsigned>(std::min<size_t>((large_[i] / 4 + 255) / 256, 1024));
    device_.check(device_.driver.launchKernel(record_, blocks, 1, 1, 256, 1, 1, 0, device_.stream, arguments, nullptr),
                  "launching a kernel");
  }
  Address table = table_.address(), guard = observations() == 0 ? 0 : outputs.back();
  int64_t count = static_cast<int64_t>(small_);
  int64_t guardBytes = observations() == 0 ? 0 : static_cast<int64_t>(bytesOf(observations() - 1));
  void* arguments[] = {&status, &table, &count, &guard, &guardBytes};
  device_.check(device_.driver.launchKernel(commit_, 1, 1, 1, 256, 1, 1, 0, device_.stream, arguments, nullptr),
                "launching a kernel");
}

void Loop::capture(int side) {
  const DriverApi& driver = device_.driver;
  device_.check(driver.streamBeginCapture(device_.stream, kCaptureThreadLocal), "beginning a graph");
  Graph graph = nullptr;
  try {
    enqueueStep(side);
  } catch (...) {
    driver.streamEndCapture(device_.stream, &graph);  // the stream must not stay in capture
    if (graph != nullptr) driver.graphDestroy(graph);
    throw;
  }
  device_.check(driver.streamEndCapture(device_.stream, &graph), "ending a graph");
  const Result result = driver.graphInstantiate(&graphs_[side], graph, 0);
  driver.graphDestroy(graph);
  device_.check(result, "preparing a graph");
}

void Loop::launchStep(int side) {
  // The first step is launched as it is: a kernel of a library may be loaded at its first launch, which a capture forbids.
  if (!captures_ || !std::exchange(warm_, true)) return enqueueStep(side);
  if (graphs_[side] == nullptr) capture(side);
  device_.check(device_.driver.graphLaunch(graphs_[side], device_.stream), "launching a graph");
}

void Loop::launchPiece(Piece& piece, int64_t steps, int side) {
  const DriverApi& driver = device_.driver;
  const Turn turn(device_);
  device_.check(driver.memsetD8Async(status_.address() + offsetof(Status, slot), 0, sizeof Status::slot, device_.stream),
                "setting memory to zero");
  for (int64_t i = 0; i < steps; i++) launchStep((side + static_cast<int>(i & 1)) & 1);
  for (size_t i = 0; i < observations(); i++) {
    const size_t bytes = bytesOf(i) * static_cast<size_t>(steps);
    if (bytes == 0) continue;
    device_.check(driver.memcpyDtoHAsync(piece.observed.data() + ringPlaces_[i], ring_.address() + ringPlaces_[i], bytes,
                                         device_.stream),
                  "copying to the host");
  }
  device_.check(driver.memcpyDtoHAsync(piece.status.data(), status_.address(), sizeof(Status), device_.stream),
                "copying to the host");
  piece.end->record();
}

Loop::Outcome Loop::run(int64_t steps, const std::vector<char*>& observed, const std::atomic<bool>& stopping) {
  try {
    return runPieces(steps, observed, stopping);
  } catch (...) {
    device_.driver.streamSynchronize(device_.stream);  // copies to memory of ours may be under way
    throw;
  }
}

Loop::Outcome Loop::runPieces(int64_t steps, const std::vector<char*>& observed, const std::atomic<bool>& stopping) {
  using Clock = std::chrono::steady_clock;
  const int start = current_;
  {
    const Turn turn(device_);
    device_.check(device_.driver.memcpyDtoDAsync(status_.address(), device_.runningStatus, sizeof(Status), device_.stream),
                  "copying on the device");
  }
  Status status;
  int64_t launched = 0, pieceSteps = 1;
  size_t begun = 0, done = 0;  // pieces
  const auto halted = [&] { return status.stopped != 0 || status.error != ~uint64_t{0}; };
  Clock::time_point before = Clock::now();
  while (true) {
    const size_t ahead = waitsForEachStep_ ? 1 : 2;
    while (begun - done < ahead && launched < steps && !halted() && !stopping.load(std::memory_order_relaxed)) {
      const int64_t count = std::min(pieceSteps, steps - launched);
      launchPiece(pieces_[begun % 2], count, static_cast<int>((start + launched) % 2));
      launched += count;
      begun++;
    }
    if (done == begun) break;
    const Piece& piece = pieces_[done++ % 2];
    piece.end->wait();
    const int64_t ran = status.ran;
    std::memcpy(&status, piece.status.data(), sizeof status);
    for (size_t i = 0; i < observations(); i++) {
      const size_t bytes = bytesOf(i);
      if (bytes == 0 || status.ran == ran) continue;
      std::memcpy(observed[i] + static_cast<size_t>(ran) * bytes, piece.observed.data() + ringPlaces_[i],
                  static_cast<size_t>(status.ran - ran) * bytes);
    }
    current_ = static_cast<int>((start + status.completed) % 2);
    const Clock::time_point now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - before).count();
    before = now;
    if (waitsForEachStep_) continue;
    if (seconds < kPieceSeconds) pieceSteps = std::min(2 * pieceSteps, ringSteps_);
    else if (seconds > 2 * kPieceSeconds) pieceSteps = std::max<int64_t>(pieceSteps / 2, 1);
  }
  program_->examine(status);
  return {status.completed, status.ran};
}

}  // namespace fluxion::cuda
