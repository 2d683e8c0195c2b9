// CUDA source to machine code, by NVRTC.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "device.h"

namespace fluxion::cuda {

// Machine code for the device where NVRTC knows its architecture, else PTX of the best one below it, which the driver
// compiles. `headers` are pairs of name and text. Throws Error with the compiler's log.
std::string compile(Device& device, const std::string& source,
                    const std::vector<std::pair<std::string, std::string>>& headers,
                    const std::vector<std::string>& options);

}  // namespace fluxion::cuda
