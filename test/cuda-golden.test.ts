import t from "tap";
import { cudaDevice } from "./support/cuda-device.js";
import { check, checkFlow, checkProgramAtOnce, flows, nameOfFlow, programs } from "./support/golden.js";

// Values that PyTorch computed in float64 (test/golden/README.md), held against the cuda backend.

const missing = cudaDevice();
if (missing) t.pass(`not run: ${missing}`);
else {
  for (const dtype of ["float64", "float32"] as const) {
    check("random programs", programs, "cuda", dtype, (c) => `program ${c.seed}`, checkProgramAtOnce);
    check("losses of flows", flows, "cuda", dtype, nameOfFlow, (c, by) => checkFlow(c, by, { atOnce: true }));
  }
}
