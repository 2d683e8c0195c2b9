import type { Test } from "tap";

/** Asserts that numbers agree, with an absolute tolerance; says the largest difference. */
export function close(
  t: Test,
  got: readonly number[],
  want: readonly number[],
  tolerance = 1e-12,
  name?: string,
): void {
  const worst = Math.max(0, ...want.map((w, i) => Math.abs(w - got[i]!)));
  t.ok(got.length === want.length && worst <= tolerance, `${name ?? "values"} agree (difference ${worst})`);
}
