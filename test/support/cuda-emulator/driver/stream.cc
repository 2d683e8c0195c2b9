#include "stream.h"

#include <chrono>
#include <thread>
#include <vector>

#include "context.h"
#include "graph.h"

struct CUstream_st {
  bool capturing = false, invalid = false;
  std::thread::id capturedBy;
  int mode = 0;
  std::vector<emulator::Work> recorded;
};

struct CUevent_st {
  bool timed;
  bool recorded;
  std::chrono::steady_clock::time_point time;
};

namespace emulator {

namespace {

constexpr int kRelaxed = 2;  // CU_STREAM_CAPTURE_MODE_RELAXED
Handles<CUstream> streams;
Handles<CUevent> events;
std::set<CUstream> capturing;

bool isStream(CUstream stream) { return stream == nullptr || streams.has(stream); }

}  // namespace

CUresult enqueue(CUstream stream, Work work) {
  REQUIRE(isStream(stream), CUDA_ERROR_INVALID_HANDLE);
  if (stream == nullptr) {
    REQUIRE(!forbiddenByCapture(), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    return work();
  }
  if (!stream->capturing) return work();
  REQUIRE(!stream->invalid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  stream->recorded.push_back(std::move(work));
  return CUDA_SUCCESS;
}

bool forbiddenByCapture() {
  bool forbidden = false;
  for (CUstream stream : capturing) {
    const bool concerned = stream->mode == 0 || stream->capturedBy == std::this_thread::get_id();
    if (stream->mode == kRelaxed || !concerned) continue;
    forbidden = stream->invalid = true;
  }
  return forbidden;
}

}  // namespace emulator

using namespace emulator;

CUDA_API CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
  BEGIN_CALL;
  REQUIRE(stream && flags <= 1, CUDA_ERROR_INVALID_VALUE);
  *stream = streams.add(new CUstream_st);
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuStreamDestroy_v2(CUstream stream) {
  BEGIN_CALL;
  REQUIRE(streams.remove(stream), CUDA_ERROR_INVALID_HANDLE);
  capturing.erase(stream);
  delete stream;
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuStreamSynchronize(CUstream stream) {
  BEGIN_CALL;
  REQUIRE(isStream(stream), CUDA_ERROR_INVALID_HANDLE);
  if (stream == nullptr || !stream->capturing) return CUDA_SUCCESS;
  stream->invalid = true;
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUDA_API CUresult cuStreamBeginCapture_v2(CUstream stream, int mode) {
  BEGIN_CALL;
  REQUIRE(mode >= 0 && mode <= kRelaxed, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(isStream(stream), CUDA_ERROR_INVALID_HANDLE);
  REQUIRE(stream != nullptr, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  REQUIRE(!stream->capturing, CUDA_ERROR_ILLEGAL_STATE);
  stream->capturing = true;
  stream->invalid = false;
  stream->capturedBy = std::this_thread::get_id();
  stream->mode = mode;
  stream->recorded.clear();
  capturing.insert(stream);
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  BEGIN_CALL;
  REQUIRE(graph, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(stream && streams.has(stream), CUDA_ERROR_INVALID_HANDLE);
  REQUIRE(stream->capturing, CUDA_ERROR_ILLEGAL_STATE);
  stream->capturing = false;
  capturing.erase(stream);
  *graph = nullptr;
  REQUIRE(!stream->invalid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  *graph = makeGraph(std::move(stream->recorded));
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuEventCreate(CUevent* event, unsigned flags) {
  BEGIN_CALL;
  REQUIRE(event, CUDA_ERROR_INVALID_VALUE);
  *event = events.add(new CUevent_st{(flags & 2) == 0, false, {}});
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuEventDestroy_v2(CUevent event) {
  BEGIN_CALL;
  REQUIRE(events.remove(event), CUDA_ERROR_INVALID_HANDLE);
  delete event;
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuEventRecord(CUevent event, CUstream stream) {
  BEGIN_CALL;
  REQUIRE(events.has(event), CUDA_ERROR_INVALID_HANDLE);
  return enqueue(stream, [=] {
    event->recorded = true;
    event->time = std::chrono::steady_clock::now();
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuEventQuery(CUevent event) {
  BEGIN_CALL;
  REQUIRE(events.has(event), CUDA_ERROR_INVALID_HANDLE);
  return CUDA_SUCCESS;
}

CUDA_API CUresult cuEventSynchronize(CUevent event) { return cuEventQuery(event); }

CUDA_API CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
  BEGIN_CALL;
  REQUIRE(milliseconds, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(events.has(start) && events.has(end), CUDA_ERROR_INVALID_HANDLE);
  REQUIRE(start->timed && end->timed && start->recorded && end->recorded, CUDA_ERROR_INVALID_HANDLE);
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return CUDA_SUCCESS;
}
