import * as fx from "fluxion";
import t, { type Test } from "tap";

const { models, nn } = fx;
const f64 = { dtype: "float64" } as const;
const flat = (x: fx.Tensor): number[] => Array.from(x.toTypedArray());
const random = (seed: number, shape: number[]) => fx.random.normal(fx.random.key(seed), shape, f64);

function close(t: Test, got: fx.Tensor, want: fx.Tensor, tolerance = 1e-12, name?: string): void {
  t.same(got.shape, want.shape);
  const [a, b] = [flat(got), flat(want)];
  const worst = Math.max(0, ...b.map((w, i) => Math.abs(w - a[i]!)));
  t.ok(worst <= tolerance, `${name ?? "values"} agree (difference ${worst})`);
}

const small = { hidden: 8, layers: 2, dtype: "float64" } as const;

t.test("the raw models are perceptrons on (z, t) and (z, t, r)", async (t) => {
  const [z, r, time] = [random(0, [5, 2]), fx.full([5, 1], 0.25, f64), fx.full([5, 1], 0.75, f64)];
  const v = models.velocityMlp({ dim: 2, ...small });
  const vParams = v.init(fx.random.key(1));
  const net = (sizes: number[]) => nn.mlp({ sizes, dtype: "float64" });
  close(t, v.apply(vParams, z, time), net([3, 8, 8, 2]).apply(vParams, fx.concat([z, time], 1)));
  const u = models.averageVelocityMlp({ dim: 2, ...small });
  const uParams = u.init(fx.random.key(1));
  close(t, u.apply(uParams, z, r, time), net([4, 8, 8, 2]).apply(uParams, fx.concat([z, time, r], 1)));
  t.same([v.kind, u.kind, v.dim, u.dim], ["velocity", "average-velocity", 2, 2]);
});

t.test("the default is 4 hidden layers of 128 in float32", async (t) => {
  const params = models.velocityMlp({ dim: 2 }).init(fx.random.key(0));
  t.same(
    params.map((layer) => layer.weight.shape),
    [
      [3, 128],
      [128, 128],
      [128, 128],
      [128, 128],
      [128, 2],
    ],
  );
  t.ok(fx.tree.leaves(params).every((x) => x.dtype === "float32"));
});

t.test("samples of any shape are flattened for the network and given back in shape", async (t) => {
  const u = models.averageVelocityMlp({ dim: [3, 2], ...small });
  const params = u.init(fx.random.key(2));
  const [z, r, time] = [random(3, [4, 3, 2]), fx.full([4, 1], 0.1, f64), fx.full([4, 1], 0.6, f64)];
  const y = u.apply(params, z, r, time);
  const plain = models.averageVelocityMlp({ dim: 6, ...small });
  close(t, fx.reshape(y, [4, 6]), plain.apply(params, fx.reshape(z, [4, 6]), r, time));
  t.same(y.shape, [4, 3, 2]);
});

t.test("with any embedding, the derivative by t is that of the function of (z, r, t)", async (t) => {
  const [z, dz] = [random(4, [3, 2]), random(5, [3, 2])];
  const [r, time] = [fx.tensor([[0.1], [0.3], [0.6]], f64), fx.tensor([[0.5], [0.9], [0.6]], f64)];
  for (const timeEmbedding of ["raw", "fourier", "sinusoidal"] as const) {
    const u = models.averageVelocityMlp({ dim: 2, timeEmbedding, ...small });
    const params = u.init(fx.random.key(6));
    const f = (z: fx.Tensor, time: fx.Tensor) => u.apply(params, z, r, time);
    const [, du] = fx.jvp(f, [z, time], [dz, fx.ones([3, 1], f64)]);
    const h = 1e-5;
    const moved = (s: number) => f(fx.add(z, fx.mul(dz, s)), fx.add(time, s));
    close(t, du, fx.div(fx.sub(moved(h), moved(-h)), 2 * h), 1e-7, timeEmbedding);

    const v = models.velocityMlp({ dim: 2, timeEmbedding, ...small });
    t.same(v.apply(v.init(fx.random.key(6)), z, time).shape, [3, 2]);
  }
});

t.test(
  "embedded times see t and the length of the interval: moving both ends changes only t's features",
  async (t) => {
    const u = models.averageVelocityMlp({
      dim: 1,
      timeEmbedding: "sinusoidal",
      hidden: 4,
      layers: 1,
      dtype: "float64",
    });
    const params = u.init(fx.random.key(7));
    // Without t's 17 features (rows 1 .. 17 of the first weight), the field depends on t - r alone.
    const keep = fx.tensor(
      [1, ...Array(17).fill(0), ...Array(17).fill(1)].map((m) => [m]),
      f64,
    );
    const [first, ...rest] = params;
    const masked = [{ ...first!, weight: fx.mul(first!.weight, keep) }, ...rest];
    const at = (r: number, time: number) =>
      u.apply(masked, fx.ones([1, 1], f64), fx.full([1, 1], r, f64), fx.full([1, 1], time, f64));
    close(t, at(0.1, 0.4), at(0.5, 0.8));
    t.not(at(0.1, 0.4).item(), at(0.1, 0.5).item());
  },
);

t.test("a condition is an input beside z and the times", async (t) => {
  const v = models.velocityMlp({ dim: 2, conditionDim: 3, ...small });
  const params = v.init(fx.random.key(8));
  const [z, time, condition] = [random(9, [4, 2]), fx.full([4, 1], 0.5, f64), random(10, [4, 3])];
  const net = nn.mlp({ sizes: [6, 8, 8, 2], dtype: "float64" });
  close(t, v.apply(params, z, time, condition), net.apply(params, fx.concat([z, time, condition], 1)));
  t.throws(() => v.apply(params, z, time), {
    name: "ValueError",
    message: /needs a condition of shape \[batch, 3\]/,
  });
  t.throws(() => v.apply(params, z, time, random(0, [4, 2])), {
    name: "ShapeError",
    message: /\[4, 3\], got \[4, 2\]/,
  });
  const plain = models.velocityMlp({ dim: 2, ...small });
  t.throws(() => plain.apply(plain.init(fx.random.key(0)), z, time, condition), {
    name: "ValueError",
    message: /conditionDim is 0/,
  });
});

t.test("wrong input is named", async (t) => {
  t.throws(() => models.velocityMlp({ dim: 2, width: 3 } as never), {
    name: "ValueError",
    message: /unknown option "width"/,
  });
  t.throws(() => models.velocityMlp({} as never), {
    name: "ValueError",
    message: /dim must be .* got undefined/,
  });
  t.throws(() => models.averageVelocityMlp({ dim: [2, 0] }), { name: "ValueError", message: /dim\[1\]/ });
  t.throws(() => models.averageVelocityMlp({ dim: 2, timeEmbedding: "sin" as never }), {
    name: "ValueError",
    message: /timeEmbedding must be one of "raw", "fourier", "sinusoidal", got "sin"/,
  });
  const u = models.averageVelocityMlp({ dim: 2, ...small });
  const params = u.init(fx.random.key(0));
  const [z, column] = [fx.zeros([4, 2], f64), fx.zeros([4, 1], f64)];
  t.throws(() => u.apply(params, fx.zeros([4, 3], f64), column, column), {
    name: "ShapeError",
    message: /\[batch, 2\], got \[4, 3\]/,
  });
  t.throws(() => u.apply(params, z, fx.zeros([4], f64), column), {
    name: "ShapeError",
    message: /r must be \[4, 1\], got \[4\]/,
  });
  t.throws(() => u.apply(params, z, column, fx.zeros([3, 1], f64)), {
    name: "ShapeError",
    message: /t must be \[4, 1\]/,
  });
});
