import { createHash } from "node:crypto";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { CudaAddon, CudaDevice } from "./addon.js";

/**
 * Plan arithmetic rounds after every instruction: products and sums are not fused. Functions that are only computed with
 * while compiling need no `__device__`.
 */
const options: readonly string[] = ["--std=c++17", "--fmad=false", "--device-as-default-execution-space"];

const magic = Buffer.from("fluxion cuda 1\n");
const digestBytes = 32;
const suffix = ".code";
/** A temporary file that is older was left by a process that died. */
const abandonedMilliseconds = 3_600_000;

/** What a cache of machine code works with. */
export interface CacheSettings {
  readonly compile: (source: string) => Uint8Array;
  /** All that the code depends on besides the source. */
  readonly key: string;
  /** Where files are kept; undefined: only in memory. */
  readonly folder: string | undefined;
  /** Bytes of files that are kept at most. */
  readonly mostBytes: number;
}

/**
 * Machine code by its source: in memory, and in files, so that a program is compiled once on a machine. A file that is
 * not whole is compiled anew; a folder that cannot be written costs only time.
 */
export class CodeCache {
  readonly #settings: CacheSettings;
  readonly #inMemory = new Map<string, Uint8Array>();

  constructor(settings: CacheSettings) {
    this.#settings = settings;
  }

  get(source: string): Uint8Array {
    const { compile, key, folder } = this.#settings;
    const name = createHash("sha256").update(key).update("\0").update(source).digest("hex");
    let code = this.#inMemory.get(name);
    if (code) return code;
    const path = folder === undefined ? undefined : join(folder, name + suffix);
    code = path === undefined ? undefined : readCode(path);
    if (code === undefined) {
      code = compile(source);
      if (folder !== undefined && path !== undefined) this.#write(folder, path, code);
    }
    this.#inMemory.set(name, code);
    return code;
  }

  #write(folder: string, path: string, code: Uint8Array): void {
    const temporary = `${path}.${process.pid}.${Math.random().toString(36).slice(2, 10)}.tmp`;
    try {
      mkdirSync(folder, { recursive: true });
      writeFileSync(temporary, Buffer.concat([magic, digest(code), code]));
      renameSync(temporary, path);
      prune(folder, this.#settings.mostBytes);
    } catch {
      remove(temporary);
    }
  }
}

/** Removes a file, or leaves it where that cannot be done. */
function remove(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // nothing depends on it
  }
}

function digest(code: Uint8Array): Buffer {
  return createHash("sha256").update(code).digest();
}

/** The code in a file; undefined where there is none, or not all of it. */
function readCode(path: string): Uint8Array | undefined {
  let file: Buffer;
  try {
    file = readFileSync(path);
  } catch {
    return undefined;
  }
  const begin = magic.length + digestBytes;
  const code = file.subarray(begin);
  if (file.length < begin || !file.subarray(0, magic.length).equals(magic)) return undefined;
  if (!file.subarray(magic.length, begin).equals(digest(code))) return undefined;
  try {
    const now = new Date();
    utimesSync(path, now, now); // what was used last is removed last
  } catch {
    // a cache that this user can only read
  }
  return code;
}

/** Removes what was used longest ago until the rest fits. */
function prune(folder: string, mostBytes: number): void {
  const files: { path: string; bytes: number; time: number }[] = [];
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    const file = statSync(path, { throwIfNoEntry: false });
    if (!file) continue;
    if (name.endsWith(suffix)) files.push({ path, bytes: file.size, time: file.mtimeMs });
    else if (name.endsWith(".tmp") && Date.now() - file.mtimeMs > abandonedMilliseconds) remove(path);
  }
  let total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  files.sort((a, b) => a.time - b.time);
  for (const { path, bytes } of files) {
    if (total <= mostBytes) break;
    remove(path);
    total -= bytes;
  }
}

/** FLUXION_CACHE, else the user's folder for caches; undefined where neither is known. */
export function cacheFolder(
  environment: Readonly<Record<string, string | undefined>> = process.env,
): string | undefined {
  if (environment.FLUXION_CACHE) return environment.FLUXION_CACHE;
  const { XDG_CACHE_HOME } = environment;
  if (XDG_CACHE_HOME && isAbsolute(XDG_CACHE_HOME)) return join(XDG_CACHE_HOME, "fluxion");
  try {
    return join(homedir(), ".cache", "fluxion");
  } catch {
    return undefined;
  }
}

let headers: Record<string, string> | undefined;

/** The texts of native/cuda/kernels, which sources include by name. */
export function kernelHeaders(): Readonly<Record<string, string>> {
  if (headers) return headers;
  const folder = fileURLToPath(new URL("../../../native/cuda/kernels/", import.meta.url));
  const names = readdirSync(folder).filter((name) => name.endsWith(".cuh"));
  headers = Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(folder, name), "utf8")]));
  return headers;
}

const caches = new WeakMap<CudaDevice, CodeCache>();

/** The machine code of a source that may include native/cuda/kernels. Throws what `addon.compile` throws. */
export function compiled(addon: CudaAddon, device: CudaDevice, source: string): Uint8Array {
  let cache = caches.get(device);
  if (!cache) {
    const { name, architecture, nvrtc, libraries } = device;
    const files = kernelHeaders();
    cache = new CodeCache({
      compile: (text) => addon.compile(text, files, options),
      key: JSON.stringify([files, options, name, architecture, nvrtc, libraries]),
      folder: cacheFolder(),
      mostBytes: 2 ** 30,
    });
    caches.set(device, cache);
  }
  return cache.get(source);
}
