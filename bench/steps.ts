import { threads } from "#lib/backend/cpu.js";
import type { Bench } from "./bench.js";
import { forwardEquivalents, type ObjectiveName, objectives, stepFlops } from "./floor.js";
import { time, times } from "./format.js";
import { alternate, fastest, type Side } from "./measure.js";
import { peerSteps } from "./peers/index.js";
import { ratio, type Summary, summarize } from "./statistics.js";
import { layers, type StepSize, trainingSide } from "./trainers.js";

const titles: Readonly<Record<ObjectiveName, string>> = {
  fm: "flow matching",
  mf: "mean flow",
  mf75: "mean flow, 75 % at r = t",
  imf: "improved mean flow",
};

/** One objective at one size. */
export interface StepRow extends StepSize {
  readonly objective: ObjectiveName;
  readonly title: string;
  readonly seconds: Summary;
  /** Our time over the floor's, both of the same rounds. */
  readonly overFloor: Summary;
  /** The others' times, and theirs over ours: above 1, ours is faster. */
  readonly others: readonly OtherRow[];
}

export interface OtherRow {
  readonly name: string;
  readonly setting?: string;
  readonly seconds?: Summary;
  readonly ratio?: Summary;
  readonly failed?: string;
}

/** What a derivative along the flow costs: the step of one objective over that of flow matching. */
export interface OverheadRow {
  readonly hidden: number;
  readonly objective: ObjectiveName;
  readonly overFlowMatching: Summary;
}

export interface Steps {
  readonly rows: readonly StepRow[];
  readonly overhead: readonly OverheadRow[];
}

export async function benchSteps(bench: Bench): Promise<Steps> {
  const rows: StepRow[] = [];
  const overhead: OverheadRow[] = [];
  for (const hidden of [128, 512]) {
    const chosen = bench.quick && hidden > 128 ? (["fm"] as const) : objectives;
    const size = { hidden, batch: 4096 };
    bench.print(
      `  MLP of ${layers} x ${hidden}, batch ${size.batch}, Adam. The last column is their time over ours.`,
    );
    for (const objective of chosen) rows.push(await compare(bench, objective, size));
    if (chosen === objectives) overhead.push(...(await benchOverhead(bench, size)));
  }
  return { rows, overhead };
}

/** Steps in one turn of the addon, enough that the first one, with the caches of others, hardly counts. */
function turnSteps(hidden: number): number {
  return hidden > 128 ? 4 : 24;
}

async function compare(bench: Bench, objective: ObjectiveName, size: StepSize): Promise<StepRow> {
  const { hidden, batch } = size;
  const title = titles[objective];
  const few = bench.quick ? 1 : 2;
  const ours = trainingSide(objective, size, "cpu", turnSteps(hidden));
  const floor = bench.peak.floor(stepFlops(objective, hidden, layers, batch), threads());
  const others: { name: string; side?: Side; failed?: string }[] = [];
  if (hidden === 128)
    others.push({
      name: "ours, in TypeScript",
      side: { ...trainingSide(objective, size, "typescript", 1), rounds: few },
    });
  for (const { name, ways, slow, refused } of peerSteps(bench.peers, objective, size)) {
    if (bench.quick && slow && hidden > 128) continue;
    bench.progress(`${title}, ${hidden} wide: ${name}`);
    try {
      if (refused !== undefined) throw new Error(refused);
      const best = await fastest(ways, !bench.quick && !slow);
      others.push({ name, side: { ...best, ...(slow ? { rounds: few } : {}) } });
    } catch (error) {
      others.push({ name, failed: (error as Error).message });
    }
  }
  bench.progress(`${title}, ${hidden} wide`);
  const sides = others.flatMap(({ side }) => (side === undefined ? [] : [side]));
  const [own, least, ...timed] = await alternate([ours, floor, ...sides], bench.rounds);
  const seconds = summarize(own!.turns);
  const overFloor = ratio(own!.turns, least!.turns);
  const rest = others.map(({ name, side, failed }): OtherRow => {
    const other = side === undefined ? { label: "", turns: [], failed } : timed[sides.indexOf(side)]!;
    if (other.failed !== undefined) return { name, failed: other.failed };
    return {
      name,
      setting: other.label,
      seconds: summarize(other.turns),
      ratio: ratio(other.turns, own!.turns),
    };
  });
  bench.print(
    `  ${title.padEnd(26)} ${"ours".padEnd(20)} ${time(seconds)}  ${times(overFloor)} the floor of ` +
      `${forwardEquivalents[objective]} forward passes, ${time(summarize(least!.turns))}`,
  );
  for (const { name, setting, seconds, ratio: compared, failed } of rest) {
    const start = `  ${"".padEnd(26)} ${name.padEnd(20)}`;
    if (seconds === undefined || compared === undefined) bench.print(`${start} ${failed}`);
    else bench.print(`${start} ${time(seconds)}  ${times(compared)} (${setting})`);
  }
  return { ...size, objective, title, seconds, overFloor, others: rest };
}

/** All objectives against flow matching, in the same rounds. */
async function benchOverhead(bench: Bench, size: StepSize): Promise<OverheadRow[]> {
  bench.progress(`overhead of the JVP, ${size.hidden} wide`);
  const sides = objectives.map((objective) => trainingSide(objective, size, "cpu", turnSteps(size.hidden)));
  const timed = await alternate(sides, bench.rounds);
  const rows = objectives.slice(1).map((objective, i) => ({
    hidden: size.hidden,
    objective,
    overFlowMatching: ratio(timed[i + 1]!.turns, timed[0]!.turns),
  }));
  const texts = rows.map(({ objective, overFlowMatching }) => {
    const counted = forwardEquivalents[objective] / forwardEquivalents.fm;
    return `${titles[objective]} ${times(overFlowMatching).trim()} (${counted.toFixed(2)} by matrix products)`;
  });
  bench.print(`  over flow matching's step: ${texts.join("; ")}\n`);
  return rows;
}
