import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The folder of the headers that kernels include. */
export const kernelFolder = join(process.cwd(), "native/cuda/kernels");

/** Why nothing can be compiled for a GPU here; undefined where nvcc is. */
export const nvccMissing: string | undefined = (() => {
  try {
    execFileSync("nvcc", ["--version"], { stdio: "ignore" });
    return undefined;
  } catch {
    return "nvcc was not found, so that no kernel is compiled for a GPU here";
  }
})();

/**
 * Compiles CUDA source to machine code with nvcc, with the options that the library gives to NVRTC: undefined where that
 * works, else what nvcc says.
 */
export function compiles(source: string, architecture: "sm_80" | "sm_90"): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), "fluxion-nvcc-"));
  try {
    const file = join(folder, "kernels.cu");
    writeFileSync(file, source);
    const { status, stdout, stderr } = spawnSync(
      "nvcc",
      [
        ...["-cubin", `-arch=${architecture}`, "--fmad=false", "-std=c++17", "-I", kernelFolder],
        ...["-x", "cu", file, "-o", join(folder, "kernels.cubin")],
      ],
      { encoding: "utf8" },
    );
    return status === 0 ? undefined : `${stdout}${stderr}`;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
