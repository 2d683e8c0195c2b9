import type { Expression, Instruction, Plan, Step, StrippedPlan, StripStep, View } from "../compile/plan.js";
import { stripMine } from "../compile/strip.js";
import { BackendError } from "../errors.js";
import { allocate, type TypedArray } from "../tensor/dtype.js";
import { onHost, type Storage } from "../tensor/storage.js";
import type { Backend, Executable, Loop } from "./backend.js";
import { loadAddon, translated, translatedAsync } from "./native.js";
import { bufferOf, type NativeLoop, StateLoop } from "./native-loop.js";

/** What the addon exports. Lists of names give the codes: a name's code is its position. */
interface Addon {
  readonly ops: readonly string[];
  readonly dtypes: readonly string[];
  readonly reducers: readonly string[];
  readonly stepKinds: readonly string[];
  readonly bufferKinds: readonly string[];
  readonly attentionParts: readonly string[];
  readonly instructionSets: readonly string[];
  createPlan(words: Float64Array): NativePlan;
  instructionSet(): string;
  setInstructionSet(name: string): void;
  threads(): number;
  setThreads(count: number): void;
  measurePeak(threads: number, seconds: number): number;
  measureBandwidth(threads: number, bytes: number): number;
  stop(): void;
}

interface NativePlan {
  run(inputs: readonly TypedArray[], outputs: readonly TypedArray[], seconds?: Float64Array): void;
  runAsync(inputs: readonly TypedArray[], outputs: readonly TypedArray[]): Promise<void>;
  loop(inputs: readonly TypedArray[], carried: number): NativeLoop;
  workspaceBytes(): number;
}

let loaded: Addon | undefined;

/** The addon, loaded at its first use. */
function addon(): Addon {
  loaded ??= loadAddon<Addon>("cpu");
  return loaded;
}

/** The backend of the C++ addon. Throws BackendError, with the reason, where the addon cannot be loaded. */
export function cpuBackend(): Backend<TypedArray> {
  const native = addon();
  // A faulty FLUXION_NUM_THREADS or FLUXION_ISA shows here, not in the first run.
  translated(() => native.threads());
  translated(() => native.instructionSet());
  return { name: "cpu", optimize, compile: (plan) => new CpuExecutable(native, plan) };
}

/** What the addon runs for a plan. */
function optimize(plan: Plan): StrippedPlan {
  return stripMine(plan);
}

/** The instruction set that plans compiled from now on use: "avx512", "avx2" or "baseline". */
export function instructionSet(): string {
  return translated(() => addon().instructionSet());
}

/** The instruction sets of this machine that the addon has code for, best first. */
export function instructionSets(): readonly string[] {
  return addon().instructionSets;
}

/** Chooses the instruction set of plans compiled from now on. Throws BackendError for one that this machine lacks. */
export function setInstructionSet(name: string): void {
  translated(() => addon().setInstructionSet(name));
}

/** How many threads a kernel uses at most: FLUXION_NUM_THREADS, or the processors that this process may use. */
export function threads(): number {
  return translated(() => addon().threads());
}

/** Sets the number of threads, 1 to 256. Results do not depend on it. */
export function setThreads(count: number): void {
  translated(() => addon().setThreads(count));
}

/**
 * The most that this machine can do: float32 operations per second (a multiply-add is two) in registers, on so many
 * threads at once, with the instruction set in use. The best of several windows that last `seconds` together, during
 * which the calling thread is busy.
 *
 * @throws BackendError for threads other than 1 to 256, and seconds not above 0 or above 60
 */
export function measurePeak(threads: number, seconds: number): number {
  return translated(() => addon().measurePeak(threads, seconds));
}

/**
 * The memory's speed: bytes per second read and written in a = b + s c by so many threads at once, each array of
 * `bytes` bytes. The best of several passes.
 *
 * @throws BackendError for threads other than 1 to 256, bytes below 4, and arrays that cannot be allocated
 */
export function measureBandwidth(threads: number, bytes: number): number {
  return translated(() => addon().measureBandwidth(threads, bytes));
}

/**
 * The memory that a run of this plan holds besides its inputs and outputs, in bytes, on the threads in use: temporaries,
 * packed operands of products, partial sums, and what each thread has for itself.
 *
 * @throws BackendError for a plan that the addon does not run
 */
export function workspaceBytes(plan: Plan): number {
  const native = addon();
  return translated(() => native.createPlan(serialise(native, optimize(plan))).workspaceBytes());
}

class CpuExecutable implements Executable<TypedArray> {
  readonly #plan: Plan;
  readonly #native: NativePlan;

  constructor(native: Addon, plan: Plan) {
    this.#plan = plan;
    this.#native = translated(() => native.createPlan(serialise(native, optimize(plan))));
  }

  run(inputs: readonly Storage[], seconds?: Float64Array): TypedArray[] {
    const outputs = this.#newOutputs();
    const arrays = inputs.map(onHost);
    translated(() => this.#native.run(arrays, outputs, seconds));
    return outputs;
  }

  async runAsync(inputs: readonly Storage[]): Promise<TypedArray[]> {
    const outputs = this.#newOutputs();
    const arrays = inputs.map(onHost);
    await translatedAsync(() => this.#native.runAsync(arrays, outputs));
    return outputs;
  }

  loop(inputs: readonly Storage[], carried: number): Loop {
    const arrays = inputs.map(onHost);
    return new StateLoop(
      this.#plan,
      carried,
      translated(() => this.#native.loop(arrays, carried)),
    );
  }

  #newOutputs(): TypedArray[] {
    return this.#plan.outputs.map((number) => {
      const { dtype, size } = bufferOf(this.#plan, number);
      return allocate(dtype, size);
    });
  }
}

/** The plan as one list of words; native/common/plan.cc says how they are laid out. Doubles count exactly to 2^53. */
function serialise(native: Addon, plan: StrippedPlan): Float64Array {
  const words: number[] = [];

  const codes = (names: readonly string[], what: string) => {
    const byName = new Map(names.map((name, code) => [name, code]));
    return (name: string) => {
      const code = byName.get(name);
      if (code === undefined) throw new BackendError(`the cpu addon has no ${what} "${name}"`);
      words.push(code);
    };
  };
  const op = codes(native.ops, "operation");
  const dtype = codes(native.dtypes, "dtype");
  const reducer = codes(native.reducers, "reducer");
  const stepKind = codes(native.stepKinds, "step");
  const bufferKind = codes(native.bufferKinds, "buffer kind");
  const attentionPart = codes(native.attentionParts, "part of attention");

  const list = <T>(items: readonly T[], write: (item: T) => void) => {
    words.push(items.length);
    for (const item of items) write(item);
  };
  const numbers = (items: readonly number[]) => list(items, (item) => words.push(item));
  const view = (v: View) => {
    words.push(v.buffer, v.offset);
    numbers(v.strides);
  };
  const optional = <T>(item: T | undefined, write: (item: T) => void) => {
    words.push(item === undefined ? 0 : 1);
    if (item !== undefined) write(item);
  };
  const instruction = (i: Instruction) => {
    op(i.op);
    dtype(i.dtype);
    switch (i.op) {
      case "load":
        view(i.view);
        break;
      case "constant":
        words.push(i.value);
        break;
      case "index":
        words.push(i.offset);
        numbers(i.strides);
        break;
      case "accumulator":
        break;
      default:
        numbers(i.args);
    }
  };
  const expression = (e: Expression) => {
    list(e.instructions, instruction);
    list(e.outputs, (output) => {
      words.push(output.value);
      view(output.view);
    });
  };
  const step = (s: Step | StripStep) => {
    stepKind(s.kind);
    switch (s.kind) {
      case "map":
        numbers(s.shape);
        expression(s.expression);
        break;
      case "reduce":
        numbers(s.shape);
        words.push(s.reducedRank);
        reducer(s.reducer);
        expression(s.expression);
        break;
      case "matmul":
        dtype(s.dtype);
        numbers(s.batch);
        words.push(s.m, s.n, s.k);
        view(s.a);
        view(s.b);
        expression(s.expression);
        break;
      case "gather":
      case "scatter":
        words.push(s.outer, s.size, s.inner, s.count, s.input, s.indices, s.output, s.site ?? -1);
        break;
      case "sort":
        words.push(s.rows, s.size, s.input, s.output);
        break;
      case "loop":
        words.push(s.length, s.reverse ? 1 : 0);
        for (const buffers of [s.consts, s.inits, s.carries, s.xs, s.ys]) numbers(buffers);
        whole(s.plan);
        break;
      case "attention":
        attentionPart(s.part);
        dtype(s.dtype);
        numbers(s.batch);
        words.push(s.n, s.m, s.d, s.e, s.scale, s.causal ? 1 : 0);
        for (const v of [s.q, s.k, s.v]) view(v);
        for (const v of [s.mask, s.o, s.l]) optional(v, view);
        list(s.directions, (v) => optional(v, view));
        list(s.outputs, (output) => optional(output, (buffer) => words.push(buffer)));
        break;
      case "cumsum":
        words.push(s.outer, s.size, s.inner, s.reverse ? 1 : 0, s.input, s.output);
        break;
      case "strip":
        words.push(s.rows, s.block);
        numbers(s.chunks);
        words.push(s.sums, s.localBytes);
        list(s.parts, (part) => {
          words.push(part.role === "rows" ? 0 : 1);
          step(part.step);
        });
        break;
    }
  };

  const whole = (p: Plan | StrippedPlan) => {
    words.push(p.arenaBytes);
    list(p.buffers, (buffer) => {
      bufferKind(buffer.kind);
      dtype(buffer.dtype);
      words.push(buffer.size, buffer.offset);
    });
    numbers(p.inputs);
    numbers(p.outputs);
    list<Step | StripStep>(p.steps, step);
  };

  whole(plan);
  return Float64Array.from(words);
}
