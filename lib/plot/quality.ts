import { ValueError } from "../errors.js";
import { checkCount, checkFlag, checkNumber, checkOptions, describe } from "../options.js";
import { type Figure, figure } from "./figure.js";
import { colour, dash, shape } from "./look.js";

/** How good the samples are that one method draws with so many evaluations of its network. */
export interface QualityPoint {
  /** Evaluations of the network for one sample, a whole number from 1 on. */
  readonly evaluations: number;
  /** What was measured, once for each training (each seed); at least one number. */
  readonly values: readonly number[];
}

/** One data set, on which methods are compared. */
export interface QualityPanel {
  readonly title: string;
  /** The points of each method by its name, in any order. A method may be absent from a panel. */
  readonly curves: Readonly<Record<string, readonly QualityPoint[]>>;
  /** What cannot be beaten but by chance, such as the measure of data against data: a dashed line. Default: none. */
  readonly floor?: number;
}

export interface QualityCurvesOptions {
  title?: string;
  /** What the values are: the title of the vertical axis. Default "quality". */
  measure?: string;
  /** A logarithmic vertical axis, for which all values must be above 0. Default false. */
  log?: boolean;
  /** Of one panel, in units of the SVG. Default 250 by 250. */
  width?: number;
  height?: number;
}

const optionNames = ["title", "measure", "log", "width", "height"];

/** Units of the SVG between panels. */
const spacing = 24;

/**
 * Quality against evaluations of the network: panels side by side, one for each data set, and in each a line for each
 * method through the means over its trainings. Where there are several trainings, a band reaches from the least to the
 * greatest value. The horizontal axis is logarithmic, with a tick at each number of evaluations; the vertical axis is
 * each panel's own. A method has the same colour, shape and dash in all panels.
 *
 * @param panels at least one, each with at least one curve
 * @throws ValueError for wrong options, and for panels that cannot be drawn, naming the panel and the curve
 */
export function qualityCurves(panels: readonly QualityPanel[], options: QualityCurvesOptions = {}): Figure {
  const where = "plot.qualityCurves";
  checkOptions(where, options, optionNames);
  const { title, measure = "quality" } = options;
  const log = checkFlag(where, "log", options.log ?? false);
  const width = checkNumber(where, "width", options.width ?? 250, { above: 0 });
  const height = checkNumber(where, "height", options.height ?? 250, { above: 0 });
  checkPanels(where, panels, log);
  const names = [...new Set(panels.flatMap(({ curves }) => Object.keys(curves)))];
  const evaluations = panels.flatMap(({ curves }) =>
    Object.values(curves)
      .flat()
      .map((p) => p.evaluations),
  );
  const ticks = [...new Set(evaluations)].sort((a, b) => a - b);
  return figure({
    ...(title === undefined ? {} : { title }),
    spacing,
    hconcat: [
      ...panels.map((panel, i) => ({
        title: { text: panel.title, anchor: "middle", fontSize: 13, fontWeight: "normal", offset: 8 },
        width,
        height,
        layer: layers(panel, names, positions(panel, ticks, i === 0 ? measure : null, log)),
      })),
      legend(names),
    ],
  });
}

/** The axes of a panel. */
function positions(
  { curves, floor }: QualityPanel,
  ticks: readonly number[],
  measure: string | null,
  log: boolean,
): Positions {
  const values = Object.values(curves).flatMap((points) => points.flatMap((point) => point.values));
  const all = floor === undefined ? values : [...values, floor];
  const levels = log ? logarithmicTicks(Math.min(...all), Math.max(...all)) : [];
  return {
    x: {
      field: "evaluations",
      type: "quantitative",
      scale: { type: "log", base: 2, domain: [ticks[0]! / 1.12, ticks.at(-1)! * 1.12], nice: false },
      axis: {
        title: "evaluations of the network",
        values: ticks,
        format: "d",
        grid: false,
        labelFlush: false,
      },
    },
    y: {
      type: "quantitative",
      scale: log ? { type: "log", nice: false, padding: 10 } : { zero: true },
      axis: { title: measure, ...(levels.length > 1 ? { values: levels, format: "~g" } : {}) },
    },
  };
}

/** 1, 2 and 5 times powers of ten between these; powers of ten alone where those would be many. */
function logarithmicTicks(low: number, high: number): number[] {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const steps = high / low > 1e4 ? [1] : [1, 2, 5];
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i)
    .flatMap((power) => steps.map((step) => Number(`${step}e${power}`)))
    .filter((tick) => tick >= low && tick <= high);
}

interface Positions {
  readonly x: Record<string, unknown>;
  readonly y: Record<string, unknown>;
}

/** At the left, where few evaluations keep the curves away from the floor. */
const besideFloor = {
  align: "left",
  baseline: "bottom",
  dx: 4,
  dy: -2,
  fontSize: 10,
  color: "#777",
} as const;

const line = { type: "line", strokeWidth: 1.6, aria: false } as const;
const point = { type: "point", filled: true, size: 44, opacity: 1, aria: false } as const;

/** How the series are told apart. */
function bySeries(names: readonly string[]): Record<"color" | "strokeDash" | "shape", object> {
  const by = (range: readonly unknown[]) => ({
    field: "name",
    type: "nominal",
    scale: { domain: names, range },
    legend: null,
  });
  return {
    color: by(names.map((_, i) => colour(i))),
    strokeDash: by(names.map((_, i) => dash(i))),
    shape: by(names.map((_, i) => shape(i))),
  };
}

/** The legend as a picture of its own: those of Vega show a shape or a dash, but no line with points on it. */
function legend(names: readonly string[]): Record<string, unknown> {
  const { color, strokeDash, shape } = bySeries(names);
  const y = { field: "name", type: "nominal", scale: { domain: names }, axis: null };
  const at = (x: number) => ({ x: { value: x }, y });
  return {
    width: 34,
    height: 20 * names.length,
    view: { stroke: null },
    data: { values: names.map((name) => ({ name })) },
    layer: [
      {
        mark: { ...line, type: "rule" },
        encoding: { ...at(0), x2: { value: 30 }, color, strokeDash },
      },
      { mark: point, encoding: { ...at(15), color, shape } },
      {
        mark: { type: "text", align: "left", baseline: "middle", fontSize: 12, color: "#222", aria: false },
        encoding: { ...at(38), text: { field: "name", type: "nominal" } },
      },
    ],
  };
}

/** From the back to the front: the floor, bands, lines, points. */
function layers({ curves, floor }: QualityPanel, names: readonly string[], { x, y }: Positions): unknown[] {
  const rows = Object.entries(curves).flatMap(([name, points]) =>
    points.map(({ evaluations, values }) => ({
      name,
      evaluations,
      mean: values.reduce((a, b) => a + b, 0) / values.length,
      least: Math.min(...values),
      greatest: Math.max(...values),
    })),
  );
  const bands = rows.filter(({ least, greatest }) => least < greatest);
  const { color, strokeDash, shape } = bySeries(names);
  const mean = { ...y, field: "mean" };
  return [
    ...(floor === undefined
      ? []
      : [
          {
            data: { values: [{ floor }] },
            mark: { type: "rule", stroke: "#777", strokeDash: [2, 3], strokeWidth: 1.2, aria: false },
            encoding: { y: { ...y, field: "floor" } },
          },
          {
            data: { values: [{ floor }] },
            mark: { type: "text", text: "floor", ...besideFloor, aria: false },
            encoding: { x: { value: 0 }, y: { ...y, field: "floor" } },
          },
        ]),
    {
      data: { values: bands },
      mark: { type: "area", opacity: 0.18, aria: false },
      encoding: {
        x,
        y: { ...y, field: "least" },
        y2: { field: "greatest" },
        color,
      },
    },
    {
      data: { values: rows },
      mark: line,
      encoding: { x, y: mean, color, strokeDash },
    },
    {
      data: { values: rows },
      mark: point,
      encoding: { x, y: mean, color, shape },
    },
  ];
}

function checkPanels(where: string, panels: unknown, log: boolean): void {
  if (!Array.isArray(panels) || panels.length === 0)
    throw new ValueError(`${where}: panels must be an array of at least one panel, got ${describe(panels)}`);
  const limits = log ? { above: 0 } : {};
  panels.forEach((panel: unknown, i) => {
    const place = `${where}: panels[${i}]`;
    checkOptions(place, panel, ["title", "curves", "floor"]);
    const { title, curves, floor } = panel as Partial<QualityPanel>;
    if (typeof title !== "string")
      throw new ValueError(`${place}: title must be a string, got ${describe(title)}`);
    if (floor !== undefined) checkNumber(place, "floor", floor, limits);
    if (typeof curves !== "object" || curves === null || Array.isArray(curves))
      throw new ValueError(`${place}: curves must be an object of curves by name, got ${describe(curves)}`);
    if (Object.keys(curves).length === 0) throw new ValueError(`${place}: there is no curve`);
    for (const [name, points] of Object.entries(curves))
      checkCurve(`${place}, ${JSON.stringify(name)}`, points, limits);
  });
}

function checkCurve(where: string, points: unknown, limits: { above?: number }): void {
  if (!Array.isArray(points) || points.length === 0)
    throw new ValueError(`${where}: a curve must be an array of at least one point, got ${describe(points)}`);
  const seen = new Set<number>();
  points.forEach((point: unknown, i) => {
    const place = `${where}, point ${i}`;
    checkOptions(place, point, ["evaluations", "values"]);
    const { evaluations, values } = point as Partial<QualityPoint>;
    const count = checkCount(place, "evaluations", evaluations);
    if (seen.has(count)) throw new ValueError(`${place}: a point with ${count} evaluations came before`);
    seen.add(count);
    if (!Array.isArray(values) || values.length === 0)
      throw new ValueError(
        `${place}: values must be an array of at least one number, got ${describe(values)}`,
      );
    values.forEach((value, k) => void checkNumber(place, `values[${k}]`, value, limits));
  });
}
