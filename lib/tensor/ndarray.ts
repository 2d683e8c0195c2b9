import ndarray, { type NdArray } from "ndarray";
import { DTypeError, ShapeError } from "../errors.js";
import { allocate, type DType, dtypeOf, representable, type TypedArray } from "./dtype.js";
import { checkShape, rowMajor, show, sizeOf } from "./shape.js";
import { Tensor } from "./tensor.js";

export function isNdArray(value: unknown): value is NdArray<TypedArray> {
  return (
    typeof value === "object" &&
    value !== null &&
    "stride" in value &&
    "offset" in value &&
    "data" in value &&
    "shape" in value
  );
}

/** The elements of an ndarray as a tensor: shared where they are dense and row-major and of this dtype, else copied. */
export function fromNdArray(array: NdArray<TypedArray>, wanted?: DType): Tensor {
  const { data, shape, stride, offset } = array;
  const own = dtypeOf(data);
  const dtype = wanted ?? own ?? "float32";
  const size = sizeOf(checkShape("tensor", [...shape]));
  checkReach(array, size);
  const dense = rowMajor(shape).every((s, axis) => shape[axis] === 1 || s === stride[axis]);
  if (own === dtype && dense && dtype !== "bool")
    return Tensor.fromData(data.subarray(offset, offset + size) as TypedArray, [...shape], dtype);
  const copy = allocate(dtype, size);
  const index = shape.map(() => 0);
  let position = offset;
  for (let i = 0; i < size; i++) {
    const value = data[position] as number;
    if (!representable(dtype, value))
      throw new DTypeError(`tensor: element ${i} is ${value}, which is not a value of ${dtype}`);
    copy[i] = value;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      position += stride[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      position -= shape[axis]! * stride[axis]!;
      index[axis] = 0;
    }
  }
  return Tensor.fromData(copy, [...shape], dtype);
}

/** Checks that every element that shape, stride and offset name lies in the data. */
function checkReach({ data, shape, stride, offset }: NdArray<TypedArray>, size: number): void {
  if (size === 0) return;
  let first = offset;
  let last = offset;
  shape.forEach((n, axis) => {
    const reach = (n - 1) * stride[axis]!;
    if (reach < 0) first += reach;
    else last += reach;
  });
  if (!(first >= 0 && last < data.length))
    throw new ShapeError(
      `tensor: an ndarray of shape ${show(shape)}, stride ${show(stride)} and offset ${offset} needs elements ` +
        `${first} to ${last}, its data has ${data.length}`,
    );
}

/** An ndarray over the tensor's own elements (of a tensor on a device: a copy), for reading, since tensors are immutable. */
export function toNdArray(x: Tensor): NdArray<TypedArray> {
  return ndarray(x.elements("toNdarray"), [...x.shape]);
}
