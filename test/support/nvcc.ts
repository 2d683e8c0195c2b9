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
  return resources(source, architecture).failure;
}

/** The same, and what each kernel takes: registers of a thread, and bytes that did not fit there. */
export function resources(
  source: string,
  architecture: "sm_80" | "sm_90",
): { failure: string | undefined; kernels: { name: string; registers: number; spilled: number }[] } {
  const folder = mkdtempSync(join(tmpdir(), "fluxion-nvcc-"));
  try {
    const file = join(folder, "kernels.cu");
    writeFileSync(file, source);
    const { status, stdout, stderr } = spawnSync(
      "nvcc",
      [
        ...["-cubin", `-arch=${architecture}`, "--fmad=false", "-std=c++17", "-I", kernelFolder],
        ...["-Xptxas", "-v", "-x", "cu", file, "-o", join(folder, "kernels.cubin")],
      ],
      { encoding: "utf8", maxBuffer: 1 << 26 },
    );
    const log = `${stdout}${stderr}`;
    const pattern = /entry function '(\w+)'[\s\S]*?(\d+) bytes spill stores[\s\S]*?Used (\d+) registers/g;
    const kernels = [...log.matchAll(pattern)].map(([, name, spilled, registers]) => ({
      name: name!,
      registers: Number(registers),
      spilled: Number(spilled),
    }));
    return { failure: status === 0 ? undefined : log, kernels };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
