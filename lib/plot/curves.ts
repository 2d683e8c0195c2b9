import { ValueError } from "../errors.js";
import { type Figure, figure } from "./figure.js";
import { colour } from "./look.js";
import { movingAverage, outline } from "./smoothing.js";

export interface LossCurvesOptions {
  title?: string;
  /** Length of the moving average in steps, default a fiftieth of the longest history, at least 1. */
  window?: number;
  /** A logarithmic loss axis, default false. */
  log?: boolean;
  /** Units of the SVG, default 620 by 300. */
  width?: number;
  height?: number;
}

/** Most stretches into which a curve is cut for drawing. */
const bins = 500;

/**
 * Losses over steps, one colour each: the raw values faint, their moving average on top, with a legend.
 * The axis of the loss holds nearly all raw values; a few outliers may leave it.
 *
 * @param losses history of losses by name, as Trainer.losses gives them
 */
export function lossCurves(
  losses: Readonly<Record<string, ArrayLike<number>>>,
  options: LossCurvesOptions = {},
): Figure {
  const names = Object.keys(losses);
  const longest = Math.max(0, ...names.map((name) => losses[name]!.length));
  const { title, log = false, width = 620, height = 300 } = options;
  const { window = Math.max(1, Math.round(longest / 50)) } = options;
  if (!Number.isInteger(window) || window < 1)
    throw new ValueError(`plot.lossCurves: window must be a whole number above 0, got ${window}`);
  const drawable = (loss: number) => Number.isFinite(loss) && (!log || loss > 0);
  const raw = names.flatMap((name) =>
    outline(losses[name]!, bins)
      .map((step) => ({ name, step, loss: losses[name]![step]! }))
      .filter(({ loss }) => drawable(loss)),
  );
  const smooth = names.flatMap((name) => {
    const average = movingAverage(losses[name]!, window);
    return outline(average, bins)
      .map((step) => ({ name, step, loss: average[step]! }))
      .filter(({ loss }) => drawable(loss));
  });
  const encoding = {
    x: {
      field: "step",
      type: "quantitative",
      title: "step",
      scale: { domain: [0, Math.max(longest - 1, 1)], nice: false },
    },
    y: {
      field: "loss",
      type: "quantitative",
      title: "loss",
      scale: { zero: false, ...(log ? { type: "log" } : {}), ...lossDomain(raw, log) },
    },
    color: {
      field: "name",
      type: "nominal",
      title: null,
      scale: { domain: names, range: names.map((_, i) => colour(i)) },
    },
  };
  const line = { type: "line", clip: true, interpolate: "linear", aria: false };
  return figure({
    ...(title === undefined ? {} : { title }),
    width,
    height,
    layer: [
      { data: { values: raw }, mark: { ...line, strokeWidth: 0.7, strokeOpacity: 0.3 }, encoding },
      { data: { values: smooth }, mark: { ...line, strokeWidth: 2 }, encoding },
    ],
  });
}

/** A range that holds nearly all raw values: a few outliers must not flatten the curves. */
function lossDomain(raw: readonly { loss: number }[], log: boolean): { domain?: [number, number] } {
  if (raw.length === 0) return {};
  const sorted = raw.map(({ loss }) => loss).sort((a, b) => a - b);
  const share = (p: number) => sorted[Math.floor(p * (sorted.length - 1))]!;
  const [low, high] = [share(0.005), share(0.985)];
  if (low === high) return {};
  const margin = log ? 0 : 0.04 * (high - low);
  return { domain: [low - margin, high + margin] };
}
