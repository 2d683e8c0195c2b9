import { type CheckerboardOptions, checkerboardOptions, darkTileCount } from "../data/checkerboard.js";
import { checkChoice, checkOptions } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkPlanar } from "./checks.js";

/** Number of samples in each dark tile (by tile row * gridSize + column; light ones 0), and outside of them all. */
function countTiles(
  samples: Tensor,
  gridSize: number,
  scale: number,
): { tiles: Uint32Array; outside: number } {
  const points = samples.toTypedArray();
  const tiles = new Uint32Array(gridSize ** 2);
  let outside = 0;
  for (let k = 0; k < points.length; k += 2) {
    const column = Math.floor(((points[k]! + scale) / (2 * scale)) * gridSize);
    const row = Math.floor(((points[k + 1]! + scale) / (2 * scale)) * gridSize);
    const onBoard = column >= 0 && column < gridSize && row >= 0 && row < gridSize;
    if (onBoard && (column + row) % 2 === 0) tiles[row * gridSize + column]!++;
    else outside++;
  }
  return { tiles, outside };
}

/**
 * The share, from 0 to 1, of samples [n, 2] that lie in dark tiles of the board that `data.checkerboard` with the
 * same options draws from.
 */
export function checkerboardValidity(samples: Tensor, options: CheckerboardOptions = {}): number {
  const where = "checkerboardValidity";
  checkOptions(where, options, ["gridSize", "scale"]);
  const { gridSize, scale } = checkerboardOptions(where, options);
  checkPlanar(where, samples);
  return 1 - countTiles(samples, gridSize, scale).outside / samples.shape[0]!;
}

export interface TileTotalVariationOptions extends CheckerboardOptions {
  /**
   * What becomes of samples outside of the dark tiles. "count" (default): they are one more cell, of target
   * probability 0. "ignore": they are left out, and only the balance among dark tiles is measured.
   */
  readonly outside?: "count" | "ignore";
}

/**
 * The total variation distance, from 0 to 1, between the shares of samples [n, 2] in the dark tiles and the uniform
 * distribution over them: (sum over dark tiles |p_k - 1/K| + p_outside) / 2. With `outside: "count"` it is never
 * below 1 - validity; with "ignore" the p_k are shares of the samples that lie in dark tiles (1 when there are none).
 */
export function tileTotalVariation(samples: Tensor, options: TileTotalVariationOptions = {}): number {
  const where = "tileTotalVariation";
  checkOptions(where, options, ["gridSize", "scale", "outside"]);
  const { gridSize, scale } = checkerboardOptions(where, options);
  const counted = checkChoice(where, "outside", options.outside ?? "count", ["count", "ignore"]) === "count";
  checkPlanar(where, samples);
  const { tiles, outside } = countTiles(samples, gridSize, scale);
  const n = samples.shape[0]! - (counted ? 0 : outside);
  if (n === 0) return 1;
  const uniform = 1 / darkTileCount(gridSize);
  let total = counted ? outside / n : 0;
  tiles.forEach((count, k) => {
    if ((Math.floor(k / gridSize) + (k % gridSize)) % 2 === 0) total += Math.abs(count / n - uniform);
  });
  return total / 2;
}
