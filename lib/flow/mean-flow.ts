import { ValueError } from "../errors.js";
import { add, mul } from "../ops/index.js";
import { checkChoice, checkNumber } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import {
  type FlexibleGuidance,
  flexibleGuidance,
  type Guidance,
  type GuidedPoints,
  type GuidedTarget,
  type MeanFlowGuidance,
  meanFlowGuidance,
} from "./guidance.js";
import { identitySides } from "./identity.js";
import {
  checkIntervalOptions,
  type Evaluation,
  type IntervalOptions,
  type IntervalSettings,
  intervalObjective,
  type SampleErrors,
} from "./interval-objective.js";
import { type AverageVelocityObjective, pathOf, squaredErrors } from "./objective.js";
import { endsOf, intervalBetween } from "./orientation.js";
import { ownVelocity, predict, type TangentSource } from "./velocity-head.js";

interface TangentOptions extends IntervalOptions {
  /** Share of the samples with r = t, see IntervalOptions. Default 0; the mean flow paper uses 0.75. */
  readonly equalTimeFraction?: number;
  /**
   * b in the tangent b v + (1 - b) sg(u(z, t, t)) of z: 1 is mean flow's (default of `meanFlow`), 0 improved mean
   * flow's (default of `improvedMeanFlow`).
   */
  readonly conditionalTangentWeight?: number;
}

export interface MeanFlowOptions extends TangentOptions {
  /** Trains with labels that are dropped at times, and on a guided velocity. Default: none. */
  readonly guidance?: MeanFlowGuidance;
}

export interface ImprovedMeanFlowOptions extends TangentOptions {
  /** Trains with labels that are dropped at times, and on velocities guided at scales told to the field. Default: none. */
  readonly guidance?: FlexibleGuidance;
  /**
   * Where the network's own velocity comes from: "boundary" (default) is u(z, t, t); "velocity-head" the v of the
   * field's `applyWithVelocity`, at (z, t, t). The head has a loss of its own, |v(z, r, t) - v|^2 on all rows.
   */
  readonly tangent?: TangentSource;
  /** Factor of the velocity head's loss, which a weighting weights by itself; the raw loss is without it. Default 1. */
  readonly velocityWeight?: number;
}

/**
 * Mean flow (Geng et al. 2025, "Mean flows for one-step generative modeling", eqs. 9-11) for an average-velocity
 * field u(z, r, t): the mean over batch and dimensions of |u - sg(u_target)|^2, sg the stopped gradient.
 *
 * Data-to-noise, anchored at the later time: u_target = v - (t - r) du/dt at z = z_t, where du/dt is one JVP of
 * (z, r, t) along (v, 0, 1). Noise-to-data, anchored at the earlier time: u_target = v + (t - r) du/dr at z = z_r,
 * along (v, 1, 0). v is the conditional velocity: the target is unbiased, its variance high.
 *
 * With `guidance`, see `MeanFlowGuidance`, a guided velocity takes the place of v. The condition is then labels, int32
 * [n], or { label, ... }, and the points have `unlabelled`, as `sampleTimes` draws it.
 *
 * `loss(field, params, { data, noise, r, t, equalCount?, condition? })` is pure and differentiable by params.
 * Its errors: ValueError for a field of another kind, times outside [0, 1], r > t (naming the first such row), data
 * that are not finite, guidance without labels; ShapeError for an empty batch and for shapes that do not fit;
 * DTypeError for mixed dtypes. Values are checked on concrete tensors only.
 */
export function meanFlow(options: MeanFlowOptions = {}): AverageVelocityObjective<GuidedPoints> {
  const where = "meanFlow";
  const settings = checkIntervalOptions(where, options, ["conditionalTangentWeight", "guidance"]);
  return objective(settings, "mean flow", {
    conditionalWeight: checkTangentWeight(where, options, 1),
    guidance: options.guidance && meanFlowGuidance(where, options.guidance),
    source: "boundary",
    velocityWeight: 1,
  });
}

/**
 * Improved mean flow (Geng et al. 2025, "Improved mean flows"): mean flow with the network's own velocity
 * sg(u(z, t, t)) as the tangent of z in place of the conditional one. It has the gradient of regressing
 * u + (t - r) sg(du/dt) on v. The target has less variance than mean flow's, and a bias while u(z, t, t) is not yet
 * the marginal velocity. It costs one more evaluation of the field on the rows with r < t. Options, orientations and
 * errors are those of `meanFlow`, but for these: `guidance` is flexible, see `FlexibleGuidance`, and the points have
 * what it draws; and with `tangent: "velocity-head"` a second head of the field learns the velocity.
 */
export function improvedMeanFlow(
  options: ImprovedMeanFlowOptions = {},
): AverageVelocityObjective<GuidedPoints> {
  const where = "improvedMeanFlow";
  const own = ["conditionalTangentWeight", "guidance", "tangent", "velocityWeight"];
  const settings = checkIntervalOptions(where, options, own);
  const source = checkChoice(where, "tangent", options.tangent ?? "boundary", ["boundary", "velocity-head"]);
  if (options.velocityWeight !== undefined && source === "boundary")
    throw new ValueError(`${where}: velocityWeight is for tangent "velocity-head"`);
  return objective(settings, "improved mean flow", {
    conditionalWeight: checkTangentWeight(where, options, 0),
    guidance: options.guidance && flexibleGuidance(where, options.guidance),
    source,
    velocityWeight: checkNumber(where, "velocityWeight", options.velocityWeight ?? 1, { min: 0 }),
  });
}

function checkTangentWeight(where: string, options: TangentOptions, byDefault: number): number {
  const weight = options.conditionalTangentWeight ?? byDefault;
  return checkNumber(where, "conditionalTangentWeight", weight, { min: 0, max: 1 });
}

/** What the two objectives differ in. */
interface Kind {
  readonly conditionalWeight: number;
  readonly guidance: Guidance | undefined;
  readonly source: TangentSource;
  readonly velocityWeight: number;
}

function objective(
  settings: IntervalSettings,
  name: string,
  kind: Kind,
): AverageVelocityObjective<GuidedPoints> {
  const { guidance, source, velocityWeight } = kind;
  if (guidance !== undefined && settings.velocity !== undefined)
    throw new ValueError(`${settings.where}: guidance and velocity cannot be combined: give one of them`);
  return intervalObjective<GuidedPoints>(settings, {
    name,
    errors: (evaluation, points) => intervalErrors(evaluation, points, kind),
    ...(guidance === undefined && source === "boundary"
      ? {}
      : { pointErrors: (evaluation, points) => pointErrors(evaluation, points, kind) }),
    auxiliaryWeight: velocityWeight,
    ...(guidance && { draw: guidance.draw, check: guidance.check }),
  });
}

/** |u - sg(target)|^2 with the target of the mean-flow identity, from one JVP whose primal is u itself. */
function intervalErrors<P>(evaluation: Evaluation<P>, points: GuidedPoints, kind: Kind): SampleErrors {
  const { orientation } = evaluation;
  const { from, to } = endsOf(orientation, points.r, points.t);
  const path = pathOf(orientation, points, from);
  const { z } = path;
  const velocity = velocityAt(evaluation, z, from, kind);
  const { v, condition, own } = targetOf(points, path.v, from, velocity, kind);

  const { conditionalWeight: weight, source } = kind;
  let tangent = v;
  if (weight < 1) {
    const network = own ?? velocity(condition);
    tangent = weight === 0 ? network : add(mul(v, weight), mul(network, 1 - weight));
  }
  const u = (at: Tensor, start: Tensor, end: Tensor) => {
    const { r, t } = intervalBetween(orientation, start, end);
    return predict(evaluation, source, at, r, t, condition);
  };
  const sides = identitySides(u, { z, from, to }, { velocity: v, tangent });
  return errorsOf(sides.prediction, sides.target, sides.auxiliary, v);
}

/** Where r = t the average velocity is the velocity. Time is t throughout, so that u(z, t, t) is computed once. */
function pointErrors<P>(evaluation: Evaluation<P>, points: GuidedPoints, kind: Kind): SampleErrors {
  const { t } = points;
  const path = pathOf(evaluation.orientation, points, t);
  const velocity = velocityAt(evaluation, path.z, t, kind);
  const { v, condition } = targetOf(points, path.v, t, velocity, kind);
  const [u, head] = predict(evaluation, kind.source, path.z, t, t, condition);
  return errorsOf(u, v, head, v);
}

type Velocity = (condition: GuidedPoints["condition"]) => Tensor;

/** The network's own velocity at the anchored ends under a condition. */
function velocityAt<P>(evaluation: Evaluation<P>, z: Tensor, anchor: Tensor, { source }: Kind): Velocity {
  return (condition) => ownVelocity(evaluation, source, z, anchor, condition);
}

function targetOf(
  points: GuidedPoints,
  v: Tensor,
  anchor: Tensor,
  velocity: Velocity,
  { guidance }: Kind,
): GuidedTarget {
  return guidance?.target(points, v, anchor, velocity) ?? { v, condition: points.condition };
}

/** The errors of u and, if there is one, of the velocity head, which learns v. */
function errorsOf(u: Tensor, target: Tensor, head: Tensor | undefined, v: Tensor): SampleErrors {
  const errors = squaredErrors(u, target);
  return head === undefined ? errors : { errors, auxiliary: squaredErrors(head, v) };
}
