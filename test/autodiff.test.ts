import * as fx from "fluxion";
import t, { type Test } from "tap";
import { type PrimitiveName, severalResults } from "#lib/graph/primitives.js";
import { traceGraph } from "#lib/graph/trace.js";
import { operation } from "#lib/ops/operation.js";
import * as raw from "#lib/ops/raw.js";
import { rules } from "#lib/ops/rules.js";
import { backends } from "./support/backends.js";

type T = fx.Tensor;
type F = (...x: T[]) => fx.tree.Tree;
type F1 = (x: T) => T;

/** A test on every backend of this machine. */
function onEach(name: string, body: (t: Test) => void | Promise<void>): void {
  for (const backend of backends)
    t.test(`${name} (${backend})`, async (t) => {
      fx.setBackend(backend);
      await body(t);
    });
}

const f64 = (data: fx.NestedArray | number[]) => fx.tensor(data, { dtype: "float64" });
const list = (x: T) => Array.from(x.toTypedArray());

/** Fixed numbers that are spread over (low, high), no two equal. */
function spread(shape: number[], low = -2, high = 2, seed = 1): T {
  const n = shape.reduce((a, b) => a * b, 1);
  const golden = (Math.sqrt(5) - 1) / 2;
  const data = Float64Array.from({ length: n }, (_, i) => low + (high - low) * (((i + seed) * golden) % 1));
  return fx.tensor(data, { shape });
}

function close(t: Test, got: T, want: T | number[], message: string, tolerance = 1e-10): void {
  const wanted = Array.isArray(want) ? want : list(want);
  const given = list(got);
  const off = given.findIndex(
    (v, i) => !(Math.abs(v - wanted[i]!) <= tolerance * (1 + Math.abs(wanted[i]!))),
  );
  t.ok(given.length === wanted.length && off === -1, `${message}: ${given} is ${wanted}`);
}

interface Case {
  readonly f: F;
  readonly args: T[];
  /** Highest order of derivative; default 2. */
  readonly order?: number;
}

const x = spread([2, 3]);
const y = spread([2, 3], -2, 2, 11);
const positive = spread([2, 3], 0.5, 2.5, 5);
const indices = fx.tensor([2, 0, 2, -1], { dtype: "int32" });
const condition = fx.tensor([true, false, true, false, false, true], { shape: [2, 3] });

/** Every primitive with smooth points to differentiate it at; "none" has no float results to differentiate. */
const cases: { readonly [P in PrimitiveName]: readonly Case[] | "none" } = {
  input: "none",
  constant: "none",
  iota: "none",
  neg: [{ f: (x) => fx.neg(fx.sin(x!)), args: [x] }],
  abs: [{ f: (x) => fx.mul(fx.abs(x!), x!), args: [x] }],
  sign: [{ f: (x) => fx.mul(fx.sign(x!), x!), args: [x] }],
  sqrt: [{ f: (x) => fx.sqrt(x!), args: [positive], order: 3 }],
  rsqrt: [{ f: (x) => fx.rsqrt(x!), args: [positive], order: 3 }],
  exp: [{ f: (x) => fx.exp(x!), args: [x], order: 3 }],
  expm1: [{ f: (x) => fx.expm1(x!), args: [x] }],
  log: [{ f: (x) => fx.log(x!), args: [positive], order: 3 }],
  log1p: [{ f: (x) => fx.log1p(x!), args: [positive] }],
  sin: [{ f: (x) => fx.sin(x!), args: [x], order: 3 }],
  cos: [{ f: (x) => fx.cos(x!), args: [x] }],
  tanh: [{ f: (x) => fx.tanh(x!), args: [x], order: 3 }],
  erf: [{ f: (x) => fx.erf(x!), args: [x], order: 3 }],
  sigmoid: [{ f: (x) => fx.sigmoid(x!), args: [x], order: 3 }],
  softplus: [{ f: (x) => fx.softplus(x!), args: [x], order: 3 }],
  gelu: [
    { f: (x) => fx.gelu(x!), args: [x], order: 3 },
    { f: operation((x: T) => raw.gelu(x, 1)), args: [x] },
  ],
  floor: [{ f: (x) => fx.mul(fx.floor(x!), x!), args: [x] }],
  round: [{ f: (x) => fx.mul(fx.round(x!), x!), args: [x] }],
  logicalNot: "none",
  cast: [{ f: (x) => fx.mul(fx.cast(fx.greater(x!, 0), "float64"), x!), args: [x] }],
  // Central differences cannot see a stopped gradient: it has tests of its own below.
  stopGradient: "none",
  add: [{ f: (x, y) => fx.square(fx.add(x!, y!)), args: [x, y] }],
  sub: [{ f: (x, y) => fx.square(fx.sub(x!, y!)), args: [x, y] }],
  mul: [
    { f: (x, y) => fx.mul(x!, y!), args: [x, y], order: 3 },
    { f: (x) => fx.mul(fx.mul(x!, x!), x!), args: [x], order: 3 },
  ],
  div: [{ f: (x, y) => fx.div(x!, y!), args: [x, positive], order: 3 }],
  pow: [
    { f: (x, y) => fx.pow(x!, y!), args: [positive, y], order: 3 },
    { f: (x) => fx.pow(x!, 3), args: [x], order: 3 },
  ],
  maximum: [{ f: (x, y) => fx.square(fx.maximum(x!, y!)), args: [x, y] }],
  minimum: [{ f: (x, y) => fx.square(fx.minimum(x!, y!)), args: [x, y] }],
  remainder: [{ f: (x, y) => fx.square(fx.remainder(x!, y!)), args: [x, positive] }],
  equal: "none",
  notEqual: "none",
  greater: "none",
  greaterEqual: "none",
  less: "none",
  lessEqual: "none",
  logicalAnd: "none",
  logicalOr: "none",
  where: [{ f: (x, y) => fx.square(fx.where(condition, x!, y!)), args: [x, y] }],
  shiftRight: "none",
  threefry: "none",
  broadcast: [
    { f: (x) => fx.sin(fx.broadcastTo(x!, [4, 2, 3])), args: [x] },
    { f: (x, y) => fx.mul(x!, y!), args: [spread([2, 1]), spread([3])] },
  ],
  reshape: [{ f: (x) => fx.sin(fx.reshape(x!, [3, 2])), args: [x] }],
  transpose: [{ f: (x) => fx.sin(fx.transpose(x!, [2, 0, 1])), args: [spread([2, 3, 2])] }],
  slice: [{ f: (x) => fx.sin(fx.slice(x!, [0, 1], [2, 1])), args: [x] }],
  pad: [
    {
      f: (x) =>
        fx.cos(
          fx.pad(x!, [
            [1, 0],
            [2, 1],
          ]),
        ),
      args: [x],
    },
  ],
  concat: [
    { f: (x, y) => fx.square(fx.concat([x!, y!, x!], 1)), args: [x, y] },
    { f: (x) => fx.sin(fx.concat([x!, fx.ones([1, 3], { dtype: "float64" })], 0)), args: [x] },
  ],
  flip: [{ f: (x) => fx.mul(fx.flip(x!, [0, 1]), fx.sin(x!)), args: [x] }],
  reduceSum: [{ f: (x) => fx.square(fx.sum(x!, 1)), args: [x] }],
  reduceMax: [{ f: (x) => fx.square(fx.max(x!, 1)), args: [x] }],
  reduceMin: [{ f: (x) => fx.square(fx.min(x!, 0)), args: [x] }],
  argmax: "none",
  argmin: "none",
  matmul: [
    { f: (a, b) => fx.matmul(a!, b!), args: [x, spread([3, 4])], order: 3 },
    { f: (a, b) => fx.sin(fx.matmul(a!, b!)), args: [spread([2, 2, 3]), spread([2, 3, 2])] },
    { f: (a) => fx.matmul(a!, fx.transpose(a!)), args: [x] },
  ],
  gather: [{ f: (x) => fx.square(fx.take(x!, indices, 1)), args: [x] }],
  scatter: [
    {
      f: operation((x: T) => raw.mul(raw.scatter(x, indices, 1, 3), raw.scatter(x, indices, 1, 3))),
      args: [spread([2, 4])],
    },
  ],
  argsort: "none",
  cumsum: [
    { f: (x) => fx.square(fx.cumsum(x!, 1)), args: [x], order: 3 },
    { f: (x) => fx.sin(fx.cumsum(x!, 0, { reverse: true })), args: [spread([4, 2])] },
    { f: (x, y) => fx.mul(fx.cumsum(x!), fx.reshape(y!, [6])), args: [x, y] },
  ],
  attention: [
    {
      f: (q, k, v) => fx.attention(q!, k!, v!, { mask: condition, causal: true }),
      args: [spread([2, 4]), spread([3, 4], -2, 2, 4), spread([3, 2], -2, 2, 7)],
    },
  ],
  barrier: [{ f: operation((x: T) => raw.mul(raw.barrier(raw.sin(x)), x)), args: [x], order: 3 }],
  pick: [
    { f: (x) => fx.scan((c: T, s: T) => [fx.mul(c, s), fx.sin(c)], positive, fx.stack([x!, x!])), args: [x] },
  ],
  call: [
    { f: (x) => fx.checkpoint((x: T) => fx.mul(fx.sin(x), x))(x!), args: [x], order: 3 },
    {
      f: (x) => fx.customJvp(fx.sin as F1, ([x], [dx]) => [fx.sin(x), fx.mul(dx, fx.cos(x))])(x!),
      args: [x],
    },
    {
      f: (x) =>
        fx.customVjp(
          fx.sin as F1,
          (x) => [fx.sin(x), x],
          (x, ct) => [fx.mul(ct, fx.cos(x))],
        )(x!),
      args: [x],
    },
  ],
  scan: [
    {
      // The three kinds of input: what the body closes over, a carry, slices.
      f: (w, c, xs) => fx.scan((c: T, x: T) => [fx.sin(fx.add(fx.mul(c, w!), x)), fx.mul(c, x)], c!, xs!),
      args: [spread([3]), spread([3], -2, 2, 4), spread([4, 3], -2, 2, 7)],
    },
    {
      f: (c, xs) => fx.scan((c: T, x: T) => [fx.mul(fx.sin(c), x), c], c!, xs!, { reverse: true }),
      args: [spread([2]), spread([3, 2], -2, 2, 7)],
      order: 3,
    },
  ],
};

const primitives: readonly PrimitiveName[] = [
  ...(Object.keys(rules) as PrimitiveName[]),
  "pick",
  ...severalResults,
];

t.test("every primitive of the rule table has a case here", async (t) => {
  t.same(
    primitives.filter((name) => cases[name] === undefined),
    [],
  );
  for (const name of primitives) {
    const own = cases[name];
    if (own === "none" || own === undefined) continue;
    const met = own.every(({ f, args }) =>
      traceGraph((xs) => fx.tree.leaves(f(...xs)), args).nodes.some((node) => node.op === name),
    );
    t.ok(met, `the cases of ${name} meet it`);
  }
});

onEach("derivatives of primitives are those of central differences, forward and reverse", async (t) => {
  for (const name of primitives) {
    const own = cases[name];
    if (own === "none" || own === undefined) continue;
    for (const { f, args, order = 2 } of own)
      t.doesNotThrow(() => fx.checkGrads(f, args, { order }), `${name} to order ${order}`);
  }
});

onEach("derivatives of composed operations are those of central differences", async (t) => {
  const composed: { [name: string]: Case } = {
    relu: { f: (x) => fx.square(fx.relu(x!)), args: [x] },
    silu: { f: (x) => fx.silu(x!), args: [x] },
    square: { f: (x) => fx.square(x!), args: [x], order: 3 },
    clip: { f: (x) => fx.square(fx.clip(x!, -1, 1)), args: [x] },
    mean: { f: (x) => fx.square(fx.mean(x!, 0)), args: [x] },
    variance: { f: (x) => fx.square(fx.variance(x!, 1)), args: [x] },
    prod: { f: (x) => fx.prod(x!, 1), args: [spread([2, 5])], order: 3 },
    logsumexp: { f: (x) => fx.logsumexp(x!, 1), args: [x], order: 3 },
    softmax: { f: (x) => fx.softmax(x!, 0), args: [x] },
    logSoftmax: { f: (x) => fx.logSoftmax(x!), args: [x] },
    stack: { f: (x, y) => fx.sin(fx.stack([x!, y!], 1)), args: [x, y] },
    split: { f: (x) => fx.split(x!, [1, 2], 1).map((part) => fx.sin(part)), args: [x] },
    squeeze: { f: (x) => fx.sin(fx.squeeze(fx.expandDims(x!, 1))), args: [x] },
    "vector by matrix": { f: (a, b) => fx.sin(fx.matmul(a!, b!)), args: [spread([3]), spread([3, 2])] },
    "sort by gather": { f: (x) => fx.sin(fx.take(x!, fx.argsort(x!))), args: [spread([5])] },
    "a small network": {
      f: (x, w, b) => fx.mean(fx.square(fx.matmul(fx.gelu(fx.add(fx.matmul(x!, w!), b!)), fx.transpose(w!)))),
      args: [x, spread([3, 4]), spread([4])],
    },
  };
  for (const [name, { f, args, order = 2 }] of Object.entries(composed))
    t.doesNotThrow(() => fx.checkGrads(f, args, { order }), name);
});

t.test("checkGrads finds a wrong derivative and names it", async (t) => {
  const wrong = (x: T) => fx.add(fx.sin(x), fx.stopGradient(x));
  t.throws(() => fx.checkGrads(wrong, [x]), { name: "ValueError", message: /jvp of f is .*expected/ });
  t.throws(() => fx.checkGrads(fx.sin, [fx.ones([2])]), { name: "ValueError", message: /float64.*float32/ });
});

onEach("casts between floats carry tangents there and cotangents back", async (t) => {
  const f = (x: T) => fx.sum(fx.square(fx.cast(x, "float64")));
  const at = fx.tensor([1, 2, 3]);
  const g = fx.grad(f)(at);
  t.equal(g.dtype, "float32");
  t.same(list(g), [2, 4, 6]);
  const [value, dy] = fx.jvp(f, [at], [fx.tensor([1, 0, 1])]);
  t.equal(dy.dtype, "float64");
  t.same([value.item(), dy.item()], [14, 8]);
  const down = fx.grad((x: T) => fx.sum(fx.cast(fx.square(x), "float32")))(f64([1, 2]));
  t.equal(down.dtype, "float64");
  t.same(list(down), [2, 4]);
  t.same(
    list(fx.grad((x: T) => fx.sum(fx.mul(fx.cast(fx.cast(x, "int32"), "float64"), x)))(f64([1.5]))),
    [1],
  );
});

// ---- Conventions where a function has a corner.

onEach("conventions at corners", async (t) => {
  for (const dtype of ["float32", "float64"] as const) {
    const of = (data: number[]) => fx.tensor(data, { dtype });
    const slope = (f: (x: T) => T, data: number[]) => {
      const reverse = list(fx.grad((x: T) => fx.sum(f(x)))(of(data)));
      const forward = list(fx.jvp(f, [of(data)], [of(data.map(() => 1))])[1]);
      t.same(forward, reverse, `forward is reverse in ${dtype}`);
      return reverse;
    };
    t.same(slope(fx.relu, [-1, 0, 2]), [0, 0, 1], "relu'(0) = 0");
    t.same(slope(fx.abs, [-1, 0, 2]), [-1, 0, 1], "|x|' = 0 at 0");
    t.same(
      slope((x) => fx.maximum(x, 1), [0, 1, 2]),
      [0, 0.5, 1],
      "a tie of maximum gives half",
    );
    t.same(
      slope((x) => fx.minimum(x, 1), [0, 1, 2]),
      [1, 0.5, 0],
      "a tie of minimum gives half",
    );
    t.same(
      slope((x) => fx.maximum(x, x), [0, 1]),
      [1, 1],
      "both halves of a tie with itself",
    );
    const pair = fx.grad((a: T, b: T) => fx.sum(fx.maximum(a, b)), { argnums: [0, 1] })(
      of([1, 2]),
      of([1, 1]),
    );
    t.same(
      pair.map(list),
      [
        [0.5, 1],
        [0.5, 0],
      ],
      "each side of a tie takes half",
    );
    t.same(list(fx.grad((x: T) => fx.max(x))(of([1, 3, 3, 0]))), [0, 0.5, 0.5, 0], "max shares among ties");
    t.same(list(fx.grad((x: T) => fx.min(x))(of([1, 0, 3, 0]))), [0, 0.5, 0, 0.5], "min shares among ties");
    close(t, fx.grad((x: T) => fx.max(x))(of([2, 2, 2])), [1 / 3, 1 / 3, 1 / 3], "three ties", 1e-6);
    const rows = fx.grad((x: T) => fx.sum(fx.max(x, 1)))(
      fx.tensor(
        [
          [1, 1],
          [0, 2],
        ],
        { dtype },
      ),
    );
    t.same(list(rows), [0.5, 0.5, 0, 1], "ties of each row by themselves");
    t.same(list(fx.grad((x: T) => fx.prod(x))(of([0, 2, 3]))), [6, 0, 0], "prod with one zero");
    t.same(list(fx.grad((x: T) => fx.prod(x))(of([0, 2, 0]))), [0, 0, 0], "prod with two zeros");
    const along = (v: number[]) =>
      fx.jvp(
        fx.grad((x: T) => fx.prod(x)),
        [of([0, 2, 0])],
        [of(v)],
      )[1];
    t.same(list(along([1, 0, 0])), [0, 0, 2], "second derivatives of prod with two zeros");
    t.same(list(along([0, 1, 0])), [0, 0, 0], "second derivatives of prod with two zeros");
  }
});

onEach("pow at 0, at exponent 0 and at negative bases", async (t) => {
  const zero = f64(0);
  for (const [exponent, first, second, third] of [
    [0, 0, 0, 0],
    [1, 1, 0, 0],
    [2, 0, 2, 0],
    [3, 0, 0, 6],
  ] as const) {
    const f = (x: T) => fx.pow(x, exponent);
    const g = fx.grad(f);
    const h = fx.grad(g);
    t.same(
      [g(zero).item(), h(zero).item(), fx.grad(h)(zero).item()],
      [first, second, third],
      `0^${exponent}`,
    );
    t.same(fx.jvp(f, [zero], [f64(1)])[1].item(), first, `0^${exponent} forward`);
  }
  const byBoth = fx.grad((a: T, b: T) => fx.pow(a, b), { argnums: [0, 1] });
  t.same(byBoth(f64(-2), f64(3))[0].item(), 12, "(-2)^3 by its base");
  t.ok(Number.isNaN(byBoth(f64(-2), f64(3))[1].item()), "(-2)^3 by its exponent has no derivative");
  t.same(
    byBoth(zero, f64(2)).map((g) => g.item()),
    [0, 0],
    "0^2 by both",
  );
  t.same(
    fx
      .grad((b: T) => fx.pow(fx.stopGradient(f64(0)), b))(f64(3))
      .item(),
    0,
    "0^b by b",
  );
  close(t, byBoth(f64(2), zero)[1], [Math.LN2], "2^0 by its exponent");
  // d/db (b a^(b-1)) = a^(b-1) at b = 0: the mixed derivative is 1/a in either order.
  const baseFirst = fx.grad((b: T) => fx.grad((a: T) => fx.pow(a, b))(f64(2)))(zero);
  const exponentFirst = fx.grad((a: T) => fx.grad((b: T) => fx.pow(a, b))(zero))(f64(2));
  close(t, exponentFirst, [0.5], "d/da d/db a^b at b = 0");
  close(t, baseFirst, [0.5], "d/db d/da a^b at b = 0");
});

// ---- Nesting.

onEach("every nesting of two and three derivatives gives the derivative of that order", async (t) => {
  // f = x sin x; f' = sin x + x cos x; f'' = 2 cos x - x sin x; f''' = -3 sin x - x cos x
  const f = (x: T) => fx.mul(x, fx.sin(x));
  const a = 0.7;
  const [s, c] = [Math.sin(a), Math.cos(a)];
  const want = [a * s, s + a * c, 2 * c - a * s, -3 * s - a * c];
  type D = (f: (x: T) => T) => (x: T) => T;
  const one = () => fx.ones([], { dtype: "float64" });
  const modes: { [name: string]: D } = {
    grad: (f) => fx.grad(f),
    jvp: (f) => (x) => fx.jvp(f, [x], [one()])[1],
    vjp: (f) => (x) => fx.vjp(f, x)[1](one())[0],
    linearize: (f) => (x) => fx.linearize(f, x)[1](one()),
    valueAndGrad: (f) => (x) => fx.valueAndGrad(f)(x)[1],
    jit: (f) => fx.jit(fx.grad(f)),
  };
  for (const [first, d1] of Object.entries(modes)) {
    close(t, d1(f)(f64(a)), [want[1]!], first);
    for (const [second, d2] of Object.entries(modes)) {
      close(t, d2(d1(f))(f64(a)), [want[2]!], `${second} of ${first}`);
      for (const [third, d3] of Object.entries(modes).slice(0, 3))
        close(t, d3(d2(d1(f)))(f64(a)), [want[3]!], `${third} of ${second} of ${first}`);
    }
  }
});

onEach("the product of a Hessian and a vector is the same by every route", async (t) => {
  const w = spread([3, 4]);
  const f = (x: T) => fx.sum(fx.logsumexp(fx.mul(fx.gelu(fx.matmul(x, w)), fx.sin(fx.matmul(x, w))), 1));
  const v = spread([2, 3], -1, 1, 9);
  const dot = (a: T, b: T) => fx.sum(fx.mul(a, b));
  const routes: { [name: string]: T } = {
    "forward over reverse": fx.jvp(fx.grad(f), [x], [v])[1],
    "reverse over forward": fx.grad((x: T) => fx.jvp(f, [x], [v])[1])(x),
    "reverse over reverse": fx.grad((x: T) => dot(fx.grad(f)(x), v))(x),
    "vjp of grad": fx.vjp(fx.grad(f), x)[1](v)[0],
    "grad of linearize": fx.grad((x: T) => fx.linearize(f, x)[1](v))(x),
    jitted: fx.jit((x: T, v: T) => fx.jvp(fx.grad(f), [x], [v])[1])(x, v),
  };
  const h = 1e-5;
  const step = (s: number) => fx.grad(f)(fx.add(x, fx.mul(v, s)));
  const difference = fx.div(fx.sub(step(h), step(-h)), 2 * h);
  for (const [name, product] of Object.entries(routes)) {
    close(t, product, routes["forward over reverse"]!, name);
    close(t, product, difference, `${name} by central differences`, 1e-7);
  }
});

onEach("nested derivatives do not mix their perturbations", async (t) => {
  const at = f64(3);
  const one = () => fx.ones([], { dtype: "float64" });
  const grad = (f: (x: T) => T) => fx.grad(f);
  const push = (f: (x: T) => T) => (x: T) => fx.jvp(f, [x], [one()])[1];
  for (const [outerName, outer] of [
    ["grad", grad],
    ["jvp", push],
  ] as const)
    for (const [innerName, inner] of [
      ["grad", grad],
      ["jvp", push],
    ] as const) {
      const name = `${outerName} outside, ${innerName} inside`;
      const sum = outer((x) => fx.mul(x, inner((y) => fx.add(x, y))(f64(1))));
      t.equal(sum(at).item(), 1, `d/dx (x d/dy (x + y)) = 1: ${name}`);
      const product = outer((x) => fx.mul(x, inner((y) => fx.mul(x, y))(f64(1))));
      t.equal(product(at).item(), 6, `d/dx (x d/dy (x y)) = 2x: ${name}`);
      const self = outer((x) => inner((y) => fx.mul(fx.mul(x, y), y))(x));
      t.equal(self(at).item(), 12, `d/dx (d/dy (x y^2) at y = x) = 4x: ${name}`);
      const three = outer((x) => inner((y) => inner((z) => fx.mul(fx.mul(x, y), z))(y))(x));
      t.equal(three(at).item(), 1, `three deep: ${name}`);
    }
});

onEach("one tensor given as two arguments has two tangents", async (t) => {
  const one = () => fx.ones([], { dtype: "float64" });
  const zero = () => fx.zeros([], { dtype: "float64" });
  for (const [name, op, slopes] of [
    ["mul", fx.mul, [3, 3]],
    ["div", fx.div, [1 / 3, -1 / 3]],
    ["maximum", fx.maximum, [0.5, 0.5]],
    ["pow", fx.pow, [27, 27 * Math.log(3)]],
  ] as const) {
    const by = (f: typeof fx.jit) => [
      f((x: T) => fx.jvp((a: T, b: T) => op(a, b), [x, x], [one(), zero()])[1])(f64(3)),
      f((x: T) => fx.jvp((a: T, b: T) => op(a, b), [x, x], [zero(), one()])[1])(f64(3)),
      ...f((x: T) => fx.grad((a: T, b: T) => op(a, b), { argnums: [0, 1] })(x, x))(f64(3)),
    ];
    fx.tree.leaves(by(fx.jit)).forEach((got, i) => {
      close(t, got, [slopes[i % 2]!], `${name}, derivative ${i}, inside of a trace`);
    });
  }
});

onEach("closures over concrete tensors and over tensors of the outer trace", async (t) => {
  const w = f64([2, 3]);
  t.same(
    list(fx.grad((x: T) => fx.sum(fx.mul(x, w)))(f64([1, 1]))),
    [2, 3],
    "a concrete tensor is a constant",
  );
  const outer = fx.jit((a: T) => fx.grad((b: T) => fx.sum(fx.mul(fx.mul(a, a), b)))(a));
  t.same(list(outer(f64([2, 3]))), [4, 9], "a captured symbol carries no tangent");
  const [, pullback] = fx.vjp((a: T) => fx.vjp((b: T) => fx.mul(a, b), a)[1](fx.mul(a, a))[0], f64([2]));
  t.same(list(pullback(f64([1]))[0]), [12], "d(a a^2) = 3 a^2");
});

onEach("stopGradient keeps the value and drops the derivative", async (t) => {
  const f = (x: T) => fx.sum(fx.mul(x, fx.stopGradient(x)));
  const at = f64([2, 3]);
  t.equal(f(at).item(), 13);
  t.same(list(fx.grad(f)(at)), [2, 3]);
  t.equal(fx.jvp(f, [at], [f64([1, 1])])[1].item(), 5);
  t.same(list(fx.jvp(fx.grad(f), [at], [f64([1, 1])])[1]), [0, 0], "the stopped factor stays stopped");
  t.same(list(fx.grad((x: T) => fx.sum(fx.stopGradient(x)))(at)), [0, 0], "nothing left to differentiate");
});

// ---- Arguments and results.

onEach("hasAux passes trees and values on, undifferentiated", async (t) => {
  const f = (x: T) =>
    [fx.sum(fx.square(x)), { twice: fx.mul(x, 2), note: "static", count: fx.argmax(x) }] as const;
  const at = f64([1, 3]);
  const check = (aux: { twice: T; note: string; count: T }) => {
    t.same(list(aux.twice), [2, 6]);
    t.equal(aux.note, "static");
    t.equal(aux.count.item(), 1);
  };
  const [g, aux] = fx.grad(f, { hasAux: true })(at);
  t.same(list(g), [2, 6]);
  check(aux);
  const [[value, again], g2] = fx.valueAndGrad(f, { hasAux: true })(at);
  t.equal(value.item(), 10);
  t.same(list(g2), [2, 6]);
  check(again);
  const [v, dv, third] = fx.jvp(f, [at], [f64([1, 1])], { hasAux: true });
  t.same([v.item(), dv.item()], [10, 8]);
  check(third);
  t.throws(() => fx.grad((x: T) => fx.sum(x) as never, { hasAux: true })(at), {
    name: "ValueError",
    message: /\[result, aux\]/,
  });
});

onEach("argnums chooses arguments: a number, an array, repeated, trees", async (t) => {
  const f = (a: T, b: { w: T; list: T[] }, c: T) =>
    fx.sum(fx.add(fx.mul(fx.mul(a, b.w), c), fx.mul(b.list[0]!, fx.square(b.list[1]!))));
  const args: Parameters<typeof f> = [
    f64([1, 2]),
    { w: f64([3, 4]), list: [f64([5, 6]), f64([7, 8])] },
    f64([9, 10]),
  ];
  t.same(list(fx.grad(f)(...args)), [27, 40], "the first by default");
  t.same(list(fx.grad(f, { argnums: 2 })(...args)), [3, 8]);
  const b = fx.grad(f, { argnums: 1 })(...args);
  t.same(
    [list(b.w), b.list.map(list)],
    [
      [9, 20],
      [
        [49, 64],
        [70, 96],
      ],
    ],
    "a tree in, a tree out",
  );
  const [c, a, a2] = fx.grad(f, { argnums: [2, 0, 0] })(...args);
  t.same(
    [c, a, a2].map(list),
    [
      [3, 8],
      [27, 40],
      [27, 40],
    ],
    "an array in its order, repeats allowed",
  );
  t.same(fx.grad(f, { argnums: [] })(...args), [], "none");
  const shared = f64([2]);
  const both = fx.grad((p: { a: T; b: T }) => fx.sum(fx.mul(p.a, fx.square(p.b))))({ a: shared, b: shared });
  t.same([both.a.item(), both.b.item()], [4, 8], "one tensor in two places has a gradient at each");
  t.same(list(fx.grad((x: T, y: T) => fx.sum(fx.mul(x, fx.square(y))), { argnums: 1 })(shared, shared)), [8]);
  const unused = fx.grad((p: { a: T; b: T }) => fx.sum(p.a))({ a: f64([1]), b: fx.ones([2, 2]) });
  t.same(
    [unused.b.shape, unused.b.dtype, list(unused.b)],
    [[2, 2], "float32", [0, 0, 0, 0]],
    "unused: zeros",
  );
});

onEach("the gradient of a table adds up, for each row, what its indices brought", (t) => {
  const table = f64([1, 2, 3, 4, 5, 6]).reshape([3, 2]);
  // Indices of any shape; row 2 is met three times, once from the end, and row 1 never.
  const indices = fx.tensor(
    [
      [2, 0],
      [-1, 2],
    ],
    { dtype: "int32" },
  );
  const weights = f64([1, 10, 100, 1000, 2, 20, 4, 40]).reshape([2, 2, 2]);
  const loss = (x: T) => fx.sum(fx.mul(fx.take(x, indices), weights));
  t.same(list(fx.grad(loss)(table)), [100, 1000, 0, 0, 7, 70]);
  t.same(
    list(fx.grad((x: T) => fx.sum(fx.take(x, fx.tensor([2, 2, 0], { dtype: "uint32" }))))(table)),
    [1, 1, 0, 0, 2, 2],
    "uint32",
  );
  for (const axis of [0, 1])
    t.doesNotThrow(() =>
      fx.checkGrads((x: T) => fx.sin(fx.take(x, fx.remainder(indices, 2), axis)), [table], { order: 3 }),
    );
});

onEach("integer leaves take no part, and get zeros from vjp", async (t) => {
  const f = (x: T, i: T) => fx.take(x, i);
  const i = fx.tensor([1, 1, 0], { dtype: "int32" });
  const [value, pullback] = fx.vjp(f, f64([5, 6]), i);
  t.same(list(value), [6, 6, 5]);
  const [dx, di] = pullback(f64([1, 2, 4]));
  t.same(list(dx), [4, 3]);
  t.same([di.dtype, list(di)], ["int32", [0, 0, 0]]);
  t.same(list(fx.grad((x: T, i: T) => fx.sum(f(x, i)))(f64([5, 6]), i)), [1, 2]);
  const [, dy] = fx.jvp(
    (x: T) => ({ float: fx.square(x), whole: fx.argmax(x) }),
    [f64([1, 3])],
    [f64([1, 1])],
  );
  t.same(
    [list(dy.float), dy.whole.dtype, dy.whole.item()],
    [[2, 6], "int32", 0],
    "an integer result has tangent 0",
  );
});

onEach("linearize gives what jvp gives, for many directions", async (t) => {
  const f = (p: { w: T; b: T }) => [fx.tanh(fx.add(fx.matmul(x, p.w), p.b)), fx.square(p.b)];
  const p = { w: spread([3, 2]), b: spread([2]) };
  const [value, apply] = fx.linearize(f, p);
  for (const seed of [1, 2, 3]) {
    const v = { w: spread([3, 2], -1, 1, seed), b: spread([2], -1, 1, seed) };
    const [y, dy] = fx.jvp(f, [p], [v]);
    for (const k of [0, 1]) {
      close(t, value[k]!, y[k]!, "value");
      close(t, apply(v)[k]!, dy[k]!, "tangent");
    }
  }
});

onEach("a pullback is a function like any other", async (t) => {
  const f = (x: T) => fx.mul(fx.sin(x), x);
  const at = f64([1, 2]);
  const slope = [1, 2].map((a) => Math.sin(a) + a * Math.cos(a));
  const [, pullback] = fx.vjp(f, at);
  const w = f64([3, 5]);
  const want = slope.map((s, i) => s * [3, 5][i]!);
  close(t, pullback(w)[0], want, "at once");
  close(t, pullback(w)[0], want, "again");
  close(t, fx.jit((w: T) => pullback(w)[0])(w), want, "inside of a program made later");
  close(t, fx.jvp((w: T) => pullback(w)[0], [f64([0, 0])], [w])[1], want, "differentiated by its cotangent");
  close(t, fx.grad((w: T) => fx.sum(pullback(w)[0]))(w), slope, "by its cotangent, in reverse");
  const [, apply] = fx.linearize(f, at);
  close(
    t,
    fx.jit((v: T) => fx.vjp((v: T) => apply(v), v)[1](w)[0])(at),
    want,
    "the transpose of linearize is vjp",
  );
});

onEach("valueAndGrad is the value and grad", async (t) => {
  const f = (x: T, y: T) => fx.sum(fx.mul(fx.sin(x), y));
  const [value, [gx, gy]] = fx.valueAndGrad(f, { argnums: [0, 1] })(x, y);
  close(t, value, f(x, y), "value");
  close(t, gx, fx.grad(f)(x, y), "by x");
  close(t, gy, fx.sin(x), "by y");
});

onEach("jvp is linear in its tangents, and vjp is its transpose", async (t) => {
  const f = (x: T, w: T) => ({ h: fx.gelu(fx.matmul(x, w)), m: fx.max(x, 0), s: fx.softmax(w, 0) });
  const primals: [T, T] = [x, spread([3, 4])];
  const direction = (seed: number): [T, T] => [spread([2, 3], -1, 1, seed), spread([3, 4], -1, 1, seed + 7)];
  const push = (v: [T, T]) => fx.jvp(f, primals, v)[1];
  const [u, v] = [direction(1), direction(20)];
  const mixed = u.map((a, i) => fx.add(fx.mul(a, 2), fx.mul(v[i]!, -3))) as [T, T];
  const combined = fx.tree.map((a: T, b: T) => fx.add(fx.mul(a, 2), fx.mul(b, -3)), push(u), push(v));
  fx.tree.leaves(push(mixed)).forEach((leaf, i) => {
    close(t, leaf, fx.tree.leaves(combined)[i]!, "jvp(2u - 3v) = 2 jvp(u) - 3 jvp(v)");
  });
  t.ok(
    fx.tree
      .leaves(push(fx.tree.map((a: T) => fx.mul(a, 0), u)))
      .every((leaf) => list(leaf).every((e) => e === 0)),
  );
  const [value, pullback] = fx.vjp(f, ...primals);
  const w = fx.tree.map((leaf: T) => spread([...leaf.shape], -1, 1, 4), value);
  const dot = (a: fx.tree.Tree, b: fx.tree.Tree) =>
    fx.tree.leaves(a).reduce((sum, leaf, i) => sum + fx.sum(fx.mul(leaf, fx.tree.leaves(b)[i]!)).item(), 0);
  t.ok(Math.abs(dot(w, push(u)) - dot(pullback(w), u)) < 1e-12, "<w, jvp(v)> = <vjp(w), v>");
});

onEach("empty and scalar tensors have derivatives", async (t) => {
  const empty = fx.zeros([0, 3], { dtype: "float64" });
  t.same(fx.grad((x: T) => fx.sum(fx.sin(x)))(empty).shape, [0, 3]);
  const g = fx.grad((w: T) => fx.sum(fx.matmul(empty, w)))(fx.ones([3, 2], { dtype: "float64" }));
  t.same(
    [g.shape, list(g)],
    [
      [3, 2],
      [0, 0, 0, 0, 0, 0],
    ],
  );
  t.equal(
    fx
      .grad((x: T) => x)(f64(4))
      .item(),
    1,
    "the identity",
  );
  t.same(
    fx
      .vjp((x: T) => [x, x, fx.neg(x)], f64([1]))[1]([f64([1]), f64([2]), f64([4])])[0]
      .item(),
    -1,
    "repeated results add up",
  );
});

// ---- Errors.

t.test("what cannot be differentiated is an error that says why", async (t) => {
  const at = f64([1, 2]);
  const whole = fx.tensor([1, 2], { dtype: "int32" });
  t.throws(
    () => fx.grad(fx.sin)(at),
    { name: "ShapeError", message: /scalar.*\[2\]/ },
    "grad of a non-scalar",
  );
  t.throws(() => fx.grad((x: T) => [fx.sum(x)] as never)(at), {
    name: "ValueError",
    message: /one scalar tensor/,
  });
  t.throws(() => fx.grad((x: T) => fx.argmax(x))(at), { name: "ValueError", message: /float scalar.*int32/ });
  t.throws(() => fx.grad((x: T) => fx.sum(x))(whole), { name: "DTypeError", message: /argument 0.*int32/ });
  t.throws(() => fx.grad((x: T) => fx.sum(x))(3 as never), {
    name: "ValueError",
    message: /no tensor.*tensor\(\)/,
  });
  for (const argnums of [1, -1, 0.5, [0, 2]])
    t.throws(() => fx.grad((x: T) => fx.sum(x), { argnums: argnums as number })(at), {
      name: "ValueError",
      message: /argnums .* out of range .* 1 argument/,
    });
  t.throws(() => fx.jvp((x: T) => x, [whole], [whole]), { name: "DTypeError", message: /primal 0.*int32/ });
  t.throws(() => fx.linearize((x: T) => x, whole), { name: "DTypeError", message: /primal 0.*int32/ });
  t.throws(() => fx.grad(3 as never)(at as never), { name: "ValueError", message: /expected a function/ });
  t.throws(() => fx.jvp((x: T) => x, at as never, at as never), { name: "ValueError", message: /arrays/ });
});

t.test("tangents and cotangents that do not fit are errors that say how", async (t) => {
  const at = f64([1, 2]);
  const f = (p: { a: T }) => fx.sum(p.a);
  t.throws(() => fx.jvp(f, [{ a: at }], [{ b: at }] as never), { name: "ValueError", message: /structure/ });
  t.throws(() => fx.jvp(f, [{ a: at }], [] as never), { name: "ValueError", message: /structure/ });
  t.throws(() => fx.jvp(f, [{ a: at }], [{ a: f64([1, 2, 3]) }]), {
    name: "ShapeError",
    message: /\[3\].*\[2\]/,
  });
  t.throws(() => fx.jvp(f, [{ a: at }], [{ a: fx.ones([2]) }]), {
    name: "DTypeError",
    message: /float32.*float64/,
  });
  const [, pullback] = fx.vjp(fx.sin, at as fx.TensorLike);
  t.throws(() => pullback(f64([1])), { name: "ShapeError", message: /\[1\].*\[2\]/ });
  t.throws(() => pullback([at] as never), { name: "ValueError", message: /structure/ });
  t.throws(() => pullback(fx.ones([2])), { name: "DTypeError", message: /float32.*float64/ });
  const [, apply] = fx.linearize(fx.sin, at as fx.TensorLike);
  t.throws(() => apply(f64([1])), { name: "ShapeError", message: /\[1\].*\[2\]/ });
});

t.test("a symbolic tensor has no value, and lives only in its trace", async (t) => {
  const at = f64([1, 2]);
  for (const read of [
    (x: T) => x.item(),
    (x: T) => x.toArray(),
    (x: T) => x.toTypedArray(),
    (x: T) => (x as unknown as number) > 0,
  ])
    t.throws(() => fx.grad((x: T) => fx.mul(fx.sum(x), Number(read(fx.sum(x)))))(at), { name: "TraceError" });
  t.throws(() => fx.jit((x: T) => (fx.sum(x).item() > 0 ? x : fx.neg(x)))(at), {
    name: "TraceError",
    message: /where\(\)/,
  });
  let leaked: T | undefined;
  const leak = (x: T): T => {
    leaked = x;
    return fx.sum(x);
  };
  fx.grad(leak)(at);
  t.ok(leaked!.isSymbolic);
  t.throws(() => leaked!.item(), { name: "TraceError" });
  for (const use of [
    () => fx.sin(leaked!),
    () => fx.jit((x: T) => fx.add(x, leaked!))(at),
    () => fx.jit((x: T) => x)(leaked!),
    () => fx.grad((x: T) => fx.sum(fx.mul(x, leaked!)))(at),
    () => fx.jvp((x: T) => x, [leaked!], [at]),
    () => fx.vjp((x: T) => fx.neg(x), at)[1](leaked!),
  ])
    t.throws(use, { name: "TraceError", message: /symbolic tensor.*float64\[/ });
  t.throws(
    () => fx.jit((x: T) => fx.mul(x, fx.grad(leak)(x)).add(leaked!))(at),
    { name: "TraceError" },
    "out of an inner trace",
  );
});

t.test("a failing function leaves no trace open", async (t) => {
  t.throws(
    () =>
      fx.grad((x: T) => {
        fx.jit((y: T) => {
          fx.sin(y);
          throw new Error("mine");
        })(x);
        return fx.sum(x);
      })(f64([1])),
    { message: "mine" },
  );
  t.equal(fx.sin(f64(0)).item(), 0, "operations run at once again");
});

t.test("an async function cannot be traced", async (t) => {
  const at = f64(1);
  const unhandled: unknown[] = [];
  const listener = (error: unknown) => unhandled.push(error);
  process.on("unhandledRejection", listener);
  t.teardown(() => process.off("unhandledRejection", listener));
  const wait = async (x: T) => {
    await null;
    return fx.sin(x);
  };
  for (const call of [
    () => fx.grad(wait as never)(at as never),
    () => fx.jvp(wait, [at], [at]),
    () => fx.vjp(wait, at),
    () => fx.jit(wait)(at),
  ])
    t.throws(call, { name: "ValueError", message: /async/ });
  await new Promise((done) => setTimeout(done, 5));
  t.same(unhandled, [], "and what it does later does not end the process");
});
