// The device: its libraries, its primary context, and the one stream on which all work runs in order.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "cublaslt_api.h"
#include "driver_api.h"
#include "libraries.h"
#include "nvrtc_api.h"

namespace fluxion::cuda {

class Pool;
class Staging;

struct DeviceFacts {
  std::string name;
  int architecture = 0, multiprocessors = 0, sharedBytes = 0;
  size_t memoryBytes = 0;
  std::string driverVersion, nvrtcVersion, cublasVersion;
  std::string cublasMissing;  // why cuBLASLt is not there; empty where it is
  std::vector<std::string> libraries;
};

class Device {
 public:
  explicit Device(const std::vector<std::string>& folders);

  // Throws Error for a result that is no success; `what` was being done.
  void check(Result result, const char* what);
  // Makes the context that of the calling thread. Throws Error when the context is lost.
  void enter();

  DriverApi driver;
  NvrtcApi nvrtc;
  CublasLtApi blas;
  LtHandle blasHandle = nullptr;  // null where cuBLASLt is missing
  DeviceFacts facts;
  Stream stream = nullptr;
  // A Status that never stops anything: of programs without checks, and what others start from.
  Address runningStatus = 0;
  // Held by whoever puts work on the stream, so that a sequence of launches is not interleaved with another thread's,
  // and nothing of another thread is captured into a graph.
  std::mutex launches;
  Pool* pool = nullptr;
  Staging* staging = nullptr;

 private:
  void openLibraries(const std::vector<std::string>& folders);
  void openCublas(const std::vector<std::string>& folders, int driverMajor);
  std::string describe(Result result, const char* what) const;

  Context context_ = nullptr;
  std::mutex lossMutex_;
  std::atomic<bool> lost_{false};
  std::string loss_;
};

// Opens the first device, once in the process. It is never closed: finalizers and other threads may use it up to the end.
Device& openDevice(const std::vector<std::string>& folders);
// The open one; throws Error before that.
Device& device();

// The right to put work on the stream.
class Turn {
 public:
  explicit Turn(Device& device) : lock_(device.launches) { device.enter(); }

 private:
  std::unique_lock<std::mutex> lock_;
};

// A point of the stream.
class Mark {
 public:
  // `timed` for `secondsSince`; `blocking` for waits that leave the processor to others.
  Mark(Device& device, bool timed, bool blocking);
  ~Mark();
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;
  void record();  // the caller has its turn
  void wait();    // the caller has none
  double secondsSince(const Mark& earlier) const;

 private:
  Device& device_;
  Event event_ = nullptr;
};

}  // namespace fluxion::cuda
