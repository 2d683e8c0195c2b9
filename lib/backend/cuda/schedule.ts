import { buffersOf, planMemory } from "../../compile/memory.js";
import type { MapStep, Plan, ReduceStep, Step, StrippedPlan, StripStep } from "../../compile/plan.js";
import { sizeOf } from "../../tensor/shape.js";
import { type Access, accessesOf, conflict } from "./conflict.js";

/** Steps of one launch: their code stands in one kernel, whose registers are those of the hungriest. */
const mostSteps = 32;
/** A kernel takes about 4000 bytes of arguments. */
const mostBuffers = 256;
/** How many launches back a step looks for company. */
const lookBack = 16;

/** What a single block does about as fast as many: elements that a map computes, and that a reduction folds. */
const smallMap = 1024;
const smallReduction = 4096;
/** What a block does one after another is to take less time than launches of its own: steps, and all their elements. */
const strandSteps = 16;
const strandElements = 16384;

/**
 * Numbers of steps in levels. A single step has as many blocks as it likes. Several are small, and one block does
 * them level after level; those of one level are independent of each other.
 */
export type Strand = readonly (readonly number[])[];

export interface Schedule extends Pick<Plan, "buffers" | "arenaBytes"> {
  /**
   * Launches in their order: strands that are independent of each other, of maps and reductions, or one strand of one
   * step of another kind.
   */
  readonly groups: readonly (readonly Strand[])[];
}

/** Whether steps of this kind share launches. */
export const isShareable = (step: Step | StripStep): step is MapStep | ReduceStep =>
  step.kind === "map" || step.kind === "reduce";

/**
 * An order of the plan's steps with few launches. A map or a reduction joins an earlier launch of such steps where all
 * launches after that neither write what it reads or writes, nor read what it writes. In this launch it stands beside the
 * strands that do not either; those that do become one strand that it ends, if they and it are small. Temporaries get new
 * places: lives that did not overlap in the plan's order may do so now.
 */
export function schedule({ steps, buffers }: Plan | StrippedPlan): Schedule {
  const groups: Group[] = [];
  steps.forEach((step, number) => {
    const member = { number, accesses: accessesOf(step), size: sizeIn(step) };
    const touched = buffersOf(step);
    let company: Group | undefined;
    for (let i = groups.length - 1; isShareable(step) && i >= Math.max(0, groups.length - lookBack); i--) {
      const group = groups[i]!;
      const before = group.strands.filter((strand) => conflicts(strand, member));
      const together = new Set([...group.touched, ...touched]);
      const room = group.shareable && sum(group.strands, count) < mostSteps && together.size <= mostBuffers;
      if (room && (before.length === 0 || isSmall(join(before, member)))) company = group;
      if (before.length > 0) break;
    }
    if (!company) {
      company = { strands: [], shareable: isShareable(step), touched: new Set() };
      groups.push(company);
    }
    const before = company.strands.filter((strand) => conflicts(strand, member));
    company.strands = [...company.strands.filter((strand) => !before.includes(strand)), join(before, member)];
    for (const buffer of touched) company.touched.add(buffer);
  });
  const order = groups.map(({ strands }) =>
    strands.map((strand) => strand.map((level) => level.map(({ number }) => number))),
  );
  return {
    groups: order,
    ...planMemory(
      buffers,
      steps,
      order.map((strands) => strands.flat(2)),
    ),
  };
}

interface Group {
  strands: Member[][][];
  readonly shareable: boolean;
  readonly touched: Set<number>;
}

/** A step in a strand. */
interface Member {
  readonly number: number;
  readonly accesses: readonly Access[];
  /** The elements that it goes through; Infinity where these are many for one block. */
  readonly size: number;
}

function sizeIn(step: Step | StripStep): number {
  if (!isShareable(step)) return Infinity;
  const size = sizeOf(step.shape);
  return size <= (step.kind === "map" ? smallMap : smallReduction) ? size : Infinity;
}

const sum = <T>(items: readonly T[], f: (item: T) => number): number =>
  items.reduce((total, item) => total + f(item), 0);

const count = (strand: readonly (readonly Member[])[]): number => sum(strand, (level) => level.length);

const conflicts = (strand: readonly (readonly Member[])[], { accesses }: Member): boolean =>
  strand.some((level) => level.some((other) => conflict(other.accesses, accesses)));

const isSmall = (strand: readonly (readonly Member[])[]): boolean =>
  count(strand) <= strandSteps && sum(strand.flat(), ({ size }) => size) <= strandElements;

/** Independent strands side by side as one, and after all levels that it must come after the new step. */
function join(strands: readonly Member[][][], member: Member): Member[][] {
  const joined = Array.from({ length: Math.max(0, ...strands.map(({ length }) => length)) }, (_, i) =>
    strands.flatMap((strand) => strand[i] ?? []),
  );
  const last = joined.findLastIndex((level) =>
    level.some((other) => conflict(other.accesses, member.accesses)),
  );
  if (last + 1 === joined.length) return [...joined, [member]];
  return joined.map((level, i) => (i === last + 1 ? [...level, member] : level));
}
