import { arrayTypes, byteSize, type DType, type TypedArray } from "../../../tensor/dtype.js";
import { encodeModule, simd, vector, type WasmFunction } from "./encoder.js";

/**
 * The WebAssembly memory of this thread is a workbench of fixed size, which each step lays out for itself while it
 * runs: operands are copied in block by block, and results out. So it never grows, whatever the size of the arrays.
 */
export const memoryBytes = 8 << 20;
const pageBytes = 1 << 16;

/** The part of the WebAssembly interface that is used here. */
interface WebAssemblyInterface {
  Memory: new (limits: { initial: number; maximum: number }) => WebAssemblyMemory;
  Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  Instance: new (
    module: object,
    imports: { env: { memory: WebAssemblyMemory } },
  ) => { exports: Record<string, (...args: number[]) => void> };
}

interface WebAssemblyMemory {
  readonly buffer: ArrayBuffer;
}

const api = () => (globalThis as { WebAssembly?: WebAssemblyInterface }).WebAssembly;
let opened: { memory: WebAssemblyMemory | undefined } | undefined;

/** Undefined without WebAssembly, without its SIMD, or without memory for it: then JavaScript does all the work. */
function memory(): WebAssemblyMemory | undefined {
  const wasm = api();
  if (!wasm) return undefined;
  opened ??= { memory: open(wasm) };
  return opened.memory;
}

function open({ Module, Memory }: WebAssemblyInterface): WebAssemblyMemory | undefined {
  try {
    const probe = [...simd(0x53, vector(new Int32Array(4))), 0x1a]; // v128.any_true, drop
    new Module(encodeModule([{ name: "probe", parameters: 0, locals: [], body: probe }]));
    const pages = memoryBytes / pageBytes;
    return new Memory({ initial: pages, maximum: pages });
  } catch {
    return undefined;
  }
}

export function hasVectors(): boolean {
  return memory() !== undefined;
}

/** The function of a module of its own, over the thread's memory. */
export function instantiate(code: WasmFunction): (...args: number[]) => void {
  const { Module, Instance } = api()!;
  const module = new Module(encodeModule([code]));
  return new Instance(module, { env: { memory: memory()! } }).exports[code.name]!;
}

/** Gives out places in the memory from its beginning: a layout for each step. */
export class Layout {
  private used = 0;

  /** An array in the memory, at the address `byteOffset`; undefined when it is full. */
  place(dtype: DType, size: number): TypedArray | undefined {
    const address = this.used;
    const end = address + Math.ceil((size * byteSize(dtype)) / 64) * 64;
    if (end > memoryBytes) return undefined;
    this.used = end;
    return new arrayTypes[dtype](memory()!.buffer, address, size);
  }
}
