import * as fx from "fluxion";

/** How far samples are from the checkerboard. */
export interface Evaluation {
  /** Share of the samples in dark tiles. */
  readonly validity: number;
  /** Total variation between the shares of the tiles and the uniform distribution. */
  readonly tileTotalVariation: number;
  readonly energyDistance: number;
  /** 2-Wasserstein distance over random directions, in units of the board. */
  readonly slicedWasserstein: number;
}

/** Samples against data, both [n, 2]. The directions of the sliced distance are the same for all. */
export function evaluate(samples: fx.Tensor, data: fx.Tensor): Evaluation {
  return {
    validity: fx.metrics.checkerboardValidity(samples),
    tileTotalVariation: fx.metrics.tileTotalVariation(samples),
    energyDistance: fx.metrics.energyDistance(samples, data),
    slicedWasserstein: fx.metrics.slicedWasserstein(samples, data),
  };
}
