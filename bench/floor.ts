/** The objectives whose steps are measured. mf75 is mean flow with r = t in three quarters of the samples. */
export const objectives = ["fm", "mf", "mf75", "imf"] as const;
export type ObjectiveName = (typeof objectives)[number];

/**
 * Forward passes to which a step comes, counted in matrix products. Forwards is 1 and backwards 2, with respect to
 * weights and activations: FM has 3. A JVP adds one pass with the tangents (its derivative is not followed): MF has
 * 4. iMF evaluates the network once more for the tangent: 5. Where r = t a sample costs what FM's does.
 */
export const forwardEquivalents: Readonly<Record<ObjectiveName, number>> = {
  fm: 3,
  mf: 4,
  mf75: 0.75 * 3 + 0.25 * 4,
  imf: 5,
};

/** Inputs of the network on points of the plane: (z, t) for a velocity, (z, t, r) for an average velocity. */
export function inputsOf(objective: ObjectiveName): number {
  return objective === "fm" ? 3 : 4;
}

/** Multiply-adds of one sample forwards through an MLP of `layers` hidden layers: 49,920 for 4 inputs, 4 x 128. */
export function macsPerSample(inputs: number, hidden: number, layers: number): number {
  return inputs * hidden + (layers - 1) * hidden * hidden + hidden * 2;
}

/** Floating-point operations of a step's matrix products; the floor is their time at the peak of multiply-adds. */
export function stepFlops(objective: ObjectiveName, hidden: number, layers: number, batch: number): number {
  return 2 * macsPerSample(inputsOf(objective), hidden, layers) * forwardEquivalents[objective] * batch;
}
