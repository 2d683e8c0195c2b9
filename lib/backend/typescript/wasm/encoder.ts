/**
 * The binary form of a WebAssembly module, as far as the generated kernels need it: functions of integers over one
 * imported memory. Code is a sequence of bytes; each helper gives the bytes of an instruction, operands first as
 * the stack machine wants them.
 */
export type Code = readonly number[];

export const i32 = 0x7f;
export const v128 = 0x7b;
type ValueType = typeof i32 | typeof v128;

/** A function without results. Its parameters are i32, locals 0, 1, ...; the other locals follow. */
export interface WasmFunction {
  readonly name: string;
  readonly parameters: number;
  readonly locals: readonly ValueType[];
  readonly body: Code;
}

/** An unsigned number in base 128, lowest digits first, each but the last with the high bit set. */
export function unsigned(value: number): Code {
  const bytes: number[] = [];
  for (; value >= 128; value >>>= 7) bytes.push((value & 127) | 128);
  return [...bytes, value];
}

/** The same for a signed 32-bit number; bit 6 of the last digit is the sign. */
function signed(value: number): Code {
  const bytes: number[] = [];
  for (; value < -64 || value > 63; value >>= 7) bytes.push((value & 127) | 128);
  return [...bytes, value & 127];
}

export const get = (local: number): Code => [0x20, ...unsigned(local)];
export const set = (local: number, value: Code): Code => [...value, 0x21, ...unsigned(local)];
export const integer = (value: number): Code => [0x41, ...signed(value)];
export const add = (x: Code, y: Code): Code => [...x, ...y, 0x6a];
export const subtract = (x: Code, y: Code): Code => [...x, ...y, 0x6b];
export const multiply = (x: Code, y: Code): Code => [...x, ...y, 0x6c];
export const lessThan = (x: Code, y: Code): Code => [...x, ...y, 0x48]; // signed

/** Runs the body for as long as the condition, an i32, holds; it is asked before each round. */
export const whileLoop = (condition: Code, body: Code): Code => [
  ...[0x02, 0x40, 0x03, 0x40], // block, loop
  ...[...condition, 0x45, 0x0d, 1], // leave the block unless it holds
  ...[...body, 0x0c, 0], // once more
  ...[0x0b, 0x0b],
];

/** A vector instruction by its number in the SIMD proposal. */
export const simd = (opcode: number, ...operands: readonly Code[]): Code => [
  ...operands.flat(),
  0xfd,
  ...unsigned(opcode),
];

/** Memory instructions take an alignment (none is promised) and a constant that is added to the address. */
const memory = (opcode: number, offset: number, ...operands: readonly Code[]): Code => [
  ...simd(opcode, ...operands),
  0,
  ...unsigned(offset),
];
export const load = (address: Code, offset: number): Code => memory(0x00, offset, address);
export const loadSplat32 = (address: Code, offset: number): Code => memory(0x09, offset, address);
export const loadSplat64 = (address: Code, offset: number): Code => memory(0x0a, offset, address);
export const store = (address: Code, value: Code, offset: number): Code =>
  memory(0x0b, offset, address, value);

/** The constant with these four 32-bit lanes. */
export function vector(lanes: Float32Array | Int32Array): Code {
  return [...simd(0x0c), ...new Uint8Array(lanes.buffer, lanes.byteOffset, 16)];
}

/** A module that imports `memory` as env.memory and exports its functions. */
export function encodeModule(functions: readonly WasmFunction[]): Uint8Array<ArrayBuffer> {
  const text = (name: string) => list([...new TextEncoder().encode(name)].map((byte) => [byte]));
  const types = functions.map(({ parameters }) => [
    0x60,
    ...list(new Array<Code>(parameters).fill([i32])),
    ...list([]),
  ]);
  const codes = functions.map(({ locals, body }) => {
    const code = [...list(locals.map((type) => [1, type])), ...body, 0x0b];
    return [...unsigned(code.length), ...code];
  });
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // "\0asm", version 1
    ...section(1, list(types)),
    ...section(2, list([[...text("env"), ...text("memory"), 0x02, 0x00, 0]])),
    ...section(3, list(functions.map((_, i) => unsigned(i)))),
    ...section(7, list(functions.map(({ name }, i) => [...text(name), 0x00, ...unsigned(i)]))),
    ...section(10, list(codes)),
  ]);
}

/** A count and then the items. */
function list(items: readonly Code[]): Code {
  return [...unsigned(items.length), ...items.flat()];
}

function section(id: number, content: Code): Code {
  return [id, ...unsigned(content.length), ...content];
}
