import * as fx from "fluxion";
import type { DataSet } from "./data-sets.js";

/** How far samples are from data. */
export interface Quality {
  readonly energyDistance: number;
  /** Of the checkerboard only: the share of samples in dark tiles, and the total variation of the tiles' shares. */
  readonly validity?: number;
  readonly tileTotalVariation?: number;
}

/** How far a field is from the exact one: root mean square errors, in units of the data. */
export interface FieldErrors {
  /** Of the velocity v(z_t, t) at uniform times. */
  readonly velocity: number;
  /** Of the average velocity over [r, t], t uniform in [0, 1) and r uniform below; only of a field that has one. */
  readonly averageVelocity?: number;
  /** The same over [0, 1], which a single step crosses. */
  readonly oneStep?: number;
}

/** How many fresh sets of data are held against the reference for the floor. */
const floorSets = 4;

/**
 * The yardstick of one data set. Its random numbers are its own: reference, noise and the points for the fields are the
 * same for every method and seed, so that rows differ by what was trained alone.
 */
export class Yardstick {
  readonly #dataSet: DataSet;
  readonly #count: number;
  readonly #keys = fx.random.split(fx.random.key(2 ** 31 - 1), 4) as fx.Tensor[];
  readonly #reference: fx.Tensor;

  constructor(dataSet: DataSet, count: number) {
    this.#dataSet = dataSet;
    this.#count = count;
    this.#reference = dataSet.distribution.sample(this.#keys[0]!, count);
  }

  /** The key of the noise from which samples are to be drawn. */
  get noiseKey(): fx.Tensor {
    return this.#keys[1]!;
  }

  quality(samples: fx.Tensor): Quality {
    const energyDistance = fx.metrics.energyDistance(samples, this.#reference);
    if (this.#dataSet.board !== true) return { energyDistance };
    return {
      energyDistance,
      validity: fx.metrics.checkerboardValidity(samples),
      tileTotalVariation: fx.metrics.tileTotalVariation(samples),
    };
  }

  /** The quality of data, which cannot be beaten but by chance: a mean over several sets. */
  floor(): Quality {
    const { distribution } = this.#dataSet;
    const sets = (fx.random.split(this.#keys[2]!, floorSets) as fx.Tensor[]).map((key) =>
      this.quality(distribution.sample(key, this.#count)),
    );
    const mean = (name: keyof Quality) => sets.reduce((sum, set) => sum + set[name]!, 0) / sets.length;
    const names = Object.keys(sets[0]!) as (keyof Quality)[];
    return Object.fromEntries(names.map((name) => [name, mean(name)])) as unknown as Quality;
  }

  /** The errors of a data-to-noise field; undefined where the exact one is not known. */
  fieldErrors<P>(field: fx.models.Field<P>, params: P): FieldErrors | undefined {
    const { mixture, distribution } = this.#dataSet;
    if (mixture === undefined) return undefined;
    const n = this.#count;
    const [dataKey, noiseKey, timeKey, shareKey] = fx.random.split(this.#keys[3]!, 4) as [
      fx.Tensor,
      fx.Tensor,
      fx.Tensor,
      fx.Tensor,
    ];
    const data = distribution.sample(dataKey, n);
    const noise = fx.random.normal(noiseKey, [n, distribution.dim]);
    const t = fx.random.uniform(timeKey, [n, 1]);
    const r = fx.mul(t, fx.random.uniform(shareKey, [n, 1]));
    const z = fx.add(fx.mul(data, fx.sub(1, t)), fx.mul(noise, t));
    const velocity = fx.metrics.velocityError(field, params, {
      z,
      t,
      exact: fx.flow.mixtureVelocity(mixture),
    });
    if (field.kind === "velocity") return { velocity };
    const exact = fx.flow.mixtureAverageVelocity(mixture);
    const whole = { z: noise, r: fx.zeros([n, 1]), t: fx.ones([n, 1]) };
    return {
      velocity,
      averageVelocity: fx.metrics.averageVelocityError(field, params, exact, { z, r, t }),
      oneStep: fx.metrics.averageVelocityError(field, params, exact, whole),
    };
  }
}
