import { reshape } from "../ops/index.js";
import { checkChoice } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * Which end of the interval [0, 1] of time is the data.
 * `"data-to-noise"`: data at 0, noise at 1, z_t = (1 - t) data + t noise, velocity noise - data; samples are drawn
 * from 1 down to 0, and an average velocity is anchored at the later end of its interval.
 * `"noise-to-data"`: noise at 0, data at 1, z_t = (1 - t) noise + t data, velocity data - noise; samples are drawn
 * from 0 up to 1, and an average velocity is anchored at the earlier end.
 */
export type Orientation = "data-to-noise" | "noise-to-data";

export function checkOrientation(where: string, orientation: unknown): Orientation {
  return checkChoice(where, "orientation", orientation, ["data-to-noise", "noise-to-data"]);
}

/** A column [n, 1] as [n, 1, ..., 1], so that it broadcasts against a tensor of this rank. */
export function columnOf(time: Tensor, rank: number): Tensor {
  return rank === 2 ? time : reshape(time, [time.shape[0]!, ...Array<number>(rank - 1).fill(1)]);
}
