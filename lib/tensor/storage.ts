import type { DType, TypedArray } from "./dtype.js";

/** Elements in the memory of a device: dense and row-major, never written once they are there. */
export interface DeviceArray {
  readonly dtype: DType;
  /** Number of elements. */
  readonly length: number;
  /** A copy of the elements; waits for what computes them. Throws when the memory was freed. */
  read(): TypedArray;
  /** The same, while the event loop goes on. */
  readAsync(): Promise<TypedArray>;
  /** Frees the memory now, rather than when the array is collected. Reading throws from then on. */
  dispose(): void;
}

/** What holds the elements of a concrete tensor. */
export type Storage = TypedArray | DeviceArray;

export function isOnDevice(storage: Storage): storage is DeviceArray {
  return "readAsync" in storage;
}

/** The elements in the memory of the host, copied there when they are on a device. */
export function onHost(storage: Storage): TypedArray {
  return isOnDevice(storage) ? storage.read() : storage;
}
