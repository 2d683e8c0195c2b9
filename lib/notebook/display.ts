import type { Figure } from "../plot/index.js";
import { tslab } from "./tslab.js";

/**
 * Shows values where the program runs: in a tslab notebook a figure as SVG, elsewhere as the console prints it.
 */
export async function display(...values: readonly unknown[]): Promise<void> {
  const notebook = tslab();
  for (const value of values) {
    if (notebook !== undefined && isFigure(value)) notebook.display.svg(await value.toSVG());
    else console.log(value);
  }
}

function isFigure(value: unknown): value is Figure {
  return typeof value === "object" && value !== null && "spec" in value && "toSVG" in value;
}
