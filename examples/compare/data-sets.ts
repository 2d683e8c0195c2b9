import * as fx from "fluxion";

/** What the methods are compared on. */
export interface DataSet {
  /** On the command line, and in compare.json. */
  readonly name: string;
  readonly title: string;
  readonly distribution: fx.data.Distribution & { readonly dim: number };
  /** Whether samples have a validity: the measures of the checkerboard. */
  readonly board?: boolean;
  /** The mixture whose velocities are known, against which a field can be held. */
  readonly mixture?: fx.data.GaussianMixture;
}

const eightGaussians = fx.data.gaussianMixture({ modes: 8, radius: 2, deviation: 0.2 });

export const dataSets: readonly DataSet[] = [
  { name: "checkerboard", title: "checkerboard", distribution: fx.data.checkerboard(), board: true },
  { name: "two-moons", title: "two moons", distribution: fx.data.twoMoons() },
  {
    name: "eight-gaussians",
    title: "eight Gaussians",
    distribution: eightGaussians,
    mixture: eightGaussians,
  },
];
