import type { MapStep, Plan, ReduceStep, StrippedPlan } from "../../compile/plan.js";
import type { Lowering } from "./lowering.js";
import { mapPart } from "./map.js";
import { inOneBlock, launchParts, type Part } from "./part.js";
import { reduceParts } from "./reduce.js";
import type { Strand } from "./schedule.js";

type Steps = (Plan | StrippedPlan)["steps"];

/**
 * Launches maps and reductions, in strands as `schedule` makes them: one launch, and a second one for the second parts of
 * reductions that have two. Steps of nothing launch nothing.
 */
export function lowerStrands(lowering: Lowering, steps: Steps, strands: readonly Strand[]): void {
  const partsOf = (number: number): readonly Part[] => {
    const step = steps[number] as MapStep | ReduceStep;
    return step.kind === "map" ? mapPart(lowering, step) : reduceParts(lowering, step);
  };
  const parts = strands.map((levels): readonly Part[] => {
    if (levels.flat().length === 1) return partsOf(levels[0]![0]!);
    const inBlock = levels.flatMap((level) => {
      const parts = level.map(partsOf);
      return [0, 1].map((i) => parts.flatMap((both) => both.slice(i, i + 1)));
    });
    return [inOneBlock(inBlock.filter(({ length }) => length > 0))];
  });
  for (const i of [0, 1])
    launchParts(
      lowering,
      parts.flatMap((both) => both.slice(i, i + 1)),
    );
}
