import type { NdArray } from "ndarray";
import { DTypeError, ShapeError, ValueError } from "../errors.js";
import { isTracing } from "../graph/trace.js";
import {
  allocate,
  checkDType,
  type DType,
  dtypeOf,
  representable,
  type TypedArray,
} from "../tensor/dtype.js";
import { fromNdArray, isNdArray } from "../tensor/ndarray.js";
import { checkShape, type Shape, sameShape, show, sizeOf } from "../tensor/shape.js";
import { filled, type NestedArray, Tensor } from "../tensor/tensor.js";
import { operation } from "./operation.js";
import * as raw from "./raw.js";

export interface TensorOptions {
  /** Default: the shape of nested arrays or of the ndarray; one axis for a typed array. */
  readonly shape?: Shape;
  /** Default: the dtype of a typed array or ndarray, bool for booleans, else float32. */
  readonly dtype?: DType;
}

/** What `tensor` takes. */
export type TensorData = NestedArray | readonly NestedArray[] | TypedArray | NdArray<TypedArray>;

/**
 * A concrete tensor from a number, nested arrays, a typed array (copied), or an ndarray (shared, not copied, when
 * it is dense and row-major and of the wanted dtype: do not write to it then).
 * Throws ShapeError for ragged arrays or a wrong count, DTypeError for values that the dtype does not have.
 */
export function tensor(data: TensorData, options: TensorOptions = {}): Tensor {
  const dtype = options.dtype === undefined ? undefined : checkDType("tensor", options.dtype);
  if (isNdArray(data)) return shaped(fromNdArray(data, dtype), options.shape);
  if (ArrayBuffer.isView(data)) {
    const array = data as TypedArray;
    const own = dtypeOf(array);
    if (own === undefined)
      throw new DTypeError(
        `tensor: ${data.constructor.name} is not one of Float32Array, Float64Array, Int32Array, Uint32Array, Uint8Array (bool)`,
      );
    return make(array, options.shape ?? [array.length], dtype ?? own);
  }
  const { values, shape, boolean } = flattened(data as NestedArray);
  return make(values, options.shape ?? shape, dtype ?? (boolean ? "bool" : "float32"));
}

function shaped(x: Tensor, shape: Shape | undefined): Tensor {
  if (shape === undefined || sameShape(shape, x.shape)) return x;
  return make(x.toTypedArray(), shape, x.dtype);
}

function make(values: ArrayLike<number>, shape: Shape, dtype: DType): Tensor {
  const checked = checkShape("tensor", shape);
  if (sizeOf(checked) !== values.length)
    throw new ShapeError(
      `tensor: shape ${show(checked)} needs ${sizeOf(checked)} elements, got ${values.length}`,
    );
  const array = allocate(dtype, values.length);
  if (dtypeOf(values) !== dtype && dtype !== "float32" && dtype !== "float64") {
    for (let i = 0; i < values.length; i++)
      if (!representable(dtype, values[i]!))
        throw new DTypeError(`tensor: element ${i} is ${values[i]}, which is not a value of ${dtype}`);
  }
  array.set(values);
  if (dtype === "bool") for (let i = 0; i < array.length; i++) array[i] = array[i] ? 1 : 0;
  return Tensor.fromData(array, checked, dtype);
}

/** The numbers in nested arrays, and the shape that they must have throughout. */
function flattened(data: NestedArray): { values: number[]; shape: number[]; boolean: boolean } {
  const shape: number[] = [];
  for (let level: unknown = data; Array.isArray(level); level = level[0]) {
    if (shape.length >= 64) throw new ShapeError("tensor: nested more than 64 levels deep");
    shape.push(level.length);
  }
  const values: number[] = [];
  let booleans = 0;
  const visit = (value: unknown, axis: number): void => {
    if (axis < shape.length) {
      if (!Array.isArray(value) || value.length !== shape[axis])
        throw new ShapeError(
          `tensor: ragged arrays: axis ${axis} has size ${shape[axis]} at first, then ${Array.isArray(value) ? value.length : typeof value}`,
        );
      for (const child of value) visit(child, axis + 1);
    } else if (typeof value === "number" || typeof value === "boolean") {
      if (typeof value === "boolean") booleans++;
      values.push(Number(value));
    } else if (Array.isArray(value)) {
      throw new ShapeError(`tensor: ragged arrays: an array stands among the numbers of axis ${axis - 1}`);
    } else {
      throw new ValueError(
        `tensor: expected numbers or booleans, got ${value === null ? "null" : typeof value}`,
      );
    }
  };
  visit(data, 0);
  return { values, shape, boolean: values.length > 0 && booleans === values.length };
}

export interface DTypeOption {
  readonly dtype?: DType;
}

function constant(where: string, shape: Shape, value: number, dtype: DType): Tensor {
  const checked = checkShape(where, shape);
  checkDType(where, dtype);
  if (typeof value !== "number" || !representable(dtype, value))
    throw new DTypeError(`${where}: ${value} is not a value of ${dtype}`);
  return isTracing() ? raw.constant(value, checked, dtype) : filled(checked, value, dtype);
}

/** All zeros; default float32. */
export function zeros(shape: Shape, options: DTypeOption = {}): Tensor {
  return constant("zeros", shape, 0, options.dtype ?? "float32");
}

/** All ones; default float32. */
export function ones(shape: Shape, options: DTypeOption = {}): Tensor {
  return constant("ones", shape, 1, options.dtype ?? "float32");
}

/** One value everywhere; default float32. */
export function full(shape: Shape, value: number, options: DTypeOption = {}): Tensor {
  return constant("full", shape, value, options.dtype ?? "float32");
}

/** Ones where row and column are equal, else zeros: [rows, columns = rows]; default float32. */
export const eye = operation((rows: number, columns: number = rows, options: DTypeOption = {}): Tensor => {
  const shape = checkShape("eye", [rows, columns]);
  const diagonal = raw.equal(raw.iota(shape, 0, "int32"), raw.iota(shape, 1, "int32"));
  return raw.cast(diagonal, checkDType("eye", options.dtype ?? "float32"));
});

/**
 * start, start + step, ... up to and without stop; arange(n) counts 0 .. n - 1.
 * The dtype is int32 when all three are whole numbers, else float32.
 */
export const arange = operation(
  (start: number, stop?: number, step = 1, options: DTypeOption = {}): Tensor => {
    const [from, to] = stop === undefined ? [0, start] : [start, stop];
    if (![from, to, step].every(Number.isFinite) || step === 0)
      throw new ValueError(
        `arange: needs finite numbers and a step other than 0, got ${from}, ${to}, ${step}`,
      );
    const whole = [from, to, step].every(Number.isInteger);
    const dtype = checkDType("arange", options.dtype ?? (whole ? "int32" : "float32"));
    const shape = checkShape("arange", [Math.max(0, Math.ceil((to - from) / step))]);
    if (!representable(dtype, from) || !representable(dtype, step))
      throw new DTypeError(`arange: start ${from} or step ${step} is not a value of ${dtype}`);
    const index = raw.iota(shape, 0, dtype);
    return raw.add(raw.mul(index, raw.constantLike(index, step)), raw.constantLike(index, from));
  },
);

/** `count` evenly spaced numbers from start to stop, both included; default float32. */
export const linspace = operation(
  (start: number, stop: number, count: number, options: DTypeOption = {}): Tensor => {
    const dtype = checkDType("linspace", options.dtype ?? "float32");
    if (dtype !== "float32" && dtype !== "float64")
      throw new DTypeError(`linspace: needs float32 or float64, got ${dtype}`);
    if (!Number.isFinite(start) || !Number.isFinite(stop))
      throw new ValueError(`linspace: needs finite ends, got ${start} and ${stop}`);
    const shape = checkShape("linspace", [count]);
    const index = raw.iota(shape, 0, dtype);
    const s = raw.div(index, raw.constantLike(index, Math.max(1, count - 1)));
    // (1 - s) start + s stop meets both ends exactly.
    const rest = raw.sub(raw.constantLike(s, 1), s);
    return raw.add(raw.mul(rest, raw.constantLike(s, start)), raw.mul(s, raw.constantLike(s, stop)));
  },
);
