import { BackendError, DTypeError } from "../errors.js";

/** The element types of tensors. `bool` is stored as one byte, 0 or 1. */
export type DType = "float32" | "float64" | "int32" | "uint32" | "bool";

export const dtypes: readonly DType[] = ["float32", "float64", "int32", "uint32", "bool"];

/** The typed arrays that hold tensors: one for each dtype, in the order of `dtypes`. */
export type TypedArray = Float32Array | Float64Array | Int32Array | Uint32Array | Uint8Array;

/** The typed array of each dtype. */
export const arrayTypes = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  uint32: Uint32Array,
  bool: Uint8Array,
} as const;

/** Bytes of one element. */
export function byteSize(dtype: DType): number {
  return arrayTypes[dtype].BYTES_PER_ELEMENT;
}

/** A new zeroed typed array; an allocation that fails is an error that names the size. */
export function allocate(dtype: DType, size: number): TypedArray {
  try {
    return new arrayTypes[dtype](size);
  } catch {
    throw new BackendError(`cannot allocate ${size} elements of ${dtype} (${size * byteSize(dtype)} bytes)`);
  }
}

/** The dtype whose storage is this kind of typed array; Uint8Array stands for bool. */
export function dtypeOf(array: ArrayLike<number>): DType | undefined {
  return dtypes.find((dtype) => array instanceof arrayTypes[dtype]);
}

export function isFloat(dtype: DType): boolean {
  return dtype === "float32" || dtype === "float64";
}

export function isDType(name: unknown): name is DType {
  return typeof name === "string" && (dtypes as readonly string[]).includes(name);
}

export function checkDType(where: string, name: unknown): DType {
  if (isDType(name)) return name;
  throw new DTypeError(`${where}: unknown dtype ${JSON.stringify(name)}; use one of ${dtypes.join(", ")}`);
}

/** Whether the number is a value of the dtype (floats take every number). */
export function representable(dtype: DType, value: number): boolean {
  if (dtype === "int32") return value === (value | 0);
  if (dtype === "uint32") return value === value >>> 0;
  if (dtype === "bool") return value === 0 || value === 1;
  return true;
}
