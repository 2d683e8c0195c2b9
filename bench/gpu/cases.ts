import { inputsOf, macsPerSample, type ObjectiveName, objectives, stepFlops } from "../floor.js";
import { layers } from "../trainers.js";

/** How float32 products may round: not at all, or their operands to TF32 or bfloat16. */
export const precisions = ["float32", "tf32", "bfloat16"] as const;
export type Precision = (typeof precisions)[number];

/** What can be measured, in the order of the report. */
export const gpuSections = ["tutorial", "steps", "dit", "gemm"] as const;
export type GpuSection = (typeof gpuSections)[number];

/** One piece of work, as peers/gpu_torch.py and peers/gpu_jax.py read it. */
export type GpuWork =
  | {
      readonly task: "step";
      readonly objective: ObjectiveName;
      readonly hidden: number;
      readonly layers: number;
      readonly batch: number;
    }
  | {
      readonly task: "tutorial";
      readonly objective: ObjectiveName;
      readonly hidden: number;
      readonly layers: number;
      readonly batch: number;
      readonly steps: number;
    }
  | DitWork
  | { readonly task: "gemm"; readonly m: number; readonly n: number; readonly k: number };

/** A block of a diffusion transformer: its value with gradients, or with its tangent. */
export interface DitWork {
  readonly task: "dit";
  readonly work: "gradients" | "jvp";
  readonly batch: number;
  /** A square number: the tokens are patches of an image. */
  readonly tokens: number;
  readonly width: number;
  readonly heads: number;
  /** Width of the feed-forward layer. */
  readonly mlp: number;
}

export interface GpuCase {
  readonly name: string;
  readonly section: GpuSection;
  readonly precision: Precision;
  readonly work: GpuWork;
  /** Floating-point operations of the matrix products. */
  readonly flops: number;
  /** Bytes that must be read or written, whatever stays on the chip. */
  readonly bytes: number;
  /** Whether PyTorch and JAX show all ways of compiling it: some take a minute. */
  readonly allWays: boolean;
}

const short: Readonly<Record<ObjectiveName, string>> = { fm: "FM", mf: "MF", mf75: "MF 75 %", imf: "iMF" };

/** The cases of these sections at these precisions; the first ones are those that matter most. */
export function gpuCases(
  sections: readonly GpuSection[],
  chosen: readonly Precision[],
  quick: boolean,
): GpuCase[] {
  const of: { readonly [S in GpuSection]: () => GpuCase[] } = {
    tutorial: () => chosen.filter((p) => p === "tf32").flatMap((p) => tutorialCases(p, quick)),
    steps: () => stepCases(chosen, quick),
    dit: () => chosen.flatMap((p) => ditCases(p)),
    gemm: () => chosen.flatMap((p) => gemmCases(p, quick)),
  };
  return gpuSections.filter((name) => sections.includes(name)).flatMap((name) => of[name]());
}

function stepCases(chosen: readonly Precision[], quick: boolean): GpuCase[] {
  const sizes: [hidden: number, batch: number][] = quick
    ? [[128, 4096]]
    : [
        [128, 4096],
        [512, 65_536],
        [512, 4096],
        [128, 65_536],
      ];
  return sizes.flatMap(([hidden, batch]) =>
    [...chosen].sort(tf32First).flatMap((precision) =>
      objectives.map(
        (objective): GpuCase => ({
          name: `${short[objective]}, ${layers} x ${hidden}, batch ${batch}, ${precision}`,
          section: "steps",
          precision,
          work: { task: "step", objective, hidden, layers, batch },
          flops: stepFlops(objective, hidden, layers, batch),
          bytes: trainingBytes(objective, hidden),
          allWays: !quick && precision === "tf32" && hidden === 128 && batch === 4096,
        }),
      ),
    ),
  );
}

const tf32First = (a: Precision, b: Precision) => Number(b === "tf32") - Number(a === "tf32");

/** Parameters and Adam's two moments, each read and written once. */
function trainingBytes(objective: ObjectiveName, hidden: number): number {
  const weights = macsPerSample(inputsOf(objective), hidden, layers);
  return 4 * 6 * (weights + layers * hidden + 2);
}

/** Whole trainings as in the tutorial, with all that is traced and compiled for them. */
function tutorialCases(precision: Precision, quick: boolean): GpuCase[] {
  const size = { hidden: 128, layers, batch: 4096, steps: quick ? 501 : 5001 };
  return (["fm", "mf", "imf"] as const).map((objective) => ({
    name: `${short[objective]}, ${size.steps} steps with compilation, ${precision}`,
    section: "tutorial",
    precision,
    work: { task: "tutorial", objective, ...size },
    flops: size.steps * stepFlops(objective, size.hidden, layers, size.batch),
    bytes: size.steps * trainingBytes(objective, size.hidden),
    allWays: false,
  }));
}

const block = { task: "dit", batch: 256, tokens: 64, width: 384, heads: 6, mlp: 1024 } as const;

function ditCases(precision: Precision): GpuCase[] {
  return (["gradients", "jvp"] as const).map((work) => ({
    name: `DiT block, ${work === "jvp" ? "value and tangent" : "value and gradients"}, ${precision}`,
    section: "dit",
    precision,
    work: { ...block, work },
    flops: ditFlops({ ...block, work }),
    bytes: ditBytes({ ...block, work }),
    allWays: precision === "tf32",
  }));
}

/**
 * Operations of a block's products. Those with weights: one pass forwards, two more for gradients, one for a tangent
 * (of the activations, not of the weights). Attention has two products forwards, and four more for either.
 */
export function ditFlops({ work, batch, tokens, width, mlp }: DitWork): number {
  const linear = tokens * (4 * width * width + 3 * width * mlp) + 6 * width * width;
  const attention = 2 * tokens * tokens * width;
  return 2 * batch * (linear * (work === "jvp" ? 2 : 3) + attention * 3);
}

/** Inputs, weights and results, once each, 4 bytes a number. */
export function ditBytes({ work, batch, tokens, width, heads, mlp }: DitWork): number {
  const weights = 10 * width * width + 3 * width * mlp + 6 * width + 2 * (width / heads);
  const [x, c] = [batch * tokens * width, batch * width];
  // A tangent: x, c and their directions in, value and tangent out. Gradients: x, c and the cotangent in.
  return 4 * (work === "jvp" ? weights + 2 * (x + c) + 2 * x : 2 * weights + 2 * x + c + x);
}

const sizes: readonly (readonly [m: number, n: number, k: number])[] = [
  [512, 512, 512],
  [1024, 1024, 1024],
  [4096, 4096, 4096],
  [8192, 8192, 8192],
  [4096, 128, 128],
  [65_536, 512, 512],
];

function gemmCases(precision: Precision, quick: boolean): GpuCase[] {
  return sizes
    .filter(([m]) => !quick || m <= 4096)
    .map(([m, n, k]) => ({
      name: `product ${m} x ${k} x ${n}, ${precision}`,
      section: "gemm",
      precision,
      work: { task: "gemm", m, n, k },
      flops: 2 * m * n * k,
      bytes: 4 * (m * k + k * n + m * n),
      allWays: false,
    }));
}
