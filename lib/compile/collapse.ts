import { sizeOf } from "../tensor/shape.js";
import type { Expression, Instruction } from "./plan.js";

/** An index space and an expression over it. All views have a stride for each axis. */
export interface Domain {
  readonly shape: readonly number[];
  readonly expression: Expression;
  /** Of a reduction: the first reduced axis. */
  readonly firstReduced: number;
}

/**
 * The same computation over fewer axes, in the same row-major order: axes of size 1 go, and neighbours merge where
 * every view steps through them as through one axis (stride of the outer = stride of the inner * its size). Kept
 * and reduced axes do not merge.
 */
export function collapse(domain: Domain): Domain {
  const { shape, firstReduced } = domain;
  const walks = stridesOf(domain.expression);
  // Each axis of the result is a range of axes of the domain; its stride is that of the last one.
  const axes: { size: number; last: number }[] = [];
  let kept = 0;
  for (let axis = 0; axis < shape.length; axis++) {
    const size = shape[axis]!;
    if (axis === firstReduced) kept = axes.length;
    if (size === 1) continue;
    const outer = axes.at(-1);
    const border = axis >= firstReduced && axes.length === kept;
    if (outer && !border && walks.every((s) => mergeable(s, outer.last, axis, size))) {
      outer.size *= size;
      outer.last = axis;
    } else axes.push({ size, last: axis });
  }
  if (firstReduced >= shape.length) kept = axes.length;
  const pick = (strides: readonly number[]) => axes.map(({ last }) => strides[last]!);
  return {
    shape: axes.map(({ size }) => size),
    expression: mapStrides(domain.expression, pick),
    firstReduced: kept,
  };
}

function mergeable(strides: readonly number[], outer: number, inner: number, size: number): boolean {
  const stride = strides[inner]!;
  // Fractions would round in another way.
  return Number.isInteger(stride) && strides[outer]! === stride * size;
}

function stridesOf(expression: Expression): (readonly number[])[] {
  const strides = expression.outputs.map(({ view }) => view.strides);
  for (const instruction of expression.instructions) {
    if (instruction.op === "load") strides.push(instruction.view.strides);
    if (instruction.op === "index") strides.push(instruction.strides);
  }
  return strides;
}

/** The expression with all strides replaced. */
export function mapStrides(
  expression: Expression,
  change: (strides: readonly number[]) => readonly number[],
): Expression {
  const instructions = expression.instructions.map((instruction): Instruction => {
    if (instruction.op === "load")
      return { ...instruction, view: { ...instruction.view, strides: change(instruction.view.strides) } };
    if (instruction.op === "index") return { ...instruction, strides: change(instruction.strides) };
    return instruction;
  });
  const outputs = expression.outputs.map(({ value, view }) => ({
    value,
    view: { ...view, strides: change(view.strides) },
  }));
  return { instructions, outputs };
}

export function isEmpty(shape: readonly number[]): boolean {
  return sizeOf(shape) === 0;
}
