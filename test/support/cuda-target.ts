import type { Target } from "#lib/backend/cuda/lowering.js";

/** An H100, with exact products, as sources are made for where no device is asked. */
export const h100: Target = {
  multiprocessors: 132,
  sharedBytes: 227 * 1024,
  architecture: 90,
  precision: "float32",
  cublas: false,
};
