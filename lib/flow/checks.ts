import { DTypeError, ShapeError, ValueError } from "../errors.js";
import { type Dim, type FieldKind, sampleShape } from "../models/field.js";
import { checkNumber, describe, type NumberLimits } from "../options.js";
import { isFloat } from "../tensor/dtype.js";
import { type Shape, sameShape, show } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import type { IntervalPoints, VelocityPoints } from "./objective.js";

/**
 * Checks of what users hand to objectives and samplers. Shapes and dtypes are checked always, values only where
 * there are any: on concrete tensors, before a program is compiled, and not in the steps that it then runs.
 */

/** Throws ValueError unless the field is of one of the kinds. */
export function checkField(where: string, field: unknown, kinds: readonly FieldKind[]): void {
  const { kind, apply } = (field ?? {}) as { kind?: unknown; apply?: unknown };
  if (!kinds.includes(kind as FieldKind))
    throw new ValueError(
      `${where}: needs a field of kind ${kinds.map((k) => JSON.stringify(k)).join(" or ")}, got ${
        kind === undefined ? describe(field) : `one of kind ${describe(kind)}`
      }`,
    );
  if (typeof apply !== "function")
    throw new ValueError(`${where}: the field has no function apply(params, z, ...)`);
}

/** Throws unless x is a float tensor. */
export function checkFloatTensor(where: string, name: string, x: unknown): asserts x is Tensor {
  if (!(x instanceof Tensor)) throw new ValueError(`${where}: ${name} must be a Tensor, got ${describe(x)}`);
  if (!isFloat(x.dtype)) throw new DTypeError(`${where}: ${name} must be float32 or float64, got ${x.dtype}`);
}

/** Throws unless x is a batch of at least one sample, of the field's size where that is known. */
export function checkBatch(where: string, name: string, x: Tensor, dim: Dim | undefined): void {
  if (x.rank < 2) throw new ShapeError(`${where}: ${name} must be [batch, ...dim], got ${show(x.shape)}`);
  if (x.size === 0) throw new ShapeError(`${where}: ${name} is an empty batch, shape ${show(x.shape)}`);
  if (dim !== undefined && !sameShape(sampleShape(dim), x.shape.slice(1)))
    throw new ShapeError(
      `${where}: the field takes samples of shape ${show(sampleShape(dim))}, ${name} has ${show(x.shape.slice(1))}`,
    );
}

/** Throws ValueError at the first element of a concrete tensor that is not finite. */
export function checkFinite(where: string, name: string, x: Tensor): void {
  if (x.isSymbolic) return;
  const values = x.toTypedArray();
  const at = values.findIndex((v: number) => !Number.isFinite(v));
  if (at === -1) return;
  const row = x.rank === 0 ? "" : ` in row ${Math.floor(at / (x.size / x.shape[0]!))}`;
  throw new ValueError(`${where}: ${name} must be finite, got ${values[at]}${row}`);
}

/** Throws unless the condition, if any, is a tensor, or several by name, with one row for each sample. */
export function checkCondition(where: string, condition: unknown, n: number): void {
  if (condition === undefined) return;
  const parts =
    condition instanceof Tensor || typeof condition !== "object"
      ? [condition]
      : Object.values(condition ?? {});
  if (parts.length === 0 || !parts.every((part) => part instanceof Tensor))
    throw new ValueError(
      `${where}: condition must be a Tensor, or an object of Tensors, got ${describe(condition)}`,
    );
  for (const { shape } of parts)
    if (shape[0] !== n)
      throw new ShapeError(
        `${where}: condition must be [${n}, ...], a row for each sample, got ${show(shape)}`,
      );
}

/** Throws unless the time is a column in [0, 1] beside the rows of `like`, which is called so in messages. */
export function checkTime(where: string, name: string, time: Tensor, like: Tensor, likeName: string): void {
  const n = like.shape[0]!;
  checkFloatTensor(where, name, time);
  if (!sameShape(time.shape, [n, 1]))
    throw new ShapeError(
      `${where}: ${name} must be ${show([n, 1])}, as ${likeName} has ${n} rows, got ${show(time.shape)}`,
    );
  checkSameDType(where, name, time, like, likeName);
  if (time.isSymbolic) return;
  const values = time.toTypedArray();
  const row = values.findIndex((v: number) => !(v >= 0 && v <= 1));
  if (row !== -1)
    throw new ValueError(`${where}: ${name} must lie in [0, 1], got ${values[row]} in row ${row}`);
}

/** Throws ValueError at the first row of a concrete interval that ends before it begins. */
export function checkOrder(where: string, r: Tensor, t: Tensor): void {
  if (r.isSymbolic || t.isSymbolic) return;
  const end = t.toTypedArray();
  const row = r.toTypedArray().findIndex((start: number, i: number) => start > end[i]!);
  if (row !== -1)
    throw new ValueError(
      `${where}: r must not be above t, got r = ${r.toTypedArray()[row]} and t = ${end[row]} in row ${row}`,
    );
}

/** Throws unless x is a scalar of the data's dtype, within the limits. */
export function checkScalar(
  where: string,
  name: string,
  x: unknown,
  data: Tensor,
  limits: NumberLimits,
): void {
  checkFloatTensor(where, name, x);
  if (x.rank !== 0) throw new ShapeError(`${where}: ${name} must be a scalar, got ${show(x.shape)}`);
  checkSameDType(where, name, x, data, "data");
  if (!x.isSymbolic) checkNumber(where, name, x.item(), limits);
}

function checkSameDType(where: string, name: string, x: Tensor, like: Tensor, likeName: string): void {
  if (x.dtype !== like.dtype)
    throw new DTypeError(
      `${where}: ${name} is ${x.dtype}, but ${likeName} is ${like.dtype}; use cast(x, dtype) on one of them`,
    );
}

/** Throws unless x is like z in shape and dtype. */
export function checkLike(where: string, name: string, x: Tensor, z: Tensor, zName: string): void {
  checkFloatTensor(where, name, x);
  if (!sameShape(x.shape, z.shape))
    throw new ShapeError(
      `${where}: ${zName} is ${show(z.shape)}, but ${name} is ${show(x.shape)}; they must be alike`,
    );
  checkSameDType(where, name, x, z, zName);
}

/** Checks data, noise, t and condition. */
export function checkVelocityPoints(where: string, points: VelocityPoints, dim: Dim | undefined): void {
  if (typeof points !== "object" || points === null)
    throw new ValueError(`${where}: points must be { data, noise, t, ... }, got ${describe(points)}`);
  const { data, noise, t, velocity, condition } = points;
  checkFloatTensor(where, "data", data);
  checkBatch(where, "data", data, dim);
  checkLike(where, "noise", noise, data, "data");
  checkFinite(where, "data", data);
  checkFinite(where, "noise", noise);
  checkTime(where, "t", t, data, "data");
  if (velocity !== undefined) checkLike(where, "velocity", velocity, data, "data");
  checkCondition(where, condition, data.shape[0]!);
}

/** Checks data, noise, r, t, condition and equalCount. */
export function checkIntervalPoints(where: string, points: IntervalPoints, dim: Dim | undefined): void {
  checkVelocityPoints(where, points, dim);
  const { data, r, t, equalCount = 0 } = points;
  const n = data.shape[0]!;
  checkTime(where, "r", r, data, "data");
  checkOrder(where, r, t);
  if (!Number.isInteger(equalCount) || equalCount < 0 || equalCount > n)
    throw new ValueError(
      `${where}: equalCount must be a whole number from 0 to ${n}, got ${describe(equalCount)}`,
    );
  if (r.isSymbolic || t.isSymbolic) return;
  const [start, end] = [r.toTypedArray(), t.toTypedArray()];
  for (let i = 0; i < equalCount; i++)
    if (start[i] !== end[i])
      throw new ValueError(
        `${where}: equalCount is ${equalCount}, but r = ${start[i]} and t = ${end[i]} differ in row ${i}`,
      );
}

/** The field's output, which must be like z: a broadcast would silently give a wrong loss. */
export function checkOutput(
  where: string,
  output: unknown,
  z: { readonly shape: Shape; readonly dtype: string },
): Tensor {
  if (!(output instanceof Tensor))
    throw new ValueError(`${where}: the field must give a Tensor, got ${describe(output)}`);
  if (!sameShape(output.shape, z.shape))
    throw new ShapeError(
      `${where}: the field must give the shape of z, ${show(z.shape)}, got ${show(output.shape)}`,
    );
  if (output.dtype !== z.dtype)
    throw new DTypeError(`${where}: the field gives ${output.dtype} for z of ${z.dtype}`);
  return output;
}
