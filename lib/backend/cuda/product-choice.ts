import type { DType } from "../../tensor/dtype.js";
import type { MatmulPrecision } from "../precision.js";

/** A tile of C that a block computes, and how: the parameters of gemm_simt.cuh and gemm_tensor.cuh. */
export interface Tile {
  readonly kind: "simt" | "tensor";
  readonly m: number;
  readonly n: number;
  /** Positions along the depth of a step. */
  readonly depth: number;
  /** Elements of C of a thread (simt), or of a warp (tensor). */
  readonly part: readonly [number, number];
  readonly stages: number;
  readonly threads: number;
  /** Blocks that a multiprocessor has room for. */
  readonly blocks: number;
  /** Multiply-adds in a cycle of a multiprocessor of an H100, about; larger tiles read less for each. */
  readonly rate: number;
}

/** Which kernel computes a product. `depth` is that of a slice of k; with several slices partial results are added. */
export type ProductForm =
  /** A thread an element. */
  | { readonly form: "elements" }
  /** Up to `narrow` columns: a warp some rows of the other operand, or a lane a row, whichever reads neighbours. */
  | { readonly form: "warps"; readonly rows: number; readonly slices: number; readonly depth: number }
  | { readonly form: "lanes"; readonly slices: number; readonly depth: number }
  | { readonly form: "tiles"; readonly tile: Tile; readonly slices: number; readonly depth: number };

/** The greatest number of rows or columns of a product that counts as some vectors. */
export const narrow = 8;
export const warpsOfThinProduct = 8;

// Choices depend on shapes alone, and with them the order of every sum: results have the same bits on every device. So
// they are made for one device, an H100: 132 multiprocessors, 1.8 GHz, about 2,000 bytes a cycle from and to the L2
// cache.
const multiprocessors = 132;
const bytesPerCycle = 2000;
/** Launching the kernel that adds the slices. */
const launchCycles = 4000;
/** Filling the pipeline, and the expression. */
const blockCycles = 1500;
const maxSlices = 64;

// Rates are estimates, not measurements: the share of the peak (float32: 128 multiply-adds a cycle, float64: 64, TF32 by
// mma.sync: about 600) that reading shared memory leaves. An 8 x 8 part reads 16 numbers for 64 multiply-adds, a 4 x 4
// part 8 for 16.
const float32Tiles: readonly Tile[] = [
  { kind: "simt", m: 128, n: 128, depth: 16, part: [8, 8], stages: 3, threads: 256, blocks: 2, rate: 110 },
  { kind: "simt", m: 64, n: 64, depth: 16, part: [8, 4], stages: 3, threads: 128, blocks: 4, rate: 90 },
  { kind: "simt", m: 32, n: 64, depth: 16, part: [4, 4], stages: 3, threads: 128, blocks: 4, rate: 64 },
  { kind: "simt", m: 32, n: 32, depth: 16, part: [4, 4], stages: 3, threads: 64, blocks: 8, rate: 45 },
];
const float64Tiles: readonly Tile[] = [
  { kind: "simt", m: 64, n: 64, depth: 16, part: [4, 4], stages: 3, threads: 256, blocks: 2, rate: 50 },
  { kind: "simt", m: 32, n: 32, depth: 16, part: [4, 2], stages: 3, threads: 128, blocks: 4, rate: 35 },
];
const tensorTiles: readonly Tile[] = [
  {
    kind: "tensor",
    m: 128,
    n: 128,
    depth: 16,
    part: [64, 64],
    stages: 3,
    threads: 128,
    blocks: 2,
    rate: 500,
  },
  { kind: "tensor", m: 64, n: 64, depth: 32, part: [32, 32], stages: 4, threads: 128, blocks: 2, rate: 350 },
  { kind: "tensor", m: 32, n: 64, depth: 32, part: [16, 32], stages: 4, threads: 128, blocks: 2, rate: 250 },
  { kind: "tensor", m: 32, n: 32, depth: 32, part: [16, 16], stages: 4, threads: 128, blocks: 2, rate: 180 },
];

/** The tiles for a dtype, largest first. */
export function tilesFor(dtype: DType, precision: MatmulPrecision): readonly Tile[] {
  if (dtype === "float64") return float64Tiles;
  return dtype === "float32" && precision !== "float32" ? tensorTiles : float32Tiles;
}

/** What a choice is made from. */
export interface ProductSize {
  readonly batches: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Whether the operand with more rows has neighbours along the depth. */
  readonly alongDepth: boolean;
}

export function chooseForm(size: ProductSize, tiles: readonly Tile[]): ProductForm {
  const { m, n, k } = size;
  if (k <= 4 || m * n * k <= 4096) return { form: "elements" };
  return Math.min(m, n) <= narrow ? thinForm(size) : tiledForm(size, tiles);
}

/**
 * A matrix times some vectors takes as long as reading the matrix, once enough warps read. A slice is long enough that
 * the launch that adds the slices pays.
 */
function thinForm({ batches, m, n, k, alongDepth }: ProductSize): ProductForm {
  const rows = Math.max(m, n);
  if (alongDepth) {
    // Four rows share the vectors' elements.
    const perWarp = Math.ceil(rows / 4) * batches >= multiprocessors * 8 ? 4 : 1;
    const warps = Math.ceil(rows / perWarp) * batches;
    return { form: "warps", rows: perWarp, ...cut(k, Math.floor((multiprocessors * 8) / warps), 1024, 1) };
  }
  const blocks = Math.ceil(rows / 32) * batches;
  return { form: "lanes", ...cut(k, Math.floor((multiprocessors * 2) / blocks), 256, 1) };
}

/** The tile and number of slices that take the fewest cycles, by a rough count. */
function tiledForm({ batches, m, n, k }: ProductSize, tiles: readonly Tile[]): ProductForm {
  let best: { cycles: number; form: ProductForm } | undefined;
  for (const tile of tiles) {
    const blocks = Math.ceil(m / tile.m) * Math.ceil(n / tile.n) * batches;
    for (let wanted = 1; wanted <= maxSlices; wanted++) {
      const { slices, depth } = cut(k, wanted, 4 * tile.depth, tile.depth);
      if (slices !== wanted) continue;
      const turns = Math.ceil((blocks * slices) / multiprocessors);
      const traffic = slices > 1 ? launchCycles + (slices * batches * m * n * 8) / bytesPerCycle : 0;
      const cycles = blockCycles + (turns * tile.m * tile.n * depth) / tile.rate + traffic;
      if (!best || cycles < best.cycles) best = { cycles, form: { form: "tiles", tile, slices, depth } };
    }
  }
  return best!.form;
}

/** Up to `slices` slices of k, equally deep (but for the last): at least `least`, and a multiple of `unit`. */
function cut(k: number, slices: number, least: number, unit: number): { slices: number; depth: number } {
  const count = Math.max(1, Math.min(slices, maxSlices, Math.floor(k / least)));
  const depth = Math.ceil(k / count / unit) * unit;
  return { slices: Math.ceil(k / depth), depth };
}
