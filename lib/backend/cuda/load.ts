import { BackendError } from "../../errors.js";
import { loadAddon, translated } from "../native.js";
import type { CudaAddon, CudaDevice, NativeModule } from "./addon.js";
import { compiled } from "./cache.js";
import { libraryFolders } from "./libraries.js";

/** The addon with its open device. */
export interface Cuda {
  readonly addon: CudaAddon;
  readonly device: CudaDevice;
}

let opened: Cuda | undefined;
let service: NativeModule | undefined;

/** The first CUDA device, opened at its first use. Throws BackendError with the reason why there is none. */
export function openCuda(): Cuda {
  if (opened) return opened;
  if (process.platform !== "linux") throw new BackendError("the cuda backend runs on Linux so far");
  const addon = loadAddon<CudaAddon>("cuda");
  const device = translated(() => addon.open(libraryFolders()));
  opened = { addon, device };
  return opened;
}

/** The kernels that the addon itself launches at the end of a loop's step. */
export const loopSource = '#include "commit.cuh"\n';

/** `loopSource`, loaded on the device. */
export function loopModule(): NativeModule {
  const { addon, device } = openCuda();
  service ??= translated(() => addon.load(compiled(addon, device, loopSource)));
  return service;
}
