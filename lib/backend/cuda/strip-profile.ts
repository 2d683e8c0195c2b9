import type { StripProfile } from "../../compile/strip.js";
import { byteSize, type DType } from "../../tensor/dtype.js";
import type { Target } from "./lowering.js";

/** Shared memory beside a block's rows: eight warps' slabs of a right factor (kStripSlab of strip_product.cuh). */
export const slabBytes = 8 * 640 * 4;

/** What all partial sums of a strip may take. */
const partialBytes = 512 << 20;

/** Up to so many rows a block has 16 of them, so that there are blocks for all multiprocessors. */
const fewRows = 2048;

/**
 * Elements from one row of a local buffer to the next. Rows worth 64 bytes and more are an odd number of 16-byte pieces
 * long: then eight neighbouring rows at one column lie in different banks of shared memory.
 */
export function pitchOf(elements: number, dtype: DType): number {
  const size = byteSize(dtype);
  if (elements * size < 64) return elements;
  const pieces = Math.ceil((elements * size) / 16);
  return ((pieces | 1) * 16) / size;
}

/**
 * Strips for a CUDA device: a block of threads takes a chunk, block of rows after block of rows, with the local buffers
 * in shared memory. There are as many chunks as multiprocessors at most.
 */
export function cudaStrips(target: Target): StripProfile {
  return {
    fewestRows: 256,
    // Each block of 16 or 32 rows reads the factors: from about this width on that is more than tiles of a whole product
    // read and write.
    widest: 192,
    blockBytes: target.sharedBytes - slabBytes,
    blocks: (rows) =>
      rows <= fewRows ? [16] : rows >= 64 * target.multiprocessors ? [64, 32, 16] : [32, 16],
    rowBytes: (elements, dtype) => pitchOf(elements, dtype) * byteSize(dtype),
    chunks(rows, block, sumBytes) {
      const most = Math.max(1, Math.min(target.multiprocessors, Math.floor(partialBytes / sumBytes)));
      const blocks = Math.ceil(rows / block);
      const chunk = Math.ceil(blocks / most) * block;
      return Array.from({ length: Math.ceil(rows / chunk) }, (_, i) => Math.min(chunk, rows - i * chunk));
    },
    sums: Number.POSITIVE_INFINITY,
  };
}
