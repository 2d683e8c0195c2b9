/**
 * The mean over the last `window` values at each place (over fewer at the start). Values that are not finite are
 * left out of the means.
 */
export function movingAverage(values: ArrayLike<number>, window: number): Float64Array {
  const result = new Float64Array(values.length);
  let sum = 0;
  let count = 0;
  for (let i = 0; i < values.length; i++) {
    if (Number.isFinite(values[i])) {
      sum += values[i]!;
      count++;
    }
    const leaving = i - window;
    if (leaving >= 0 && Number.isFinite(values[leaving])) {
      sum -= values[leaving]!;
      count--;
    }
    result[i] = count === 0 ? Number.NaN : sum / count;
  }
  return result;
}

/**
 * Places to draw of a long curve: of each of `bins` equal stretches the lowest and the highest, so that the outline
 * stays. All places when the curve is short.
 */
export function outline(values: ArrayLike<number>, bins: number): number[] {
  if (values.length <= 2 * bins) return Array.from({ length: values.length }, (_, i) => i);
  const places: number[] = [];
  for (let bin = 0; bin < bins; bin++) {
    const start = Math.floor((bin * values.length) / bins);
    const end = Math.floor(((bin + 1) * values.length) / bins);
    let low = start;
    let high = start;
    for (let i = start; i < end; i++) {
      if (!(values[i]! >= values[low]!)) low = i;
      if (!(values[i]! <= values[high]!)) high = i;
    }
    places.push(...new Set([Math.min(low, high), Math.max(low, high)]));
  }
  return places;
}
