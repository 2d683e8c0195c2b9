import type { Field, FieldKind } from "../../models/index.js";
import { type FixedStepOptions, gridOf } from "./grid.js";
import { rungeKutta, type Tableau } from "./runge-kutta.js";
import type { FixedSampler, SamplerStep } from "./sampler.js";
import { velocityAt } from "./velocity.js";

/**
 * Euler's method, of order 1: z_new = z + h v(z, t). One evaluation of the field a step.
 *
 * For both kinds of field: an average-velocity field's velocity is u(z, t, t).
 *
 * @param options `steps`, the number of equal steps, or `times`, where steps begin and end
 * @throws ValueError for wrong options
 */
export function euler(options: FixedStepOptions): FixedSampler<FieldKind> {
  return solver("euler", eulerMethod, options);
}

/**
 * The explicit midpoint method, of order 2: z_new = z + h v(z + h/2 k_1, t + h/2), k_1 = v(z, t) (Runge 1895). Two
 * evaluations of the field a step. Fields, options and errors as of `euler`.
 */
export function midpoint(options: FixedStepOptions): FixedSampler<FieldKind> {
  return solver("midpoint", midpointMethod, options);
}

/**
 * Heun's method (the explicit trapezoidal rule), of order 2: z_new = z + h/2 (k_1 + k_2), k_1 = v(z, t),
 * k_2 = v(z + h k_1, t + h) (Heun 1900). Two evaluations of the field a step. Fields, options and errors as of `euler`.
 */
export function heun(options: FixedStepOptions): FixedSampler<FieldKind> {
  return solver("heun", heunMethod, options);
}

/**
 * The classical Runge-Kutta method, of order 4: z_new = z + h/6 (k_1 + 2 k_2 + 2 k_3 + k_4), k_1 = v(z, t),
 * k_2 = v(z + h/2 k_1, t + h/2), k_3 = v(z + h/2 k_2, t + h/2), k_4 = v(z + h k_3, t + h) (Kutta 1901). Four evaluations
 * of the field a step. Fields, options and errors as of `euler`.
 */
export function rungeKutta4(options: FixedStepOptions): FixedSampler<FieldKind> {
  return solver("rungeKutta4", rungeKutta4Method, options);
}

interface Method {
  readonly stages: number;
  /** One function for each method, as programs are kept by it. */
  readonly step: SamplerStep<FieldKind>;
}

function method(tableau: Tableau): Method {
  return { stages: tableau.nodes.length, step: rungeKuttaStep(tableau) };
}

/** A step of the ODE dz/dt = v(z, t) by this method. */
export function rungeKuttaStep(tableau: Tableau): SamplerStep<FieldKind> {
  return (field: Field, params, z, from, to, condition) =>
    rungeKutta(tableau, (state, t) => velocityAt(field, params, state, t, condition), z, from, to).next;
}

const eulerMethod = method({ nodes: [0], stages: [[]], weights: [1] });

const midpointMethod = method({ nodes: [0, 1 / 2], stages: [[], [1 / 2]], weights: [0, 1] });

const heunMethod = method({ nodes: [0, 1], stages: [[], [1]], weights: [1 / 2, 1 / 2] });

const rungeKutta4Method = method({
  nodes: [0, 1 / 2, 1 / 2, 1],
  stages: [[], [1 / 2], [0, 1 / 2], [0, 0, 1]],
  weights: [1 / 6, 1 / 3, 1 / 3, 1 / 6],
});

function solver(name: string, { stages, step }: Method, options: FixedStepOptions): FixedSampler<FieldKind> {
  const times = gridOf(name, options);
  const evaluations = stages * (times.length - 1);
  return { type: "fixed", name, kinds: ["velocity", "average-velocity"], times, step, evaluations };
}
