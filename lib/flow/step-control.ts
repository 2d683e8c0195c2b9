/**
 * How long the steps of an adaptive sampler are. All measures are by sample, in units of its tolerance: the shortest step
 * that any sample asks for is taken.
 *
 * Source: Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, section II.4.
 */

/** A length to try: an Euler step that changes each sample by about a hundredth of its size |z|, at the speed |v|. */
export function trialLength(sizes: readonly number[], speeds: readonly number[]): number {
  const wanted = sizes.map((size, i) =>
    size < 1e-5 || speeds[i]! < 1e-5 ? 1e-6 : (0.01 * size) / speeds[i]!,
  );
  return wanted.reduce((a, b) => Math.min(a, b), 1);
}

/**
 * The first step's length h, such that h^(q + 1) max(|v|, |dv/dt|) = 0.01, and at most 100 trial lengths; the
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
    if (!Number.isFinite(most)) return trial;
    return most <= 1e-15 ? Math.max(1e-6, 1e-3 * trial) : (0.01 / most) ** (1 / (errorOrder + 1));
  });
  return wanted.reduce((a, b) => Math.min(a, b), 100 * trial);
}

/** The factor by which the next step is longer than one of this error, 1 being the most that is accepted. */
export function lengthFactor(error: number, errorOrder: number): number {
  if (!Number.isFinite(error)) return 0.2;
  return Math.min(10, Math.max(0.2, 0.9 * error ** (-1 / (errorOrder + 1))));
}
