import { TraceError, ValueError } from "../errors.js";
import { allocate, type DType, type TypedArray } from "./dtype.js";
import { type Shape, show, sizeOf } from "./shape.js";
import { isOnDevice, onHost, type Storage } from "./storage.js";

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
  /** What a symbolic tensor stands for. Internal to lib/graph. */
  readonly symbol: object | undefined;
  /** Of a concrete tensor, until it is disposed of. */
  #storage: Storage | undefined;

  private constructor(shape: Shape, dtype: DType, storage: Storage | undefined, symbol: object | undefined) {
    this.shape = shape;
    this.dtype = dtype;
    this.size = sizeOf(shape);
    this.symbol = symbol;
    this.#storage = storage;
  }

  /** Internal: a concrete tensor over elements of the right type and number, without a copy. */
  static fromData(storage: Storage, shape: Shape, dtype: DType): Tensor {
    return new Tensor(shape, dtype, storage, undefined);
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

  /**
   * Frees the elements now, rather than when the tensor is collected: what a tensor of the cuda backend holds on the
   * device. Any later use of its elements throws ValueError, on every backend. Doing it twice does nothing.
   *
   * @throws TraceError when the tensor is symbolic
   */
  dispose(): void {
    if (this.isSymbolic) throw this.#noValues("dispose");
    if (this.#storage !== undefined) disposal?.(this.#storage);
    this.#storage = undefined;
  }

  /** Internal: the elements where they are, not to be written. Throws as the methods do that read them. */
  storage(method: string): Storage {
    if (this.isSymbolic) throw this.#noValues(method);
    if (this.#storage === undefined)
      throw new ValueError(`${method}: the tensor (${this.dtype}${show(this.shape)}) was disposed of`);
    if (this.#storage.length !== this.size)
      throw new ValueError(
        `${method}: the tensor's buffer holds ${this.#storage.length} elements, ${this.size} are needed: it was detached or resized`,
      );
    return this.#storage;
  }

  #noValues(method: string): TraceError {
    return new TraceError(
      `${method}: the tensor is symbolic (${this.dtype}${show(this.shape)}): inside a traced function there are no ` +
        "values yet, so one cannot read or branch on them; use where(), or move this outside of jit, grad or jvp",
    );
  }

  /** Internal: the elements, for reading; of a tensor on the host its own. */
  elements(method: string): TypedArray {
    return onHost(this.storage(method));
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
    const storage = this.storage("toTypedArray");
    return isOnDevice(storage) ? storage.read() : storage.slice();
  }

  /** The same as toTypedArray, as a promise: the event loop goes on while a device computes the elements. */
  async read(): Promise<TypedArray> {
    const storage = this.storage("read");
    return isOnDevice(storage) ? storage.readAsync() : storage.slice();
  }

  /** Symbolic tensors must not be turned into numbers by accident (`if (x > 0)`, `x + 1`). */
  valueOf(): number {
    throw new TraceError(
      "a Tensor is not a number: use item() for its value, and add(), greater() and so on to compute with it",
    );
  }

  toString(): string {
    const kind = `${this.dtype}${show(this.shape)}`;
    if (this.isSymbolic) return `Tensor(symbolic ${kind})`;
    if (this.#storage === undefined) return `Tensor(${kind}, disposed)`;
    if (this.#storage.length !== this.size) return `Tensor(${kind}, detached)`;
    const text = (value: NestedArray): string =>
      Array.isArray(value) ? `[${value.map(text).join(",")}]` : String(value);
    const few = this.size <= 64 ? text(this.toArray()) : `${this.size} elements`;
    return `Tensor(${kind}, ${few})`;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

/** What a backend does to free a storage before it is collected. */
let disposal: ((storage: Storage) => void) | undefined;

/** Internal: a backend with memory of its own says here how it frees what it has of a storage. */
export function setDisposal(dispose: (storage: Storage) => void): void {
  disposal = dispose;
}

/** A concrete tensor filled with one value. */
export function filled(shape: Shape, value: number, dtype: DType): Tensor {
  const data = allocate(dtype, sizeOf(shape));
  if (!Object.is(value, 0)) data.fill(value);
  return Tensor.fromData(data, shape, dtype);
}
