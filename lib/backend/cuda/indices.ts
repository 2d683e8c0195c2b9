import type { Expression, View } from "../../compile/plan.js";
import { sizeOf } from "../../tensor/shape.js";

/** Integers of a kernel: of places in buffers and of coordinates, and of row-major indices, which are never negative. */
export interface IndexType {
  readonly signed: "int" | "long long";
  readonly unsigned: "unsigned" | "unsigned long long";
  /** What the literals of the latter end with. */
  readonly suffix: "u" | "ull";
}

const narrow: IndexType = { signed: "int", unsigned: "unsigned", suffix: "u" };
const wide: IndexType = { signed: "long long", unsigned: "unsigned long long", suffix: "ull" };

/** 32 bits where no place and no count reaches 2^31. */
export function indexType(reaches: readonly number[]): IndexType {
  return reaches.every((reach) => reach < 2 ** 31 - 1024) ? narrow : wide;
}

/** No sum that leads to an element of the view is larger. */
export function reach(view: View, shape: readonly number[]): number {
  return view.strides.reduce(
    (sum, stride, axis) => sum + Math.abs(stride) * (shape[axis]! - 1),
    Math.abs(view.offset),
  );
}

/** The largest places and counts of an expression over a shape. */
export function reaches(shape: readonly number[], expression: Expression): number[] {
  return [sizeOf(shape), ...viewsOf(expression).map((view) => reach(view, shape))];
}

/** The views that an expression reads and writes. */
export function viewsOf({ instructions, outputs }: Expression): View[] {
  return [
    ...instructions.flatMap((instruction) => (instruction.op === "load" ? [instruction.view] : [])),
    ...outputs.map(({ view }) => view),
  ];
}

/** Defines the coordinates `names` in `shape` of the row-major index `linear`, an unsigned variable. */
export function coordinateLines(
  linear: string,
  shape: readonly number[],
  names: readonly string[],
  type: IndexType,
): string[] {
  const lines: string[] = [];
  let below = sizeOf(shape);
  shape.forEach((size, axis) => {
    below /= size;
    let code = below === 1 ? linear : `${linear} / ${below}${type.suffix}`;
    if (size === 1) code = "0";
    else if (axis > 0) code = `${below === 1 ? code : `(${code})`} % ${size}${type.suffix}`;
    lines.push(
      `const ${type.signed} ${names[axis]} = ${type.signed === "int" ? "int" : "(long long)"}(${code});`,
    );
  });
  return lines;
}
