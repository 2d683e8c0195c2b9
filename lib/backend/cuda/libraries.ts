import { existsSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, isAbsolute, join } from "node:path";

/** Where folders are looked for. */
export interface Surroundings {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  /** The folder that stands for "/". */
  readonly root: string;
}

const toolkitFolders = ["lib64", "lib", "targets/*/lib"];
/** Of the packages nvidia-cuda-nvrtc-cu12, nvidia-cublas-cu12, and those for CUDA 13, which share a folder. */
const wheelFolders = ["nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib", "nvidia/cublas/lib"];

/**
 * The folders in which the driver, NVRTC and cuBLASLt are looked for before the loader's own path (LD_LIBRARY_PATH
 * included), in order: those that FLUXION_CUDA_LIBRARIES lists, whether they exist or not; then, where they exist, those
 * of the toolkits that CUDA_HOME and CUDA_PATH name, of those in the usual places, the newest first, of the Python
 * packages that bring the same libraries (in VIRTUAL_ENV, CONDA_PREFIX, and the usual places), and of conda.
 */
export function libraryFolders(surroundings: Surroundings = here()): string[] {
  const { environment, root } = surroundings;
  const named = (name: string) => (environment[name] ? [environment[name]] : []);
  const own = (environment.FLUXION_CUDA_LIBRARIES ?? "").split(delimiter).filter(Boolean);
  const toolkits = [
    ...named("CUDA_HOME"),
    ...named("CUDA_PATH"),
    join(root, "usr/local/cuda"),
    ...matching(join(root, "usr/local"), "cuda-*"),
    join(root, "opt/cuda"),
  ];
  const conda = named("CONDA_PREFIX");
  const found = [
    ...toolkits.flatMap((folder) => toolkitFolders.flatMap((pattern) => matching(folder, pattern))),
    ...sitePackages(surroundings).flatMap((folder) =>
      wheelFolders.flatMap((pattern) => matching(folder, pattern)),
    ),
    ...conda.flatMap((folder) => matching(folder, "lib")),
  ];
  return [...new Set([...own, ...found])];
}

function here(): Surroundings {
  return { environment: process.env, home: homedir(), root: "/" };
}

/** The folders of Python packages. */
function sitePackages({ environment, home, root }: Surroundings): string[] {
  const prefixes = [
    ...[environment.VIRTUAL_ENV, environment.CONDA_PREFIX].filter(
      (path) => path !== undefined && path !== "",
    ),
    join(home, ".local"),
    join(root, "usr/local"),
    join(root, "usr"),
    ...matching(root, "opt/*/.venv"),
    ...matching(root, "opt/*"),
    ...matching(home, ".pyenv/versions/*"),
  ] as string[];
  return prefixes.flatMap((prefix) =>
    ["lib/python3*/site-packages", "lib/python3*/dist-packages"].flatMap((pattern) =>
      matching(prefix, pattern),
    ),
  );
}

/** What exists below a folder along a path whose parts may end in "*"; of several, the highest number first. */
function matching(folder: string, pattern: string): string[] {
  if (!isAbsolute(folder)) return [];
  let found = [folder];
  for (const part of pattern.split("/")) {
    found = found.flatMap((parent) => {
      if (!part.endsWith("*")) return [join(parent, part)].filter((path) => existsSync(path));
      const beginning = part.slice(0, -1);
      return entries(parent)
        .filter((name) => name.startsWith(beginning))
        .sort((a, b) => b.localeCompare(a, "en", { numeric: true }))
        .map((name) => join(parent, name));
    });
  }
  return found;
}

function entries(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
