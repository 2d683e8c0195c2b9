import type { Expression, Instruction, ScalarOp, View } from "../../compile/plan.js";
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
  /** Variables with the two results of a pair, by the call that gives them. */
  const pairs = new Map<string, string>();
  const there = new Set(
    instructions.flatMap((i) => ("args" in i && pairOf[i.op] ? [`${i.op} ${i.args}`] : [])),
  );
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
    const pair = pairOf[op];
    if (pair && (pair.partner === undefined || there.has(`${pair.partner} ${instruction.args}`))) {
      const call = `fluxion::${pair.call}(${args.join(", ")})`;
      let both = pairs.get(call);
      if (both === undefined) {
        both = `${value(k)}_both`;
        pairs.set(call, both);
        lines.push(`const auto ${both} = ${call};`);
      }
      return pair.result(both);
    }
    switch (op) {
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

/**
 * Functions that one call computes two at a time: which one, and how the result reads. Worth it when the partner is taken of
 * the same arguments; the words of a Threefry block always come from the same rounds.
 */
const pairOf: Partial<Record<ScalarOp, { call: string; partner?: ScalarOp; result(both: string): string }>> =
  {
    threefry0: { call: "threefry", result: (both) => `${both}.x` },
    threefry1: { call: "threefry", result: (both) => `${both}.y` },
    threefryXor: { call: "threefry", result: (both) => `${both}.x ^ ${both}.y` },
    gelu: { call: "geluBoth", partner: "geluSlope", result: (both) => `${both}.value` },
    geluSlope: { call: "geluBoth", partner: "gelu", result: (both) => `${both}.slope` },
    sin: { call: "sinCos", partner: "cos", result: (both) => `${both}.sine` },
    cos: { call: "sinCos", partner: "sin", result: (both) => `${both}.cosine` },
  };

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
