import { ValueError } from "../errors.js";
import { add, cast, concat, cos, mul, sin, sqrt, sub, take, tensor } from "../ops/index.js";
import { checkNumber, checkOptions, describe } from "../options.js";
import { bernoulli, normal, randint, split, uniform } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import { type Distribution, pointDistribution } from "./distribution.js";

/** Distributions along curves of the plane, each with Gaussian noise of a given standard deviation. */

const blurred = (points: Tensor, key: Tensor, noise: number, dtype: DType): Tensor =>
  noise === 0 ? points : add(points, mul(normal(key, points.shape, { dtype }), noise));

const polar = (radius: Tensor | number, angle: Tensor): Tensor =>
  concat([mul(cos(angle), radius), mul(sin(angle), radius)], 1);

export interface TwoMoonsOptions {
  /** Radius of the moons. Default 1. */
  readonly scale?: number;
  /** Standard deviation of the noise. Default 0.05. */
  readonly noise?: number;
}

/**
 * Two interleaved half circles of radius `scale`, equally likely: the upper one around (-1/2, -1/4) scale, the lower
 * one around (1/2, 1/4) scale, so that the whole is centred at the origin.
 */
export function twoMoons(options: TwoMoonsOptions = {}): Distribution & { readonly dim: number } {
  checkOptions("twoMoons", options, ["scale", "noise"]);
  const scale = checkNumber("twoMoons", "scale", options.scale ?? 1, { above: 0 });
  const noise = checkNumber("twoMoons", "noise", options.noise ?? 0.05, { min: 0 });
  return pointDistribution("twoMoons", 2, (key, n, dtype) => {
    const [angleKey, sideKey, noiseKey] = split(key, 3);
    const upper = polar(scale, uniform(angleKey!, [n, 1], { max: Math.PI, dtype }));
    const centre = tensor([[-scale / 2, -scale / 4]], { dtype });
    // The lower moon is the upper one turned by half a turn about the origin.
    const side = sub(mul(cast(bernoulli(sideKey!, 0.5, [n, 1]), dtype), 2), 1);
    return blurred(mul(add(upper, centre), side), noiseKey!, noise, dtype);
  });
}

export interface SpiralOptions {
  /** Number of turns. Default 2. */
  readonly turns?: number;
  /** Largest radius. Default 2. */
  readonly scale?: number;
  /** Standard deviation of the noise. Default 0.05. */
  readonly noise?: number;
}

/**
 * Archimedes' spiral, radius = scale s at the angle 2 pi turns s, s in [0, 1] with density 2 s: about equally dense
 * all along the curve.
 */
export function spiral(options: SpiralOptions = {}): Distribution & { readonly dim: number } {
  checkOptions("spiral", options, ["turns", "scale", "noise"]);
  const turns = checkNumber("spiral", "turns", options.turns ?? 2, { above: 0 });
  const scale = checkNumber("spiral", "scale", options.scale ?? 2, { above: 0 });
  const noise = checkNumber("spiral", "noise", options.noise ?? 0.05, { min: 0 });
  return pointDistribution("spiral", 2, (key, n, dtype) => {
    const [placeKey, noiseKey] = split(key, 2);
    const s = sqrt(uniform(placeKey!, [n, 1], { dtype }));
    return blurred(polar(mul(s, scale), mul(s, 2 * Math.PI * turns)), noiseKey!, noise, dtype);
  });
}

export interface RingsOptions {
  /** Radii of the circles around the origin. Default [0.5, 1, 1.5, 2]. */
  readonly radii?: readonly number[];
  /** Standard deviation of the noise. Default 0.05. */
  readonly noise?: number;
}

/** Concentric circles, equally likely. */
export function rings(options: RingsOptions = {}): Distribution & { readonly dim: number } {
  checkOptions("rings", options, ["radii", "noise"]);
  const given: unknown = options.radii ?? [0.5, 1, 1.5, 2];
  if (!Array.isArray(given) || given.length === 0)
    throw new ValueError(`rings: radii must be an array of at least one number, got ${describe(given)}`);
  const radii = given.map((r, i) => checkNumber("rings", `radii[${i}]`, r, { min: 0 }));
  const noise = checkNumber("rings", "noise", options.noise ?? 0.05, { min: 0 });
  return pointDistribution("rings", 2, (key, n, dtype) => {
    const [ringKey, angleKey, noiseKey] = split(key, 3);
    const radius = take(tensor(radii, { dtype }), randint(ringKey!, [n, 1], 0, radii.length), 0);
    const angle = uniform(angleKey!, [n, 1], { max: 2 * Math.PI, dtype });
    return blurred(polar(radius, angle), noiseKey!, noise, dtype);
  });
}
