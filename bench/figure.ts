import { type Figure, figure } from "#lib/plot/figure.js";
import { colour } from "#lib/plot/look.js";
import { threadsOf } from "./format.js";
import type { Results } from "./results.js";

/** Panels have their own series, and their own colours for them. */
const apart = { scale: { color: "independent", yOffset: "independent" } };

/** One picture of a run: a panel for each section that has something to show. */
export function drawResults(results: Results): Figure {
  const { machine } = results;
  return figure({
    title: {
      text: `${machine["processor"]}, ${threadsOf(Number(machine["threads"]))}, ${machine["instructionSet"]}`,
    },
    spacing: 40,
    resolve: apart,
    vconcat: [gemmPanels, stepPanels, attentionPanels, scalingPanels, otherPanels].flatMap((panels) => {
      const drawn = panels(results);
      return drawn.length === 0 ? [] : [{ spacing: 40, resolve: apart, hconcat: drawn }];
    }),
  });
}

type Panel = Record<string, unknown>;

/** A panel's title, smaller than the figure's. */
const title = (text: string) => ({ text, fontSize: 12 });

function gemmPanels({ gemm }: Results): Panel[] {
  if (gemm === undefined || gemm.length === 0) return [];
  const rows = gemm.map((row) => ({
    name: row.name,
    threads: threadsOf(row.threads),
    ratio: row.openblas?.ratio.median ?? null,
    share: 100 * row.shareOfPeak.median,
  }));
  const common = { y: "name", offset: "threads", rows };
  return [
    bars({
      heading: "Matrix products: OpenBLAS's time over ours",
      x: "ratio",
      axis: "times",
      mark: 1,
      ...common,
    }),
    bars({ heading: "Share of the peak", x: "share", axis: "%", mark: 100, ...common, labels: false }),
  ];
}

function stepPanels({ steps }: Results): Panel[] {
  if (steps === undefined || steps.rows.length === 0) return [];
  const rows = steps.rows.map((row) => ({ ...row, name: `${row.title}, ${row.hidden}` }));
  const others = rows.flatMap(({ name, others: list }) =>
    list.flatMap(({ name: peer, ratio }) =>
      ratio === undefined ? [] : [{ name, peer, ratio: ratio.median }],
    ),
  );
  const floors = rows.map(({ name, overFloor }) => ({ name, over: overFloor.median }));
  return [
    bars({
      heading: "Training steps: their time over ours",
      x: "ratio",
      axis: "times",
      log: true,
      mark: 1,
      y: "name",
      offset: "peer",
      rows: others,
    }),
    bars({
      heading: "Our time over the floor",
      x: "over",
      axis: "times",
      mark: 1,
      y: "name",
      step: stepFor(new Set(others.map(({ peer }) => peer)).size),
      rows: floors,
      labels: false,
    }),
  ];
}

function attentionPanels({ attention }: Results): Panel[] {
  if (attention === undefined || attention.length === 0) return [];
  const rows = attention.map((row) => ({
    ...row,
    name: `${row.title}, ${row.heads} x ${row.n}${row.causal ? ", causal" : ""}`,
  }));
  const others = rows.flatMap(({ name, plain, torch }) => [
    { name, side: "composition", ratio: plain.ratio.median },
    ...(torch?.ratio === undefined ? [] : [{ name, side: torch.name, ratio: torch.ratio.median }]),
  ]);
  const shares = rows.map(({ name, shareOfPeak }) => ({
    name,
    share: shareOfPeak === undefined ? null : 100 * shareOfPeak.median,
  }));
  return [
    bars({
      heading: "Attention: the time of its composition over ours",
      x: "ratio",
      axis: "times",
      log: true,
      mark: 1,
      y: "name",
      offset: "side",
      rows: others,
    }),
    bars({
      heading: "Attention: share of the peak",
      x: "share",
      axis: "%",
      mark: 100,
      y: "name",
      step: stepFor(new Set(others.map(({ side }) => side)).size),
      rows: shares,
      labels: false,
    }),
  ];
}

function scalingPanels({ scaling }: Results): Panel[] {
  if (scaling === undefined) return [];
  const series = { batch: "batch", width: "hidden", threads: "threads" } as const;
  return Object.entries(series).map(([name, field]) => {
    const values = scaling
      .filter((row) => row.series === name)
      .map((row) => ({ at: row[field], share: 100 * row.shareOfFloor.median }));
    return {
      title: title(`Flow matching by ${name}`),
      width: 250,
      height: 180,
      data: { values },
      mark: { type: "line", point: true, color: colour(0) },
      encoding: {
        x: {
          field: "at",
          type: "quantitative",
          title: name,
          scale: { type: "log", base: 2, nice: false },
          axis: { values: values.map(({ at }) => at) },
        },
        y: {
          field: "share",
          type: "quantitative",
          title: "% of the floor's speed",
          scale: { domain: [0, 100] },
        },
      },
    };
  });
}

function otherPanels({ map, startup }: Results): Panel[] {
  const panels: Panel[] = [];
  if (map !== undefined)
    panels.push(
      bars({
        heading: "Elementwise: share of the triad's rate",
        x: "share",
        axis: "%",
        mark: 100,
        y: "name",
        rows: map.map(({ name, shareOfTriad }) => ({ name, share: 100 * shareOfTriad.median })),
      }),
    );
  if (startup !== undefined)
    panels.push(
      bars({
        heading: "Start-up",
        x: "time",
        axis: "ms",
        y: "part",
        rows: startup.parts.map(({ part, seconds }) => ({ part, time: 1000 * seconds.median })),
      }),
    );
  return panels;
}

interface Bars {
  readonly heading: string;
  readonly rows: readonly Record<string, unknown>[];
  /** The field of the lengths, and their unit. */
  readonly x: string;
  readonly axis: string;
  readonly log?: boolean;
  /** A line to hold the bars against. */
  readonly mark?: number;
  /** The field of the names, and of what lies side by side within a name. */
  readonly y: string;
  readonly offset?: string;
  /** Whether the names and the legend are written: not again beside a panel with the same. */
  readonly labels?: boolean;
  /** Units of height for a name; default: by what lies side by side. */
  readonly step?: number;
}

/** Units of height for so many bars side by side, with a gap. */
const stepFor = (count: number) => 10 * Math.max(count, 1) + 8;

/** Horizontal bars in the order of the rows. */
function bars({ heading, rows, x, axis, log = false, mark, y, offset, labels = true, step }: Bars): Panel {
  const vertical = {
    field: y,
    type: "nominal",
    title: null,
    sort: null,
    axis: { labels, ticks: labels, labelLimit: 400 },
  };
  const scale = log ? { type: "log" } : { zero: true };
  const length = { field: x, type: "quantitative", title: axis, scale };
  const series = offset === undefined ? [] : [...new Set(rows.map((row) => row[offset] as string))];
  const names = new Set(rows.map((row) => row[y]));
  const beside =
    offset === undefined
      ? { color: { value: colour(0) } }
      : {
          yOffset: { field: offset, type: "nominal", sort: null, scale: { domain: series } },
          color: {
            field: offset,
            type: "nominal",
            title: null,
            scale: { domain: series, range: series.map((_, i) => colour(i)) },
            legend: labels ? { orient: "bottom", labelLimit: 400 } : null,
          },
        };
  // A bar from 1 on a logarithmic axis: to the right the other is slower.
  const from = log ? { x2: { datum: 1 } } : {};
  const line =
    mark === undefined
      ? []
      : [
          {
            data: { values: [{}] },
            mark: { type: "rule", color: "#222", strokeDash: [4, 3] },
            encoding: { x: { datum: mark, type: "quantitative", scale } },
          },
        ];
  return {
    title: title(heading),
    width: 320,
    height: names.size * (step ?? stepFor(series.length)),
    data: { values: rows },
    layer: [
      {
        mark: offset === undefined ? { type: "bar", size: 12 } : { type: "bar" },
        encoding: { x: length, ...from, y: vertical, ...beside },
      },
      ...line,
    ],
  };
}
