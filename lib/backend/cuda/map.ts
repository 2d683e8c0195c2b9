import { collapse } from "../../compile/collapse.js";
import type { MapStep } from "../../compile/plan.js";
import { sizeOf } from "../../tensor/shape.js";
import { expressionHeaders } from "./expression.js";
import { coordinateLines, indexType, reaches, viewsOf } from "./indices.js";
import { type Lanes, lanesOf, mapLines } from "./lanes.js";
import type { Lowering } from "./lowering.js";

const threads = 256;

/** From this size on four lanes a thread leave enough threads for a large device; fewer would be slower than narrow ones. */
const enoughForLanes = 132 * 4 * threads;

/**
 * One launch for maps that are independent of each other (see `schedule`): each has its own range of blocks. Maps
 * of nothing launch nothing.
 */
export function lowerMaps(lowering: Lowering, steps: readonly MapStep[]): void {
  const parts = steps.filter(({ shape }) => sizeOf(shape) > 0).map((step) => mapPart(lowering, step));
  const blocks = parts.reduce((sum, part) => sum + part.blocks, 0);
  lowering.launch({
    name: "map",
    threads,
    grid: [blocks, 1, 1],
    includes: [...expressionHeaders, "vectors.cuh"],
    writes: parts.flatMap((part) => part.writes),
    body: (pointer) => {
      let first = 0;
      return parts.flatMap((part, i) => {
        const block = first === 0 ? "blockIdx.x" : `(blockIdx.x - ${first}u)`;
        const lines = part.lines(block, pointer);
        first += part.blocks;
        if (parts.length === 1) return lines;
        const condition = i === parts.length - 1 ? "" : `if (blockIdx.x < ${first}u) `;
        return [`${i > 0 ? "else " : ""}${condition}{`, ...lines.map((line) => `  ${line}`), "}"];
      });
    },
  });
}

interface MapPart {
  readonly blocks: number;
  readonly writes: readonly number[];
  lines(block: string, pointer: (buffer: number) => string): string[];
}

function mapPart(lowering: Lowering, step: MapStep): MapPart {
  const { shape, expression } = collapse({ ...step, firstReduced: step.shape.length });
  const size = sizeOf(shape);
  const type = indexType(reaches(shape, expression));
  const lanes: Lanes =
    size >= enoughForLanes ? lanesOf(shape, viewsOf(expression), (buffer) => lowering.sizeOf(buffer)) : 1;
  const groups = size / lanes;
  const last = shape.length - 1;
  // The last axis counts groups of lanes.
  const counted = shape.map((n, axis) => (axis === last ? n / lanes : n));
  const names = shape.map((_, axis) => `i${axis}`);
  const numbers = names.map((name, axis) => (lanes > 1 && axis === last ? "group" : name));
  return {
    blocks: Math.ceil(groups / threads),
    writes: expression.outputs.map(({ view }) => view.buffer),
    lines: (block, pointer) => [
      `const ${type.unsigned} t = ${block} * ${threads}${type.suffix} + threadIdx.x;`,
      `if (t < ${groups}${type.suffix}) {`,
      ...[
        ...coordinateLines("t", counted, numbers, type),
        ...(lanes > 1 ? [`const ${type.signed} ${names[last]} = group * 4;`] : []),
        ...mapLines(lowering, expression, lanes, names, pointer),
      ].map((line) => `  ${line}`),
      "}",
    ],
  };
}
