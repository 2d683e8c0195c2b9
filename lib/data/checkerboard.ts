import { add, cast, concat, floor, mul, sub } from "../ops/index.js";
import { checkCount, checkNumber, checkOptions } from "../options.js";
import { randint, split, uniform } from "../random/index.js";
import { type Distribution, pointDistribution } from "./distribution.js";

export interface CheckerboardOptions {
  /** Tiles along each side. Default 4. */
  readonly gridSize?: number;
  /** Half the side: the board is [-scale, scale]^2. Default 2. */
  readonly scale?: number;
}

/** The options, checked and with their defaults. Shared with the metrics of the board. */
export function checkerboardOptions(
  where: string,
  options: CheckerboardOptions,
): { gridSize: number; scale: number } {
  return {
    gridSize: checkCount(where, "gridSize", options.gridSize ?? 4),
    scale: checkNumber(where, "scale", options.scale ?? 2, { above: 0 }),
  };
}

/** Number of dark tiles: half of them, and one more when the number of tiles is odd. */
export const darkTileCount = (gridSize: number): number => Math.ceil(gridSize ** 2 / 2);

/**
 * The uniform distribution on the dark tiles of a checkerboard over [-scale, scale]^2. The tile in column i
 * (counted from the left, along x) and row j (from the bottom, along y) is dark when i + j is even: the lower left
 * one is. Each draw costs one whole number and two uniforms; nothing is rejected.
 */
export function checkerboard(options: CheckerboardOptions = {}): Distribution & { readonly dim: number } {
  checkOptions("checkerboard", options, ["gridSize", "scale"]);
  const { gridSize, scale } = checkerboardOptions("checkerboard", options);
  const tile = (2 * scale) / gridSize;
  return pointDistribution("checkerboard", 2, (key, n, dtype) => {
    const [tileKey, placeKey] = split(key, 2);
    const k = cast(randint(tileKey!, [n, 1], 0, darkTileCount(gridSize)), dtype);
    // Row by row, every other tile is dark. With an odd side the count runs on from row to row; with an even one
    // odd rows begin with a light tile. The half added before the division keeps clear of its rounding.
    const twice = mul(k, 2);
    const row = floor(mul(add(twice, 0.5), 1 / gridSize));
    const start = sub(twice, mul(row, gridSize));
    const column = gridSize % 2 === 1 ? start : add(start, sub(row, mul(floor(mul(row, 0.5)), 2)));
    const corner = concat([column, row], 1);
    return sub(mul(add(corner, uniform(placeKey!, [n, 2], { dtype })), tile), scale);
  });
}
