import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const root = dirname(createRequire(import.meta.url).resolve("fluxion/package.json"));
const sources = join(root, "test", "support", "cuda-emulator");

const flags = [
  "-std=c++17",
  "-O2",
  "-Wall",
  "-Wextra",
  "-Wno-clobbered",
  "-fPIC",
  "-shared",
  "-fvisibility=hidden",
  "-fno-gnu-unique",
  "-U_FORTIFY_SOURCE",
  "-pthread",
];

/** The libraries, in the order of their needs. */
const libraries = [
  { name: "libcuda.so.1", folders: ["driver", "runtime"], needs: ["-ldl"] },
  { name: "libnvrtc.so.13", folders: ["nvrtc"], needs: ["-ldl"] },
  { name: "libcublasLt.so.13", folders: ["cublaslt"], needs: ["libcuda.so.1", "-Wl,-rpath,$ORIGIN"] },
] as const;

/** Why the emulator cannot be built here; undefined where it can. */
export function cudaEmulatorMissing(): string | undefined {
  if (process.platform !== "linux") return "the CUDA emulator needs Linux";
  if (process.arch !== "x64" && process.arch !== "arm64") return "the CUDA emulator needs x86-64 or arm64";
  if (spawnSync("g++", ["--version"]).status !== 0) return "the CUDA emulator needs g++";
  return undefined;
}

/**
 * Builds the CUDA driver, NVRTC and cuBLASLt that run on the CPU, unless they are there already, and gives the folder of
 * the libraries: what FLUXION_CUDA_LIBRARIES is to be set to before the CUDA addon is opened. What they check, and which
 * environment variables they read, is in test/support/cuda-emulator/README.md.
 */
export function cudaEmulator(): string {
  const parent = join(root, "build", "cuda-emulator");
  const folder = join(parent, contentHash());
  if (existsSync(folder)) return folder;
  // Several test processes may build at once: each in a folder of its own, and the first to finish names its own.
  mkdirSync(parent, { recursive: true });
  const partial = mkdtempSync(join(parent, "partial-"));
  try {
    for (const library of libraries) compile(library, partial);
    cpSync(join(sources, "device"), join(partial, "device"), { recursive: true });
    try {
      renameSync(partial, folder);
    } catch (error) {
      if (!existsSync(folder)) throw error;
    }
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return folder;
}

function compile({ name, folders, needs }: (typeof libraries)[number], target: string): void {
  const files = folders.flatMap((folder) =>
    filesOf(folder)
      .filter((file) => file.endsWith(".cc"))
      .map((file) => join(sources, file)),
  );
  const args = [...flags, `-Wl,-soname,${name}`, ...files, "-o", name, ...needs];
  const { status, stderr, error } = spawnSync("g++", args, { cwd: target, encoding: "utf8" });
  if (status !== 0)
    throw new Error(`building the CUDA emulator's ${name} failed: ${error?.message ?? stderr}`);
}

/** Of all that the libraries are built from. */
function contentHash(): string {
  const hash = createHash("sha256").update(flags.join(" "));
  for (const folder of ["device", "driver", "runtime", "nvrtc", "cublaslt"]) {
    for (const file of filesOf(folder)) hash.update(file).update(readFileSync(join(sources, file)));
  }
  return hash.digest("hex").slice(0, 16);
}

function filesOf(folder: string): string[] {
  return readdirSync(join(sources, folder))
    .sort()
    .map((file) => join(folder, file));
}
