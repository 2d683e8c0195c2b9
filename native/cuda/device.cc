#include "device.h"

#include <memory>

#include "memory.h"
#include "status.h"

namespace fluxion::cuda {
namespace {

template <class F>
void bind(F& member, void* address) {
  member = reinterpret_cast<F>(address);
}

// 12040 -> "12.4"
std::string versionText(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

// Code for a major version of CUDA needs a driver of that version.
std::string tooNew(int major, int driverMajor) {
  if (major <= driverMajor) return "";
  return "it is of CUDA " + std::to_string(major) + ", the driver of CUDA " + std::to_string(driverMajor);
}

// After these the context answers every call with an error.
bool isSticky(Result result) {
  switch (result) {
    case kDeinitialized:
    case kEccUncorrectable:
    case kIllegalAddress:
    case kLaunchTimeout:
    case kContextIsDestroyed:
    case kAssert:
    case kHardwareStackError:
    case kIllegalInstruction:
    case kMisalignedAddress:
    case kInvalidAddressSpace:
    case kInvalidPc:
    case kLaunchFailed:
    case kUnknown: return true;
    default: return false;
  }
}

}  // namespace

Device::Device(const std::vector<std::string>& folders) {
  openLibraries(folders);
  int count = 0;
  check(driver.deviceGetCount(&count), "counting the devices");
  if (count == 0) throw Error("the NVIDIA driver sees no device");
  DeviceNumber number = 0;
  check(driver.deviceGet(&number, 0), "taking the first device");
  char name[256] = {};
  check(driver.deviceGetName(name, sizeof name - 1, number), "reading the device's name");
  facts.name = name;
  const auto attribute = [&](int which) {
    int value = 0;
    check(driver.deviceGetAttribute(&value, which, number), "reading an attribute of the device");
    return value;
  };
  facts.architecture = 10 * attribute(kComputeCapabilityMajor) + attribute(kComputeCapabilityMinor);
  facts.multiprocessors = attribute(kMultiprocessorCount);
  facts.sharedBytes = attribute(kSharedMemoryPerBlockOptin);
  check(driver.deviceTotalMem(&facts.memoryBytes, number), "reading the size of the device's memory");
  check(driver.devicePrimaryCtxRetain(&context_, number), "starting the device");
  check(driver.ctxSetCurrent(context_), "choosing the device");
  check(driver.streamCreate(&stream, kStreamNonBlocking), "making a stream");
  pool = new Pool(*this);
  staging = new Staging(*this);
  const Status start;
  runningStatus = pool->take(sizeof start, "a status");
  check(driver.memcpyHtoDAsync(runningStatus, &start, sizeof start, stream), "copying to the device");
  check(driver.streamSynchronize(stream), "starting the device");
  if (blas.create != nullptr && blas.create(&blasHandle) != kLtSuccess) {
    blasHandle = nullptr;
    facts.cublasMissing = facts.libraries.back() + " does not start on this device";
    facts.libraries.pop_back();
  }
}

void Device::openLibraries(const std::vector<std::string>& folders) {
  int driverVersion = 0;
  const Library cuda = findLibrary(
      {"the NVIDIA driver", {"libcuda.so.1", "libcuda.so"}}, folders, [&](const Library& library) -> std::string {
#define FLUXION_BIND(name, symbol, parameters) bind(driver.name, library.function(#symbol));
        FLUXION_DRIVER_FUNCTIONS(FLUXION_BIND)
#undef FLUXION_BIND
#define FLUXION_BIND(name, symbol, parameters) bind(driver.name, library.optionalFunction(#symbol));
        FLUXION_OPTIONAL_DRIVER_FUNCTIONS(FLUXION_BIND)
#undef FLUXION_BIND
        const Result result = driver.init(0);
        if (result != kSuccess) return describe(result, "it does not start");
        driver.driverGetVersion(&driverVersion);
        return driverVersion >= 11040 ? "" : "it is of CUDA " + versionText(driverVersion) + ", older than 11.4";
      });
  facts.driverVersion = versionText(driverVersion);
  facts.libraries.push_back(cuda.path);

  const std::vector<std::string> names = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", "libnvrtc.so.11.2"};
  const Library compiler =
      findLibrary({"NVRTC, the CUDA compiler", names}, folders, [&](const Library& library) -> std::string {
#define FLUXION_BIND(name, symbol, parameters) bind(nvrtc.name, library.function(#symbol));
        FLUXION_NVRTC_FUNCTIONS(FLUXION_BIND)
#undef FLUXION_BIND
        bind(nvrtc.getErrorString, library.function("nvrtcGetErrorString"));
        int major = 0, minor = 0;
        if (nvrtc.version(&major, &minor) != kNvrtcSuccess) return "it does not say its version";
        facts.nvrtcVersion = std::to_string(major) + "." + std::to_string(minor);
        return tooNew(major, driverVersion / 1000);
      });
  facts.libraries.push_back(compiler.path);
  // NVRTC opens its builtins by bare name when it compiles. Not every package has them found next to it; an open
  // library of that name is.
  const size_t slash = compiler.path.rfind('/');
  if (slash != std::string::npos) preload(compiler.path.substr(0, slash), "libnvrtc-builtins.so");

  openCublas(folders, driverVersion / 1000);
}

void Device::openCublas(const std::vector<std::string>& folders, int driverMajor) {
  const std::vector<std::string> names = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11",
                                          "libcublasLt.so"};
  try {
    const Library library = findLibrary({"cuBLASLt", names}, folders, [&](const Library& found) -> std::string {
#define FLUXION_BIND(name, symbol, parameters) bind(blas.name, found.function(#symbol));
      FLUXION_CUBLASLT_FUNCTIONS(FLUXION_BIND)
#undef FLUXION_BIND
      bind(blas.getVersion, found.function("cublasLtGetVersion"));
      bind(blas.getCudartVersion, found.function("cublasLtGetCudartVersion"));
      // 130100 for 13.1.0; up to version 11 it was 11501 for 11.5.1.
      const size_t version = blas.getVersion();
      const size_t unit = version >= 100000 ? 10000 : 1000;
      facts.cublasVersion = std::to_string(version / unit) + "." + std::to_string(version % unit / 100);
      return tooNew(static_cast<int>(blas.getCudartVersion() / 1000), driverMajor);
    });
    facts.libraries.push_back(library.path);
  } catch (const Error& error) {
    blas = CublasLtApi{};
    facts.cublasMissing = error.what();
  }
}

std::string Device::describe(Result result, const char* what) const {
  const char *name = nullptr, *text = nullptr;
  if (driver.getErrorName(result, &name) != kSuccess || name == nullptr) name = "an unknown error";
  if (driver.getErrorString(result, &text) != kSuccess || text == nullptr) text = "no explanation";
  return std::string(what) + ": " + text + " (" + name + ")";
}

void Device::check(Result result, const char* what) {
  if (result == kSuccess) return;
  const std::string text = describe(result, what);
  if (!isSticky(result)) throw Error(text);
  {
    const std::lock_guard<std::mutex> lock(lossMutex_);
    if (!lost_) loss_ = text;
    lost_ = true;
  }
  enter();
}

void Device::enter() {
  if (lost_) {
    const std::lock_guard<std::mutex> lock(lossMutex_);
    throw Error("the device context is lost: " + loss_ + "; the process must be started again");
  }
  const Result result = driver.ctxSetCurrent(context_);
  if (result != kSuccess) check(result, "choosing the device");
}

namespace {
std::mutex openMutex;
std::atomic<Device*> opened{nullptr};
}  // namespace

Device& openDevice(const std::vector<std::string>& folders) {
  const std::lock_guard<std::mutex> lock(openMutex);
  if (opened == nullptr) opened = new Device(folders);
  return *opened;
}

Device& device() {
  Device* const found = opened;
  if (found == nullptr) throw Error("the device is not open");
  return *found;
}

Mark::Mark(Device& device, bool timed, bool blocking) : device_(device) {
  device_.enter();
  const unsigned flags = (timed ? kEventDefault : kEventDisableTiming) | (blocking ? kEventBlockingSync : 0u);
  device_.check(device_.driver.eventCreate(&event_, flags), "making an event");
}

Mark::~Mark() { device_.driver.eventDestroy(event_); }

void Mark::record() { device_.check(device_.driver.eventRecord(event_, device_.stream), "recording an event"); }

void Mark::wait() {
  device_.enter();
  device_.check(device_.driver.eventSynchronize(event_), "waiting for the device");
}

double Mark::secondsSince(const Mark& earlier) const {
  float milliseconds = 0;
  device_.check(device_.driver.eventElapsedTime(&milliseconds, earlier.event_, event_), "reading a time");
  return milliseconds * 1e-3;
}

}  // namespace fluxion::cuda
