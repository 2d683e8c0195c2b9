/**
 * How long the steps of an adaptive sampler are. All measures are by sample, in units of its tolerance: the shortest step
 * that any sample asks for is taken.
 *
 * Source: Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, section II.4.
 */

/**
 * A length to try: an Euler step of it changes each sample by at most a hundredth of its size |z|, at the speed |v|.
 * Samples of no size or speed have no say; when there are no others, it is 1e-6.
 */
export function trialLength(sizes: readonly number[], speeds: readonly number[]): number {
  const wanted = sizes.map((size, i) =>
    size < 1e-5 || speeds[i]! < 1e-5 ? Infinity : (0.01 * size) / speeds[i]!,
  );
  const least = smallest(wanted);
  return least === Infinity ? 1e-6 : Math.min(1, least);
}

/**
 * The first step's length: h such that h^(q + 1) max(|v|, |dv/dt|) = 0.01, and at most 100 trial lengths; the
 * `accelerations` |dv/dt| were measured over the trial length.
 */
export function firstLength(
  trial: number,
  speeds: readonly number[],
  accelerations: readonly number[],
  errorOrder: number,
): number {
  const wanted = speeds.map((speed, i) => {
    const most = Math.max(speed, accelerations[i]!);
    // The trial may have left the region in which the field is defined; then it says nothing.
    return Number.isFinite(most) ? (0.01 / most) ** (1 / (errorOrder + 1)) : trial;
  });
  return Math.min(100 * trial, smallest(wanted));
}

/** The factor by which the next step is longer than one of this error, 1 being the most that is accepted. */
export function lengthFactor(error: number, errorOrder: number): number {
  if (!Number.isFinite(error)) return 0.2;
  return Math.min(10, Math.max(0.2, 0.9 * error ** (-1 / (errorOrder + 1))));
}

function smallest(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => Math.min(a, b), Infinity);
}
