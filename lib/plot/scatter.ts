import { ValueError } from "../errors.js";
import { type Figure, figure } from "./figure.js";
import { colour } from "./look.js";
import { checkLimit, checkScale, extent, type Points, rows } from "./points.js";

export interface ScatterOptions {
  title?: string;
  /** The axes run from -scale to scale, equal for x and y. Default: the largest coordinate among the points. */
  scale?: number;
  /** Side of the plot in units of the SVG, default 360. */
  size?: number;
  /** Most points that are drawn, evenly taken from all, default 5,000. */
  limit?: number;
  /** Any CSS colour. */
  color?: string;
}

export interface ScatterGridOptions {
  title?: string;
  /** Labels of the rows, from the top; as many as there are rows of panels. */
  rows: readonly string[];
  /** Labels of the columns, from the left. */
  columns: readonly string[];
  /** The axes of every panel run from -scale to scale. Default: the largest coordinate among all points. */
  scale?: number;
  /** Side of one panel in units of the SVG, default 170. */
  size?: number;
  /** Most points drawn in one panel, default 3,000. */
  limit?: number;
  /** What has a colour of its own, default "column". */
  colorBy?: "row" | "column" | "none";
}

/**
 * Points in the plane, small and translucent, so that density shows.
 *
 * @param points tensor [n, 2] or pairs of numbers
 */
export function scatter(points: Points, options: ScatterOptions = {}): Figure {
  const where = "plot.scatter";
  const { title, size = 360, limit = 5000, color = colour(0) } = options;
  const { scale = extent(where, points) } = options;
  checkLimit(where, limit);
  checkScale(where, scale);
  const values = rows(where, points, limit);
  return figure({
    ...(title === undefined ? {} : { title }),
    data: { values },
    width: size,
    height: size,
    mark: { ...dots(values.length, size), color },
    encoding: positions(scale),
  });
}

/**
 * A table of scatter panels over one pair of axes: numbers of steps by objectives, moments of an evolution,
 * samples at checkpoints.
 *
 * @param panels panels[row][column]; undefined leaves a panel empty
 */
export function scatterGrid(
  panels: readonly (readonly (Points | undefined)[])[],
  options: ScatterGridOptions,
): Figure {
  const where = "plot.scatterGrid";
  const { title, size = 170, limit = 3000, colorBy = "column" } = options;
  checkLimit(where, limit);
  if (panels.length !== options.rows.length)
    throw new ValueError(`${where}: ${panels.length} rows of panels, ${options.rows.length} row labels`);
  for (const [i, row] of panels.entries())
    if (row.length !== options.columns.length)
      throw new ValueError(
        `${where}: row ${i} has ${row.length} panels, ${options.columns.length} column labels`,
      );
  const filled = panels.flatMap((row, r) =>
    row.flatMap((points, c) => (points === undefined ? [] : [{ points, r, c }])),
  );
  const { scale = Math.max(...filled.map(({ points }) => extent(where, points)), 0.1) } = options;
  checkScale(where, scale);
  const values = filled.flatMap(({ points, r, c }) =>
    rows(where, points, limit).map((row) => ({ ...row, r, c, k: colorBy === "row" ? r : c })),
  );
  const most = values.length / Math.max(filled.length, 1);
  const series = Math.max(panels.length, options.columns.length);
  return figure({
    ...(title === undefined ? {} : { title }),
    data: { values },
    facet: { row: labels("r", options.rows), column: labels("c", options.columns) },
    spacing: 12,
    spec: {
      width: size,
      height: size,
      mark: dots(most, size),
      encoding: {
        ...positions(scale),
        color:
          colorBy === "none"
            ? { value: colour(0) }
            : {
                field: "k",
                type: "nominal",
                scale: { domain: range(series), range: range(series).map(colour) },
                legend: null,
              },
      },
    },
  });
}

/** Marks that shrink and fade as their number grows. */
function dots(count: number, size: number): Record<string, unknown> {
  const crowd = count / (size * size);
  const area = crowd > 0.02 ? 3 : crowd > 0.005 ? 5 : 9;
  const opacity = crowd > 0.05 ? 0.4 : crowd > 0.02 ? 0.5 : 0.6;
  return { type: "point", shape: "circle", filled: true, size: area, opacity, clip: true, aria: false };
}

function positions(scale: number): Record<string, unknown> {
  const axis = (field: string) => ({
    field,
    type: "quantitative",
    scale: { domain: [-scale, scale], nice: false, zero: false },
    axis: { title: null, tickCount: 4 },
  });
  return { x: axis("x"), y: axis("y") };
}

/** Panels are sorted by number and headed by their label, which may occur twice. */
function labels(field: string, names: readonly string[]): Record<string, unknown> {
  return {
    field,
    type: "ordinal",
    header: { title: null, labelExpr: `${JSON.stringify(names)}[datum.value]` },
  };
}

function range(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i);
}
