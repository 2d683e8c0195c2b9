import type { BufferSpec } from "../../compile/plan.js";
import { byteSize, type DType } from "../../tensor/dtype.js";
import type { MatmulPrecision } from "../precision.js";
import type { CudaBuffer, Launch, Operation } from "./program.js";

/** What the source is made for. */
export interface Target {
  readonly multiprocessors: number;
  /** Shared memory that a block may have at most, in bytes. */
  readonly sharedBytes: number;
  /** 90 for compute capability 9.0. */
  readonly architecture: number;
  readonly precision: MatmulPrecision;
  /** Whether cuBLASLt is there. */
  readonly cublas: boolean;
}

/** A kernel and its launch. */
export interface KernelCall {
  /** What it does, in a word of the plan: the first part of its name in the source. */
  readonly name: string;
  readonly threads: number;
  /** Blocks on each multiprocessor that the registers must leave room for; 1 when not given. */
  readonly blocks?: number;
  readonly grid: readonly [number, number, number];
  readonly sharedBytes?: number;
  /** Headers of native/cuda/kernels that the body needs, such as "reduce.cuh". */
  readonly includes?: readonly string[];
  /** Text at file scope that the body needs (functors, constants). Equal texts are there once. */
  readonly declarations?: readonly string[];
  /** Buffers that are written; all others are read only. */
  readonly writes: readonly number[];
  /**
   * Written buffers through which the threads of a block pass values on, between barriers: the compiler must not take for
   * granted that a thread reads what it wrote itself.
   */
  readonly exchanged?: readonly number[];
  /**
   * The statements of the kernel. `pointer(buffer)` names a parameter that holds the buffer's address, of the C++ type of
   * its dtype (`cType`), const unless it is written. `status` is in scope. A stopped run does not get here.
   */
  body(pointer: (buffer: number) => string): readonly string[];
  readonly check?: Launch["check"];
}

export const cTypes: Readonly<Record<DType, string>> = {
  float32: "float",
  float64: "double",
  int32: "int",
  uint32: "unsigned",
  bool: "unsigned char",
};

/** Makes the source and operations of a program, step after step. Kernels of equal text are one kernel. */
export class Lowering {
  readonly target: Target;
  readonly #source: SharedSource;
  readonly #buffers: BufferSpec[];
  readonly #arenaBytes: number;
  readonly #operations: Operation[] = [];
  readonly #scratch = new Map<number, number>();
  #step = 0;
  #scratchBytes = 0;
  #stepScratch = 0;

  constructor(
    target: Target,
    buffers: readonly BufferSpec[],
    arenaBytes: number,
    source = new SharedSource(),
  ) {
    this.target = target;
    this.#buffers = [...buffers];
    this.#arenaBytes = align(arenaBytes);
    this.#source = source;
  }

  /** All that is lowered from now on belongs to this step of the plan. Scratch memory of earlier steps is free again. */
  beginStep(step: number): void {
    this.#step = step;
    this.#stepScratch = 0;
  }

  dtypeOf(buffer: number): DType {
    return this.#buffers[buffer]!.dtype;
  }

  specOf(buffer: number): BufferSpec {
    return this.#buffers[buffer]!;
  }

  cType(buffer: number): string {
    return cTypes[this.dtypeOf(buffer)];
  }

  sizeOf(buffer: number): number {
    return this.#buffers[buffer]!.size;
  }

  /** A new buffer that lives as long as the step. */
  scratch(dtype: DType, size: number): number {
    const offset = this.#stepScratch;
    this.#stepScratch = align(offset + size * byteSize(dtype));
    this.#scratchBytes = Math.max(this.#scratchBytes, this.#stepScratch);
    const buffer = this.#buffers.push({ kind: "temporary", dtype, size, offset: 0 }) - 1;
    this.#scratch.set(buffer, this.#arenaBytes + offset);
    return buffer;
  }

  launch(call: KernelCall): void {
    if (call.grid.includes(0)) return;
    const buffers: number[] = [];
    const pointer = (buffer: number): string => {
      let position = buffers.indexOf(buffer);
      if (position < 0) position = buffers.push(buffer) - 1;
      return `b${position}`;
    };
    const body = call.body(pointer);
    const parameters = buffers.map((buffer, i) => {
      const written = call.writes.includes(buffer);
      const alone = call.exchanged?.includes(buffer) ? "" : "__restrict__ ";
      return `${written ? "" : "const "}${cTypes[this.dtypeOf(buffer)]}* ${alone}b${i}`;
    });
    const kernel = this.#source.kernel(call, ["fluxion::Status* status", ...parameters], body);
    this.add({
      kind: "launch",
      kernel,
      grid: call.grid,
      threads: call.threads,
      sharedBytes: call.sharedBytes ?? 0,
      buffers,
      ...(call.check && { check: call.check }),
    });
  }

  /** An operation that is no kernel of ours. */
  add(operation: Operation extends infer O ? (O extends Operation ? Omit<O, "step"> : never) : never): void {
    this.#operations.push({ ...operation, step: this.#step } as Operation);
  }

  /** The number of a check of indices: no other one of the program has it. */
  nextCheck(): number {
    return this.#source.nextCheck();
  }

  /** For the body of a loop: its kernels join this source. */
  nested(buffers: readonly BufferSpec[], arenaBytes: number): Lowering {
    return new Lowering(this.target, buffers, arenaBytes, this.#source);
  }

  get operations(): readonly Operation[] {
    return this.#operations;
  }

  buffers(): CudaBuffer[] {
    return this.#buffers.map(({ kind, dtype, size, offset }, i) => ({
      kind: kind === "local" ? "temporary" : kind,
      bytes: kind === "local" ? 0 : size * byteSize(dtype),
      offset: kind === "local" ? 0 : (this.#scratch.get(i) ?? offset),
    }));
  }

  get arenaBytes(): number {
    return this.#arenaBytes + this.#scratchBytes;
  }

  get source(): string {
    return this.#source.text();
  }
}

const align = (bytes: number): number => Math.ceil(bytes / 256) * 256;

/** The translation unit of a program. */
export class SharedSource {
  readonly #includes = new Set<string>(["status.cuh"]);
  readonly #declarations = new Set<string>();
  readonly #kernels = new Map<string, string>();
  readonly #counts = new Map<string, number>();

  kernel(call: KernelCall, parameters: readonly string[], body: readonly string[]): string {
    for (const header of call.includes ?? []) this.#includes.add(header);
    for (const text of call.declarations ?? []) this.#declarations.add(text);
    const bounds = call.blocks === undefined ? `${call.threads}` : `${call.threads}, ${call.blocks}`;
    const text = `(${parameters.join(", ")}) {\n  if (fluxion::stopped(status)) return;\n${body.map((line) => `  ${line}\n`).join("")}}`;
    const key = `${call.name} ${bounds} ${text}`;
    let name = this.#kernels.get(key);
    if (name === undefined) {
      const count = this.#counts.get(call.name) ?? 0;
      this.#counts.set(call.name, count + 1);
      name = `${call.name}_${count}`;
      this.#kernels.set(key, name);
      this.#texts.push(`extern "C" __global__ void __launch_bounds__(${bounds}) ${name}${text}`);
    }
    return name;
  }

  readonly #texts: string[] = [];
  #checks = 0;

  nextCheck(): number {
    return this.#checks++;
  }

  text(): string {
    const includes = [...this.#includes].sort().map((header) => `#include "${header}"`);
    return `${[...includes, ...this.#declarations, ...this.#texts].join("\n")}\n`;
  }
}
