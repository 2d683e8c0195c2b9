/** Numbers of one kind: the median, and the spread as half the middle half, as a share of the median. */
export interface Summary {
  readonly median: number;
  readonly spread: number;
}

/** Median and spread of at least one number. */
export function summarize(values: readonly number[]): Summary {
  if (values.length === 0) throw new RangeError("summarize: there is no number to sum up");
  const sorted = [...values].sort((a, b) => a - b);
  const median = quantile(sorted, 0.5);
  return { median, spread: (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 2 / median };
}

/** Median and spread of a[i] / b[i]: what was measured in the same round is compared, whatever the machine's mood. */
export function ratio(a: readonly number[], b: readonly number[]): Summary {
  const rounds = Math.min(a.length, b.length);
  return summarize(a.slice(0, rounds).map((value, i) => value / b[i]!));
}

function quantile(sorted: readonly number[], p: number): number {
  const place = p * (sorted.length - 1);
  const low = sorted[Math.floor(place)]!;
  return low + (place % 1) * (sorted[Math.ceil(place)]! - low);
}
