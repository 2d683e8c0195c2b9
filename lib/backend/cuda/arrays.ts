import { BackendError } from "../../errors.js";
import { allocate, type DType, dtypeOf, type TypedArray } from "../../tensor/dtype.js";
import { type DeviceArray, isOnDevice, type Storage } from "../../tensor/storage.js";
import { setDisposal } from "../../tensor/tensor.js";
import { translated, translatedAsync } from "../native.js";
import type { CudaAddon, NativeBuffer } from "./addon.js";

/** An array in the memory of the CUDA device. */
export class CudaArray implements DeviceArray {
  readonly dtype: DType;
  readonly length: number;
  /** Internal to this folder. */
  readonly native: NativeBuffer;

  constructor(native: NativeBuffer, dtype: DType, length: number) {
    this.native = native;
    this.dtype = dtype;
    this.length = length;
  }

  read(): TypedArray {
    const target = allocate(this.dtype, this.length);
    translated(() => this.native.read(target));
    return target;
  }

  async readAsync(): Promise<TypedArray> {
    const target = allocate(this.dtype, this.length);
    await translatedAsync(() => this.native.readAsync(target));
    return target;
  }

  dispose(): void {
    this.native.dispose();
  }
}

/**
 * Copies of arrays of the host, each as long as its array lives: tensors are immutable, so that an array which many
 * programs read, or many runs of one, is copied once.
 */
const copies = new WeakMap<TypedArray, CudaArray>();

setDisposal((storage) => {
  if (isOnDevice(storage)) return storage.dispose();
  copies.get(storage)?.dispose();
  copies.delete(storage);
});

/** The memory of an input on the device; an array of the host, or of another device, is copied there. */
export function place(
  addon: CudaAddon,
  input: Storage,
  number: number,
  dtype: DType,
  size: number,
): NativeBuffer {
  const kind = isOnDevice(input) ? input.dtype : dtypeOf(input);
  if (kind !== dtype || input.length !== size)
    throw new BackendError(
      `input ${number}: expected ${dtype} array of ${size} elements, got ` +
        (kind === undefined ? "something that is not a typed array" : `${kind} array of ${input.length}`) +
        (input.length === 0 ? " (detached?)" : ""),
    );
  if (input instanceof CudaArray) return input.native;
  if (isOnDevice(input)) return upload(addon, input.read()).native;
  let copy = copies.get(input);
  if (copy === undefined) {
    copy = upload(addon, input);
    copies.set(input, copy);
  }
  return copy.native;
}

function upload(addon: CudaAddon, array: TypedArray): CudaArray {
  const native = translated(() => addon.upload(array));
  return new CudaArray(native, dtypeOf(array)!, array.length);
}
