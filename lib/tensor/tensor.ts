import { TraceError, ValueError } from "../errors.js";
import { allocate, type DType, type TypedArray } from "./dtype.js";
import { type Shape, show, sizeOf } from "./shape.js";

/** Numbers in nested arrays, as `toArray` gives them. */
export type NestedArray = number | boolean | NestedArray[];

/**
 * An n-dimensional array. A concrete tensor holds its elements, dense and row-major; a symbolic one stands for
 * a value of a function that is being traced, and has only a shape and a dtype. Tensors are immutable.
 *
 * Every operation of the library that takes a tensor first is a method too: `x.add(y)` is `add(x, y)`.
 */
export class Tensor {
  readonly shape: Shape;
  readonly dtype: DType;
  /** Number of elements. */
  readonly size: number;
  /** The elements of a concrete tensor. Internal: shared, not to be written. */
  readonly data: TypedArray | undefined;
  /** What a symbolic tensor stands for. Internal to lib/graph. */
  readonly symbol: object | undefined;

  private constructor(shape: Shape, dtype: DType, data: TypedArray | undefined, symbol: object | undefined) {
    this.shape = shape;
    this.dtype = dtype;
    this.size = sizeOf(shape);
    this.data = data;
    this.symbol = symbol;
  }

  /** Internal: a concrete tensor over an array of the right type and length, without a copy. */
  static fromData(data: TypedArray, shape: Shape, dtype: DType): Tensor {
    return new Tensor(shape, dtype, data, undefined);
  }

  /** Internal: a symbolic tensor. */
  static fromSymbol(symbol: object, shape: Shape, dtype: DType): Tensor {
    return new Tensor(shape, dtype, undefined, symbol);
  }

  /** Number of axes. */
  get rank(): number {
    return this.shape.length;
  }

  /** Whether the tensor stands for a value of a function that is being traced. */
  get isSymbolic(): boolean {
    return this.symbol !== undefined;
  }

  /** The elements, for reading; throws on a symbolic tensor or when the buffer was detached. */
  private elements(method: string): TypedArray {
    if (this.data === undefined)
      throw new TraceError(
        `${method}: the tensor is symbolic (${this.dtype}${show(this.shape)}): inside a traced function there are no ` +
          "values yet, so one cannot read or branch on them; use where(), or move this outside of jit, grad or jvp",
      );
    if (this.data.length !== this.size)
      throw new ValueError(
        `${method}: the tensor's buffer holds ${this.data.length} elements, ${this.size} are needed: it was detached or resized`,
      );
    return this.data;
  }

  /** The only element, as a number (bool: 0 or 1). Throws unless the size is 1. */
  item(): number {
    const data = this.elements("item");
    if (this.size !== 1)
      throw new ValueError(`item: needs a tensor of one element, got shape ${show(this.shape)}`);
    return data[0]!;
  }

  /** The elements as nested arrays of numbers (booleans for bool). */
  toArray(): NestedArray {
    const data = this.elements("toArray");
    let i = 0;
    const nest = (axis: number): NestedArray => {
      if (axis === this.rank) {
        const value = data[i++]!;
        return this.dtype === "bool" ? value !== 0 : value;
      }
      return Array.from({ length: this.shape[axis]! }, () => nest(axis + 1));
    };
    return nest(0);
  }

  /** A copy of the elements in row-major order (bool: a Uint8Array of 0 and 1). */
  toTypedArray(): TypedArray {
    return this.elements("toTypedArray").slice();
  }

  /** The same as toTypedArray, as a promise: the form that also serves tensors on a device. */
  async read(): Promise<TypedArray> {
    return this.toTypedArray();
  }

  /** Symbolic tensors must not be turned into numbers by accident (`if (x > 0)`, `x + 1`). */
  valueOf(): number {
    throw new TraceError(
      "a Tensor is not a number: use item() for its value, and add(), greater() and so on to compute with it",
    );
  }

  toString(): string {
    if (this.data === undefined) return `Tensor(symbolic ${this.dtype}${show(this.shape)})`;
    if (this.data.length !== this.size) return `Tensor(${this.dtype}${show(this.shape)}, detached)`;
    const text = (value: NestedArray): string =>
      Array.isArray(value) ? `[${value.map(text).join(",")}]` : String(value);
    const few = this.size <= 64 ? text(this.toArray()) : `${this.size} elements`;
    return `Tensor(${this.dtype}${show(this.shape)}, ${few})`;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

/** A concrete tensor filled with one value. */
export function filled(shape: Shape, value: number, dtype: DType): Tensor {
  const data = allocate(dtype, sizeOf(shape));
  if (!Object.is(value, 0)) data.fill(value);
  return Tensor.fromData(data, shape, dtype);
}
