import { engineering } from "../format.js";
import { type Summary, summarize } from "../statistics.js";
import { cardOf, floorOn } from "./cards.js";
import type { GpuCase } from "./cases.js";

/** What the bench notes while it runs, one JSON object a line. The table is made of these lines alone. */
export type GpuLine =
  | { readonly device: string; readonly versions: Readonly<Record<string, string>> }
  | Omit<GpuCase, "work" | "allWays">
  | Result
  | { readonly skipped: string; readonly reason: string };

/** What one side did in a case: seconds of each round, or why there are none. */
interface Result {
  readonly case: string;
  readonly side: string;
  readonly turns?: readonly number[];
  readonly failed?: string;
}

export interface GpuCell {
  readonly side: string;
  readonly seconds?: Summary;
  /** Its median over that of the first side, ours. */
  readonly ratio?: number;
  readonly failed?: string;
}

export interface GpuRow {
  readonly name: string;
  readonly section: GpuCase["section"];
  readonly flops: number;
  readonly bytes: number;
  /** Seconds at the card's peak; there for a card that is known. */
  readonly floor?: { readonly products: number; readonly memory: number; readonly seconds: number };
  /** Ours first. */
  readonly cells: readonly GpuCell[];
}

/** The cost of a derivative along the flow: an objective's step over that of flow matching, of the same side. */
export interface GpuOverhead {
  readonly name: string;
  readonly sides: Readonly<Record<string, number>>;
}

export interface GpuTable {
  readonly device: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly rows: readonly GpuRow[];
  readonly overhead: readonly GpuOverhead[];
  readonly skipped: readonly { readonly name: string; readonly reason: string }[];
}

/** The table of the lines so far; a last one that is cut off, as of a run that was stopped, is left out. */
export function tableOf(text: string): GpuTable {
  const lines = text.split("\n").flatMap(parsed);
  const head = lines.find((line) => "device" in line) ?? { device: "unknown", versions: {} };
  const results = lines.filter((line): line is Result => "case" in line);
  const card = cardOf(head.device);
  const rows = lines.flatMap((line): GpuRow[] => {
    if (!("flops" in line)) return [];
    const { name, section, flops, bytes } = line;
    const floor = card === undefined ? {} : { floor: floorOn(card, line) };
    return [
      { name, section, flops, bytes, ...floor, cells: cellsOf(results.filter((r) => r.case === name)) },
    ];
  });
  const skipped = lines.flatMap((line) =>
    "skipped" in line ? [{ name: line.skipped, reason: line.reason }] : [],
  );
  return { ...head, rows, overhead: overheadOf(rows), skipped };
}

function parsed(line: string): GpuLine[] {
  try {
    return [JSON.parse(line) as GpuLine];
  } catch {
    return [];
  }
}

function cellsOf(results: readonly Result[]): GpuCell[] {
  const cells = results.map(({ side, turns, failed }): GpuCell => {
    if (failed !== undefined || turns === undefined || turns.length === 0)
      return { side, failed: failed ?? "no measurement" };
    return { side, seconds: summarize(turns) };
  });
  const own = cells[0]?.seconds?.median;
  return cells.map((cell) =>
    cell.seconds === undefined || own === undefined ? cell : { ...cell, ratio: cell.seconds.median / own },
  );
}

function overheadOf(rows: readonly GpuRow[]): GpuOverhead[] {
  const steps = rows.filter(({ section }) => section === "steps");
  return steps.flatMap(({ name, cells }) => {
    const [objective, ...size] = name.split(", ") as [string, ...string[]];
    const base = steps.find((row) => row.name === ["FM", ...size].join(", "));
    if (base === undefined || objective === "FM") return [];
    const sides = cells.flatMap(({ side, seconds }) => {
      const fm = base.cells.find((cell) => cell.side === side)?.seconds;
      return seconds === undefined || fm === undefined ? [] : [[side, seconds.median / fm.median] as const];
    });
    return [{ name: `${objective} over FM, ${size.join(", ")}`, sides: Object.fromEntries(sides) }];
  });
}

/** The table in Markdown. */
export function markdownOf({ device, versions, rows, overhead, skipped }: GpuTable): string {
  const sides = [...new Set(rows.flatMap(({ cells }) => cells.map(({ side }) => side)))];
  const [own, ...others] = sides;
  const failures = new Set<string>();
  const body = rows.map((row) => {
    const of = new Map(row.cells.map((cell) => [cell.side, cell]));
    const ours = of.get(own ?? "");
    const median = ours?.seconds?.median;
    const floor = row.floor?.seconds;
    const limit = row.floor !== undefined && row.floor.memory > row.floor.products ? " (memory)" : "";
    return [
      row.name,
      `${engineering(row.flops, "FLOP")}, ${engineering(row.bytes, "B")}`,
      floor === undefined ? "" : `${shortTime(floor)}${limit}`,
      ours === undefined ? "" : cellText(ours, failures, row.name),
      median === undefined || floor === undefined ? "" : (median / floor).toFixed(2),
      median === undefined ? "" : engineering(row.flops / median, "FLOP/s"),
      ...others.map((side) => {
        const cell = of.get(side);
        return cell === undefined ? "" : cellText(cell, failures, row.name);
      }),
    ];
  });
  const columns = ["", "work", "floor", own ?? "fluxion", "over floor", "rate", ...others];
  const ratios = overhead.map(({ name, sides: of }) => [
    name,
    "",
    "",
    ratioText(of[own ?? ""]),
    "",
    "",
    ...others.map((side) => ratioText(of[side])),
  ]);
  const notes = [
    ...Object.entries(versions).map(([name, version]) => `- ${name}: ${version}`),
    ...[...failures].map((failure) => `- ${failure}`),
    ...skipped.map(({ name, reason }) => `- ${name}: not measured, ${reason}`),
  ];
  return [
    `# ${device}`,
    "",
    "Medians of one step, block or product; ± half the middle half. With an x: their median over ours. The floor is the",
    "time of the products, or of the memory that must move, at the data sheet's peak.",
    "",
    ...pipes([columns, ...body, ...ratios]),
    "",
    ...notes,
    "",
  ].join("\n");
}

const ratioText = (value: number | undefined) => (value === undefined ? "" : `${value.toFixed(2)} of FM`);

function cellText({ side, seconds, ratio, failed }: GpuCell, failures: Set<string>, row: string): string {
  if (seconds === undefined) {
    failures.add(`${side}, ${row}: ${failed}`);
    return "failed";
  }
  const text = `${shortTime(seconds.median)} ± ${(100 * seconds.spread).toFixed(0)} %`;
  return ratio === undefined || ratio === 1 ? text : `${text}, ${ratio.toFixed(2)}x`;
}

/** Seconds in their own unit: "51.2 us". */
export function shortTime(seconds: number): string {
  if (seconds >= 1) return `${seconds.toPrecision(3)} s`;
  return seconds >= 1e-3 ? `${(1e3 * seconds).toPrecision(3)} ms` : `${(1e6 * seconds).toPrecision(3)} us`;
}

function pipes([head, ...rows]: readonly (readonly string[])[]): string[] {
  const widths = head!.map((_, i) => Math.max(3, ...[head!, ...rows].map((row) => row[i]!.length)));
  const line = (row: readonly string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`;
  return [line(head!), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...rows.map(line)];
}
