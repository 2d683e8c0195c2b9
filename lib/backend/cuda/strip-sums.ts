import { writtenBy } from "../../compile/memory.js";
import type { StripPart } from "../../compile/plan.js";
import { elementAt, emitExpression, emitStores, expressionHeaders } from "./expression.js";
import { coordinateLines, type IndexType } from "./indices.js";
import { cTypes, type Lowering } from "./lowering.js";
import { keptShape, type Partials, stateOf, unsignedLines } from "./strip-parts.js";

const threads = 256;

type Pointer = (buffer: number) => string;

/** One kernel adds up the partial sums of all parts, in order, and runs the expressions of products on the totals. */
export function lowerStripSums(
  lowering: Lowering,
  partials: ReadonlyMap<StripPart, Partials>,
  type: IndexType,
): void {
  let blocks = 0;
  const ranges = [...partials].map(([part, sums]) => {
    const vector =
      part.step.kind === "matmul" && part.step.dtype === "float32" && sums.size % 4 === 0 ? 4 : 1;
    const first = blocks;
    blocks += Math.ceil(sums.size / (32 * vector));
    return { part, sums, vector, first, end: blocks };
  });
  lowering.launch({
    name: "strip_sums",
    threads,
    grid: [blocks, 1, 1],
    sharedBytes: threads * 16,
    includes: [...expressionHeaders, "strip_fold.cuh"],
    writes: ranges.flatMap(({ part }) => writtenBy(part.step)),
    body: (pointer) =>
      ranges.flatMap(({ part, sums, vector, first, end }) => [
        `if (${first > 0 ? `blockIdx.x >= ${first} && ` : ""}blockIdx.x < ${end}) {`,
        `const int block = int(blockIdx.x) - ${first};`,
        ...totalCode(part, sums, vector, pointer, type),
        "}",
      ]),
  });
}

function totalCode(
  { step }: StripPart,
  { buffers, size, count }: Partials,
  vector: number,
  pointer: Pointer,
  type: IndexType,
): string[] {
  if (step.kind === "matmul") {
    const scope = {
      coordinates: ["row", "column"],
      element: (view: Parameters<typeof elementAt>[1]) =>
        elementAt(pointer(view.buffer), view, ["row", "column"]),
      accumulator: "total",
    };
    const emitted = emitExpression(step.expression, scope);
    return [
      `const auto finish = [&](int element, ${cTypes[step.dtype]} total) {`,
      ...unsignedLines("element", "index", type),
      ...coordinateLines("index", [step.m, step.n], ["row", "column"], type),
      ...emitted.lines,
      ...emitStores(step.expression, emitted, scope),
      "};",
      `fluxion::stripFinishSum<${cTypes[step.dtype]}, ${size}, ${count}, ${vector}>(${pointer(buffers[0]!)}, block, finish);`,
    ];
  }
  if (step.kind !== "reduce") return [];
  const kept = keptShape(step);
  const names = kept.map((_, axis) => `k${axis}`);
  const { value, view } = step.expression.outputs[0]!;
  const dtype = step.expression.instructions[value]!.dtype;
  return [
    `const auto finish = [&](int element, ${cTypes[dtype]} total) {`,
    ...unsignedLines("element", "index", type),
    ...coordinateLines("index", kept, names, type),
    `${elementAt(pointer(view.buffer), view, names)} = total;`,
    "};",
    `fluxion::stripFinishFold<${stateOf(step)}, ${size}, ${count}>(${buffers.map(pointer).join(", ")}${buffers.length === 1 ? `, ${pointer(buffers[0]!)}` : ""}, block, finish);`,
  ];
}
