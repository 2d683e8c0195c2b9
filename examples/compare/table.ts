import { markdownTable, plainTable } from "../support/table.js";
import type { DataSet } from "./data-sets.js";
import type { Quality } from "./measures.js";
import type { Row, Spread } from "./summary.js";
import { evaluationCounts } from "./training.js";

const [fewest, most] = [evaluationCounts[0]!, evaluationCounts.at(-1)!] as const;

export const columns: readonly string[] = [
  "data",
  "objective",
  ...evaluationCounts.map((n) => `E(${n})`),
  ...[fewest, most].map((n) => `valid(${n})`),
  ...[fewest, most].map((n) => `TV(${n})`),
  "u error",
  "u(0, 1) error",
  "v error",
  "cost",
];

/** The number of columns that hold words. */
const words = 2;

export const columnNotes: readonly string[] = [
  "E(n): 1000 x energy distance between data and samples that take n evaluations of the network, all from the same noise.",
  `valid(n), TV(n): share of samples in dark tiles, and total variation between the tiles' shares and equal ones.`,
  "u error, v error: root mean square distance of the average velocity over random intervals, and of the velocity, from the exact ones; u(0, 1): over the whole of [0, 1].",
  "cost: time of a training step in that of FM on the same data with the same seed (medians).",
  "data: as much data against the same data, which cannot be beaten but by chance.",
];

/** A cell: a number as text, and its range over the seeds if there are several. */
interface Cell {
  readonly text: string;
  readonly range?: readonly [string, string];
}

const blank: Cell = { text: "" };
/** There is no such number. */
const none: Cell = { text: "-" };

/** For a terminal: ranges stand below their means. */
export function plainComparison(
  rows: readonly Row[],
  floors: Readonly<Record<string, Quality>>,
  dataSets: readonly DataSet[],
): string {
  const lines = cells(rows, floors, dataSets).flatMap((row) => {
    const texts = row.map(({ text }) => text);
    if (row.every(({ range }) => range === undefined)) return [texts];
    return [texts, row.map(({ range }) => (range === undefined ? "" : `${range[0]}-${range[1]}`))];
  });
  return plainTable(columns, lines, words);
}

/** For Markdown: ranges stand beside their means. */
export function markdownComparison(
  rows: readonly Row[],
  floors: Readonly<Record<string, Quality>>,
  dataSets: readonly DataSet[],
): string {
  const lines = cells(rows, floors, dataSets).map((row) =>
    row.map(({ text, range }) => (range === undefined ? text : `${text} (${range[0]} to ${range[1]})`)),
  );
  return markdownTable(columns, lines, words);
}

/** The rows of each data set, its floor last; a name that repeats from the row above is left out. */
function cells(
  rows: readonly Row[],
  floors: Readonly<Record<string, Quality>>,
  dataSets: readonly DataSet[],
): Cell[][] {
  return dataSets.flatMap(({ name, title }) => {
    const own = rows.filter(({ data }) => data === name);
    const lines = [...own.map(methodCells), floorCells(floors[name]!)];
    return lines.map((line, i) => [i === 0 ? { text: title } : blank, ...line]);
  });
}

function methodCells({ curve, points, fieldErrors, cost }: Row): Cell[] {
  const at = (n: number) => points.find(({ evaluations }) => evaluations === n);
  return [
    { text: curve },
    ...evaluationCounts.map((n) => cell(at(n)?.energyDistance, thousandfold)),
    ...[fewest, most].map((n) => cell(at(n)?.validity, fixed(3))),
    ...[fewest, most].map((n) => cell(at(n)?.tileTotalVariation, fixed(3))),
    cell(fieldErrors?.averageVelocity, fixed(3)),
    cell(fieldErrors?.oneStep, fixed(3)),
    cell(fieldErrors?.velocity, fixed(3)),
    cost === undefined ? none : { text: cost.toFixed(2) },
  ];
}

function floorCells({ energyDistance, validity, tileTotalVariation }: Quality): Cell[] {
  const number = (value: number | undefined, format: Format): Cell =>
    value === undefined ? none : { text: format(value) };
  return [
    { text: "data" },
    ...evaluationCounts.map(() => number(energyDistance, thousandfold)),
    ...[fewest, most].map(() => number(validity, fixed(3))),
    ...[fewest, most].map(() => number(tileTotalVariation, fixed(3))),
    none,
    none,
    none,
    none,
  ];
}

type Format = (value: number) => string;

const fixed =
  (digits: number): Format =>
  (value) =>
    value.toFixed(digits);

/** About three digits of a thousand times the value. */
const thousandfold: Format = (value) => {
  const thousand = 1000 * value;
  return thousand.toFixed(thousand >= 100 ? 0 : thousand >= 10 ? 1 : 2);
};

function cell(spread: Spread | undefined, format: Format): Cell {
  if (spread === undefined) return none;
  const text = format(spread.mean);
  return spread.values.length === 1
    ? { text }
    : { text, range: [format(spread.least), format(spread.greatest)] };
}
