/** One look for all figures: fonts, grid, and colours that stay apart for colour-blind readers. */
export const palette = ["#3060c0", "#d04a35", "#1f8f6a", "#8a54b5", "#b8860b", "#4d4d4d"] as const;

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
