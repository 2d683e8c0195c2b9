import { FluxionError, ValueError } from "../errors.js";
import type { Backend, BackendName } from "./backend.js";
import { cpuBackend } from "./cpu.js";
import { cudaBackend } from "./cuda/index.js";
import { typescriptBackend } from "./typescript/index.js";

export type { Backend, BackendName, Executable, Loop } from "./backend.js";

export interface BackendInfo {
  readonly name: BackendName;
  readonly available: boolean;
  /** Why it is not available. */
  readonly reason?: string;
}

const loaders: { readonly [N in BackendName]: () => Backend } = {
  cuda: cudaBackend,
  cpu: cpuBackend,
  typescript: () => typescriptBackend,
};

const names = Object.keys(loaders) as BackendName[];
let chosen: Backend | undefined;

/** Every backend, fastest first, and whether it runs here. */
export function backends(): BackendInfo[] {
  return names.map((name) => {
    try {
      loaders[name]();
      return { name, available: true };
    } catch (error) {
      return { name, available: false, reason: reasonOf(error) };
    }
  });
}

function reasonOf(error: unknown): string {
  if (error instanceof FluxionError) return error.problem;
  return error instanceof Error ? error.message : String(error);
}

function load(name: unknown): Backend {
  if (!names.includes(name as BackendName))
    throw new ValueError(`unknown backend ${JSON.stringify(name)}; use one of ${names.join(", ")}`);
  return loaders[name as BackendName]();
}

/** Chooses the backend of all later calls. Throws BackendError, with the reason, when it does not run here. */
export function setBackend(name: BackendName): void {
  chosen = load(name);
}

/** The backend of this name. Throws BackendError, with the reason, when it does not run here. */
export function backendOf(name: BackendName): Backend {
  return load(name);
}

/**
 * The backend in use: what setBackend chose, else FLUXION_BACKEND, else the C++ addon. Where the addon cannot be
 * loaded it is the TypeScript one, which is slower: that is said once, with the reason.
 */
export function currentBackend(): Backend {
  if (chosen === undefined) {
    const environment = typeof process === "undefined" ? undefined : process.env.FLUXION_BACKEND;
    if (environment) chosen = load(environment);
    else {
      try {
        chosen = cpuBackend();
      } catch (error) {
        console.warn(
          `fluxion: running in TypeScript, much slower than the C++ addon, because: ${reasonOf(error)}`,
        );
        chosen = typescriptBackend;
      }
    }
  }
  return chosen;
}

/** The name of the backend in use. */
export function backend(): BackendName {
  return currentBackend().name;
}
