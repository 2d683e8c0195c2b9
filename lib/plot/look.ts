/**
 * One look for all figures: fonts, grid, and colours. The first six stay apart for colour-blind readers; who needs more
 * also varies shape and dash.
 */
export const palette = [
  "#3060c0",
  "#d04a35",
  "#1f8f6a",
  "#8a54b5",
  "#b8860b",
  "#4d4d4d",
  "#d868a8",
  "#2aa3c7",
  "#8c5a3c",
  "#8fae2c",
] as const;

const shapes = [
  "circle",
  "square",
  "triangle-up",
  "diamond",
  "cross",
  "triangle-down",
  "triangle-right",
] as const;

/** Solid for the first round of colours, then dashed. */
const dashes = [
  [1, 0],
  [6, 3],
  [2, 2],
] as const;

const font = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif";

export const config = {
  background: "white",
  font,
  padding: 10,
  title: { fontSize: 15, fontWeight: "bold", anchor: "start", offset: 14, color: "#222" },
  header: { labelFontSize: 13, labelColor: "#222", labelPadding: 8 },
  axis: {
    labelFontSize: 11,
    titleFontSize: 12,
    titleFontWeight: "normal",
    labelColor: "#444",
    titleColor: "#222",
    gridColor: "#ececec",
    domainColor: "#999",
    tickColor: "#999",
    tickSize: 4,
  },
  view: { stroke: "#bbb" },
  legend: { labelFontSize: 12, titleFontSize: 12, symbolStrokeWidth: 3, symbolOpacity: 1 },
  range: { category: palette },
  aria: false,
} as const;

/** The colour of series i. */
export function colour(i: number): string {
  return palette[i % palette.length]!;
}

/** The shape of the points of series i. There is no common divisor with the number of colours: pairs repeat late. */
export function shape(i: number): string {
  return shapes[i % shapes.length]!;
}

/** The dash pattern of the line of series i. */
export function dash(i: number): readonly number[] {
  return dashes[Math.floor(i / palette.length) % dashes.length]!;
}
