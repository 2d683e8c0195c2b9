import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { outputOf } from "../children.js";
import { threadsOf } from "../format.js";
import type { Side } from "../measure.js";
import { summarize } from "../statistics.js";
import { PeerProcess, peerScript, type Work } from "./process.js";

/** One way to run PyTorch: none is best for all work, so each is tried. */
export interface Setting {
  readonly process: PeerProcess;
  readonly threads: number;
  /** The kernels that OpenBLAS uses, by its own name for them. */
  readonly core: string;
}

export interface Torch {
  readonly version: string;
  readonly settings: readonly Setting[];
  /** What its users should know, such as a slow BLAS. */
  readonly note?: string;
}

const howToInstall = "on Debian: apt-get install python3-torch libopenblas0-pthread";

/** Finds PyTorch and the settings worth trying, or says what is missing. Processes start when they are first asked. */
export async function findTorch(): Promise<Torch | { readonly missing: string }> {
  const script = peerScript("torch_peer.py");
  let about: { torch: string; library: string | null } | undefined;
  let reason = "";
  let python = "";
  for (python of ["/usr/bin/python3", "python3"]) {
    try {
      about = JSON.parse(await outputOf(python, [script, "--about"]));
      break;
    } catch (error) {
      reason = (error as Error).message;
    }
  }
  if (about === undefined) return { missing: `PyTorch does not run here: ${reason} (${howToInstall})` };
  const { torch, library } = about;
  const cores = library === null ? new Map([["reference", ""]]) : await coreTypes(python, script, library);
  const counts = [1, 2, availableParallelism()].filter((n, i, list) => list.indexOf(n) === i);
  const settings = [...cores].flatMap(([core, coreType]) =>
    counts.map((threads) => {
      const env = {
        OPENBLAS_NUM_THREADS: String(threads),
        OMP_NUM_THREADS: String(threads),
        ...(coreType === "" ? {} : { OPENBLAS_CORETYPE: coreType }),
      };
      return { process: new PeerProcess(python, [script, String(threads)], env), threads, core };
    }),
  );
  return {
    version: `PyTorch ${torch} with ${library === null ? "a reference BLAS" : `OpenBLAS (${[...cores.keys()].join(", ")})`}`,
    settings,
    ...(library === null
      ? {
          note: "PyTorch has only an untuned BLAS here, ten times slower: apt-get install libopenblas0-pthread",
        }
      : {}),
  };
}

/**
 * OpenBLAS's sets of kernels that this processor can run, as the library names them, with the value of
 * OPENBLAS_CORETYPE that selects each ("" is the library's own choice). A type that the library does not know falls
 * back to another, and so drops out.
 */
async function coreTypes(python: string, script: string, library: string): Promise<Map<string, string>> {
  const flags = processorFlags();
  const types = [
    "",
    ...(flags.has("avx2") ? ["HASWELL", "ZEN"] : []),
    ...(flags.has("avx512f") ? ["SKYLAKEX"] : []),
    ...(flags.has("avx512_bf16") ? ["COOPERLAKE"] : []),
    ...(flags.has("amx_bf16") || flags.has("avx512_bf16") ? ["SAPPHIRERAPIDS"] : []),
  ];
  const cores = new Map<string, string>();
  for (const type of types) {
    const env = { OPENBLAS_CORETYPE: type };
    const core = (await outputOf(python, [script, "--core", library], env)).trim();
    if (!cores.has(core)) cores.set(core, type);
  }
  return cores;
}

function processorFlags(): Set<string> {
  try {
    return new Set(/^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.split(" "));
  } catch {
    return new Set();
  }
}

/** PyTorch with one setting, at a work that may be asked for in several ways; each request does it `inner` times. */
export function torchSide(setting: Setting, work: Work, way: string, repeats: number, inner: number): Side {
  const { process, threads, core } = setting;
  return {
    label: `${core}, ${threadsOf(threads)}${way === "" ? "" : `, ${way}`}`,
    peer: true,
    turn: async () => summarize(await process.measure(work, repeats)).median / inner,
  };
}
