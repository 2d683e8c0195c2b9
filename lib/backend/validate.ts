import { buffersOf, writtenBy } from "../compile/memory.js";
import {
  type AttentionStep,
  type Expression,
  type Instruction,
  type LoopStep,
  type Plan,
  type ScalarOp,
  type Step,
  scalarOps,
  type View,
} from "../compile/plan.js";
import { BackendError } from "../errors.js";
import { byteSize, type DType, isDType, isFloat } from "../tensor/dtype.js";
import { sizeOf } from "../tensor/shape.js";

/**
 * Checks that a plan keeps the contract: buffers and values exist, dtypes agree, views stay inside of their
 * buffers. JavaScript would read undefined where a plan is wrong; here it is an error that names the step.
 */
export function validatePlan(plan: Plan): void {
  checkBuffers(plan);
  plan.steps.forEach((step, number) => {
    try {
      checkStep(plan, step);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      throw new BackendError(`invalid plan: step ${number} (${step.kind}): ${error.message}`);
    }
  });
}

class Fault extends Error {}

function need(condition: boolean, message: () => string): asserts condition {
  if (!condition) throw new Fault(message());
}

const isCount = (n: number) => Number.isSafeInteger(n) && n >= 0;

function checkBuffers({ buffers, inputs, outputs, arenaBytes }: Plan): void {
  const fail = (message: string): never => {
    throw new BackendError(`invalid plan: ${message}`);
  };
  if (!isCount(arenaBytes)) fail(`arena of ${arenaBytes} bytes`);
  buffers.forEach(({ kind, dtype, size, offset }, i) => {
    if (!isDType(dtype) || !isCount(size)) fail(`buffer ${i} is ${size} elements of ${dtype}`);
    if (kind !== "temporary") return;
    if (!isCount(offset) || offset % 64 !== 0 || offset + size * byteSize(dtype) > arenaBytes)
      fail(`buffer ${i} at ${offset} does not lie in the arena of ${arenaBytes} bytes`);
  });
  for (const [kind, list] of [["input", inputs] as const, ["output", outputs] as const]) {
    for (const buffer of list)
      if (buffers[buffer]?.kind !== kind) fail(`buffer ${buffer} is listed as an ${kind} but is none`);
    const owned = buffers.filter((b) => b.kind === kind).length;
    if (new Set(list).size !== list.length || owned !== list.length)
      fail(`${owned} ${kind} buffers, but the list is [${list.join(", ")}]`);
  }
}

function checkStep(plan: Plan, step: Step): void {
  switch (step.kind) {
    case "map":
      checkShape(step.shape);
      checkExpression(plan, step.shape, step.expression);
      return;
    case "reduce": {
      checkShape(step.shape);
      const kept = step.shape.length - step.reducedRank;
      need(
        isCount(step.reducedRank) && kept >= 0,
        () => `reduces ${step.reducedRank} of ${step.shape.length} axes`,
      );
      need(step.expression.outputs.length === 1, () => `${step.expression.outputs.length} outputs`);
      const [output] = step.expression.outputs;
      const dtype = step.expression.instructions[output!.value]?.dtype;
      need(step.reducer !== "sum" || dtype !== "bool", () => "sum of bool");
      need(
        step.reducer === "sum" ||
          sizeOf(step.shape.slice(kept)) > 0 ||
          sizeOf(step.shape.slice(0, kept)) === 0,
        () => `${step.reducer} of nothing`,
      );
      const result = step.reducer.startsWith("arg") ? "int32" : dtype;
      checkInstructions(plan, step.shape, step.expression.instructions);
      checkOutput(plan, step.shape.slice(0, kept), output!.view, result);
      return;
    }
    case "matmul": {
      const { batch, m, n, k, a, b, dtype } = step;
      checkShape([...batch, m, n, k]);
      need(dtype !== "bool" && isDType(dtype), () => `product of ${dtype}`);
      checkView(plan, [...batch, m, k], a, dtype);
      checkView(plan, [...batch, k, n], b, dtype);
      checkExpression(plan, [...batch, m, n], step.expression, dtype);
      return;
    }
    case "gather":
    case "scatter": {
      const { outer, size, inner, count } = step;
      checkShape([outer, size, inner, count]);
      const [read, written] = step.kind === "gather" ? [size, count] : [count, size];
      const dtype = checkDense(plan, step.input, outer * read * inner);
      checkDense(plan, step.indices, count, "int32");
      checkDense(plan, step.output, outer * written * inner, dtype, true);
      return;
    }
    case "sort":
      checkShape([step.rows, step.size]);
      checkDense(plan, step.input, step.rows * step.size);
      checkDense(plan, step.output, step.rows * step.size, "int32", true);
      return;
    case "loop":
      checkLoop(plan, step);
      return;
    case "attention":
      checkAttention(plan, step);
      return;
    case "cumsum": {
      const { outer, size, inner, reverse } = step;
      checkShape([outer, size, inner]);
      need(typeof reverse === "boolean", () => `reverse is ${reverse}`);
      const dtype = checkDense(plan, step.input, outer * size * inner);
      need(dtype !== "bool", () => "running sum of bool");
      checkDense(plan, step.output, outer * size * inner, dtype, true);
      return;
    }
    default:
      throw new Fault("unknown kind of step");
  }
}

function checkLoop(plan: Plan, step: LoopStep): void {
  const { length, consts, inits, carries, xs, ys } = step;
  const body = step.plan as Plan;
  validatePlan(body);
  need(isCount(length), () => `${length} turns`);
  need(inits.length === carries.length, () => `${inits.length} inits for ${carries.length} carries`);
  const given = [...consts, ...inits, ...xs];
  const results = [...carries, ...ys];
  need(given.length === body.inputs.length, () => `${given.length} inputs for ${body.inputs.length}`);
  need(results.length === body.outputs.length, () => `${results.length} results for ${body.outputs.length}`);
  const check = (buffer: number, inner: number, turns: number, written: boolean) => {
    const spec = plan.buffers[buffer];
    const { dtype, size } = body.buffers[inner]!;
    need(spec !== undefined, () => `no buffer ${buffer}`);
    need(!written || spec.kind !== "input", () => `writes input buffer ${buffer}`);
    need(
      spec.size === size * turns && spec.dtype === dtype,
      () =>
        `buffer ${buffer} is ${spec.dtype} of ${spec.size} elements, not ${turns} times ${dtype} of ${size}`,
    );
  };
  given.forEach((buffer, i) => {
    check(buffer, body.inputs[i]!, i < given.length - xs.length ? 1 : length, false);
  });
  results.forEach((buffer, i) => {
    check(buffer, body.outputs[i]!, i < carries.length ? 1 : length, true);
  });
  carries.forEach((carry, i) => {
    const [init, result] = [body.inputs[consts.length + i]!, body.outputs[i]!];
    need(
      body.buffers[init]!.dtype === body.buffers[result]!.dtype &&
        body.buffers[init]!.size === body.buffers[result]!.size,
      () => `carry ${carry} changes`,
    );
  });
}

function checkAttention(plan: Plan, step: AttentionStep): void {
  const { part, dtype, batch, n, m, d, e, q, k, v, mask, o, l, directions, outputs } = step;
  need(isDType(dtype) && isFloat(dtype), () => `attention of ${dtype}`);
  need(Number.isFinite(step.scale), () => `scale ${step.scale}`);
  const [ofQ, ofK, ofV, ofO, ofL] = [
    [...batch, n, d],
    [...batch, m, d],
    [...batch, m, e],
    [...batch, n, e],
    [...batch, n],
  ];
  for (const shape of [ofQ, ofK, ofV, ofO, [...batch, n, m]]) checkShape(shape);
  checkView(plan, ofQ, q, dtype);
  checkView(plan, ofK, k, dtype);
  checkView(plan, ofV, v, dtype);
  if (mask !== undefined) checkView(plan, [...batch, n, m], mask, "bool");
  const shapes = {
    value: { directions: [], outputs: [ofO, ofL] },
    tangent: { directions: [ofQ, ofK, ofV], outputs: [ofO, ofL] },
    cotangent: { directions: [ofO, ofL], outputs: [ofQ, ofK, ofV] },
  }[part];
  need(shapes !== undefined, () => `unknown part ${part}`);
  if (part === "value") need(o === undefined && l === undefined, () => "results given to the value");
  else {
    need(o !== undefined && l !== undefined, () => `the ${part} needs the results O and L`);
    checkView(plan, ofO, o, dtype);
    checkView(plan, ofL, l, dtype);
  }
  need(
    directions.length === shapes.directions.length,
    () => `${directions.length} directions of the ${part}`,
  );
  shapes.directions.forEach((shape, i) => {
    if (directions[i] !== undefined) checkView(plan, shape, directions[i], dtype);
  });
  need(outputs.length === shapes.outputs.length, () => `${outputs.length} outputs of the ${part}`);
  shapes.outputs.forEach((shape, i) => {
    const output = outputs[i];
    if (output === undefined) return;
    checkDense(plan, output, sizeOf(shape), dtype, true);
    const { size } = plan.buffers[output]!;
    need(size === sizeOf(shape), () => `output ${i} of ${size} elements for [${shape.join(", ")}]`);
  });
  const touched = buffersOf(step);
  for (const output of writtenBy(step))
    need(
      touched.filter((buffer) => buffer === output).length === 1,
      () => `buffer ${output} is written and also used otherwise`,
    );
}

function checkShape(shape: readonly number[]): void {
  need(shape.every(isCount) && isCount(sizeOf(shape)), () => `shape [${shape.join(", ")}]`);
}

function checkDense(plan: Plan, buffer: number, size: number, dtype?: DType, written = false): DType {
  const spec = plan.buffers[buffer];
  need(spec !== undefined, () => `no buffer ${buffer}`);
  need(!written || spec.kind !== "input", () => `writes input buffer ${buffer}`);
  need(
    spec.size >= size && (dtype === undefined || spec.dtype === dtype),
    () => `buffer ${buffer} is ${spec.dtype} of ${spec.size} elements, not ${dtype ?? "an array"} of ${size}`,
  );
  return spec.dtype;
}

function checkView(plan: Plan, shape: readonly number[], view: View, dtype: DType | undefined): void {
  const spec = plan.buffers[view.buffer];
  need(spec !== undefined, () => `no buffer ${view.buffer}`);
  need(spec.dtype === dtype, () => `buffer ${view.buffer} is ${spec.dtype}, not ${dtype}`);
  const { offset, strides } = view;
  need(strides.length === shape.length, () => `${strides.length} strides for [${shape.join(", ")}]`);
  need(
    [offset, ...strides].every(Number.isSafeInteger),
    () => `offset ${offset}, strides [${strides.join(", ")}]`,
  );
  if (sizeOf(shape) === 0) return;
  let lowest = offset;
  let highest = offset;
  strides.forEach((stride, axis) => {
    const reach = stride * (shape[axis]! - 1);
    if (reach < 0) lowest += reach;
    else highest += reach;
  });
  need(
    lowest >= 0 && highest < spec.size,
    () => `a view reaches from ${lowest} to ${highest} in buffer ${view.buffer} of ${spec.size} elements`,
  );
}

function checkOutput(plan: Plan, shape: readonly number[], view: View, dtype: DType | undefined): void {
  checkView(plan, shape, view, dtype);
  need(plan.buffers[view.buffer]!.kind !== "input", () => `writes input buffer ${view.buffer}`);
}

function checkExpression(
  plan: Plan,
  shape: readonly number[],
  expression: Expression,
  accumulator?: DType,
): void {
  checkInstructions(plan, shape, expression.instructions, accumulator);
  for (const { value, view } of expression.outputs)
    checkOutput(plan, shape, view, expression.instructions[value]?.dtype);
}

function checkInstructions(
  plan: Plan,
  shape: readonly number[],
  instructions: readonly Instruction[],
  accumulator?: DType,
): void {
  for (const [k, instruction] of instructions.entries()) {
    const { op, dtype } = instruction;
    need(isDType(dtype), () => `value ${k} (${op}): dtype ${dtype}`);
    if (op === "load") checkView(plan, shape, instruction.view, dtype);
    else if (op === "constant") {
      const { value } = instruction;
      need(typeof value === "number", () => `value ${k}: constant ${value}`);
    } else if (op === "index") {
      const { strides } = instruction;
      need(strides.length === shape.length, () => `value ${k}: ${strides.length} strides`);
    } else if (op === "accumulator") need(dtype === accumulator, () => `value ${k}: accumulator of ${dtype}`);
    else {
      need(known.has(op), () => `value ${k}: unknown operation ${op}`);
      const args = instruction.args.map((a) => {
        need(Number.isInteger(a) && a >= 0 && a < k, () => `value ${k} (${op}) takes value ${a}`);
        return instructions[a]!.dtype;
      });
      need(fits(op, dtype, args), () => `value ${k}: ${op} of (${args.join(", ")}) -> ${dtype}`);
    }
  }
}

const known: ReadonlySet<string> = new Set(scalarOps);

/** Whether a scalar operation takes arguments of these dtypes and gives this one. */
function fits(op: ScalarOp, result: DType, args: readonly DType[]): boolean {
  const [x, y, z] = args;
  const unary = args.length === 1;
  const binary = args.length === 2 && x === y;
  switch (op) {
    case "neg":
    case "abs":
    case "sign":
      return unary && x === result && result !== "bool";
    case "add":
    case "sub":
    case "mul":
    case "remainder":
      return binary && x === result && result !== "bool";
    case "maximum":
    case "minimum":
      return binary && x === result;
    case "div":
    case "pow":
      return binary && x === result && isFloat(result);
    case "equal":
    case "notEqual":
    case "greater":
    case "greaterEqual":
    case "less":
    case "lessEqual":
      return binary && result === "bool";
    case "logicalNot":
      return unary && x === "bool" && result === "bool";
    case "logicalAnd":
    case "logicalOr":
      return binary && x === "bool" && result === "bool";
    case "where":
      return args.length === 3 && x === "bool" && y === result && z === result;
    case "cast":
      return unary;
    case "shiftRight":
      return binary && x === "uint32" && result === "uint32";
    case "threefry0":
    case "threefry1":
    case "threefryXor":
      return args.length === 4 && args.every((dtype) => dtype === "uint32") && result === "uint32";
    default:
      return unary && x === result && isFloat(result);
  }
}
