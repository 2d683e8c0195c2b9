import * as fx from "fluxion";
import t from "tap";
import { onEach } from "./support/each-backend.js";

const { random } = fx;

const uint32 = (data: fx.NestedArray) => fx.tensor(data, { dtype: "uint32" });
const numbers = (x: fx.Tensor): number[] => [...x.toTypedArray()];
const mean = (x: readonly number[]) => x.reduce((a, b) => a + b, 0) / x.length;

/** sup |empirical distribution function - F| */
function kolmogorovSmirnov(sample: readonly number[], cdf: (x: number) => number): number {
  const sorted = [...sample].sort((a, b) => a - b);
  return sorted.reduce((worst, x, i) => {
    const f = cdf(x);
    return Math.max(worst, f - i / sorted.length, (i + 1) / sorted.length - f);
  }, 0);
}

/** The normal distribution function by Simpson's rule on the density from 0, for |x| < 9. */
function normalCdf(x: number): number {
  const n = 200;
  const h = x / n;
  const density = (s: number) => Math.exp((-s * s) / 2) / Math.sqrt(2 * Math.PI);
  let sum = density(0) + density(x);
  for (let i = 1; i < n; i++) sum += (i % 2 === 0 ? 2 : 4) * density(i * h);
  return 0.5 + (sum * h) / 3;
}

/** Threefry-2x32-20 as the paper states it, on plain numbers. */
function threefry(k: readonly number[], c: readonly number[]): [number, number] {
  const rotations = [13, 15, 26, 6, 17, 29, 16, 24];
  const ks = [k[0]!, k[1]!, (0x1bd11bda ^ k[0]! ^ k[1]!) >>> 0];
  let [x0, x1] = [(c[0]! + ks[0]!) >>> 0, (c[1]! + ks[1]!) >>> 0];
  for (let round = 0; round < 20; round++) {
    const r = rotations[round % 8]!;
    x0 = (x0 + x1) >>> 0;
    x1 = (((x1 << r) | (x1 >>> (32 - r))) ^ x0) >>> 0;
    if (round % 4 === 3) {
      const s = (round + 1) / 4;
      x0 = (x0 + ks[s % 3]!) >>> 0;
      x1 = (x1 + ks[(s + 1) % 3]! + s) >>> 0;
    }
  }
  return [x0, x1];
}

const known: [number[], number[], number[]][] = [
  [
    [0, 0],
    [0, 0],
    [0x6b200159, 0x99ba4efe],
  ],
  [
    [0xffffffff, 0xffffffff],
    [0xffffffff, 0xffffffff],
    [0x1cb996fc, 0xbb002be7],
  ],
  [
    [0x13198a2e, 0x03707344],
    [0x243f6a88, 0x85a308d3],
    [0xc4923a9c, 0x483df7a0],
  ],
];

onEach("threefry2x32 gives the known answers of Random123", (t) => {
  for (const [k, c, expected] of known) {
    t.same(threefry(k, c), expected, "the reference of this file");
    t.same(numbers(random.threefry2x32(uint32(k), uint32(c))), expected);
    t.same(fx.jit(random.threefry2x32)(uint32(k), uint32(c)).toArray(), expected, "inside jit");
    t.same(
      random
        .threefry2x32(
          uint32(k),
          uint32([
            [c, c],
            [c, c],
          ]),
        )
        .toArray(),
      [
        [expected, expected],
        [expected, expected],
      ],
    );
  }
});

onEach("threefry2x32 is the reference on thousands of counters", (t) => {
  const counters = Array.from({ length: 3001 }, (_, i) => [
    Math.imul(i, 0x9e3779b1) >>> 0,
    Math.imul(i + 7, 0x85ebca6b) >>> 0,
  ]);
  const k = [0xdeadbeef, 0x01234567];
  t.same(
    random.threefry2x32(uint32(k), uint32(counters)).toArray(),
    counters.map((c) => threefry(k, c)),
  );
});

onEach("keys: a seed's two words, and splits as JAX publishes them", (t) => {
  t.same(random.key(0).toArray(), [0, 0]);
  t.same(random.key(42).toArray(), [0, 42]);
  t.same(random.key(2 ** 32 + 5).toArray(), [1, 5]);
  t.same(random.key(2 ** 53 - 1).toArray(), [2 ** 21 - 1, 2 ** 32 - 1]);
  t.equal(random.key(1).dtype, "uint32");
  const pair = [
    [1797259609, 2579123966],
    [928981903, 3453687069],
  ];
  t.same(
    random.split(random.key(0)).map((k) => k.toArray()),
    pair,
  );
  t.same(
    fx
      .jit((k: fx.Tensor) => random.split(k))(random.key(0))
      .map((k) => k.toArray()),
    pair,
  );
  const many = random.split(random.key(7), 100).map((k) => k.toArray() as number[]);
  t.same(
    many,
    Array.from({ length: 100 }, (_, i) => threefry([0, 7], [0, i])),
  );
  t.same(
    random.split(random.key(7), 1).map((k) => k.toArray()),
    [threefry([0, 7], [0, 0])],
  );
  t.equal(new Set(many.map(String)).size, 100);
});

onEach("foldIn gives a key for each number", (t) => {
  const k = random.key(3);
  const seen = new Set([String(k.toArray())]);
  for (const n of [0, 1, 2, 3, 1000, 2 ** 31, 2 ** 32 - 1]) {
    const folded = random.foldIn(k, n).toArray();
    t.same(folded, threefry([0, 3], [0, n]), `foldIn ${n}`);
    t.same(random.foldIn(k, uint32(n)).toArray(), folded, "a uint32 tensor");
    t.same(fx.jit(random.foldIn)(k, uint32(n)).toArray(), folded, "inside jit");
    seen.add(String(folded));
  }
  t.equal(seen.size, 8, "all differ");
  t.same(random.foldIn(k, fx.tensor(5, { dtype: "int32" })).toArray(), threefry([0, 3], [0, 5]));
});

onEach("bits, uniform and their counters", (t) => {
  const k = random.key(11);
  const words = Array.from({ length: 1000 }, (_, i) => threefry([0, 11], [0, i]));
  t.same(
    numbers(random.bits(k, [10, 100])),
    words.map(([a, b]) => (a ^ b) >>> 0),
  );
  t.same(random.bits(k, [10, 100]).shape, [10, 100]);
  t.equal(random.bits(k, []).dtype, "uint32");
  // 23 bits as in JAX: the significand of a number in [1, 2), less 1.
  t.same(
    numbers(random.uniform(k, [1000])),
    words.map(([a, b]) => ((a ^ b) >>> 9) * 2 ** -23),
  );
  const ones = numbers(random.bits(k, [4000])).reduce((sum, w) => {
    let n = 0;
    for (let v = w; v; v &= v - 1) n++;
    return sum + n;
  }, 0);
  t.ok(Math.abs(ones / 128000 - 0.5) < 5 * Math.sqrt(0.25 / 128000), `half of all bits are set: ${ones}`);
  t.notSame(numbers(random.bits(random.key(12), [4])), numbers(random.bits(k, [4])));
  t.same(random.uniform(k, [0, 3]).shape, [0, 3]);
  t.same(random.uniform(k).shape, []);
});

onEach("uniform: range, moments and distribution", (t) => {
  const n = 20000;
  for (const dtype of ["float32", "float64"] as const)
    for (const [min, max] of [
      [0, 1],
      [-3, 5],
      [1e-3, 2e-3],
      [-1, 0],
      [100, 101],
    ] as const)
      for (const seed of [0, 1]) {
        const x = random.uniform(random.key(seed), [n], { min, max, dtype });
        t.equal(x.dtype, dtype);
        const sample = numbers(x);
        const low = dtype === "float32" ? Math.fround(min) : min;
        t.ok(
          sample.every((v) => v >= low && v < max),
          `${dtype}: in [${min}, ${max})`,
        );
        const u = sample.map((v) => (v - min) / (max - min));
        t.ok(Math.abs(mean(u) - 0.5) < 5 * Math.sqrt(1 / 12 / n), `mean ${mean(u)}`);
        t.ok(
          Math.abs(mean(u.map((v) => (v - 0.5) ** 2)) - 1 / 12) < 5 * Math.sqrt(1 / 180 / n),
          "variance 1/12",
        );
        // 1.95 / sqrt(n): a chance of 0.1 % for each fixed seed.
        const d = kolmogorovSmirnov(u, (v) => v);
        t.ok(d < 1.95 / Math.sqrt(n), `Kolmogorov-Smirnov ${d}`);
        const lag = mean(u.slice(1).map((v, i) => (v - 0.5) * (u[i]! - 0.5)));
        t.ok(Math.abs(lag) < 5 / 12 / Math.sqrt(n), `neighbours are uncorrelated: ${lag}`);
      }
  const fine = numbers(random.uniform(random.key(5), [2000], { dtype: "float64" }));
  t.ok(
    fine.filter((v) => v * 2 ** 32 !== Math.floor(v * 2 ** 32)).length > 1990,
    "float64 has more than 32 random bits",
  );
  t.same(numbers(random.uniform(random.key(0), [3], { min: 2, max: 2 })), [2, 2, 2]);
  // Rounding in float32 would reach max: 1 + u 2^-20 has only 8 values.
  const narrow = numbers(random.uniform(random.key(1), [5000], { min: 1, max: 1 + 2 ** -20 }));
  t.ok(
    narrow.every((v) => v >= 1 && v < 1 + 2 ** -20),
    "max is not reached",
  );
});

t.test("uniform over a range wider than float32 is an error, or uniform", async (t) => {
  for (const options of [
    { min: -3e38, max: 3e38 },
    { min: 0, max: 1e39 },
  ]) {
    let sample: number[] | undefined;
    try {
      sample = numbers(random.uniform(random.key(0), [100], options));
    } catch (error) {
      t.match(error, { name: "ValueError", message: /random.uniform/ });
    }
    if (sample)
      t.ok(new Set(sample).size > 90 && sample.every(Number.isFinite), `draws differ: ${sample[0]}`);
  }
});

onEach("normal: moments, tails and distribution", (t) => {
  const n = 20000;
  for (const dtype of ["float32", "float64"] as const)
    for (const seed of [0, 1, 2]) {
      const x = random.normal(random.key(seed), [n / 4, 4], { dtype });
      t.same(x.shape, [n / 4, 4]);
      t.equal(x.dtype, dtype);
      const z = numbers(x);
      t.ok(z.every(Number.isFinite), "finite");
      // The variance of z^k is (2k - 1)!! less the squared moment.
      const moments = [
        [1, 0, 1],
        [2, 1, 2],
        [3, 0, 15],
        [4, 3, 96],
      ] as const;
      for (const [k, expected, variance] of moments) {
        const m = mean(z.map((v) => v ** k));
        t.ok(Math.abs(m - expected) < 5 * Math.sqrt(variance / n), `moment ${k}: ${m}`);
      }
      const d = kolmogorovSmirnov(z, normalCdf);
      t.ok(d < 1.95 / Math.sqrt(n), `Kolmogorov-Smirnov ${d}`);
      t.ok(Math.max(...z) > 3 && Math.min(...z) < -3, "has tails");
      const lag = mean(z.slice(1).map((v, i) => v * z[i]!));
      t.ok(Math.abs(lag) < 5 / Math.sqrt(n), `neighbours are uncorrelated: ${lag}`);
    }
  t.same(random.normal(random.key(0)).shape, []);
  t.same(random.normal(random.key(0), [0]).toArray(), []);
});

onEach("randint: range and uniformity", (t) => {
  const n = 30000;
  for (const [min, max] of [
    [0, 6],
    [-3, 4],
    [0, 1],
    [-(2 ** 31), 0],
    [0, 2 ** 31],
  ] as const) {
    const x = random.randint(random.key(4), [n], min, max);
    t.equal(x.dtype, "int32");
    const sample = numbers(x);
    t.ok(
      sample.every((v) => Number.isInteger(v) && v >= min && v < max),
      `in [${min}, ${max})`,
    );
    const cells = Math.min(max - min, 10);
    const counts = Array<number>(cells).fill(0);
    for (const v of sample) counts[Math.floor(((v - min) / (max - min)) * cells)]!++;
    const chi2 = counts.reduce((sum, c) => sum + (c - n / cells) ** 2 / (n / cells), 0);
    // The 99.9 % quantile of chi-squared with 9 degrees of freedom is 27.9.
    t.ok(chi2 < 28, `chi-squared ${chi2} over ${cells} cells`);
  }
});

onEach("bernoulli: share and independence of dtype", (t) => {
  const n = 20000;
  for (const p of [0, 0.1, 0.5, 0.75, 1]) {
    const x = random.bernoulli(random.key(9), p, [n]);
    t.equal(x.dtype, "bool");
    const share = mean(numbers(x));
    t.ok(Math.abs(share - p) <= 5 * Math.sqrt((p * (1 - p)) / n), `p ${p}: ${share}`);
  }
  const each = random.bernoulli(random.key(2), fx.tensor([0, 1, 0, 1]));
  t.same(each.toArray(), [false, true, false, true]);
  t.same(random.bernoulli(random.key(2), fx.tensor([0, 1], { dtype: "float64" }), [3, 2]).toArray(), [
    [false, true],
    [false, true],
    [false, true],
  ]);
  t.same(random.bernoulli(random.key(2)).shape, []);
});

onEach("permutation: each element once, in an even order", (t) => {
  for (const n of [0, 1, 2, 10, 1000]) {
    const x = random.permutation(random.key(n), n);
    t.equal(x.dtype, "int32");
    t.same(
      numbers(x).sort((a, b) => a - b),
      Array.from({ length: n }, (_, i) => i),
    );
  }
  t.notSame(numbers(random.permutation(random.key(1), 50)), numbers(random.permutation(random.key(2), 50)));
  const rows = fx.tensor([
    [0, 10],
    [1, 11],
    [2, 12],
    [3, 13],
  ]);
  const shuffled = random.permutation(random.key(3), rows).toArray() as number[][];
  t.ok(
    shuffled.every(([a, b]) => b === a! + 10),
    "rows stay whole",
  );
  t.same(shuffled.map((r) => r[0]).sort(), [0, 1, 2, 3]);
  const counts = new Map<string, number>();
  const shuffle = fx.jit((k: fx.Tensor) => random.permutation(k, 3));
  for (const k of random.split(random.key(8), 1200)) {
    const order = String(shuffle(k).toArray());
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  t.equal(counts.size, 6);
  const chi2 = [...counts.values()].reduce((sum, c) => sum + (c - 200) ** 2 / 200, 0);
  t.ok(chi2 < 20.5, `all orders are as likely: chi-squared ${chi2} (5 degrees, 99.9 %: 20.5)`);
});

onEach("categorical: frequencies follow softmax(logits)", (t) => {
  const n = 20000;
  const p = [0.5, 0.25, 0.2, 0.05];
  for (const dtype of ["float32", "float64"] as const) {
    const logits = fx.tensor(p.map(Math.log), { dtype }).add(3);
    const x = random.categorical(random.key(6), fx.broadcastTo(logits, [n, 4]));
    t.same(x.shape, [n]);
    t.equal(x.dtype, "int32");
    const counts = [0, 0, 0, 0];
    for (const v of numbers(x)) counts[v]!++;
    const chi2 = counts.reduce((sum, c, i) => sum + (c - n * p[i]!) ** 2 / (n * p[i]!), 0);
    t.ok(chi2 < 16.3, `chi-squared ${chi2} (3 degrees, 99.9 %: 16.3): ${counts}`);
    const along0 = random.categorical(random.key(6), fx.broadcastTo(logits.reshape([4, 1]), [4, 50]), 0);
    t.same(along0.shape, [50]);
  }
  const sure = fx.tensor([[Number.NEGATIVE_INFINITY, 0, Number.NEGATIVE_INFINITY]]);
  t.same(
    numbers(random.categorical(random.key(0), fx.broadcastTo(sure, [100, 3]))),
    Array(100).fill(1),
    "logits of -inf are never drawn",
  );
});

onEach("the same values inside jit as outside", (t) => {
  const draws: [string, (k: fx.Tensor) => fx.Tensor][] = [
    ["bits", (k) => random.bits(k, [33])],
    ["uniform", (k) => random.uniform(k, [5, 7])],
    ["uniform in a range", (k) => random.uniform(k, [33], { min: -2, max: 3 })],
    ["uniform float64", (k) => random.uniform(k, [33], { dtype: "float64" })],
    ["normal", (k) => random.normal(k, [33])],
    ["normal float64", (k) => random.normal(k, [33], { dtype: "float64" })],
    ["randint", (k) => random.randint(k, [33], -5, 50)],
    ["bernoulli", (k) => random.bernoulli(k, 0.3, [33])],
    ["permutation", (k) => random.permutation(k, 33)],
    ["categorical", (k) => random.categorical(k, fx.zeros([33, 5]))],
    ["foldIn", (k) => random.foldIn(k, 17)],
    ["split", (k) => random.split(k, 5)[3]!],
  ];
  for (const [name, draw] of draws)
    for (const seed of [0, 123456789]) {
      const k = random.key(seed);
      t.same(fx.jit(draw)(k).toArray(), draw(k).toArray(), name);
    }
});

t.test("both backends draw the same bits", async (t) => {
  const run = (name: fx.BackendName) => {
    fx.setBackend(name);
    const k = random.key(77);
    return [
      random.bits(k, [1000]),
      random.uniform(k, [1000]),
      random.uniform(k, [1000], { dtype: "float64" }),
      random.randint(k, [1000], 0, 77),
      random.permutation(k, 1000),
    ].map((x) => x.toArray());
  };
  const cpu = fx.backends().find((b) => b.name === "cpu")!;
  if (!cpu.available) {
    t.pass(`no cpu backend: ${cpu.reason}`);
    return;
  }
  t.same(run("cpu"), run("typescript"));
});

t.test("wrong arguments say what is needed", async (t) => {
  const k = random.key(0);
  const bad: [() => unknown, string, RegExp][] = [
    [() => random.key(-1), "ValueError", /random.key.*-1/],
    [() => random.key(1.5), "ValueError", /1.5/],
    [() => random.key(2 ** 53), "ValueError", /2\^53/],
    [() => random.key(Number.NaN), "ValueError", /NaN/],
    [() => random.split(fx.tensor([1, 2])), "DTypeError", /random.split.*uint32\[2\].*float32\[2\]/],
    [() => random.split(k, 0), "ValueError", /random.split.*0/],
    [() => random.split(k, 2.5), "ValueError", /2.5/],
    [() => random.bits(uint32([1, 2, 3]), [2]), "DTypeError", /uint32\[3\]/],
    [() => random.bits(5 as never, [2]), "ValueError", /random.bits.*Tensor.*number/],
    [() => random.bits(k, [-1]), "ShapeError", /random.bits.*-1/],
    [() => random.bits(k, 3 as never), "ShapeError", /random.bits.*3/],
    [() => random.bits(k, [2 ** 16, 2 ** 16]), "ShapeError", /2\^32/],
    [() => random.foldIn(k, -1), "ValueError", /random.foldIn.*-1/],
    [() => random.foldIn(k, 0.5), "ValueError", /0.5/],
    [() => random.foldIn(k, uint32([1, 2])), "ShapeError", /scalar.*\[2\]/],
    [() => random.threefry2x32(k, uint32([1, 2, 3])), "DTypeError", /uint32\[3\]/],
    [() => random.threefry2x32(k, fx.tensor([1, 2])), "DTypeError", /float32\[2\]/],
    [() => random.uniform(k, [2], { dtype: "int32" }), "DTypeError", /random.uniform.*int32/],
    [() => random.uniform(k, [2], { min: 2, max: 1 }), "ValueError", /2 and 1/],
    [() => random.uniform(k, [2], { max: Number.POSITIVE_INFINITY }), "ValueError", /Infinity/],
    [() => random.normal(k, [2], { dtype: "bool" }), "DTypeError", /random.normal.*bool/],
    [() => random.normal(k, [1.5]), "ShapeError", /random.normal.*1.5/],
    [() => random.randint(k, [2], 3, 3), "ValueError", /3 and 3/],
    [() => random.randint(k, [2], 0, 2 ** 32), "ValueError", /int32.*4294967296/],
    [() => random.randint(k, [2], 0.5, 2), "ValueError", /0.5/],
    [() => random.bernoulli(k, 1.5), "ValueError", /\[0, 1\].*1.5/],
    [() => random.bernoulli(k, Number.NaN), "ValueError", /NaN/],
    [() => random.bernoulli(k, uint32([1])), "DTypeError", /random.bernoulli.*uint32/],
    [() => random.bernoulli(k, fx.zeros([3]), [2]), "ShapeError", /\[2\].*\[3\]/],
    [() => random.permutation(k, -1), "ShapeError", /random.permutation.*-1/],
    [() => random.permutation(k, fx.tensor(1)), "ShapeError", /scalar/],
    [() => random.categorical(k, uint32([1])), "DTypeError", /random.categorical.*uint32/],
    [() => random.categorical(k, fx.zeros([2, 3]), 2), "ShapeError", /axis 2.*rank 2/],
    [() => random.categorical(k, fx.zeros([2, 0])), "ShapeError", /\[2, 0\]/],
  ];
  for (const [use, name, message] of bad) t.throws(use, { name, message }, String(message));
});
