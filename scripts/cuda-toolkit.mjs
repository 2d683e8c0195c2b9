// Finds a CUDA toolkit by its headers and libraries. The folder of `nvcc` says nothing: it can be a wrapper.
//
// usage: node scripts/cuda-toolkit.mjs include|lib|nvrtc     (binding.gyp asks; an empty line means: no toolkit)
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { argv, env, platform } from "node:process";
import { pathToFileURL } from "node:url";

const headers = ["cuda.h", "cuda_runtime_api.h"];
const includeFolders = ["include", "targets/x86_64-linux/include", "targets/sbsa-linux/include"];
const libraryFolders = [
  "lib64",
  "lib",
  "targets/x86_64-linux/lib",
  "targets/sbsa-linux/lib",
  "lib/x86_64-linux-gnu",
  "lib/aarch64-linux-gnu",
];

function roots() {
  const named = [env.CUDA_PATH, env.CUDA_HOME, env.CUDA_ROOT].filter(Boolean);
  const versioned = existsSync("/usr/local")
    ? readdirSync("/usr/local")
        .filter((name) => /^cuda-\d/.test(name))
        .sort((a, b) => b.localeCompare(a, "en", { numeric: true }))
        .map((name) => join("/usr/local", name))
    : [];
  return [...named, "/usr/local/cuda", ...versioned, "/opt/cuda", "/usr"];
}

/** The toolkit as `{ root, include, lib, version, nvrtc }`, or `undefined` where there is none. */
export function findCudaToolkit() {
  if (platform !== "linux" || env.FLUXION_CUDA === "0") return undefined;
  for (const root of roots()) {
    const include = includeFolders
      .map((folder) => join(root, folder))
      .find((folder) => headers.every((header) => existsSync(join(folder, header))));
    const lib = libraryFolders
      .map((folder) => join(root, folder))
      .find((folder) => existsSync(join(folder, "libcudart_static.a")));
    if (include === undefined || lib === undefined) continue;
    const number = Number(
      /#define\s+CUDA_VERSION\s+(\d+)/.exec(readFileSync(join(include, "cuda.h"), "utf8"))?.[1] ?? 0,
    );
    return {
      root,
      include,
      lib,
      version: `${Math.floor(number / 1000)}.${Math.floor((number % 1000) / 10)}`,
      nvrtc: existsSync(join(include, "nvrtc.h")) && existsSync(join(lib, "libnvrtc.so")),
    };
  }
  return undefined;
}

if (argv[1] && import.meta.url === pathToFileURL(argv[1]).href) {
  const value = findCudaToolkit()?.[argv[2] ?? "root"];
  console.log(typeof value === "boolean" ? Number(value) : (value ?? ""));
}
