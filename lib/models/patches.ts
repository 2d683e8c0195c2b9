import { reshape, transpose } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";

/** [n, h, w, c] images as [n, h/p * w/p, p * p * c] patches, row by row. */
export function toPatches(images: Tensor, p: number): Tensor {
  const [n, h, w, c] = images.shape as [number, number, number, number];
  const cut = reshape(images, [n, h / p, p, w / p, p, c]);
  return reshape(transpose(cut, [0, 1, 3, 2, 4, 5]), [n, (h / p) * (w / p), p * p * c]);
}

/** The inverse of toPatches: [n, h, w, c]. */
export function fromPatches(patches: Tensor, p: number, size: readonly [number, number, number]): Tensor {
  const [h, w, c] = size;
  const n = patches.shape[0]!;
  const cut = reshape(patches, [n, h / p, w / p, p, p, c]);
  return reshape(transpose(cut, [0, 1, 3, 2, 4, 5]), [n, h, w, c]);
}
