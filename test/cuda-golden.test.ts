import t from "tap";
import { cudaEmulator, cudaEmulatorMissing } from "./support/cuda-emulator.js";
import { check, checkFlow, checkProgramAtOnce, flows, nameOfFlow, programs } from "./support/golden.js";

// Values that PyTorch computed in float64 (test/golden/README.md), held against the cuda backend on the emulated device.

const missing = cudaEmulatorMissing();
if (missing) t.pass(`not run: ${missing}`);
else {
  process.env.FLUXION_CUDA_LIBRARIES = cudaEmulator();
  for (const dtype of ["float64", "float32"] as const) {
    check("random programs", programs, "cuda", dtype, (c) => `program ${c.seed}`, checkProgramAtOnce);
    check("losses of flows", flows, "cuda", dtype, nameOfFlow, (c, by) => checkFlow(c, by, { atOnce: true }));
  }
}
