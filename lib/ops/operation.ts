import { DTypeError, ValueError } from "../errors.js";
import { evaluate, isTracing } from "../graph/trace.js";
import { type DType, isFloat, representable } from "../tensor/dtype.js";
import { broadcastShapes } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import { flatten, unflatten } from "../tensor/tree.js";
import * as raw from "./raw.js";

/** What operations take: a tensor, or a number, which takes the dtype of the tensors that it meets. */
export type TensorLike = Tensor | number | boolean;

/**
 * Makes an operation out of a function that records primitives: inside a trace it records them; on concrete
 * tensors it is traced, compiled (once for each combination of shapes) and run as one fused program.
 */
// biome-ignore lint/suspicious/noExplicitAny: the signature of f is kept whole.
export function operation<F extends (...args: any[]) => Tensor>(f: F): F {
  const wrapped = (...args: Parameters<F>): Tensor => {
    if (isTracing()) return f(...args);
    const { leaves, structure } = flatten(args);
    return evaluate(leaves, (symbols) => [f(...(unflatten(structure, symbols) as Parameters<F>))])[0]!;
  };
  return wrapped as F;
}

export function checkTensor(where: string, x: unknown): Tensor {
  if (x instanceof Tensor) return x;
  const given = x === null ? "null" : Array.isArray(x) ? "an array" : typeof x;
  throw new ValueError(`${where}: expected a Tensor, got ${given}; make one with tensor(...)`);
}

/** The operand as a tensor of this dtype: a number becomes a scalar, if the dtype has it. */
function asTensor(where: string, x: TensorLike, dtype: DType): Tensor {
  if (x instanceof Tensor) return x;
  if (typeof x !== "number" && typeof x !== "boolean") return checkTensor(where, x);
  const value = Number(x);
  if (!representable(dtype, value))
    throw new DTypeError(
      `${where}: ${value} is not a value of ${dtype}; cast the tensor to a float dtype first`,
    );
  return raw.constant(value, [], dtype);
}

/** The dtype that all the tensors have; float32 when there are only numbers. */
function commonDType(where: string, operands: readonly TensorLike[]): DType {
  let dtype: DType | undefined;
  for (const x of operands) {
    if (!(x instanceof Tensor)) continue;
    if (dtype !== undefined && x.dtype !== dtype)
      throw new DTypeError(
        `${where}: dtypes differ: ${dtype} and ${x.dtype}; use cast(x, dtype) on one of them`,
      );
    dtype = x.dtype;
  }
  return dtype ?? (operands.every((x) => typeof x === "boolean") ? "bool" : "float32");
}

/** The operands with one dtype and, by broadcasting, one shape. */
export function aligned(where: string, operands: readonly TensorLike[]): Tensor[] {
  const dtype = commonDType(where, operands);
  const tensors = operands.map((x) => asTensor(where, x, dtype));
  const shape = broadcastShapes(where, ...tensors.map((x) => x.shape));
  return tensors.map((x) => raw.broadcastTo(x, shape));
}

/** A single operand as a tensor (a number: float32). */
export function single(where: string, x: TensorLike): Tensor {
  return asTensor(where, x, commonDType(where, [x]));
}

export function needFloat(where: string, x: Tensor): Tensor {
  if (!isFloat(x.dtype))
    throw new DTypeError(`${where}: needs float32 or float64, got ${x.dtype}; use cast(x, dtype)`);
  return x;
}

export function needNumber(where: string, x: Tensor): Tensor {
  if (x.dtype === "bool") throw new DTypeError(`${where}: needs numbers, got bool; use cast(x, dtype)`);
  return x;
}

export function needBool(where: string, x: Tensor): Tensor {
  if (x.dtype !== "bool")
    throw new DTypeError(`${where}: needs bool, got ${x.dtype}; compare first, as in greater(x, 0)`);
  return x;
}

export function needInteger(where: string, x: Tensor): Tensor {
  if (x.dtype !== "int32" && x.dtype !== "uint32")
    throw new DTypeError(`${where}: needs int32 or uint32, got ${x.dtype}; use cast(x, "int32")`);
  return x;
}
