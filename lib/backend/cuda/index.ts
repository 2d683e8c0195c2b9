import type { Plan, StrippedPlan } from "../../compile/plan.js";
import { stripMine } from "../../compile/strip.js";
import { BackendError } from "../../errors.js";
import { byteSize } from "../../tensor/dtype.js";
import type { Backend } from "../backend.js";
import { translated } from "../native.js";
import { matmulPrecision } from "../precision.js";
import { validatePlan } from "../validate.js";
import type { CudaAddon, CudaDevice } from "./addon.js";
import type { CudaArray } from "./arrays.js";
import { compiled } from "./cache.js";
import { CudaExecutable } from "./executable.js";
import { openCuda } from "./load.js";
import { lowerPlan } from "./lower.js";
import type { Target } from "./lowering.js";
import { cudaStrips } from "./strip-profile.js";

/**
 * The backend of the first CUDA device: kernels are generated for a plan and for the device, compiled by NVRTC when
 * the disk cache does not have them, and started one after another; results stay in the device's memory.
 *
 * @throws BackendError, with the reason, where the addon is not built, a library is missing or there is no device
 */
export function cudaBackend(): Backend<CudaArray> {
  const { addon, device } = openCuda();
  return {
    name: "cuda",
    get settings() {
      return matmulPrecision();
    },
    optimize: (plan) => optimize(plan, targetOf(device)),
    compile: (plan) => compile(addon, device, plan),
  };
}

/** What a plan is lowered for: the device, and the precision in use now. */
export function targetOf(device: CudaDevice): Target {
  const { multiprocessors, sharedBytes, architecture, cublas } = device;
  return {
    multiprocessors,
    sharedBytes,
    architecture,
    cublas: "version" in cublas,
    precision: matmulPrecision(),
  };
}

function optimize(plan: Plan, target: Target): StrippedPlan {
  return stripMine(plan, cudaStrips(target));
}

function compile(addon: CudaAddon, device: CudaDevice, plan: Plan): CudaExecutable {
  validatePlan(plan);
  checkSizes(device, plan);
  const target = targetOf(device);
  const { source, ...body } = lowerPlan(optimize(plan, target), target);
  return translated(() => {
    const module = addon.load(compiled(addon, device, source));
    return new CudaExecutable(addon, plan, addon.createProgram(module, body));
  });
}

/** What cannot fit at all is said before a kernel is made for it. */
function checkSizes({ memoryBytes }: CudaDevice, { buffers }: Plan): void {
  for (const { dtype, size } of buffers) {
    const bytes = size * byteSize(dtype);
    if (bytes > memoryBytes)
      throw new BackendError(
        `out of memory on the device: ${size} elements of ${dtype} need ${bytes} bytes, it has ${memoryBytes}`,
      );
  }
}
