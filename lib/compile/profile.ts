import { traceFunction } from "../autodiff/function.js";
import { currentBackend } from "../backend/index.js";
import { checkFlag, checkOptions } from "../options.js";
import { flatten } from "../tensor/tree.js";
import { expand } from "./expand.js";
import { type Inspection, inspect } from "./inspect.js";
import type { Kernel } from "./kernels.js";
import { lower } from "./lower.js";
import { elements, located, programGraph } from "./program.js";
import { counted, cut, quantity } from "./report.js";

/** What a function computes, and how long each of its kernels takes. */
export interface Profile {
  readonly inspection: Inspection;
  /** Seconds of each of `inspection.kernels`, in their order: medians of the runs. */
  readonly seconds: readonly number[];
  /** Seconds of a run, with the allocation of its results: the median. */
  readonly total: number;
  readonly runs: number;
  /** A table for people: the kernels that take longest, or all in their order with `full`. */
  toString(options?: { readonly full?: boolean }): string;
}

/** After a first run, which is not counted, runs for about this long, but not more or less often. */
const budgetSeconds = 0.5;
const mostRuns = 100;
const fewestRuns = 3;

/**
 * Runs f on these arguments some times, for about half a second, and measures its kernels, as `inspect` lists them:
 *
 *     console.log(String(fx.profile(fx.grad(loss), params, batch)));
 *
 * A kernel's time ends when all of its threads are done. Kernels inside of a strip or a loop are not measured apart.
 *
 * @throws what f throws when it is traced, and BackendError when it cannot run
 */
export function profile<A extends readonly unknown[]>(f: (...args: A) => unknown, ...args: A): Profile {
  const inspection = inspect(f, ...args);
  const { leaves, structure } = flatten(args);
  const traced = traceFunction("profile", f as (...args: never[]) => unknown, structure, leaves, false);
  const graph = expand(traced.graph);
  const executable = currentBackend().compile(lower(programGraph(graph)));
  const inputs = [...leaves, ...graph.captured].map(elements);
  const times = new Float64Array(inspection.kernels.length);
  const totals: number[] = [];
  const byKernel: number[][] = inspection.kernels.map(() => []);
  try {
    executable.run(inputs);
    let spent = 0;
    while (totals.length < fewestRuns || (spent < budgetSeconds && totals.length < mostRuns)) {
      const begun = performance.now();
      executable.run(inputs, times);
      totals.push((performance.now() - begun) / 1000);
      spent += totals.at(-1)!;
      times.forEach((time, i) => {
        byKernel[i]!.push(time);
      });
    }
  } catch (error) {
    throw located(error, graph);
  }
  const result: Profile = {
    inspection,
    seconds: byKernel.map(median),
    total: median(totals),
    runs: totals.length,
    toString(options = {}) {
      checkOptions("Profile.toString", options, ["full"]);
      return text(result, checkFlag("Profile.toString", "full", options.full ?? false));
    },
  };
  // Consoles and notebooks show the text.
  Object.defineProperty(result, Symbol.for("nodejs.util.inspect.custom"), { value: () => result.toString() });
  return result;
}

function median(list: readonly number[]): number {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}

/** Kernels shown when not all are. */
const shown = 30;
const nameWidth = 58;

function text({ inspection, seconds, total, runs }: Profile, full: boolean): string {
  const { kernels, backend } = inspection;
  const sum = seconds.reduce((a, b) => a + b, 0);
  const share = (time: number) => `${(sum === 0 ? 0 : (100 * time) / sum).toFixed(1)}%`;
  const rows = kernels.map((kernel, i) => ({ kernel, time: seconds[i]!, number: String(i + 1) }));
  const listed = full ? rows : [...rows].sort((a, b) => b.time - a.time).slice(0, shown);
  const lines = listed.map(({ kernel, time, number }) =>
    [
      `  ${number.padStart(4)}`,
      (full ? kernel.description : cut(kernel.description, nameWidth)).padEnd(nameWidth),
      duration(time).padStart(8),
      share(time).padStart(6),
      rate(kernel.flops, time, "FLOP/s").padStart(12),
      rate(kernel.bytesRead + kernel.bytesWritten, time, "B/s").padStart(9),
    ].join("  "),
  );
  const rest = rows.length - listed.length;
  return [
    `${counted(kernels.length, "kernel")} on the ${backend} backend: ${duration(sum)} in kernels, ${duration(total)} a run (medians of ${runs})`,
    `  by kind: ${kinds(rows)
      .map(([kind, time]) => `${kind} ${duration(time)} (${share(time)})`)
      .join(", ")}`,
    "",
    ...lines,
    ...(rest > 0 ? [`  ... ${rest} more; toString({ full: true }) shows all, in their order`] : []),
  ].join("\n");
}

/** "1.23 ms". */
function duration(seconds: number): string {
  if (seconds >= 0.9995) return `${seconds.toPrecision(3)} s`;
  return seconds >= 0.9995e-3
    ? `${(1e3 * seconds).toPrecision(3)} ms`
    : `${(1e6 * seconds).toPrecision(3)} us`;
}

const rate = (amount: number, time: number, unit: string): string =>
  time === 0 || amount === 0 ? "" : quantity(amount / time, unit);

/** The time of each kind of kernel, most first. */
function kinds(rows: readonly { readonly kernel: Kernel; readonly time: number }[]): [string, number][] {
  const sums = new Map<string, number>();
  for (const { kernel, time } of rows) sums.set(kernel.kind, (sums.get(kernel.kind) ?? 0) + time);
  return [...sums].sort((a, b) => b[1] - a[1]);
}
