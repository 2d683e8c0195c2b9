import { backends } from "./support/backends.js";
import { check, checkFlow, checkProgram, flows, nameOfFlow, programs } from "./support/golden.js";

// Values that PyTorch computed in float64 (test/golden/README.md), held against every way to compute them here.

for (const backend of backends)
  for (const dtype of ["float64", "float32"] as const) {
    check("random programs", programs, backend, dtype, (c) => `program ${c.seed}`, checkProgram);
    check("losses of flows", flows, backend, dtype, nameOfFlow, (c, by) => checkFlow(c, by));
  }
