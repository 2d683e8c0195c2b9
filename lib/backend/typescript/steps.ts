import type { Plan, Step } from "../../compile/plan.js";
import { BackendError } from "../../errors.js";
import { arrayTypes, byteSize, type DType, type TypedArray } from "../../tensor/dtype.js";
import { prepareAttention } from "./attention.js";
import { prepareCumsum } from "./cumsum.js";
import { prepareGather, prepareScatter } from "./indexing.js";
import { prepareLoop } from "./loop-step.js";
import { prepareMap } from "./map.js";
import { prepareMatMul } from "./matmul.js";
import { prepareReduce } from "./reduce.js";
import { prepareSort } from "./sort.js";

/** A step ready to run on the plan's buffers, which stand first in the array; scratch arrays follow. */
export type PreparedStep = (buffers: TypedArray[]) => void;

/** What preparing a step may ask for. */
export interface StepContext {
  dtype(buffer: number): DType;
  /** Adds an array of the step's own to the buffers and gives its number. */
  scratch(array: TypedArray): number;
}

/** A plan ready to run: its steps, and the memory that they share from run to run. */
export interface Program {
  readonly plan: Plan;
  readonly steps: readonly PreparedStep[];
  readonly buffers: TypedArray[];
}

/** Allocates the temporaries and prepares every step. Throws BackendError when there is not enough memory. */
export function prepare(plan: Plan): Program {
  const arena = allocateArena(plan.arenaBytes);
  // Inputs and outputs are put in place by each run.
  const buffers = plan.buffers.map(({ kind, dtype, offset, size }) =>
    kind === "temporary" ? view(arena, dtype, offset, size) : new Uint8Array(0),
  );
  const context: StepContext = {
    dtype: (buffer) => plan.buffers[buffer]!.dtype,
    scratch: (array) => buffers.push(array) - 1,
  };
  return { plan, steps: plan.steps.map((step) => prepareStep(step, context)), buffers };
}

/** Runs a program from its inputs into its outputs, arrays that fit the plan; `seconds` gets the time of each step. */
export function execute(
  program: Program,
  inputs: readonly TypedArray[],
  outputs: readonly TypedArray[],
  seconds?: Float64Array,
): void {
  const { plan, steps, buffers } = program;
  for (const [i, buffer] of plan.inputs.entries()) buffers[buffer] = inputs[i]!;
  for (const [i, buffer] of plan.outputs.entries()) buffers[buffer] = outputs[i]!;
  try {
    for (const [i, step] of steps.entries()) {
      const begun = seconds === undefined ? 0 : performance.now();
      step(buffers);
      if (seconds !== undefined) seconds[i] = (performance.now() - begun) / 1000;
    }
  } finally {
    // The program outlives the call; the caller's arrays need not.
    for (const buffer of [...plan.inputs, ...plan.outputs]) buffers[buffer] = nothing;
  }
}

const nothing = new Uint8Array(0);

function prepareStep(step: Step, context: StepContext): PreparedStep {
  switch (step.kind) {
    case "map":
      return prepareMap(step);
    case "reduce":
      return prepareReduce(step, context);
    case "matmul":
      return prepareMatMul(step, context);
    case "gather":
      return prepareGather(step);
    case "scatter":
      return prepareScatter(step);
    case "sort":
      return prepareSort(step);
    case "loop":
      return prepareLoop(step);
    case "attention":
      return prepareAttention(step);
    case "cumsum":
      return prepareCumsum(step);
  }
}

function allocateArena(bytes: number): ArrayBuffer {
  try {
    return new ArrayBuffer(bytes);
  } catch {
    throw new BackendError(`cannot allocate ${bytes} bytes for temporaries`);
  }
}

/** A typed array on a part of an (array or shared) buffer. */
export function view(memory: ArrayBufferLike, dtype: DType, offset: number, size: number): TypedArray {
  return new arrayTypes[dtype](memory as ArrayBuffer, offset, size);
}

/** Bytes that an array takes, rounded up so that arrays of any dtype can follow one another. */
export function alignedBytes(dtype: DType, size: number): number {
  return Math.ceil((size * byteSize(dtype)) / 64) * 64;
}
