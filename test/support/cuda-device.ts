import { cudaEmulator, cudaEmulatorMissing } from "./cuda-emulator.js";

/**
 * Chooses the device of a test of the cuda backend, before it is opened: with FLUXION_TEST_DEVICE=own the machine's own
 * (bench/gpu.sh does that), else the emulated one. Says why there is none.
 */
export function cudaDevice(): string | undefined {
  if (process.env.FLUXION_TEST_DEVICE === "own") return undefined;
  const missing = cudaEmulatorMissing();
  if (missing === undefined) process.env.FLUXION_CUDA_LIBRARIES = cudaEmulator();
  return missing;
}
