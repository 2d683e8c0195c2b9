import { collapse, isEmpty, mapStrides } from "../../compile/collapse.js";
import type { Instruction, Reducer, ReduceStep, View } from "../../compile/plan.js";
import { type DType, isFloat, type TypedArray } from "../../tensor/dtype.js";
import { buildKernel, emptyLines, type Lines, type Scope } from "./kernel.js";
import { prepareMap } from "./map.js";
import type { PreparedStep, StepContext } from "./steps.js";

/** Columns that are folded at once where memory runs along the kept axis; their states stay in the cache. */
const columns = 512;

/**
 * Folds an expression over the last axes, always in row-major order of the reduced index. float32 is summed in
 * double; float64 with the rounding errors kept aside (Ogita, Rump, Oishi's Sum2), which bounds the error by about one rounding of
 * the result for any number of terms. So bits do not depend on which of the two loop orders below is taken:
 * reduced axes innermost, or, where memory runs along the last kept axis, that axis innermost.
 */
export function prepareReduce(step: ReduceStep, context: StepContext): PreparedStep {
  const rank = step.shape.length;
  const firstReduced = rank - step.reducedRank;
  if (isEmpty(step.shape.slice(0, firstReduced))) return () => {};
  const output = step.expression.outputs[0]!;
  if (isEmpty(step.shape))
    return prepareEmpty(step, output.view, step.expression.instructions[output.value]!.dtype);

  // The output does not move along the reduced axes.
  const padded = { ...step.expression, outputs: [{ ...output, view: pad(output.view, rank) }] };
  const domain = collapse({ shape: step.shape, expression: padded, firstReduced });
  let { shape, expression } = domain;
  if (shape.length === domain.firstReduced) {
    // All reduced axes have size 1: one of them stays as the loop that the code below needs.
    shape = [...shape, 1];
    expression = mapStrides(expression, (strides) => [...strides, 0]);
  }
  const kept = domain.firstReduced;
  const { instructions } = expression;
  const { value, view } = expression.outputs[0]!;
  const fold = folds(step.reducer, instructions[value]!.dtype);
  const outputDType: DType = step.reducer.startsWith("arg") ? "int32" : instructions[value]!.dtype;
  const axes = shape.map((_, axis) => axis);

  if (!runsAlongKept(shape, kept, instructions)) {
    const kernel = buildKernel({ axes, sizes: shape, instructions }, (scope) => {
      const lines = emptyLines(scope.depth);
      lines.before[kept]!.push(
        ...fold.names.map((name, i) => `let ${name} = ${fold.initial[i]};`),
        "let r = 0;",
      );
      lines.before[scope.depth]!.push(fold.take(scope.value(value), fold.names), "r++;");
      lines.after[kept]!.push(`${scope.element(view, outputDType, kept)} = ${fold.result(fold.names)};`);
      return lines;
    });
    return (buffers) => kernel.run(buffers);
  }

  const column = kept - 1;
  const order = [...axes.filter((axis) => axis !== column), column];
  const sizes = order.map((axis) => shape[axis]!);
  const states = fold.names.map(() => context.scratch(new Float64Array(Math.min(columns, shape[column]!))));
  const kernel = buildKernel({ axes: order, sizes, instructions }, (scope: Scope): Lines => {
    const { depth } = scope;
    const lines = emptyLines(depth);
    const arrays = states.map((state) => scope.array(state, "scratch"));
    const at = (j: string) => arrays.map((array) => `${array}[${j}]`);
    lines.before[column]!.push(
      ...arrays.map((array, i) => `${array}.fill(${fold.initial[i]});`),
      "let r = 0;",
    );
    lines.before[depth]!.push(fold.take(scope.value(value), at(`i${depth}`)));
    lines.after[depth - 1]!.push("r++;");
    const target = `${scope.array(view.buffer, outputDType)}[${scope.pointer(view, column)} + j * ${scope.step(view, depth)}]`;
    lines.after[column]!.push(
      `for (let j = 0; j < ${scope.size(depth)}; j++) ${target} = ${fold.result(at("j"))};`,
    );
    return lines;
  });
  return (buffers: TypedArray[]) => {
    const origin = new Array<number>(shape.length).fill(0);
    for (let start = 0; start < shape[column]!; start += columns) {
      origin[column] = start;
      kernel.resize(order.length - 1, Math.min(columns, shape[column]! - start));
      kernel.move(origin);
      kernel.run(buffers);
    }
  };
}

/** A fold as source: its state variables, their first values, taking in a value x at reduced index r, and its result. */
interface Fold {
  readonly names: readonly string[];
  readonly initial: readonly string[];
  take(x: string, state: readonly string[]): string;
  result(state: readonly string[]): string;
}

const lowest = { float32: "-Infinity", float64: "-Infinity", int32: "-2147483648", uint32: "0", bool: "0" };
const highest = {
  float32: "Infinity",
  float64: "Infinity",
  int32: "2147483647",
  uint32: "4294967295",
  bool: "1",
};

function folds(reducer: Reducer, dtype: DType): Fold {
  const one = ["s"];
  const plain = (s: readonly string[]) => s[0]!;
  switch (reducer) {
    case "sum":
      // c gathers what each addition rounds away: with b = t - s, exactly (s - (t - b)) + (x - b).
      // It is not finite only where the sum is not.
      if (dtype === "float64")
        return {
          names: ["s", "c"],
          initial: ["0", "0"],
          take: (x, [s, c]) =>
            `{ const t = ${s} + ${x}, b = t - ${s}; ${c} += (${s} - (t - b)) + (${x} - b); ${s} = t; }`,
          result: ([s, c]) => `${c} - ${c} === 0 ? ${s} + ${c} : ${s}`,
        };
      return {
        names: one,
        initial: ["0"],
        take: (x, [s]) =>
          dtype === "float32"
            ? `${s} += ${x};`
            : `${s} = (${s} + ${x}) ${dtype === "int32" ? "|" : ">>>"} 0;`,
        result: plain,
      };
    case "max":
    case "min": {
      const [f, compare, start] = reducer === "max" ? ["max", ">", lowest] : ["min", "<", highest];
      return {
        names: one,
        initial: [(start as typeof lowest)[dtype]],
        take: (x, [s]) =>
          isFloat(dtype) ? `${s} = ${f}(${s}, ${x});` : `if (${x} ${compare} ${s}) ${s} = ${x};`,
        result: plain,
      };
    }
    case "argmax":
    case "argmin": {
      // The state is NaN after the first NaN, and nothing compares with it. An extreme equal to the first value
      // of the state is at index 0 or is beaten.
      const [compare, start] = reducer === "argmax" ? [">", lowest] : ["<", highest];
      const nan = (x: string, s: string) => (isFloat(dtype) ? ` || (${x} !== ${x} && ${s} === ${s})` : "");
      return {
        names: ["s", "m"],
        initial: [(start as typeof lowest)[dtype], "0"],
        take: (x, [s, m]) => `if (${x} ${compare} ${s}${nan(x, s!)}) { ${s} = ${x}; ${m} = r; }`,
        result: ([, m]) => m!,
      };
    }
  }
}

/** Whether the loads take shorter steps along the last kept axis than along the last reduced one. */
function runsAlongKept(
  shape: readonly number[],
  kept: number,
  instructions: readonly Instruction[],
): boolean {
  if (kept === 0 || shape[kept - 1]! < 8) return false;
  let difference = 0;
  for (const instruction of instructions) {
    if (instruction.op !== "load") continue;
    const { strides } = instruction.view;
    // Beyond a cache line all strides cost the same.
    const cost = (stride: number) => Math.min(Math.abs(stride), 16);
    difference += cost(strides[kept - 1]!) - cost(strides[shape.length - 1]!);
  }
  return difference < 0;
}

function pad(view: View, rank: number): View {
  return { ...view, strides: Array.from({ length: rank }, (_, axis) => view.strides[axis] ?? 0) };
}

/** The sum of nothing is 0. */
function prepareEmpty(step: ReduceStep, view: View, dtype: DType): PreparedStep {
  const shape = step.shape.slice(0, step.shape.length - step.reducedRank);
  const instructions: Instruction[] = [{ op: "constant", dtype, value: 0 }];
  return prepareMap({
    kind: "map",
    shape,
    expression: { instructions, outputs: [{ value: 0, view }] },
  });
}
