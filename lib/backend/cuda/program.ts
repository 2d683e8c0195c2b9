import type { MatmulPrecision } from "../precision.js";

/**
 * What the addon runs for a plan: CUDA source, and an ordered list of operations over buffers, as plain data.
 *
 * Every kernel's first parameter is the run's `Status*` (native/cuda/kernels/status.cuh), the others are the
 * addresses of its buffers. All operations run in order on one stream. A kernel does nothing once the run has
 * stopped: an index was out of range, or a loop's guard was not finite.
 */
export interface CudaProgram extends CudaBody {
  /** One translation unit; it includes headers of native/cuda/kernels by name. */
  readonly source: string;
}

export interface CudaBody {
  readonly buffers: readonly CudaBuffer[];
  /** Buffer numbers of the inputs and outputs, in the order of the call. */
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
  readonly arenaBytes: number;
  readonly operations: readonly Operation[];
}

export interface CudaBuffer {
  readonly kind: "input" | "output" | "temporary";
  readonly bytes: number;
  /** Of a temporary: its place in the arena, in bytes, a multiple of 64. */
  readonly offset: number;
}

/** `step` is the number of the plan's step that the operation belongs to. */
export type Operation = (Launch | Zero | Product | Turns) & { readonly step: number };

export interface Launch {
  readonly kind: "launch";
  /** The kernel's name in the source. */
  readonly kernel: string;
  /** Blocks; x up to 2^31 - 1, y and z up to 65535. No launch where one is 0. */
  readonly grid: readonly [number, number, number];
  /** Threads of a block, in one dimension: a multiple of 32. */
  readonly threads: number;
  /** Dynamic shared memory of a block, in bytes. */
  readonly sharedBytes: number;
  /** The buffers whose addresses are the arguments after the status. */
  readonly buffers: readonly number[];
  /**
   * Of a check of indices: what an error says. `number` differs from that of every other check of the program, its loops
   * included; the kernel has it as a literal, and writes it to `errorOperation` of the status with the error.
   */
  readonly check?: { readonly number: number; readonly size: number; readonly site: number | undefined };
}

/** Sets a buffer to zero bytes. */
export interface Zero {
  readonly kind: "zero";
  readonly buffer: number;
}

/**
 * A matrix product by cuBLASLt: C[i] = op(A[i]) op(B[i]) for i < batch, all row-major float32 or float64 in rows of
 * `*Row` elements, matrices `*Step` elements apart; `transposeA`: A is stored [k, m].
 */
export interface Product {
  readonly kind: "product";
  readonly dtype: "float32" | "float64";
  readonly precision: MatmulPrecision;
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: Matrix;
  readonly b: Matrix;
  readonly c: Matrix;
  /** Added to each row of C: n elements from `offset` on. */
  readonly bias?: { readonly buffer: number; readonly offset: number };
}

export interface Matrix {
  readonly buffer: number;
  /** In elements. */
  readonly offset: number;
  readonly row: number;
  readonly step: number;
  readonly transposed: boolean;
}

/** A loop step of the plan: see LoopStep. Its body's kernels are in the program's source. */
export interface Turns {
  readonly kind: "turns";
  readonly length: number;
  readonly reverse: boolean;
  readonly body: CudaBody;
  readonly consts: readonly number[];
  readonly inits: readonly number[];
  readonly carries: readonly number[];
  readonly xs: readonly number[];
  readonly ys: readonly number[];
}
