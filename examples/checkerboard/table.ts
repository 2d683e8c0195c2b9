import type { Evaluation } from "./evaluation.js";
import type { Run } from "./runs.js";

/** One run with its measurements, a row for each number of sampling steps. */
export interface Result {
  readonly run: Run;
  readonly loss: number;
  readonly stepsPerSecond: number;
  readonly rows: readonly { readonly steps: number; readonly evaluation: Evaluation }[];
}

export const columns = [
  "objective",
  "orientation",
  "loss",
  "steps/s",
  "T",
  "validity",
  "tile TV",
  "energy distance",
  "sliced W2",
] as const;

/** The number of columns that hold words; numbers follow. */
export const wordColumns = 2;

/** The cells of the table as text, the floor last; what repeats from the row above is empty. */
export function cells(results: readonly Result[], floor: Evaluation): string[][] {
  const rows = results.flatMap(({ run, loss, stepsPerSecond, rows }) =>
    rows.map(({ steps, evaluation }, i) => [
      ...(i === 0
        ? [run.name, run.orientation, loss.toFixed(3), stepsPerSecond.toFixed(1)]
        : ["", "", "", ""]),
      String(steps),
      ...numbers(evaluation),
    ]),
  );
  return [...rows, ["data", "against data", "", "", "", ...numbers(floor)]];
}

function numbers({ validity, tileTotalVariation, energyDistance, slicedWasserstein }: Evaluation): string[] {
  return [
    validity.toFixed(3),
    tileTotalVariation.toFixed(4),
    energyDistance.toFixed(5),
    slicedWasserstein.toFixed(4),
  ];
}
