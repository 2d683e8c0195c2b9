// The CUDA that a kernel sees, for g++. It includes no standard header: a kernel that needs one does not compile.
#pragma once

#include "qualifiers.h"
#include "vectors.h"
#include "integers.h"
#include "mathematics.h"
#include "atomics.h"
#include "threads.h"
#include "warp.h"
#include "products.h"
#include "checks.h"
#include "kernels.h"
