import type { Expression, Instruction, MatMulStep } from "./plan.js";

/** "4096x128"; a scalar is "scalar". */
export const sizes = (shape: readonly number[]): string => (shape.length === 0 ? "scalar" : shape.join("x"));

/** More different operations than this are only counted. */
const mostWords = 6;

/** The operations of an expression in brief, in the order of the first of each: "sub, 2 mul, exp"; empty for none. */
export function expressionWords(expression: Expression, bias: Instruction | undefined = undefined): string {
  const counts = new Map<string, number>();
  for (const instruction of expression.instructions) {
    const word = instruction === bias ? "bias" : wordOf(instruction);
    if (word !== undefined) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const words = [...counts].map(([word, count]) => (count === 1 ? word : `${count} ${word}`));
  if (words.length <= mostWords) return words.join(", ");
  const rest = [...counts.values()].slice(mostWords - 1).reduce((sum, count) => sum + count, 0);
  return `${words.slice(0, mostWords - 1).join(", ")} and ${rest} more`;
}

function wordOf({ op }: Instruction): string | undefined {
  switch (op) {
    case "load":
    case "constant":
    case "index":
    case "accumulator":
      return undefined;
    case "threefry0":
    case "threefry1":
    case "threefryXor":
      return "threefry";
    default:
      return op;
  }
}

/** What a map without operations does with its values. */
export function movementWord({ instructions, outputs }: Expression): string {
  const ops = new Set(outputs.map(({ value }) => instructions[value]!.op));
  return ops.has("load") ? "copy" : ops.has("index") ? "count" : "fill";
}

/** The instruction that adds a row, the same for all rows, to a product: its bias. */
export function biasOf({ batch, expression: { instructions } }: MatMulStep): Instruction | undefined {
  const row = batch.length;
  const isRow = (instruction: Instruction) =>
    instruction.op === "load" &&
    instruction.view.strides[row] === 0 &&
    instruction.view.strides[row + 1] !== 0;
  return instructions.find((instruction) => {
    if (instruction.op !== "add") return false;
    const [a, b] = instruction.args.map((arg) => instructions[arg]!) as [Instruction, Instruction];
    return (a.op === "accumulator" && isRow(b)) || (b.op === "accumulator" && isRow(a));
  });
}
