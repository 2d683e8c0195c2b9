import type { Condition } from "../models/index.js";
import {
  add,
  arange,
  div,
  exp,
  greaterEqual,
  less,
  lessEqual,
  logicalAnd,
  mul,
  ones,
  reshape,
  where as select,
  sub,
  zeros,
} from "../ops/index.js";
import { checkCount, checkFlag, checkNumber, checkOptions, checkRange } from "../options.js";
import { bernoulli, split, uniform } from "../random/index.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Intervals } from "./interval-objective.js";
import { checkGuidedPoints, dropLabels, relabelled, withMembers } from "./labels.js";
import type { IntervalPoints } from "./objective.js";
import { columnOf } from "./orientation.js";

interface LabelOptions {
  /** Number of classes. The label `classes` stands for none, as with the models. */
  readonly classes: number;
  /**
   * Share of the samples that lose their label, from which the network learns the velocity without one. Drawn for each
   * row by itself. Default 0.1.
   */
  readonly labelDropout?: number;
}

/**
 * Classifier-free guidance inside of mean flow's target, at one scale (Geng et al. 2025, "Mean flows for one-step
 * generative modeling", section 4.2, omega and kappa): the place of the conditional velocity v, in target and tangent, is
 * taken by
 *
 *     v~ = scale v + mix u(z, t, t | y) + (1 - scale - mix) u(z, t, t | none)
 *
 * without gradient. Its fixed point is the velocity guided with the effective scale scale / (1 - mix). Samples then
 * cost one evaluation a step, with the label alone as the condition. Rows without a label keep v.
 */
export interface MeanFlowGuidance extends LabelOptions {
  /** Above 0. 1 with mix 0 is no guidance, but label dropout. */
  readonly scale: number;
  /** From 0 to below 1. Default 0. */
  readonly mix?: number;
  /** Times [low, high] of the anchored end within which there is guidance; elsewhere v~ = v. Default [0, 1]. */
  readonly interval?: readonly [number, number];
}

/**
 * Guidance inside of improved mean flow's target, at scales that the network is told (Geng et al. 2025, "Improved mean
 * flows"): each row draws a scale w, given to the field as the condition's member `guidance`, and v gives way to
 *
 *     v_g = v + (1 - 1 / w) (v_c - v_u),    v_c = u(z, t, t | y, w),  v_u = u(z, t, t | none, 1)
 *
 * without gradient (with a velocity head, v_c and v_u are that one's). The tangent of z is v_c. The fixed point is the
 * velocity guided with scale w: v_c = v_g turns the equation into v_g = w v + (1 - w) v_u. That is mean flow's target
 * with scale 1 and mix 1 - 1 / w; but the scale is chosen when sampling, by the condition { label, guidance } (and
 * guidanceStart, guidanceEnd with `interval`). Rows without a label keep v, and have none in v_c either.
 */
export interface FlexibleGuidance extends LabelOptions {
  /** The scales [low, high], low above 0, drawn log-uniformly. Default [1, 8]. */
  readonly scales?: readonly [number, number];
  /**
   * Whether each row also draws an interval of time outside of which its scale counts as 1: from U(0, 1/2) to
   * U(1/2, 1), where r = t from 0 to 1. The field is told it as the condition's members `guidanceStart` and
   * `guidanceEnd`. Default false.
   */
  readonly interval?: boolean;
}

/** What guidance draws at random. */
export interface GuidanceDraws {
  /** bool [n]: the rows that lose their label. */
  readonly unlabelled?: Tensor;
  /** Flexible guidance: the scales, [n, 1], above 0. */
  readonly guidance?: Tensor;
  /** Flexible guidance with `interval`: [n, 1]. */
  readonly guidanceStart?: Tensor;
  /** Flexible guidance with `interval`: [n, 1]. */
  readonly guidanceEnd?: Tensor;
}

/** What a guided loss is computed from: what guidance draws is needed when there is guidance. */
export interface GuidedPoints extends IntervalPoints, GuidanceDraws {}

/** What takes the place of a batch's condition and conditional velocity. */
export interface GuidedTarget {
  readonly v: Tensor;
  readonly condition: Condition | undefined;
  /** The network's own velocity under the label, where guidance needed it. */
  readonly own?: Tensor;
}

export interface Guidance {
  draw(key: Tensor, intervals: Intervals): GuidanceDraws;
  /** Throws unless the points have labels and what guidance draws. */
  check(where: string, points: GuidedPoints): void;
  /**
   * @param v the conditional velocity at the anchored ends
   * @param anchor the times of these, [n, 1]
   * @param velocity the network's own velocity there under a condition, without gradient
   */
  target(
    points: GuidedPoints,
    v: Tensor,
    anchor: Tensor,
    velocity: (condition: Condition) => Tensor,
  ): GuidedTarget;
}

export function meanFlowGuidance(where: string, options: MeanFlowGuidance): Guidance {
  const inside = `${where}: guidance`;
  checkOptions(inside, options, ["scale", "mix", "interval", "labelDropout", "classes"]);
  const { classes, labelDropout } = checkLabelOptions(inside, options);
  const scale = checkNumber(inside, "scale", options.scale, { above: 0 });
  const mix = checkNumber(inside, "mix", options.mix ?? 0, { min: 0, below: 1 });
  const [low, high] = checkRange(inside, "interval", options.interval ?? [0, 1], { min: 0, max: 1 });
  const always = low === 0 && high === 1;
  return {
    draw: (key, { r }) => ({ unlabelled: bernoulli(key, labelDropout, [r.shape[0]!]) }),
    check: (_, points) => checkGuidedPoints(inside, points, classes, []),
    target(points, v, anchor, velocity) {
      const { label, none, labelled } = dropLabels(points, classes);
      const condition = relabelled(points.condition, label);
      if (scale === 1 && mix === 0) return { v, condition };
      const rest = 1 - scale - mix;
      const own = mix === 0 ? undefined : velocity(condition);
      const terms = [
        mul(v, scale),
        ...(own === undefined ? [] : [mul(own, mix)]),
        ...(rest === 0 ? [] : [mul(velocity(relabelled(points.condition, none)), rest)]),
      ];
      const guided = always ? labelled : logicalAnd(labelled, within(anchor, low, high));
      const mixture = terms.reduce((a, b) => add(a, b));
      return { v: select(columnOf(guided, v.rank), mixture, v), condition, ...(own && { own }) };
    },
  };
}

export function flexibleGuidance(where: string, options: FlexibleGuidance): Guidance {
  const inside = `${where}: guidance`;
  checkOptions(inside, options, ["scales", "labelDropout", "classes", "interval"]);
  const { classes, labelDropout } = checkLabelOptions(inside, options);
  const [low, high] = checkRange(inside, "scales", options.scales ?? [1, 8], { above: 0 });
  const interval = checkFlag(inside, "interval", options.interval ?? false);
  return {
    draw(key, { r, equalCount }) {
      const { dtype } = r;
      const n = r.shape[0]!;
      const [dropout, scale, start, end] = split(key, 4) as [Tensor, Tensor, Tensor, Tensor];
      const column = (k: Tensor, min: number, max: number) =>
        add(mul(uniform(k, [n, 1], { dtype }), max - min), min);
      const isPoint = reshape(less(arange(n), equalCount), [n, 1]);
      return {
        unlabelled: bernoulli(dropout, labelDropout, [n]),
        guidance: exp(column(scale, Math.log(low), Math.log(high))),
        ...(interval && {
          guidanceStart: select(isPoint, 0, column(start, 0, 0.5)),
          guidanceEnd: select(isPoint, 1, column(end, 0.5, 1)),
        }),
      };
    },
    check: (_, points) =>
      checkGuidedPoints(inside, points, classes, [
        "guidance",
        ...(interval ? (["guidanceStart", "guidanceEnd"] as const) : []),
      ]),
    target(points, v, anchor, velocity) {
      const { label, none, labelled } = dropLabels(points, classes);
      const { guidance, guidanceStart, guidanceEnd } = points as Required<GuidanceDraws>;
      const told = (members: { readonly [name: string]: Tensor }) => withMembers(points.condition, members);
      const one = ones(guidance.shape, { dtype: guidance.dtype });
      // The velocity at one time has no interval: it is asked for the scale in force then, as if that held always.
      const always = interval && { guidanceStart: zeros(one.shape, { dtype: one.dtype }), guidanceEnd: one };
      const inForce = interval ? select(within(anchor, guidanceStart, guidanceEnd), guidance, one) : guidance;
      const own = velocity(told({ label, guidance: inForce, ...always }));
      const unguided = velocity(told({ label: none, guidance: one, ...always }));
      const pull = mul(columnOf(sub(1, div(1, inForce)), v.rank), sub(own, unguided));
      return {
        v: select(columnOf(labelled, v.rank), add(v, pull), v),
        condition: told({ label, guidance, ...(interval && { guidanceStart, guidanceEnd }) }),
        own,
      };
    },
  };
}

function checkLabelOptions(where: string, { classes, labelDropout = 0.1 }: LabelOptions) {
  return {
    classes: checkCount(where, "classes", classes),
    labelDropout: checkNumber(where, "labelDropout", labelDropout, { min: 0, max: 1 }),
  };
}

function within(time: Tensor, low: Tensor | number, high: Tensor | number): Tensor {
  return logicalAnd(greaterEqual(time, low), lessEqual(time, high));
}
