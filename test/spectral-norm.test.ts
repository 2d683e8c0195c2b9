// Layers whose largest singular value has a bound, and perceptrons with a bound on their Lipschitz constant.
import * as fx from "fluxion";
import t from "tap";
import { sameBits } from "./support/compare.js";
import { onEach } from "./support/each-backend.js";
import { singularValues } from "./support/singular-values.js";

type T = fx.Tensor;

const { models, nn } = fx;
const f64 = { dtype: "float64" } as const;
const random = (seed: number, ...shape: number[]) => fx.random.normal(fx.random.key(seed), shape, f64);
const flat = (x: T): number[] => Array.from(x.toTypedArray());

/** The matrix by which a layer without bias multiplies its input. */
const matrixOf = (layer: fx.nn.Module<fx.nn.LinearParams>, weight: T) =>
  layer.apply({ weight }, fx.eye(weight.shape[0]!, weight.shape[0]!, { dtype: weight.dtype }));

t.test("the reference finds singular values", async (t) => {
  // [[3, 0], [4, 5]] has sqrt(45) and sqrt(5).
  const [a, b] = singularValues(
    fx.tensor(
      [
        [3, 0],
        [4, 5],
      ],
      f64,
    ),
  );
  t.ok(Math.abs(a! - Math.sqrt(45)) < 1e-12 && Math.abs(b! - Math.sqrt(5)) < 1e-12);
});

onEach("no singular value of a bounded layer is above the bound, and the first reaches it", (t) => {
  const bound = 0.7;
  for (const [into, out] of [
    [1, 1],
    [3, 5],
    [16, 16],
    [40, 12],
  ] as const)
    for (const [powerIterations, share] of [
      [undefined, 0.99],
      [1, 0.4],
      [20, 1 - 1e-5],
    ] as const) {
      const options = { in: into, out, spectralNorm: bound, ...(powerIterations && { powerIterations }) };
      const layer = nn.linear({ ...options, dtype: "float64" });
      for (let seed = 0; seed < 5; seed++) {
        const weight = random(seed, into, out);
        const before = singularValues(weight);
        const [first, ...rest] = singularValues(matrixOf(layer, weight));
        const limit = Math.min(bound, before[0]!);
        const name = `[${into}, ${out}], ${powerIterations ?? 8} iterations, seed ${seed}`;
        t.ok(first! <= limit * (1 + 1e-12) && first! >= share * limit, `${name}: ${first}`);
        const ratio = rest.map((s, i) => s / first! - before[i + 1]! / before[0]!);
        t.ok(
          ratio.every((x) => Math.abs(x) < 1e-9),
          "all are scaled alike",
        );
      }
    }
  // All singular values alike: the worst case.
  const orthogonal = nn.linear({ in: 16, out: 16, spectralNorm: bound, dtype: "float64" });
  const first = singularValues(matrixOf(orthogonal, fx.mul(fx.eye(16, 16, f64), 5)))[0]!;
  t.ok(first <= bound && first > bound / 16 ** (1 / 512) - 1e-12, `${first}`);
});

onEach("a layer below the bound is as it is, to the bit", (t) => {
  for (const dtype of ["float32", "float64"] as const) {
    const weight = fx.random.normal(fx.random.key(1), [5, 4], { dtype });
    const x = fx.random.normal(fx.random.key(2), [3, 5], { dtype });
    const plain = nn.linear({ in: 5, out: 4, dtype });
    const bounded = nn.linear({ in: 5, out: 4, spectralNorm: 50, dtype });
    t.ok(sameBits(bounded.apply({ weight }, x), plain.apply({ weight }, x)), dtype);
    const zero = fx.zeros([5, 4], { dtype });
    const slope = fx.grad((w: T) => fx.sum(bounded.apply({ weight: w }, x)))(zero);
    const want = fx.grad((w: T) => fx.sum(plain.apply({ weight: w }, x)))(zero);
    t.ok(sameBits(slope, want), "at a weight of zero, too");
  }
});

onEach("the derivative of a bounded layer is right to the first order", (t) => {
  const layer = nn.linear({ in: 4, out: 3, spectralNorm: 0.5, powerIterations: 20, dtype: "float64" });
  const params = { weight: random(3, 4, 3), bias: random(4, 3) };
  const f = (p: typeof params, x: T) => layer.apply(p, x);
  t.doesNotThrow(() => fx.checkGrads(f, [params, random(5, 2, 4)], { order: 1 }));
});

onEach("a perceptron's bound is that of each of its layers", (t) => {
  const net = nn.mlp({
    sizes: [3, 8, 2],
    activation: "identity",
    spectralNorm: 0.9,
    powerIterations: 20,
    dtype: "float64",
  });
  const scaled = fx.tree.map((x: T) => fx.mul(x, 5), net.init(fx.random.key(1)));
  const jacobian = fx.jacrev((x: T) => net.apply(scaled, x))(random(1, 3));
  t.ok(singularValues(jacobian)[0]! <= 0.9 ** 2 * (1 + 1e-12));
});

onEach("a field with a Lipschitz constant keeps it as a map from its inputs to its output", (t) => {
  for (const activation of ["gelu", "silu", "relu", "tanh", "softplus", "sigmoid", "identity"] as const)
    for (const lipschitz of [0.5, 3]) {
      const options = { dim: 2, hidden: 12, layers: 2, activation, lipschitz, dtype: "float64" } as const;
      const u = models.averageVelocityMlp({ ...options, velocityHead: true });
      // Parameters so large that the bound is at work in each layer.
      const params = fx.tree.map((x: T) => fx.mul(x, 6), u.init(fx.random.key(2)));
      let largest = 0;
      for (let seed = 0; seed < 8; seed++) {
        const point = random(seed, 1, 4);
        const part = (x: T, from: number, size: number) => fx.slice(x, [0, from], [1, size]);
        const outputs = (x: T, name: "u" | "v") =>
          u.applyWithVelocity(params, part(x, 0, 2), part(x, 3, 1), part(x, 2, 1))[name];
        for (const name of ["u", "v"] as const) {
          const jacobian = fx.reshape(fx.jacrev((x: T) => outputs(x, name))(point), [2, 4]);
          largest = Math.max(largest, singularValues(jacobian)[0]!);
        }
      }
      t.ok(largest <= lipschitz * (1 + 1e-12), `${activation}: ${largest} is at most ${lipschitz}`);
      if (activation === "identity") t.ok(largest > lipschitz / 20, "and the bound is not idle");
    }
});

t.test("the Lipschitz constants of activations are their largest slopes", async (t) => {
  const x = fx.linspace(-8, 8, 160001, f64);
  for (const name of ["gelu", "silu", "relu", "tanh", "sigmoid", "softplus", "identity"] as const) {
    const f = nn.activation(name);
    const [, slope] = fx.jvp(f, [x], [fx.ones(x.shape, f64)]);
    const largest = Math.max(...flat(fx.max(fx.abs(slope)) as T));
    const known = nn.activationLipschitz(name);
    t.ok(largest <= known && largest > known - 1e-3, `${name}: ${largest}, ${known}`);
  }
});

t.test("a field with a Lipschitz constant trains", async (t) => {
  const trainer = new fx.Trainer({
    model: models.averageVelocityMlp({ dim: 2, hidden: 16, layers: 2, lipschitz: 4 }),
    objective: fx.flow.improvedMeanFlow({ equalTimeFraction: 0.5 }),
    data: fx.data.fromTensor(fx.tensor([[1, -1]])),
    optimizer: fx.optim.adam({ learningRate: 1e-2 }),
    batchSize: 32,
  });
  await trainer.fit({ steps: 60, progress: false });
  t.ok(trainer.losses.at(-1)! < trainer.losses[0]!);
});

t.test("what cannot be bounded is named", async (t) => {
  const refused: [() => unknown, RegExp][] = [
    [
      () => nn.linear({ in: 2, out: 3, spectralNorm: 0 }),
      /linear: spectralNorm must be a finite number > 0, got 0/,
    ],
    [() => nn.linear({ in: 2, out: 3, powerIterations: 3 }), /powerIterations needs spectralNorm/],
    [
      () => nn.mlp({ sizes: [2, 3], spectralNorm: 1, powerIterations: 0 }),
      /powerIterations must be a whole number >= 1, got 0/,
    ],
    [
      () => models.velocityMlp({ dim: 2, lipschitz: -1 }),
      /velocityMlp: lipschitz must be a finite number > 0/,
    ],
    [
      () => models.velocityMlp({ dim: 2, lipschitz: 1, activation: (x) => fx.mul(x, 2) }),
      /needs one of gelu, silu, .* got a function/,
    ],
  ];
  for (const [use, message] of refused) t.throws(use, { name: "ValueError", message }, String(message));
});
