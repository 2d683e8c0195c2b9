import * as fx from "fluxion";
import t from "tap";
import { namedLeaves } from "#lib/train/named.js";
import { close } from "./support/close.js";

const { nn } = fx;
const f64 = { dtype: "float64" } as const;
const flat = (x: fx.Tensor): number[] => Array.from(x.toTypedArray());
const shapesOf = (params: object) =>
  Object.fromEntries([...namedLeaves("", params)].map(([path, { shape }]) => [path.slice(1), shape]));

t.test("linear computes x W + b on the last axis", async (t) => {
  const layer = nn.linear({ in: 2, out: 3, dtype: "float64" });
  const params = {
    weight: fx.tensor(
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
      f64,
    ),
    bias: fx.tensor([0.5, 0, -1], f64),
  };
  const y = layer.apply(params, fx.tensor([[[1, 1]], [[2, -1]]], f64));
  t.same(y.shape, [2, 1, 3]);
  close(t, flat(y), [5.5, 7, 8, -1.5, -1, -1]);
  const bare = nn.linear({ in: 2, out: 1, bias: false });
  t.same(Object.keys(bare.init(fx.random.key(0))), ["weight"]);
});

t.test("linear draws weight and bias uniformly within 1/sqrt(in), as PyTorch does", async (t) => {
  const { weight, bias } = nn.linear({ in: 100, out: 200 }).init(fx.random.key(1));
  t.same([weight.shape, bias!.shape, weight.dtype], [[100, 200], [200], "float32"]);
  for (const values of [flat(weight), flat(bias!)]) {
    t.ok(
      values.every((v) => Math.abs(v) <= 0.1),
      "no value beyond 1/sqrt(100)",
    );
    const deviation = Math.sqrt(values.reduce((a, v) => a + v * v, 0) / values.length);
    t.ok(
      Math.abs(deviation - 0.1 / Math.sqrt(3)) < 0.004,
      `standard deviation ${deviation} is 0.1 / sqrt(3)`,
    );
  }
  const correlation = flat(bias!).reduce((a, v, i) => a + v * flat(weight)[i]!, 0) / 200;
  t.ok(Math.abs(correlation) < 1e-3, "weight and bias come from different keys");
});

t.test("mlp has an activation between its layers and none after the last", async (t) => {
  const net = nn.mlp({ sizes: [2, 2, 1], activation: "tanh", dtype: "float64" });
  const weight = fx.tensor(
    [
      [1, -1],
      [0.5, 2],
    ],
    f64,
  );
  const params = [
    { weight, bias: fx.tensor([0.1, 0.2], f64) },
    { weight: fx.tensor([[3], [-4]], f64), bias: fx.tensor([5], f64) },
  ];
  const [a, b] = [Math.tanh(1 + 0.5 * 2 + 0.1), Math.tanh(-1 + 2 * 2 + 0.2)];
  close(t, flat(net.apply(params, fx.tensor([[1, 2]], f64))), [3 * a - 4 * b + 5]);
});

t.test("mlp by sizes and by widths is the same network", async (t) => {
  const key = fx.random.key(3);
  const bySizes = nn.mlp({ sizes: [3, 7, 7, 2] }).init(key);
  const byWidths = nn.mlp({ in: 3, hidden: 7, layers: 2, out: 2 }).init(key);
  t.same(fx.tree.leaves(bySizes).map(flat), fx.tree.leaves(byWidths).map(flat));
  t.notSame(flat(bySizes[0]!.bias!), flat(bySizes[1]!.bias!), "layers have keys of their own");
});

t.test("sequential applies modules and functions in order", async (t) => {
  const net = nn.sequential(nn.linear({ in: 2, out: 3 }), nn.activation("relu"), nn.rmsNorm({ dim: 3 }));
  const params = net.init(fx.random.key(4));
  t.same(params[1], {});
  const x = fx.tensor([[1, -2]]);
  const h = fx.relu(fx.add(fx.matmul(x, params[0].weight), params[0].bias!));
  close(t, flat(net.apply(params, x)), flat(nn.rmsNorm({ dim: 3 }).apply(params[2], h)), 1e-6);
});

t.test("the timestep embedding is cos and sin of geometric frequencies", async (t) => {
  const net = nn.timestepEmbedding({ dim: 4, maxPeriod: 100, scale: 10 });
  const y = net.apply({}, fx.tensor([[0.3], [0.7]], f64));
  const row = (time: number) => [Math.cos(10 * time), Math.cos(time), Math.sin(10 * time), Math.sin(time)];
  close(t, flat(y), [...row(0.3), ...row(0.7)]);
});

t.test("the embeddings' derivatives by time agree with finite differences", async (t) => {
  const time = fx.tensor([[0.2], [0.9]], f64);
  const one = fx.ones([2, 1], f64);
  for (const net of [
    nn.timestepEmbedding({ dim: 6, scale: 5 }),
    nn.fourierFeatures({ in: 1, features: 3 }),
  ]) {
    const [, dy] = fx.jvp((x) => net.apply({}, x), [time], [one]);
    const h = 1e-5;
    const slope = fx.div(fx.sub(net.apply({}, fx.add(time, h)), net.apply({}, fx.sub(time, h))), 2 * h);
    close(t, flat(dy), flat(slope), 1e-7);
  }
});

t.test("fourier features are cos and sin of one fixed set of random frequencies", async (t) => {
  const net = nn.fourierFeatures({ in: 2, features: 500, scale: 3, seed: 7 });
  const x = fx.tensor(
    [
      [1e-4, 0],
      [0, 1e-4],
    ],
    f64,
  );
  const y = net.apply({}, x);
  const [cosines, sines] = fx.split(y, 2, 1) as [fx.Tensor, fx.Tensor];
  close(t, flat(fx.add(fx.square(cosines), fx.square(sines))), Array(1000).fill(1));
  const frequencies = flat(sines).map((s) => Math.asin(s) / (2 * Math.PI * 1e-4));
  const deviation = Math.sqrt(frequencies.reduce((a, w) => a + w * w, 0) / 1000);
  t.ok(Math.abs(deviation - 3) < 0.2, `the frequencies' deviation is about 3 (${deviation})`);
  const again = nn.fourierFeatures({ in: 2, features: 500, scale: 3, seed: 7 });
  t.same(flat(again.apply({}, x)), flat(y), "the seed decides");
  t.same(
    flat(fx.jit((z: fx.Tensor) => net.apply({}, z))(x)).length,
    2000,
    "it runs inside of a compiled function",
  );
});

t.test("embedding takes rows of its table", async (t) => {
  const net = nn.embedding({ count: 3, dim: 2 });
  const params = net.init(fx.random.key(0));
  const rows = params.table.toArray() as number[][];
  const y = net.apply(params, fx.tensor([[2, 0]], { dtype: "int32" }));
  t.same(y.toArray(), [[rows[2], rows[0]]]);
});

t.test("layerNorm and rmsNorm normalise the last axis", async (t) => {
  const x = [1, 2, 4, -3];
  const mean = 1;
  const variance = x.reduce((a, v) => a + (v - mean) ** 2, 0) / 4;
  const square = x.reduce((a, v) => a + v * v, 0) / 4;
  const scale = fx.tensor([1, 2, 3, 4], f64);
  const input = fx.tensor([x], f64);
  const layer = nn.layerNorm({ dim: 4, dtype: "float64" });
  const rms = nn.rmsNorm({ dim: 4, dtype: "float64" });
  const want = (centre: number, s: number) => x.map((v, i) => ((v - centre) / Math.sqrt(s)) * (i + 1));
  close(
    t,
    flat(layer.apply({ scale, offset: fx.full([4], 0.5, f64) }, input)),
    want(mean, variance + 1e-5).map((v) => v + 0.5),
  );
  close(t, flat(rms.apply({ scale }, input)), want(0, square + 1e-6));
  t.same(flat(layer.init(fx.random.key(0)).scale), [1, 1, 1, 1]);
});

t.test("swiglu is (silu(x G) * (x V)) W, without biases", async (t) => {
  const layer = nn.swiglu({ dim: 3, hidden: 2, dtype: "float64" });
  const params = layer.init(fx.random.key(1));
  t.same(shapesOf(params), { "in/weight": [3, 4], "out/weight": [2, 3] });
  const x = fx.random.normal(fx.random.key(2), [2, 4, 3], f64);
  const [gate, value] = fx.split(params.in.weight, 2, 1) as [fx.Tensor, fx.Tensor];
  const want = fx.matmul(fx.mul(fx.silu(fx.matmul(x, gate)), fx.matmul(x, value)), params.out.weight);
  close(t, flat(layer.apply(params, x)), flat(want));
  t.same(layer.apply(params, fx.ones([3], f64)).shape, [3], "one row");
  t.doesNotThrow(() => fx.checkGrads(layer.apply, [params, x]));
  // 8/3 dim, to the next multiple of 8: about the parameters of two layers of 4 dim, 8 dim^2.
  for (const [dim, hidden] of [
    [3, 8],
    [4, 16],
    [16, 48],
    [384, 1024],
  ] as const)
    t.same(
      shapesOf(nn.swiglu({ dim }).init(fx.random.key(0))),
      { "in/weight": [dim, 2 * hidden], "out/weight": [hidden, dim] },
      `dim ${dim}`,
    );
  t.equal(nn.swiglu({ dim: 3 }).init(fx.random.key(0)).in.weight.dtype, "float32");
});

t.test("self-attention is attention of each head, joined", async (t) => {
  const [n, dim, heads] = [5, 8, 2];
  const x = fx.random.normal(fx.random.key(3), [3, n, dim], f64);
  const visible = fx.tensor([true, true, false, true, true], { shape: [n] });
  const positions = fx.tensor([0, 3, 1, 2, 7], f64);
  for (const queryKeyNorm of [true, false])
    for (const inputs of [{}, { causal: true }, { mask: visible, scale: 0.3 }, { rotary: { positions } }]) {
      const layer = nn.selfAttention({ dim, heads, queryKeyNorm, dtype: "float64" });
      const drawn = layer.init(fx.random.key(4));
      const scale = (seed: number) => fx.random.normal(fx.random.key(seed), [dim / heads], f64);
      const params = queryKeyNorm ? { ...drawn, queryScale: scale(5), keyScale: scale(6) } : drawn;
      const [q, k, v] = fx.split(fx.matmul(x, params.qkv.weight), 3, 2).map((y, i) =>
        fx.split(y, heads, 2).map((part) => {
          if (i === 2) return part;
          const own = i === 0 ? params.queryScale : params.keyScale;
          const normed = own === undefined ? part : fx.rmsNorm(part, { scale: own });
          return "rotary" in inputs ? nn.rotaryEmbedding(normed, { positions }) : normed;
        }),
      ) as [fx.Tensor[], fx.Tensor[], fx.Tensor[]];
      const { rotary: _, ...options } = inputs as fx.nn.SelfAttentionInputs;
      const found = q.map((_, h) => fx.attention(q[h]!, k[h]!, v[h]!, options));
      const name = `${queryKeyNorm ? "normalised" : "plain"}, ${Object.keys(inputs)}`;
      const want = fx.matmul(fx.concat(found, 2), params.out.weight);
      close(t, flat(layer.apply(params, x, inputs)), flat(want), 1e-12, name);
      t.doesNotThrow(
        () =>
          fx.checkGrads((p: typeof drawn, y: fx.Tensor) => layer.apply(p, y, inputs), [params, x] as const),
        name,
      );
    }
});

t.test("self-attention takes any axes in front, and knows no order of its own", async (t) => {
  const layer = nn.selfAttention({ dim: 6, heads: 3, dtype: "float64" });
  const params = layer.init(fx.random.key(1));
  t.same(shapesOf(params), {
    keyScale: [2],
    "out/weight": [6, 6],
    "qkv/weight": [6, 18],
    queryScale: [2],
  });
  t.same(flat(params.queryScale!), [1, 1]);
  t.same(shapesOf(nn.selfAttention({ dim: 6, heads: 1, queryKeyNorm: false }).init(fx.random.key(1))), {
    "out/weight": [6, 6],
    "qkv/weight": [6, 18],
  });
  const x = fx.random.normal(fx.random.key(2), [2, 3, 4, 6], f64);
  const y = layer.apply(params, x);
  t.same(y.shape, [2, 3, 4, 6]);
  const one = fx.reshape(fx.slice(x, [1, 2, 0, 0], [1, 1, 4, 6]), [4, 6]);
  close(t, flat(layer.apply(params, one)), flat(y).slice(-24));
  const order = fx.tensor([2, 0, 3, 1], { dtype: "int32" });
  close(t, flat(layer.apply(params, fx.take(x, order, 2))), flat(fx.take(y, order, 2)));
  t.same(layer.apply(params, fx.ones([1, 6], f64)).shape, [1, 6], "one element");
  t.same(layer.apply(params, fx.ones([0, 6], f64)).shape, [0, 6], "no element");
});

t.test("what self-attention and swiglu cannot take is named", async (t) => {
  const layer = nn.selfAttention({ dim: 4, heads: 2 });
  const params = layer.init(fx.random.key(0));
  const x = fx.ones([3, 4]);
  const swiglu = nn.swiglu({ dim: 4 });
  const refused: [() => unknown, string, RegExp][] = [
    [() => nn.selfAttention({ dim: 4 } as never), "ValueError", /selfAttention: heads must be a whole/],
    [() => nn.selfAttention({ dim: 4, heads: 3 }), "ValueError", /3 heads do not divide 4 features/],
    [
      () => nn.selfAttention({ dim: 4, heads: 2, bias: true } as never),
      "ValueError",
      /unknown option "bias"/,
    ],
    [
      () => nn.selfAttention({ dim: 4, heads: 2, queryKeyNorm: 1 as never }),
      "ValueError",
      /queryKeyNorm must/,
    ],
    [() => nn.selfAttention({ dim: 4, heads: 2, dtype: "int32" }), "DTypeError", /dtype must be "float32"/],
    [
      () => layer.apply(params, fx.ones([3, 5])),
      "ShapeError",
      /selfAttention: .*\[\.\.\., 4\], got \[3, 5\]/,
    ],
    [
      () => layer.apply(params, fx.ones([4])),
      "ShapeError",
      /selfAttention: needs \[\.\.\., n, 4\], got \[4\]/,
    ],
    [() => layer.apply(params, x, { masks: x } as never), "ValueError", /unknown option "masks"/],
    [() => layer.apply(params, x, { mask: x }), "DTypeError", /bool/],
    [() => layer.apply(params, x, { mask: fx.ones([3, 2], { dtype: "bool" }) }), "ShapeError", /mask/],
    [() => layer.apply(params, x, { causal: "no" as never }), "ValueError", /causal must be true or false/],
    [() => layer.apply(params, x, { rotary: { positions: fx.ones([2]) } }), "ShapeError", /positions/],
    [() => nn.swiglu({ dim: 0 }), "ValueError", /swiglu: dim must be a whole number >= 1, got 0/],
    [() => nn.swiglu({ dim: 4, hidden: 0 }), "ValueError", /swiglu: hidden must/],
    [() => nn.swiglu({ dim: 4, bias: true } as never), "ValueError", /unknown option "bias"/],
    [
      () => swiglu.apply(swiglu.init(fx.random.key(0)), fx.ones([3, 5])),
      "ShapeError",
      /\[\.\.\., 4\], got \[3, 5\]/,
    ],
  ];
  for (const [use, name, message] of refused) t.throws(use, { name, message }, String(message));
});

t.test("wrong input is named", async (t) => {
  const linear = nn.linear({ in: 2, out: 3 });
  const params = linear.init(fx.random.key(0));
  t.throws(() => nn.linear({ in: 2, out: 3, biass: true } as never), {
    name: "ValueError",
    message:
      /linear: unknown option "biass"; known options: in, out, bias, spectralNorm, powerIterations, dtype/,
  });
  t.throws(() => nn.linear({ in: 0, out: 3 }), {
    name: "ValueError",
    message: /in must be a whole number >= 1, got 0/,
  });
  t.throws(() => nn.linear({ in: 2, out: 3, dtype: "int32" }), { name: "DTypeError" });
  t.throws(() => nn.linear(undefined as never), { name: "ValueError", message: /options must be an object/ });
  t.throws(() => linear.apply(params, fx.zeros([4, 5])), {
    name: "ShapeError",
    message: /\[\.\.\., 2\], got \[4, 5\]/,
  });
  t.throws(() => nn.mlp({ sizes: [3] }), { name: "ValueError" });
  t.throws(() => nn.mlp({ sizes: [3, 2], hidden: 4 } as never), {
    name: "ValueError",
    message: /sizes and hidden/,
  });
  t.throws(() => nn.mlp({ sizes: [3, 2], activation: "gleu" as never }), {
    name: "ValueError",
    message: /unknown activation "gleu"; use one of gelu, silu/,
  });
  t.throws(() => nn.mlp({ sizes: [2, 2] }).apply([], fx.zeros([1, 2])), { name: "ValueError" });
  t.throws(() => nn.timestepEmbedding({ dim: 3 }), { name: "ValueError", message: /even, got 3/ });
  t.throws(() => nn.timestepEmbedding({ dim: 4 }).apply({}, fx.zeros([3, 2])), { name: "ShapeError" });
  t.throws(() => nn.fourierFeatures({ in: 1, features: 2 }).apply({}, fx.zeros([3, 1], { dtype: "int32" })), {
    name: "DTypeError",
  });
  t.throws(() => nn.sequential(3 as never), { name: "ValueError", message: /part 0/ });
});
