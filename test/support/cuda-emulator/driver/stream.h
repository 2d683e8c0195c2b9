// Streams: what is put into one runs at once, or is recorded while the stream is captured.
#pragma once

#include <functional>

#include "abi.h"

namespace emulator {

using Work = std::function<CUresult()>;

// Needs the lock of a Call. Also called by cuBLASLt.
__attribute__((visibility("default"))) CUresult enqueue(CUstream stream, Work work);

// Whether this thread captures a stream, so that it must not call what a capture forbids; the capture is lost then.
bool forbiddenByCapture();

}  // namespace emulator
