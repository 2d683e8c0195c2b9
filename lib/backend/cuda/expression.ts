import type { Expression, Instruction, View } from "../../compile/plan.js";
import { type DType, isFloat } from "../../tensor/dtype.js";
import { cTypes } from "./lowering.js";

/** Where an expression stands in a kernel. */
export interface ExpressionScope {
  /** C++ for the current index: a variable (int or long long) for each axis of the expression. */
  readonly coordinates: readonly string[];
  /** C++ for the element that a view has at the current index, to read or to assign to. */
  element(view: View, dtype: DType): string;
  /** C++ for the product's element, in a matmul's expression. */
  readonly accumulator?: string;
  /** What the names of the values begin with, where several expressions stand in one scope; "v" when not given. */
  readonly prefix?: string;
}

/** The header that the statements of `emitExpression` need. */
export const expressionHeaders = ["scalars.cuh"];

export interface EmittedExpression {
  /** One statement for each instruction. */
  readonly lines: readonly string[];
  /** C++ for the value of an instruction. */
  value(instruction: number): string;
  readonly dtype: (instruction: number) => DType;
}

/**
 * The instructions as C++: each is a constant of its dtype's C++ type, computed once, with the functions that
 * native/cuda/kernels/scalars.cuh has for the plan's scalar operations.
 */
export function emitExpression(expression: Expression, scope: ExpressionScope): EmittedExpression {
  const { instructions } = expression;
  const prefix = scope.prefix ?? "v";
  const value = (k: number) => `${prefix}${k}`;
  const lines: string[] = [];
  /** The variable with both words of a Threefry block, by its arguments. */
  const blocks = new Map<string, string>();
  const codeOf = (instruction: Instruction, k: number): string => {
    const { op, dtype } = instruction;
    switch (op) {
      case "load":
        return scope.element(instruction.view, dtype);
      case "accumulator":
        return scope.accumulator!;
      case "constant":
        return constantCode(dtype, instruction.value);
      case "index":
        return indexCode(instruction, scope.coordinates);
    }
    const args = instruction.args.map(value);
    switch (op) {
      case "threefry0":
      case "threefry1":
      case "threefryXor": {
        // Both words of a block come from the same rounds.
        const key = args.join(", ");
        let block = blocks.get(key);
        if (block === undefined) {
          block = `${value(k)}_block`;
          blocks.set(key, block);
          lines.push(`const fluxion::Words ${block} = fluxion::threefry(${key});`);
        }
        const [x, y] = [`${block}.x`, `${block}.y`];
        return op === "threefry0" ? x : op === "threefry1" ? y : `${x} ^ ${y}`;
      }
      case "cast": {
        // A bool and its C++ type, a byte, are told apart: the byte is 0 or 1 already.
        const operand = instructions[instruction.args[0]!]!.dtype === "bool" ? `int(${args[0]})` : args[0];
        return `fluxion::cast<${cTypes[dtype]}>(${operand})`;
      }
      case "pow": {
        const exponent = instructions[instruction.args[1]!]!;
        if (exponent.op === "constant" && exponent.value === 2) return `${args[0]} * ${args[0]}`;
        if (exponent.op === "constant" && exponent.value === 3) return `${args[0]} * ${args[0]} * ${args[0]}`;
        return `fluxion::pow(${args.join(", ")})`;
      }
      default:
        return `fluxion::${op}(${args.join(", ")})`;
    }
  };
  instructions.forEach((instruction, k) => {
    const code = codeOf(instruction, k);
    lines.push(`const ${cTypes[instruction.dtype]} ${value(k)} = ${code};`);
  });
  return { lines, value, dtype: (k) => instructions[k]!.dtype };
}

/** One assignment for each output of the expression. */
export function emitStores(
  expression: Expression,
  emitted: EmittedExpression,
  scope: ExpressionScope,
): string[] {
  return expression.outputs.map(
    ({ value, view }) => `${scope.element(view, emitted.dtype(value))} = ${emitted.value(value)};`,
  );
}

/** C++ for an element of a buffer whose address is `pointer`. */
export function elementAt(pointer: string, view: View, coordinates: readonly string[]): string {
  return `${pointer}[${sum(view.offset, view.strides, coordinates)}]`;
}

/** C++ for offset + sum of coordinate * stride, of integers. */
export function sum(offset: number, strides: readonly number[], coordinates: readonly string[]): string {
  const terms = strides.flatMap((stride, axis) => {
    if (stride === 0) return [];
    return stride === 1 ? [coordinates[axis]!] : [`${coordinates[axis]} * ${stride}`];
  });
  if (offset !== 0 || terms.length === 0) terms.unshift(String(offset));
  return terms.join(" + ");
}

/** A literal with exactly this value. */
function constantCode(dtype: DType, value: number): string {
  switch (dtype) {
    case "float32":
      return floatCode(Math.fround(value), "f");
    case "float64":
      return floatCode(value, "");
    case "int32":
      return `int(${value >>> 0}u)`;
    case "uint32":
      return `${value >>> 0}u`;
    case "bool":
      return value ? "1" : "0";
  }
}

function floatCode(value: number, suffix: "f" | ""): string {
  const type = suffix === "f" ? "float" : "double";
  if (Number.isNaN(value)) return `fluxion::nan<${type}>()`;
  if (!Number.isFinite(value)) return `${value < 0 ? "-" : ""}fluxion::infinity<${type}>()`;
  if (Object.is(value, -0)) return `-0.0${suffix}`;
  const text = String(value);
  return `${/[.e]/.test(text) ? text : `${text}.0`}${suffix}`;
}

/**
 * An element of an arithmetic progression: whole numbers modulo 2^32, fractions in double, multiplied afresh each time,
 * rounded once at the end.
 */
function indexCode(
  { dtype, offset, strides }: Extract<Instruction, { op: "index" }>,
  coordinates: readonly string[],
): string {
  const whole = !isFloat(dtype) && dtype !== "bool" && [offset, ...strides].every(Number.isSafeInteger);
  const terms = strides.flatMap((stride, axis) => {
    if (stride === 0) return [];
    return whole
      ? [`unsigned(${coordinates[axis]}) * ${stride >>> 0}u`]
      : [`double(${coordinates[axis]}) * ${floatCode(stride, "")}`];
  });
  const start = whole ? `${offset >>> 0}u` : floatCode(offset, "");
  const code = [start, ...terms].join(" + ");
  if (whole) return dtype === "int32" ? `int(${code})` : code;
  return dtype === "bool" ? `(${code}) != 0.0` : `fluxion::cast<${cTypes[dtype]}>(${code})`;
}
