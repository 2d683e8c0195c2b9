import type { Instruction, View } from "../../compile/plan.js";
import { type DType, isFloat, type TypedArray } from "../../tensor/dtype.js";
import { type Operand, scalarCode, scalarScope, threefryRounds, wrap } from "./scalars.js";
import { compileSource } from "./sources.js";

/**
 * A loop nest over some axes of an index space, as JavaScript. Each instruction stands in the outermost loop
 * that it depends on, so what a broadcast repeats is computed once. Views that walk in step share a pointer.
 * Sizes, strides, offsets and constants are arguments of the source; which strides are 0 or (innermost) 1 is
 * part of it.
 */
export interface Nest {
  /** The axes that are looped over, outermost first; on the others the index is that of the origin. */
  readonly axes: readonly number[];
  readonly sizes: readonly number[];
  readonly instructions: readonly Instruction[];
  /** Where `accumulator` loads from. This view does not move with the origin. */
  readonly accumulator?: { readonly view: View; readonly dtype: DType };
}

/** What a step does with the values: lines of source, for each depth, before and after the loops inside it. Depth d is inside d loops. */
export interface Lines {
  readonly before: string[][];
  readonly after: string[][];
}

/** What the source of a step can name. */
export interface Scope {
  /** Depth of the innermost loop body. */
  readonly depth: number;
  value(k: number): string;
  /** The element of a view, to load or to store, at this depth. */
  element(view: View, dtype: DType, depth: number): string;
  /** The array of a buffer, and the number of elements of the loop that leads to this depth. */
  array(buffer: number, dtype: DType | "scratch"): string;
  size(depth: number): string;
  /** Where a view stands at a depth, and how far it goes in the loop that leads to another. */
  pointer(view: View, depth: number): string;
  step(view: View, depth: number): string;
}

type KernelFunction = (
  buffers: readonly TypedArray[],
  integers: readonly number[],
  reals: Float64Array,
) => void;

export class Kernel {
  constructor(
    private readonly call: KernelFunction,
    private readonly integers: number[],
    private readonly reals: Float64Array,
    /** Of each loop, where its size stands in `integers`. */
    private readonly sizeSlots: readonly number[],
    private readonly moving: readonly Moving[],
  ) {}

  run(buffers: readonly TypedArray[]): void {
    this.call(buffers, this.integers, this.reals);
  }

  /** Sets the size of a loop, counted from the outermost. */
  resize(loop: number, size: number): void {
    this.integers[this.sizeSlots[loop]!] = size;
  }

  /** Makes the loops start at this index of the whole space. */
  move(origin: readonly number[]): void {
    for (const { kind, slot, offset, strides } of this.moving) {
      let at = offset;
      for (let axis = 0; axis < origin.length; axis++) at += origin[axis]! * strides[axis]!;
      this[kind][slot] = at;
    }
  }
}

interface Moving {
  readonly kind: "integers" | "reals";
  readonly slot: number;
  readonly offset: number;
  readonly strides: readonly number[];
}

interface Pointer {
  readonly name: string;
  /** Of each depth: the deepest loop at or around it that moves the pointer. */
  readonly depths: readonly number[];
  /** Of each depth: the source of the step of the loop that leads to it. */
  readonly steps: readonly string[];
}

export function buildKernel(nest: Nest, emit: (scope: Scope) => Lines): Kernel {
  const { axes, instructions } = nest;
  const depth = axes.length;
  const integers: number[] = [];
  const reals: number[] = [];
  const moving: Moving[] = [];
  const header: string[] = [];
  const pointers = new Map<string, Pointer>();
  const arrays = new Map<string, string>();

  const integer = (name: string, value: number): number => {
    header.push(`const ${name} = I[${integers.length}];`);
    return integers.push(value) - 1;
  };
  const real = (value: number): string => `R[${reals.push(value) - 1}]`;
  const sizeSlots = nest.sizes.map((size, loop) => integer(`n${loop + 1}`, size));

  function array(buffer: number, dtype: DType | "scratch"): string {
    const key = `${buffer} ${dtype}`;
    let name = arrays.get(key);
    if (name === undefined) {
      name = `a${arrays.size}_${dtype}`;
      header.push(`const ${name} = B[I[${integers.push(buffer) - 1}]];`);
      arrays.set(key, name);
    }
    return name;
  }

  function pointerOf(view: View): Pointer {
    const fixed = view === nest.accumulator?.view;
    const key = `${fixed} ${view.offset} ${view.strides.join()}`;
    let pointer = pointers.get(key);
    if (!pointer) {
      const name = `p${pointers.size}`;
      const slot = integer(`${name}_0`, view.offset);
      if (!fixed) moving.push({ kind: "integers", slot, offset: view.offset, strides: view.strides });
      const depths = [0];
      const steps = [""];
      axes.forEach((axis, loop) => {
        const stride = view.strides[axis]!;
        depths.push(stride === 0 ? depths[loop]! : loop + 1);
        if (stride === 0 || (stride === 1 && loop === depth - 1)) steps.push(String(stride));
        else {
          steps.push(`${name}_s${loop + 1}`);
          integer(steps[loop + 1]!, stride);
        }
      });
      pointer = { name, depths, steps };
      pointers.set(key, pointer);
    }
    return pointer;
  }

  const pointer = (view: View, at: number): string => {
    const p = pointerOf(view);
    return `${p.name}_${p.depths[at]}`;
  };

  // The instructions, each at its depth.
  const body: string[][] = Array.from({ length: depth + 1 }, () => []);
  const depthOf: number[] = [];
  const operands: Operand[] = [];
  const threefry = new Map<string, string>();
  const define = (k: number, at: number, dtype: DType, code: string, constant?: number) => {
    body[at]!.push(`const v${k} = ${code};`);
    depthOf[k] = at;
    operands[k] = { code: `v${k}`, dtype, constant };
  };
  instructions.forEach((instruction, k) => {
    const { op, dtype } = instruction;
    if (op === "load" || op === "accumulator") {
      const { view, dtype: stored } = op === "load" ? instruction : nest.accumulator!;
      const at = pointerOf(view).depths[depth]!;
      const code = `${array(view.buffer, stored)}[${pointer(view, at)}]`;
      define(k, at, dtype, op === "accumulator" ? wrap(dtype, code) : code);
    } else if (op === "constant") {
      const { value } = instruction;
      // The kind of a constant is part of the source: the engine then knows an integer for one.
      const code =
        dtype === "float32"
          ? `fround(${real(value)})`
          : dtype === "bool"
            ? `${real(value)} & 1`
            : wrap(dtype, real(value));
      // A power's exponent that chooses the code has to stand in the source.
      const exponent = value === 2 || value === 3;
      define(k, 0, dtype, code, exponent ? value : undefined);
    } else if (op === "index") {
      defineIndex(k, instruction);
    } else {
      const args = instruction.args.map((a) => operands[a]!);
      const at = Math.max(0, ...instruction.args.map((a) => depthOf[a]!));
      if (op === "threefry0" || op === "threefry1" || op === "threefryXor") {
        // Both words of a block come from the same rounds.
        const key = instruction.args.join();
        let name = threefry.get(key);
        if (name === undefined) {
          name = `t${k}`;
          threefry.set(key, name);
          body[at]!.push(
            threefryRounds(
              name,
              args.map((a) => a.code),
            ),
          );
        }
        const word = {
          threefry0: `${name}_0`,
          threefry1: `${name}_1`,
          threefryXor: `(${name}_0 ^ ${name}_1)`,
        };
        define(k, at, dtype, `${word[op]} >>> 0`);
      } else define(k, at, dtype, scalarCode(instruction, args));
    }
  });

  function defineIndex(k: number, { dtype, offset, strides }: Extract<Instruction, { op: "index" }>): void {
    const whole = !isFloat(dtype) && dtype !== "bool" && [offset, ...strides].every(Number.isSafeInteger);
    const start = `v${k}_0`;
    moving.push({ kind: "reals", slot: reals.length, offset, strides });
    const terms = [start];
    body[0]!.push(`const ${start} = ${real(offset)}${whole ? " | 0" : ""};`);
    let at = 0;
    axes.forEach((axis, loop) => {
      const stride = strides[axis]!;
      if (stride === 0) return;
      at = loop + 1;
      const name = `v${k}_s${at}`;
      // Integers modulo 2^32; fractions are multiplied afresh each time, so that their errors do not add up.
      body[0]!.push(`const ${name} = ${real(stride)}${whole ? " | 0" : ""};`);
      terms.push(whole ? `imul(i${at}, ${name})` : `i${at} * ${name}`);
    });
    const sum = terms.join(" + ");
    define(k, at, dtype, dtype === "bool" ? `${sum} !== 0 ? 1 : 0` : wrap(dtype, sum));
  }

  const lines = emit({
    depth,
    value: (k) => operands[k]!.code,
    element: (view, dtype, at) => `${array(view.buffer, dtype)}[${pointer(view, at)}]`,
    array,
    size: (at) => `n${at}`,
    pointer,
    step: (view, at) => pointerOf(view).steps[at]!,
  });

  const loops = (at: number): string[] => {
    const inside = [...body[at]!, ...(lines.before[at] ?? [])];
    if (at < depth) inside.push(loopHead(at + 1), ...loops(at + 1), "}");
    return [...inside, ...(lines.after[at] ?? [])];
  };
  const loopHead = (at: number): string => {
    const moved = [...pointers.values()].filter((p) => p.depths[at] === at);
    const starts = moved.map((p) => `, ${p.name}_${at} = ${p.name}_${p.depths[at - 1]}`).join("");
    const steps = moved.map((p) => `, ${p.name}_${at} += ${p.steps[at]}`).join("");
    return `for (let i${at} = 0${starts}; i${at} < n${at}; i${at}++${steps}) {`;
  };

  const nested = loops(0).join("\n");
  const names = Object.keys(scalarScope).join(", ");
  const source = `const { ${names} } = scope;\nreturn function kernel(B, I, R) {\n${header.join("\n")}\n${nested}\n};`;
  const call = compileSource<KernelFunction>(source, { scope: scalarScope });
  return new Kernel(call, integers, Float64Array.from(reals), sizeSlots, moving);
}

/** Lines for a nest of this depth, empty at first. */
export function emptyLines(depth: number): Lines {
  return {
    before: Array.from({ length: depth + 1 }, () => []),
    after: Array.from({ length: depth + 1 }, () => []),
  };
}
