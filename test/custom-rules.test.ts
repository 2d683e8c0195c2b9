// Functions with derivative rules of their own. The rules here differ from the true derivatives, so that one that a
// transform lost would show.
import * as fx from "fluxion";
import t from "tap";
import { liveNodes } from "#lib/graph/graph.js";
import { difference, differences, eachSeed, total } from "./support/compare.js";
import { onEach } from "./support/each-backend.js";
import { Dice, randomProgram } from "./support/random-program.js";

type T = fx.Tensor;
type F = (...x: T[]) => T;

const f64 = (data: fx.NestedArray | number[] | number) => fx.tensor(data, { dtype: "float64" });
const i32 = (data: fx.NestedArray | number[] | number) => fx.tensor(data, { dtype: "int32" });
const normal = (shape: readonly number[], seed: number) =>
  fx.random.normal(fx.random.key(seed), shape, { dtype: "float64" });
const isFloat = (x: T) => x.dtype === "float32" || x.dtype === "float64";
const dot = (a: readonly T[], b: readonly T[]) =>
  a.map((x, i) => fx.sum(fx.mul(x, b[i]!))).reduce((p, q) => fx.add(p, q));

// ---- Random programs. The identity, with derivative 2.

type Rule = (x: T) => T;
const byJvp: Rule = fx.customJvp(
  (x: T) => x,
  ([x], [dx]) => [x, fx.mul(dx, 2)],
);
/** Higher derivatives differentiate the value that the rule gives: a plain x, or one with a rule of its own. */
const twice: { readonly [name: string]: { readonly rule: Rule; readonly ofValue: number } } = {
  customJvp: { rule: byJvp, ofValue: 1 },
  customVjp: {
    rule: fx.customVjp(
      (x: T) => x,
      (x) => [x, []],
      (_, ct) => [fx.mul(ct, 2)],
    ),
    ofValue: 1,
  },
  "customVjp of customJvp": {
    rule: fx.customVjp(
      (x: T) => byJvp(x),
      (x) => [byJvp(x), { factor: fx.full([], 2, { dtype: x.dtype as "float64" }) }],
      ({ factor }, ct) => [fx.mul(ct, factor)],
    ),
    ofValue: 2,
  },
};

/** A random program between two such identities: its first derivatives are 4 times those without. */
const between = (f: (...x: T[]) => T[], rule: Rule) => {
  const through = (x: T) => (isFloat(x) ? rule(x) : x);
  return (...x: T[]) => f(...x.map(through)).map(through);
};

type Transform = (f: (...x: T[]) => T[]) => (...x: T[]) => T[];
const surroundings: { [name: string]: Transform } = {
  plain: (f) => f,
  "in a checkpoint": fx.checkpoint as never,
  "in a loop":
    (f) =>
    (...x) =>
      fx.scan((c: T, _: T) => [c, f(...x)], x[0]!, fx.zeros([1]))[1].map((y) => fx.squeeze(y, 0)),
  "in jit": (f) => fx.jit(f),
  "in vmap":
    (f) =>
    (...x) =>
      fx
        .vmap(f)(...x.map((a) => fx.expandDims(a, 0)))
        .map((y) => fx.squeeze(y, 0)),
};

onEach("rules are the ones that run, around random programs and under every transform", async (t) => {
  const failures = eachSeed(500_000, 24, (seed) => {
    const { f, inputs, floats } = randomProgram(seed, [1, 2, 2, 3], 8);
    const { graph } = fx.inspect(f, ...inputs);
    const tolerance = liveNodes(graph.nodes, graph.outputs).some((n) => n.dtype === "float32") ? 2e-3 : 1e-9;
    const primals = floats.map((i) => inputs[i]!);
    const argnums = primals.map((_, i) => i);
    const v = primals.map((p) => fx.add(fx.mul(p, 0.5), 1));
    const dice = new Dice(seed);
    const [around, surround] = dice.pick(Object.entries(surroundings));
    const [kind, { rule, ofValue }] = dice.pick(Object.entries(twice));
    const lossOf =
      (g: (...x: T[]) => T[]) =>
      (...y: T[]) =>
        total(g(...inputs.map((x, i) => y[floats.indexOf(i)] ?? x)));
    const plain = lossOf(f);
    const marked = lossOf(surround(between(f, rule)));
    const gradient =
      (loss: typeof plain) =>
      (...y: T[]) =>
        fx.grad(loss, { argnums })(...y) as T[];
    const want = gradient(plain)(...primals).map((g) => fx.mul(g, 4));
    const [value, slope] = fx.jvp(plain, primals, v);
    const first: { [name: string]: () => [T[], T[]] } = {
      value: () => [[marked(...primals)], [value]],
      grad: () => [gradient(marked)(...primals), want],
      vjp: () => [fx.vjp(marked, ...primals)[1](f64(1)), want],
      jvp: () => [[fx.jvp(marked, primals, v)[1]], [fx.mul(slope, 4)]],
      linearize: () => [[fx.linearize(marked, ...primals)[1](...v)], [fx.mul(slope, 4)]],
      "grad in jit": () => [fx.jit(gradient(marked))(...primals), want],
      "vmap of grad": () => [
        fx.vmap(gradient(marked))(...primals.map((x) => fx.stack([x, x]))),
        want.map((x) => fx.stack([x, x])),
      ],
      "grad of vmap": () => [
        gradient((...y) => fx.sum(fx.vmap(marked)(...y)))(...primals.map((x) => fx.stack([x, x]))),
        want.map((x) => fx.stack([x, x])),
      ],
    };
    const second: { [name: string]: () => T[] } = {
      hvp: () => fx.hvp(marked, primals, v),
      "grad of grad": () =>
        fx.grad((...y: T[]) => dot(gradient(marked)(...y), v), { argnums })(...primals) as T[],
      "grad of jvp": () => gradient((...y) => fx.jvp(marked, y, v)[1])(...primals),
    };
    const name = `${kind} ${around}`;
    const product = fx.hvp(plain, primals, v).map((x) => fx.mul(x, 4 * ofValue));
    return [
      ...Object.entries(first).flatMap(([how, run]) => differences(`${name}, ${how}`, ...run(), tolerance)),
      ...Object.entries(second).flatMap(([how, run]) =>
        differences(`${name}, ${how}`, run(), product, tolerance),
      ),
    ];
  });
  t.same(failures, []);
});

// ---- Two arguments, in every combination.

/** x y with the derivatives 3 y dx + 5 x dy. */
const product = {
  customJvp: fx.customJvp(
    (x: T, y: T) => fx.mul(x, y),
    ([x, y], [dx, dy]) => [fx.mul(x, y), fx.add(fx.mul(fx.mul(dx, y), 3), fx.mul(fx.mul(dy, x), 5))],
  ),
  customVjp: fx.customVjp(
    (x: T, y: T) => fx.mul(x, y),
    (x, y) => [fx.mul(x, y), { pair: [x, y], note: "static" }] as const,
    ({ pair: [x, y] }, ct) => [fx.mul(fx.mul(ct, y!), 3), fx.mul(fx.mul(ct, x!), 5)],
  ),
};

onEach("vmap keeps the rules for batched and shared arguments, and sums what is shared", async (t) => {
  const [one, many] = [
    f64([2, 3]),
    f64([
      [1, 2],
      [3, 4],
      [5, 6],
    ]),
  ];
  for (const [kind, f] of Object.entries(product))
    for (const axes of [
      [0, 0],
      [0, null],
      [null, 0],
    ] as const) {
      const args = axes.map((at) => (at === 0 ? many : one)) as [T, T];
      const at = (x: T, axis: number | null, i: number) =>
        axis === 0 ? fx.reshape(fx.slice(x, [i, 0], [1, 2]), [2]) : x;
      const name = `${kind}, axes ${axes}`;
      const instances = [0, 1, 2].map((i) => args.map((x, k) => at(x, axes[k]!, i)) as [T, T]);
      t.equal(difference(fx.vmap(f, axes)(...args), fx.stack(instances.map((x) => f(...x))), 0), "", name);
      const gradients = instances.map(([x, y]) => [fx.mul(y, 3), fx.mul(x, 5)] as const);
      const loss = (x: T, y: T) => fx.sum(f(x, y));
      const each = fx.vmap(fx.grad(loss, { argnums: [0, 1] }), axes)(...args);
      t.same(
        differences(
          `${name}, vmap of grad`,
          each,
          [0, 1].map((k) => fx.stack(gradients.map((g) => g[k]!))),
          0,
        ),
        [],
      );
      const whole = (x: T, y: T) => fx.sum(fx.vmap(f, axes)(x, y));
      const want = [0, 1].map((k) => {
        const own = gradients.map((g) => g[k]!);
        return axes[k] === 0 ? fx.stack(own) : own.reduce((a, b) => fx.add(a, b));
      });
      t.same(differences(`${name}, grad of vmap`, fx.grad(whole, { argnums: [0, 1] })(...args), want, 0), []);
      const v = args.map((x) => fx.cos(x)) as [T, T];
      t.equal(difference(fx.jvp(whole, args, v)[1], dot(want, v), 1e-12), "", `${name}, jvp of vmap`);
      const both = fx.vmap((x: T, y: T) => fx.grad(whole, { argnums: [0, 1] })(x, y))(
        ...(args.map((x) => fx.stack([x, x])) as [T, T]),
      );
      t.same(
        differences(
          `${name}, vmap of grad of vmap`,
          both,
          want.map((x) => fx.stack([x, x])),
          0,
        ),
        [],
      );
      const twoDeep = (x: T, y: T) => fx.sum(fx.vmap((x: T, y: T) => fx.vmap(f, axes)(x, y))(x, y));
      const deep = fx.grad(twoDeep, { argnums: [0, 1] })(...(args.map((x) => fx.stack([x, x])) as [T, T]));
      t.same(
        differences(
          `${name}, grad of vmap of vmap`,
          deep,
          want.map((x) => fx.stack([x, x])),
          0,
        ),
        [],
      );
      for (const jacobian of [fx.jacfwd, fx.jacrev]) {
        const j = jacobian(whole, { argnums: [0, 1] })(...args) as unknown as T[];
        t.same(differences(`${name}, Jacobian`, j, want, 1e-12), []);
      }
    }
});

onEach("rules hold in the bodies of loops and checkpoints, with carries, slices and closures", async (t) => {
  const [c, w] = [f64(0.5), f64(2)];
  const xs = f64([1, 2, 3]);
  for (const [kind, f] of Object.entries(product)) {
    // c -> c w x: by the rule d c' = 3 w x dc, d w = 5 c x at each turn, and so on.
    for (const wrap of [(g: F) => g, fx.checkpoint] as ((g: F) => F)[]) {
      const turn = wrap((c: T, w: T, x: T) => f(f(c, w), x));
      const loop = (c: T, w: T, xs: T) => fx.scan((c: T, x: T) => [turn(c, w, x), []], c, xs)[0];
      const turns = (c: T, w: T, xs: T) =>
        [0, 1, 2].reduce((c, i) => turn(c, w, fx.reshape(fx.slice(xs, [i], [1]), [])), c);
      // By hand: c_i = c_{i-1} w x_i. d c_i = 3 x_i (3 w d c_{i-1} + 5 c_{i-1} dw) + 5 c_{i-1} w dx_i
      let [value, dc, dw] = [0.5, 1, 0];
      for (const x of [1, 2, 3]) {
        dw = 3 * x * (3 * 2 * dw + 5 * value);
        dc = 9 * 2 * x * dc;
        value *= 2 * x;
      }
      const argnums = [0, 1, 2] as const;
      const got = fx.grad(loop, { argnums })(c, w, xs);
      t.same([loop(c, w, xs).item(), got[0].item(), got[1].item()], [value, dc, dw], kind);
      t.same(differences("turns", got, fx.grad(turns, { argnums })(c, w, xs), 1e-12), []);
      t.equal(fx.jvp(loop, [c, w, xs], [f64(1), f64(10), f64([0, 0, 0])])[1].item(), dc + 10 * dw);
      const v = [f64(1), f64(2), f64([1, 0, -1])] as [T, T, T];
      t.same(differences("hvp", fx.hvp(loop, [c, w, xs], v), fx.hvp(turns, [c, w, xs], v), 1e-12), []);
    }
  }
});

// ---- What rules can be made of.

onEach(
  "arguments and results are trees, static values are passed on, integers have no derivative",
  async (t) => {
    const f = (p: { a: T; i: T }, n: number, s: string) => ({
      y: fx.mul(fx.take(p.a, p.i), n),
      at: fx.argmax(p.a),
      s,
    });
    type Args = Parameters<typeof f>;
    const forward = fx.customJvp(f, ([p, n, s], [dp]: Args) => {
      t.equal(dp.i.dtype, "int32", "the tangent of an integer is an integer");
      return [f(p, n, s), { y: fx.mul(fx.take(dp.a, p.i), 10 * n), at: fx.ones([], { dtype: "int32" }), s }];
    });
    const reverse = fx.customVjp(
      f,
      (p, n, s) => [f(p, n, s), { i: p.i, n, more: [fx.ones([]), { s }] }],
      ({ i, n }, ct) => [
        {
          a: fx.mul(fx.sum(fx.mul(fx.oneHot(i, 2, { dtype: "float64" }), fx.expandDims(ct.y, 1)), 0), 10 * n),
          i: fx.zeros([3], { dtype: "int32" }),
        },
        undefined,
        undefined,
      ],
    );
    const args: Args = [{ a: f64([1, 2]), i: i32([0, 1, 1]) }, 3, "s"];
    for (const [kind, g] of Object.entries({ customJvp: forward, customVjp: reverse })) {
      const { y, at, s } = g(...args);
      t.same([y.toArray(), at.item(), s], [[3, 6, 6], 1, "s"], kind);
      const [, pullback] = fx.vjp((p: { a: T; i: T }) => g(p, 3, "s"), args[0]);
      const [dp] = pullback({ y: f64([1, 10, 100]), at: i32(0), s: "s" });
      t.same(
        [dp.a.toArray(), dp.i.toArray()],
        [
          [30, 3300],
          [0, 0, 0],
        ],
        kind,
      );
      const along = (a: T) => fx.jvp((a: T) => g({ a, i: args[0].i }, 3, "s"), [a], [f64([1, -1])])[1];
      t.same([along(args[0].a).y.toArray(), along(args[0].a).at.item()], [[30, -30, -30], 0], kind);
      // What is made of an integer result has no derivative, whatever the rule says of it.
      const index = (a: T) => fx.mul(fx.cast(g({ a, i: args[0].i }, 3, "s").at, "float64"), fx.sum(a));
      t.same(fx.grad(index)(args[0].a).toArray(), [1, 1], kind);
      t.equal(fx.jvp(index, [args[0].a], [f64([1, 0])])[1].item(), 1, kind);
    }
  },
);

onEach(
  "custom functions nest, and their rules are differentiated by the rules of what they call",
  async (t) => {
    // f' = 3 g, g' = 7 x: so f'' = 21 x, though f = sin and g = cos.
    const g = fx.customJvp(
      (x: T) => fx.cos(x),
      ([x], [dx]) => [fx.cos(x), fx.mul(fx.mul(dx, x), 7)],
    );
    const rules = {
      customJvp: fx.customJvp(
        (x: T) => fx.sin(x),
        ([x], [dx]) => [fx.sin(x), fx.mul(fx.mul(dx, g(x)), 3)],
      ),
      customVjp: fx.customVjp(
        (x: T) => fx.sin(x),
        (x) => [fx.sin(x), g(x)],
        (gx, ct) => [fx.mul(fx.mul(ct, gx), 3)],
      ),
    };
    const x = f64(0.4);
    for (const [kind, f] of Object.entries(rules)) {
      const close = (got: T, want: number, name: string) =>
        t.ok(Math.abs(got.item() - want) < 1e-12, `${kind}, ${name}: ${got.item()}`);
      close(fx.grad(f)(x), 3 * Math.cos(0.4), "first");
      for (const [name, second] of Object.entries({
        "grad of grad": fx.grad(fx.grad(f)),
        "jvp of grad": (x: T) => fx.jvp(fx.grad(f), [x], [f64(1)])[1],
        "grad of jvp": fx.grad((x: T) => fx.jvp(f, [x], [f64(1)])[1]),
        "jvp of jvp": (x: T) => fx.jvp((x: T) => fx.jvp(f, [x], [f64(1)])[1], [x], [f64(1)])[1],
        hessian: fx.hessian(f),
        "jacfwd of jacfwd": fx.jacfwd(fx.jacfwd(f)),
        "jacrev of jacrev": fx.jacrev(fx.jacrev(f)),
      }))
        close(second(x), 21 * 0.4, name);
      close(fx.grad(fx.grad(fx.grad(f)))(x), 21, "third");
    }
  },
);

onEach(
  "a nonlinear backward, such as clipping, serves reverse mode, and forward mode says that it cannot",
  async (t) => {
    const backwards: { [name: string]: (ct: T, x: T) => T } = {
      clip: (ct) => fx.clip(ct, -1, 1),
      square: (ct) => fx.mul(ct, ct),
      norm: (ct) => fx.div(ct, fx.add(fx.sqrt(fx.sum(fx.square(ct))), 1e-9)),
      quotient: (ct, x) => fx.div(x, ct),
      sign: (ct) => fx.sign(ct),
      "where it is positive": (ct) => fx.where(fx.greater(ct, 0), ct, 0),
      "by an index made of it": (ct, x) => fx.take(x, fx.cast(fx.clip(ct, 0, 1), "int32")),
      "through an integer": (ct) => fx.cast(fx.cast(ct, "int32"), "float64"),
      "of matrices": (ct) =>
        fx.reshape(fx.matmul(fx.reshape(ct, [2, 1]), fx.reshape(ct, [1, 2])), [4]).slice([0], [2]),
    };
    const w = f64([3, -0.5]);
    const x = f64([1, 2]);
    for (const [name, rule] of Object.entries(backwards)) {
      const f = fx.customVjp(
        (x: T) => fx.mul(x, 2),
        (x) => [fx.mul(x, 2), x],
        (x, ct) => [rule(ct, x)],
      );
      const loss = (x: T) => fx.sum(fx.mul(f(x), w));
      const want = rule(w, x);
      t.equal(difference(fx.grad(loss)(x), want, 1e-12), "", `${name}: grad`);
      t.equal(difference(fx.jit(fx.grad(loss))(x), want, 1e-12), "", `${name}: in jit`);
      t.equal(difference(fx.vjp(f, x)[1](w)[0], want, 1e-12), "", `${name}: vjp`);
      t.equal(
        difference(fx.vmap(fx.grad(loss))(fx.stack([x, x])), fx.stack([want, want]), 1e-12),
        "",
        `${name}: vmap`,
      );
      t.equal(difference(fx.grad(fx.checkpoint(loss))(x), want, 1e-12), "", `${name}: in a checkpoint`);
      const loop = (x: T) =>
        fx.sum(fx.scan((c: T, _: T) => [fx.add(c, loss(x)), []], f64(0), f64([0, 0]))[0]);
      t.equal(difference(fx.grad(loop)(x), fx.mul(want, 2), 1e-12), "", `${name}: in a loop`);
      t.doesNotThrow(() => fx.grad((x: T) => fx.sum(fx.grad(loss)(x)))(x), `${name}: grad of grad`);
      const refused = {
        name: "ValueError",
        message: /custom rule is not linear .* reverse mode \(customVjp\) only/,
      };
      t.throws(() => fx.jvp(loss, [x], [w]), refused, `${name}: jvp`);
      t.throws(() => fx.jit((x: T) => fx.jvp(loss, [x], [w])[1])(x), refused, `${name}: jvp in jit`);
      t.throws(() => fx.jacfwd(f)(x), refused, `${name}: jacfwd`);
      t.throws(() => fx.jvp(loop, [x], [w]), refused, `${name}: jvp of a loop`);
      t.throws(() => fx.jvp(fx.checkpoint(loss), [x], [w]), refused, `${name}: jvp of a checkpoint`);
      t.throws(
        () => fx.jvp((x: T) => fx.vmap(loss)(fx.stack([x, x])), [x], [w]),
        refused,
        `${name}: jvp of vmap`,
      );
      const tangent = fx.customJvp(
        (x: T) => fx.mul(x, 2),
        ([x], [dx]) => [fx.mul(x, 2), rule(dx, x)],
      );
      t.equal(
        difference(fx.jvp(tangent, [x], [w])[1], want, 1e-12),
        "",
        `${name}: a nonlinear customJvp, forward`,
      );
      t.throws(() => fx.grad((x: T) => fx.sum(tangent(x)))(x), {
        name: "ValueError",
        message: /custom rule is not linear .* forward mode \(customJvp\)/,
      });
    }
  },
);

onEach("a rule that adds something to a tangent is affine, and reverse mode says so", async (t) => {
  const x = normal([3], 1);
  const affine: { [name: string]: (dx: T) => T } = {
    add: (dx) => fx.add(dx, 1),
    sub: (dx) => fx.sub(x, dx),
    concat: (dx) => fx.concat([fx.slice(dx, [0], [2]), fx.ones([1], { dtype: "float64" })], 0),
    where: (dx) => fx.where(fx.greater(x, 0), dx, x),
  };
  for (const rule of Object.values(affine)) {
    const f = fx.customJvp(
      (x: T) => x,
      ([x], [dx]) => [x, rule(dx)],
    );
    t.throws(() => fx.grad((x: T) => fx.sum(f(x)))(x), {
      name: "ValueError",
      message: /custom rule is not linear/,
    });
  }
  const masked = fx.customJvp(
    (x: T) => x,
    ([x], [dx]) => [x, fx.where(fx.greater(x, 0), dx, 0)],
  );
  t.same(
    fx
      .grad((x: T) => fx.sum(masked(x)))(x)
      .toArray(),
    fx.cast(fx.greater(x, 0), "float64").toArray(),
  );
});

onEach("a rule may use loops, checkpoints and custom functions on tangents and cotangents", async (t) => {
  const w = normal([3, 3], 1);
  const x = normal([3], 2);
  const linear: { [name: string]: (v: T) => T } = {
    plain: (v) => fx.matmul(w, v),
    checkpoint: fx.checkpoint((v: T) => fx.matmul(w, v)),
    customJvp: fx.customJvp(
      (v: T) => fx.matmul(w, v),
      ([v], [dv]) => [fx.matmul(w, v), fx.matmul(w, dv)],
    ),
    customVjp: fx.customVjp(
      (v: T) => fx.matmul(w, v),
      (v) => [fx.matmul(w, v), []],
      (_, ct) => [fx.matmul(fx.transpose(w), ct)],
    ),
    scan: (v) => fx.scan((c: T, row: T) => [c, fx.sum(fx.mul(row, c))], v, w)[1],
    forLoop: (v) => fx.forLoop(0, 1, (_, c: T) => fx.matmul(w, c), v),
    "scan with carries that are not linear": (v) => {
      const [, rows] = fx.scan(
        ([k, n, c, late]: readonly [T, T, T, T], row: T) =>
          [
            [fx.mul(k, 2), fx.add(n, 1), c, c] as const,
            fx.add(fx.mul(fx.sum(fx.mul(row, c)), k), fx.mul(fx.sum(late), fx.cast(fx.sub(n, n), "float64"))),
          ] as const,
        [f64(1), i32(0), v, f64([0, 0, 0])] as const,
        w,
      );
      return fx.mul(rows, f64([1, 1 / 2, 1 / 4]));
    },
    vmap: (v) => fx.vmap((row: T) => fx.sum(fx.mul(row, v)))(w),
    "vmap of a checkpoint": (v) =>
      fx.vmap(
        fx.checkpoint((row: T, v: T) => fx.sum(fx.mul(row, v))),
        [0, null],
      )(w, v),
    "gradient of a quadratic form": (v) => fx.grad((a: T) => fx.sum(fx.mul(a, fx.matmul(w, v))))(v),
    "a pullback": (v) => fx.vjp((a: T) => fx.matmul(fx.transpose(w), a), v)[1](v)[0],
  };
  const ct = normal([3], 3);
  for (const [name, apply] of Object.entries(linear)) {
    const forward = fx.customJvp(
      (x: T) => fx.sin(x),
      ([x], [dx]) => [fx.sin(x), apply(dx)],
    );
    const reverse = fx.customVjp(
      (x: T) => fx.sin(x),
      (x) => [fx.sin(x), []],
      (_, ct) => [apply(ct)],
    );
    const [product, transposed] = [fx.matmul(w, ct), fx.matmul(fx.transpose(w), ct)];
    t.equal(difference(fx.jvp(forward, [x], [ct])[1], product, 1e-12), "", `${name}: customJvp forward`);
    t.equal(difference(fx.vjp(forward, x)[1](ct)[0], transposed, 1e-12), "", `${name}: customJvp in reverse`);
    t.equal(difference(fx.vjp(reverse, x)[1](ct)[0], product, 1e-12), "", `${name}: customVjp in reverse`);
    t.equal(difference(fx.jvp(reverse, [x], [ct])[1], transposed, 1e-12), "", `${name}: customVjp forward`);
    const pull = (f: F) => (x: T, ct: T) => fx.vjp(f, x)[1](ct)[0];
    const stacked = fx.vmap(pull(forward))(fx.stack([x, x]), fx.stack([ct, fx.neg(ct)]));
    t.equal(difference(stacked, fx.stack([transposed, fx.neg(transposed)]), 1e-12), "", `${name}: vmap`);
    t.equal(difference(fx.jacfwd(reverse)(x), fx.transpose(w), 1e-12), "", `${name}: jacfwd of customVjp`);
    t.equal(difference(fx.jacrev(forward)(x), w, 1e-12), "", `${name}: jacrev of customJvp`);
  }
});

onEach("closures that are not differentiated are free to f and its rules; others are an error", async (t) => {
  const x = f64([1, 2]);
  const kinds = {
    customJvp: (w: T) =>
      fx.customJvp(
        (x: T) => fx.mul(x, w),
        ([x], [dx]) => [fx.mul(x, w), fx.mul(fx.mul(dx, w), 10)],
      ),
    customVjp: (w: T) =>
      fx.customVjp(
        (x: T) => fx.mul(x, w),
        (x) => [fx.mul(x, w), []],
        (_, ct) => [fx.mul(fx.mul(ct, w), 10)],
      ),
  };
  for (const [kind, of] of Object.entries(kinds)) {
    const loss = (x: T, w: T) => fx.sum(of(w)(x));
    t.same(
      fx
        .grad((x: T) => loss(x, f64([3, 4])))(x)
        .toArray(),
      [30, 40],
      "a concrete tensor",
    );
    t.same(
      fx
        .grad(loss)(x, f64([3, 4]))
        .toArray(),
      [30, 40],
      "an argument that is not differentiated",
    );
    t.same(
      fx
        .jit(fx.grad(loss))(x, f64([3, 4]))
        .toArray(),
      [30, 40],
      "a traced tensor",
    );
    t.same(
      fx
        .vmap(fx.grad(loss), [null, 0])(
          x,
          f64([
            [3, 4],
            [5, 6],
          ]),
        )
        .toArray(),
      [
        [30, 40],
        [50, 60],
      ],
      "a batched one",
    );
    t.same(
      fx
        .vmap(fx.grad(loss))(
          fx.stack([x, x]),
          f64([
            [3, 4],
            [5, 6],
          ]),
        )
        .toArray(),
      [
        [30, 40],
        [50, 60],
      ],
      "beside batched arguments",
    );
    t.same(
      fx
        .grad((x: T) => loss(x, fx.stopGradient(x)))(x)
        .toArray(),
      [10, 20],
      "a stopped one",
    );
    const refused = {
      name: "ValueError",
      message: new RegExp(`${kind}: .*closes over; make it an argument`),
    };
    t.throws(() => fx.grad((w: T) => loss(x, w))(x), refused, "grad");
    t.throws(() => fx.jvp((w: T) => loss(x, w), [x], [x]), refused, "jvp");
    t.throws(() => fx.jit(fx.grad((w: T) => loss(x, w)))(x), refused, "in jit");
    t.throws(() => fx.grad((w: T) => fx.sum(fx.vmap((x: T) => of(w)(x))(x)))(f64(2)), refused, "in vmap");
    t.throws(() => fx.grad((w: T) => fx.checkpoint((w: T) => loss(x, w))(w))(x), refused, "in a checkpoint");
    t.throws(
      () =>
        fx.grad(
          (w: T) => fx.scan((c: T) => [fx.add(c, loss(x, w)), []], f64(0), undefined, { length: 2 })[0],
        )(x),
      refused,
      "in a loop",
    );
  }
});

onEach(
  "a rule may call other custom functions and its own, but not take the derivative of that",
  async (t) => {
    // d/dx x^n = n x^(n - 1), by the function itself; the sign shows the rule.
    const power: (x: T, n: number) => T = fx.customJvp(
      (x: T, n: number) => fx.pow(x, n),
      ([x, n], [dx]) => [fx.pow(x, n), n === 0 ? fx.mul(dx, 0) : fx.mul(fx.mul(dx, -n), power(x, n - 1))],
    );
    t.equal(
      fx
        .grad((x: T) => power(x, 4))(f64(2))
        .item(),
      -32,
    );
    t.equal(
      fx
        .grad(fx.grad((x: T) => power(x, 4)))(f64(2))
        .item(),
      48,
    );
    // The rule of exp by exp itself, with a factor that shows it, at every order.
    const viaJvp: Rule = fx.customJvp(
      (x: T) => fx.exp(x),
      ([x], [dx]) => [viaJvp(x), fx.mul(fx.mul(dx, 3), viaJvp(x))],
    );
    const viaVjp: Rule = fx.customVjp(
      (x: T) => fx.exp(x),
      (x) => [viaVjp(x), viaVjp(x)],
      (y, ct) => [fx.mul(fx.mul(ct, 3), y)],
    );
    const e = Math.E;
    const close = (got: T, want: number, message: string) =>
      t.ok(Math.abs(got.item() - want) < 1e-12 * want, `${message}: ${got.item()} is ${want}`);
    for (const [name, f] of [
      ["customJvp", viaJvp],
      ["customVjp", viaVjp],
    ] as const) {
      const one = f64(1);
      close(f(one), e, name);
      close(fx.grad(f)(one), 3 * e, `${name}, grad`);
      close(fx.grad(fx.grad(f))(one), 9 * e, `${name}, grad of grad`);
      close(fx.grad(fx.grad(fx.grad(f)))(one), 27 * e, `${name}, third`);
      close(fx.jvp(fx.grad(f), [one], [one])[1], 9 * e, `${name}, jvp of grad`);
      close(fx.grad((x: T) => fx.jvp(f, [x], [one])[1])(one), 9 * e, `${name}, grad of jvp`);
      close(fx.jit(fx.grad(fx.grad(f)))(one), 9 * e, `${name}, in jit`);
      const many = fx.vmap(fx.grad(fx.grad(f)))(fx.reshape(one, [1]));
      close(fx.reshape(many, []), 9 * e, `${name}, in vmap`);
      close(
        fx.grad((x: T) => fx.sum(fx.vmap(fx.grad(f))(fx.reshape(x, [1]))))(one),
        9 * e,
        `${name}, vmapped`,
      );
    }
    const endless: Rule = fx.customJvp(
      (x: T) => fx.exp(x),
      ([x], [dx]) => [fx.exp(x), fx.mul(dx, fx.grad(endless)(x))],
    );
    t.throws(() => endless(f64(1)), {
      name: "ValueError",
      message: /the rule takes the derivative of the function that it is the rule of, without end/,
    });
    t.equal(power(f64(2), 3).item(), 8, "and no trace is left open");
  },
);

t.test("rules that do not fit the function are errors that say how", async (t) => {
  const x = f64([1, 2]);
  const same = (x: T) => x;
  const jvpRefuses = (rule: unknown, name: string, message: RegExp, f: unknown = same) =>
    t.throws(() => fx.customJvp(f as F, rule as never)(x), { name, message });
  jvpRefuses(3, "ValueError", /customJvp: expected a function second, got number/);
  jvpRefuses(() => [x, x], "ValueError", /customJvp: expected a function first, got string/, "f");
  jvpRefuses(() => x, "ValueError", /must give \[value, tangent\]/);
  jvpRefuses(([x]: T[]) => [x], "ValueError", /must give \[value, tangent\]/);
  jvpRefuses(([x]: T[], [dx]: T[]) => [x, [dx]], "ValueError", /rule's tangent.*structure/);
  jvpRefuses(([x]: T[], [dx]: T[]) => [x, fx.sum(dx!)], "ShapeError", /rule's tangent .*\[\].*\[2\]/);
  jvpRefuses(([x]: T[], [dx]: T[]) => [fx.sum(x!), dx], "ShapeError", /rule's value .*\[\].*\[2\]/);
  jvpRefuses(([x]: T[], [dx]: T[]) => [x, fx.cast(dx!, "float32")], "DTypeError", /float32.*float64/);
  jvpRefuses(
    ([x]: T[], [dx]: T[]) => [fx.add(x!, dx!), dx],
    "ValueError",
    /value .* depends on the tangents/,
  );
  jvpRefuses((_: T[], [dx]: T[]) => [dx, dx], "ValueError", /value .* depends on the tangents/);
  jvpRefuses(async () => [x, x], "ValueError", /customJvp: the function is async/);
  jvpRefuses(
    ([x]: T[]) => [x, x],
    "ValueError",
    /customJvp: the function is async/,
    async (x: T) => x,
  );
  const vjpRefuses = (
    forward: unknown,
    backward: unknown,
    name: string,
    message: RegExp,
    f: unknown = same,
  ) => t.throws(() => fx.customVjp(f as F, forward as never, backward as never)(x), { name, message });
  const [forward, backward] = [(x: T) => [x, []], (_: unknown, ct: T) => [ct]];
  vjpRefuses(forward, backward, "ValueError", /customVjp: expected a function first, got null/, null);
  vjpRefuses(3, backward, "ValueError", /customVjp: expected a function second \(forward\), got number/);
  vjpRefuses(forward, {}, "ValueError", /customVjp: expected a function third \(backward\), got object/);
  vjpRefuses(same, backward, "ValueError", /forward must give \[value, residuals\]/);
  vjpRefuses((x: T) => [[x], []], backward, "ValueError", /forward's value.*structure/);
  vjpRefuses((x: T) => [fx.sum(x), []], backward, "ShapeError", /forward's value .*\[\].*\[2\]/);
  vjpRefuses((x: T) => [fx.cast(x, "float32"), []], backward, "DTypeError", /float32.*float64/);
  vjpRefuses(forward, (_: unknown, ct: T) => ct, "ValueError", /backward must give an array of 1 cotangents/);
  vjpRefuses(forward, (_: unknown, ct: T) => [ct, ct], "ValueError", /array of 1 cotangents/);
  vjpRefuses(forward, (_: unknown, ct: T) => [[ct]], "ValueError", /cotangent of argument 0.*structure/);
  vjpRefuses(
    forward,
    (_: unknown, ct: T) => [fx.sum(ct)],
    "ShapeError",
    /cotangent of argument 0.*\[\].*\[2\]/,
  );
  vjpRefuses(forward, (_: unknown, ct: T) => [fx.cast(ct, "float32")], "DTypeError", /float32.*float64/);
  vjpRefuses(forward, async (_: unknown, ct: T) => [ct], "ValueError", /customVjp: the function is async/);
  vjpRefuses(async (x: T) => [x, []], backward, "ValueError", /customVjp: the function is async/);
  t.equal(fx.sum(x).item(), 3, "and no trace is left open");
});
