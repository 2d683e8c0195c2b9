import type { Instruction, ScalarOp } from "../../compile/plan.js";
import { type DType, isFloat } from "../../tensor/dtype.js";
import * as functions from "./functions.js";

/** The names that generated expressions use. */
export const scalarScope: Readonly<Record<string, unknown>> = {
  ...functions,
  abs: Math.abs,
  fround: Math.fround,
  imul: Math.imul,
  max: Math.max,
  min: Math.min,
};

type Scalar = Extract<Instruction, { op: ScalarOp }>;

/** JavaScript for an argument, its dtype, and its value where it is a constant. */
export interface Operand {
  readonly code: string;
  readonly dtype: DType;
  readonly constant?: number | undefined;
}

/** `code`, a number, as a value of the dtype: rounded, or modulo 2^32. */
export function wrap(dtype: DType, code: string): string {
  if (dtype === "float32") return `fround(${code})`;
  if (dtype === "int32") return `(${code}) | 0`;
  if (dtype === "uint32") return `(${code}) >>> 0`;
  return code;
}

const unaryFunctions: Partial<Record<ScalarOp, string>> = {
  sqrt: "Math.sqrt",
  exp: "Math.exp",
  expm1: "Math.expm1",
  log: "Math.log",
  log1p: "Math.log1p",
  sin: "Math.sin",
  cos: "Math.cos",
  tanh: "Math.tanh",
  floor: "Math.floor",
  sign: "Math.sign",
  erf: "erf",
  sigmoid: "sigmoid",
  softplus: "softplus",
  gelu: "gelu",
  geluSlope: "geluSlope",
  round: "roundHalfEven",
};

const operators: Partial<Record<ScalarOp, string>> = {
  add: "+",
  sub: "-",
  mul: "*",
  div: "/",
  equal: "===",
  notEqual: "!==",
  greater: ">",
  greaterEqual: ">=",
  less: "<",
  lessEqual: "<=",
};

/** JavaScript that computes a scalar instruction; threefry is `threefryRounds`. */
export function scalarCode(instruction: Scalar, args: readonly Operand[]): string {
  const { op, dtype } = instruction;
  const [x, y, z] = args.map((a) => a.code);
  const float = isFloat(args[0]!.dtype);
  switch (op) {
    case "neg":
      return wrap(dtype, `-${x}`);
    case "abs":
      return dtype === "uint32" ? x! : wrap(dtype, `abs(${x})`);
    case "add":
    case "sub":
    case "div":
      return wrap(dtype, `${x} ${operators[op]} ${y}`);
    case "mul":
      return wrap(dtype, float ? `${x} * ${y}` : `imul(${x}, ${y})`);
    case "maximum":
      return float ? `max(${x}, ${y})` : `${x} > ${y} ? ${x} : ${y}`;
    case "minimum":
      return float ? `min(${x}, ${y})` : `${x} < ${y} ? ${x} : ${y}`;
    case "remainder":
      if (dtype === "uint32") return `${y} === 0 ? 0 : (${x} % ${y}) >>> 0`;
      return float ? wrap(dtype, `remainder(${x}, ${y})`) : `remainderInt32(${x}, ${y})`;
    case "rsqrt":
      return wrap(dtype, `1 / Math.sqrt(${x})`);
    case "pow":
      // Squares and cubes are the powers that are worth a shorter way.
      if (args[1]!.constant === 2) return wrap(dtype, `${x} * ${x}`);
      if (args[1]!.constant === 3) return wrap(dtype, `${x} * ${x} * ${x}`);
      return wrap(dtype, `pow(${x}, ${y})`);
    case "equal":
    case "notEqual":
    case "greater":
    case "greaterEqual":
    case "less":
    case "lessEqual":
      return `${x} ${operators[op]} ${y} ? 1 : 0`;
    case "logicalNot":
      return `${x} === 0 ? 1 : 0`;
    case "logicalAnd":
      return `${x} & ${y}`;
    case "logicalOr":
      return `${x} | ${y}`;
    case "where":
      return `${x} !== 0 ? ${y} : ${z}`;
    case "shiftRight":
      return `${x} >>> ${y}`;
    case "cast":
      return castCode(args[0]!.dtype, dtype, x!);
    case "threefry0":
    case "threefry1":
    case "threefryXor":
      throw new Error(op);
    default:
      return wrap(dtype, `${unaryFunctions[op]}(${x})`);
  }
}

function castCode(from: DType, to: DType, x: string): string {
  if (from === to || from === "bool") return x;
  if (to === "bool") return `${x} !== 0 ? 1 : 0`;
  if (isFloat(from) && to === "int32") return `toInt32(${x})`;
  if (isFloat(from) && to === "uint32") return `toUint32(${x})`;
  return wrap(to, x);
}

/**
 * Threefry-2x32-20 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011): twenty
 * rounds of add, rotate, xor, with a key injection before the first and after every fourth. The third key word
 * is the parity k0 ^ k1 ^ 0x1BD11BDA. Defines the words `name`_0 and `name`_1.
 */
export function threefryRounds(name: string, args: readonly string[]): string {
  const rotations = [
    [13, 15, 26, 6],
    [17, 29, 16, 24],
  ];
  const [a, b] = [`${name}_0`, `${name}_1`];
  const key = (i: number) => `${name}_k${i % 3}`;
  const lines = [
    `const ${key(0)} = ${args[0]} | 0, ${key(1)} = ${args[1]} | 0, ${key(2)} = ${key(0)} ^ ${key(1)} ^ 0x1BD11BDA;`,
    `let ${a} = (${args[2]} + ${key(0)}) | 0, ${b} = (${args[3]} + ${key(1)}) | 0;`,
  ];
  for (let group = 0; group < 5; group++) {
    for (const n of rotations[group % 2]!)
      lines.push(`${a} = (${a} + ${b}) | 0; ${b} = ((${b} << ${n}) | (${b} >>> ${32 - n})) ^ ${a};`);
    lines.push(
      `${a} = (${a} + ${key(group + 1)}) | 0; ${b} = (((${b} + ${key(group + 2)}) | 0) + ${group + 1}) | 0;`,
    );
  }
  return lines.join("\n");
}
