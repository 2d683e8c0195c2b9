import { collapse } from "../../compile/collapse.js";
import type { MapStep } from "../../compile/plan.js";
import { sizeOf } from "../../tensor/shape.js";
import { expressionHeaders } from "./expression.js";
import { coordinateLines, indexType, reaches, viewsOf } from "./indices.js";
import { type Lanes, lanesOf, mapLines } from "./lanes.js";
import type { Lowering } from "./lowering.js";
import { inside, type Part, threads } from "./part.js";

/** From this size on four lanes a thread leave enough threads for a large device; fewer would be slower than narrow ones. */
const enoughForLanes = 132 * 4 * threads;

/** A map as a part of a launch: a thread computes an element, or four neighbours. None for a map of nothing. */
export function mapPart(lowering: Lowering, step: MapStep): Part[] {
  if (sizeOf(step.shape) === 0) return [];
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
  return [
    {
      name: "map",
      blocks: Math.ceil(groups / threads),
      busy: Math.min(groups, threads),
      barriers: false,
      includes: [...expressionHeaders, "vectors.cuh"],
      writes: expression.outputs.map(({ view }) => view.buffer),
      lines: (block, thread, pointer) => [
        `const ${type.unsigned} t = ${block} * ${threads}${type.suffix} + ${thread};`,
        ...inside(`if (t < ${groups}${type.suffix})`, [
          ...coordinateLines("t", counted, numbers, type),
          ...(lanes > 1 ? [`const ${type.signed} ${names[last]} = group * 4;`] : []),
          ...mapLines(lowering, expression, lanes, names, pointer),
        ]),
      ],
    },
  ];
}
