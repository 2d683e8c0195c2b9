/** Milliseconds that one uninterrupted run of steps should take: short enough for signals and the progress bar. */
const targetMilliseconds = 75;

/**
 * How many steps to run at a time. It only decides when control returns to JavaScript: the steps themselves, and so
 * their results, do not depend on it.
 */
export class Pace {
  #next = 1;

  /** Number of steps for the next run, at most `limit`. */
  next(limit: number): number {
    return Math.max(1, Math.min(this.#next, limit));
  }

  /** Learns from a run. Growth is bounded, since the first run also warms caches and code. */
  observe(steps: number, milliseconds: number): void {
    const fitting = (steps * targetMilliseconds) / Math.max(milliseconds, 0.01);
    this.#next = Math.max(1, Math.round(Math.min(fitting, 4 * steps)));
  }
}
