import type { TypedArray } from "../../tensor/dtype.js";
import type { NativeLoop } from "../native-loop.js";
import type { CudaBody } from "./program.js";

/** What the addon exports (native/cuda/binding.cc). Every fault is an Error with a message for the user. */
export interface CudaAddon {
  /**
   * Opens the driver, NVRTC and cuBLASLt and takes the first device; later calls give the same answer. `folders` are
   * searched before the loader's own path, in order. Throws an Error that says which library was looked for and where,
   * or what the driver answered. cuBLASLt may be missing: then `cublas` says where it was looked for.
   */
  open(folders: readonly string[]): CudaDevice;
  /**
   * Compiles CUDA source with NVRTC to machine code for this device. `headers` are the texts that it can include, by
   * name. Throws an Error with the compiler's log.
   */
  compile(source: string, headers: Readonly<Record<string, string>>, options: readonly string[]): Uint8Array;
  /** Loads what `compile` gave. */
  load(image: Uint8Array): NativeModule;
  /** Checks the program against itself and the module, so that no operation can reach a buffer that is not there. */
  createProgram(module: NativeModule, body: CudaBody): NativeProgram;
  /** A copy of an array in device memory. */
  upload(data: TypedArray): NativeBuffer;
  /** Bytes of device memory: held by buffers and programs, free again but kept for later, and what the device has. */
  memory(): { used: number; cached: number; free: number; total: number };
  /** Gives what is kept for later back to the device. */
  releaseCache(): void;
  /** Lets loops of this thread end with the steps at hand, since the process or the worker exits. */
  stop(): void;
}

export interface CudaDevice {
  readonly name: string;
  /** 90 for compute capability 9.0. */
  readonly architecture: number;
  readonly multiprocessors: number;
  /** Shared memory that a block may have at most, in bytes. */
  readonly sharedBytes: number;
  readonly memoryBytes: number;
  /** Versions such as "13.0". */
  readonly driver: string;
  readonly nvrtc: string;
  readonly cublas: { readonly version: string } | { readonly missing: string };
  /** The files that were opened. */
  readonly libraries: readonly string[];
}

/** Opaque: a module stays loaded while a program has it. */
export type NativeModule = { readonly brand: "module" };

/** Memory on the device; freed by `dispose`, or when it is collected. */
export interface NativeBuffer {
  readonly bytes: number;
  /** Waits for what was started before, and copies into an array of as many bytes. */
  read(target: TypedArray): void;
  /** The same off the main thread. */
  readAsync(target: TypedArray): Promise<void>;
  /** Frees the memory (once what was started with it is done); later uses throw. */
  dispose(): void;
}

export interface NativeProgram {
  /**
   * Starts the program and gives its outputs, which may still be computed; what is started later comes after. A program
   * that checks indices waits for the check. `seconds`, with an element for each step of the plan, makes it wait,
   * and gets the time of each on the device.
   */
  run(inputs: readonly NativeBuffer[], seconds?: Float64Array): NativeBuffer[];
  /** The same off the main thread: resolves when the outputs are there, and rejects where a check fails. */
  runAsync(inputs: readonly NativeBuffer[]): Promise<NativeBuffer[]>;
  /**
   * A loop around the program; see Loop in ../backend.ts. The first `carried` inputs are copied, the others kept. A step
   * is one launch of a CUDA graph; the state stays on the device. `service` is the loaded `loopSource` (load.ts).
   */
  loop(service: NativeModule, inputs: readonly NativeBuffer[], carried: number): NativeLoop;
  /** Device memory that a run takes besides inputs and outputs. */
  workspaceBytes(): number;
}
