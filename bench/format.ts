import type { Summary } from "./statistics.js";

/** A number with a unit's prefix: 1.21 TFLOP/s. */
export function engineering(value: number, unit: string): string {
  const prefixes: [number, string][] = [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ];
  const [scale, prefix] = prefixes.find(([limit]) => value >= limit) ?? [1, ""];
  return `${(value / scale).toPrecision(3)} ${prefix}${unit}`;
}

/** Seconds as "5.81 ms ± 2 %", 16 wide. */
export function time({ median, spread }: Summary): string {
  const text = median < 1 ? `${(median * 1000).toPrecision(3)} ms` : `${median.toPrecision(3)} s`;
  return `${text.padStart(8)} ±${percent(spread).padStart(4)}`;
}

/** A ratio as "2.31x ± 4 %", 12 wide. */
export function times({ median, spread }: Summary): string {
  return `${median.toFixed(2).padStart(5)}x ±${percent(spread).padStart(4)}`;
}

/** A share as "78 %", 5 wide. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}

/** "1 thread", "2 threads". */
export function threadsOf(count: number): string {
  return `${count} thread${count === 1 ? "" : "s"}`;
}
