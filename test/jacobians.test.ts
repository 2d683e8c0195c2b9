import * as fx from "fluxion";
import t from "tap";
import { liveNodes } from "#lib/graph/graph.js";
import { difference, differences, eachSeed, total } from "./support/compare.js";
import { onEach } from "./support/each-backend.js";
import { type RandomProgram, randomProgram } from "./support/random-program.js";

type T = fx.Tensor;

const f64 = (data: fx.NestedArray | number[]) => fx.tensor(data, { dtype: "float64" });
const normal = (shape: readonly number[], seed: number) =>
  fx.random.normal(fx.random.key(seed), shape, { dtype: "float64" });
const isFloat = (x: T) => x.dtype === "float32" || x.dtype === "float64";

/** A random program as a function of its float inputs, a tree of them, to a tree of its float results. */
function differentiable({ inputs, floats, f }: RandomProgram) {
  const g = ({ first, rest }: { first: T; rest: T[] }) => {
    const all = [...inputs];
    floats.forEach((at, i) => {
      all[at] = i === 0 ? first : rest[i - 1]!;
    });
    const [head, ...tail] = f(...all).filter(isFloat);
    return { head: head === undefined ? [] : [head], tail };
  };
  const [first, ...rest] = floats.map((i) => inputs[i]!) as [T, ...T[]];
  const { graph } = fx.inspect(f, ...inputs);
  const single = liveNodes(graph.nodes, graph.outputs).some((node) => node.dtype === "float32");
  return { g, at: { first, rest }, single };
}

/** The unit vectors of a tensor's space. */
const units = (x: T): T[] =>
  Array.from({ length: x.size }, (_, i) =>
    fx.tensor(
      Array.from({ length: x.size }, (_, k) => (i === k ? 1 : 0)),
      { shape: x.shape, dtype: x.dtype },
    ),
  );

onEach("Jacobians of random programs are the same in both modes, and made of tangents", async (t) => {
  const failures = eachSeed(200_000, 60, (seed) => {
    const { g, at, single } = differentiable(randomProgram(seed, [0, 1, 2, 2, 3], 10));
    const tolerance = single ? 1e-3 : 1e-9;
    const forward = fx.tree.leaves(fx.jacfwd(g)(at));
    const reverse = fx.tree.leaves(fx.jacrev(g)(at));
    const wrong = differences("jacrev", reverse, forward, tolerance);
    // One column after the other, by jvp.
    const xs = fx.tree.leaves(at);
    const push = fx.jit((...v: T[]) =>
      fx.tree.leaves(fx.jvp(g, [at], [{ first: v[0]!, rest: v.slice(1) }])[1]),
    );
    const columns = xs.map((x, k) =>
      units(x).map((e) => push(...xs.map((o, i) => (i === k ? e : fx.zeros(o.shape, { dtype: o.dtype }))))),
    );
    const ys = fx.tree.leaves(g(at));
    const want = ys.flatMap((y, i) =>
      xs.map((x, k) => {
        const shape = [...y.shape, ...x.shape];
        if (x.size === 0) return fx.zeros(shape, { dtype: y.dtype });
        return fx.reshape(
          fx.stack(
            columns[k]!.map((column) => column[i]!),
            y.rank,
          ),
          shape,
        );
      }),
    );
    return [...wrong, ...differences("jvp of each unit vector", forward, want, tolerance)];
  });
  t.same(failures, []);
});

onEach(
  "the Hessian of a random program is symmetric, and its products are those by every route",
  async (t) => {
    const failures = eachSeed(201_000, 60, (seed) => {
      const { g, at, single } = differentiable(randomProgram(seed, [1, 2, 2, 3], 10));
      if (single) return [];
      const xs = fx.tree.leaves(at);
      const f = (...x: T[]) => total(g({ first: x[0]!, rest: x.slice(1) }));
      const argnums = xs.map((_, i) => i);
      const rows = fx.hessian(f, { argnums })(...xs) as unknown as T[][];
      const wrong: string[] = [];
      const matrix = (i: number, k: number) => fx.reshape(rows[i]![k]!, [xs[i]!.size, xs[k]!.size]);
      for (const i of argnums)
        for (const k of argnums)
          wrong.push(...differences(`block ${i}, ${k}`, [matrix(i, k)], [fx.transpose(matrix(k, i))], 1e-8));
      const v = xs.map((x, i) => normal(x.shape, 10 * seed + i));
      const want = argnums.map((i) =>
        argnums
          .map((k) => fx.reshape(fx.matmul(matrix(i, k), fx.reshape(v[k]!, [-1])), xs[i]!.shape))
          .reduce((a, b) => fx.add(a, b)),
      );
      const gradient = (...x: T[]) => fx.grad(f, { argnums })(...x) as T[];
      const dot = (a: readonly T[], b: readonly T[]) =>
        a.map((x, i) => fx.sum(fx.mul(x, b[i]!))).reduce((p, q) => fx.add(p, q));
      const routes: { [name: string]: T[] } = {
        hvp: fx.hvp(f, xs, v),
        "jvp of grad": fx.jvp(gradient, xs, v)[1],
        "grad of grad times v": fx.grad((...x: T[]) => dot(gradient(...x), v), { argnums })(...xs) as T[],
        "vjp of jvp": fx.vjp((...x: T[]) => fx.jvp(f, x, v)[1], ...xs)[1](f64(1)),
        "hvp, jitted": fx.jit((x: T[], v: T[]) => fx.hvp(f, x, v))(xs, v),
      };
      for (const [name, got] of Object.entries(routes)) wrong.push(...differences(name, got, want, 1e-8));
      return wrong;
    });
    t.same(failures, []);
  },
);

/** A smooth function with a matrix, a vector and a scalar. */
const smooth = (w: T, b: T, s: T) =>
  fx.mul(fx.tanh(fx.add(fx.matmul(w, fx.sin(b)), fx.square(s))), fx.exp(fx.mul(s, 0.3)));
const point = [normal([2, 3], 1), normal([3], 2), f64(0.7)] as const;

/** Central differences of f by one argument: [...shape of f, ...shape of the argument]. */
function central(f: (...x: T[]) => T, args: readonly T[], by: number): T {
  const x = args[by]!;
  const h = 1e-5;
  const y = f(...args);
  if (x.size === 0) return fx.zeros([...y.shape, ...x.shape], { dtype: "float64" });
  const at = (e: T, s: number) => f(...args.map((a, i) => (i === by ? fx.add(a, fx.mul(e, s)) : a)));
  const columns = units(x).map((e) => fx.div(fx.sub(at(e, h), at(e, -h)), 2 * h));
  return fx.reshape(fx.stack(columns, y.rank), [...y.shape, ...x.shape]);
}

onEach("Jacobians and Hessians are central differences", async (t) => {
  const f = smooth as (...x: T[]) => T;
  const [w, b, s] = point;
  for (const by of [0, 1, 2]) {
    const want = central(f, point, by);
    for (const jacobian of [fx.jacfwd, fx.jacrev])
      t.equal(difference(jacobian(f, { argnums: by })(w, b, s) as T, want, 1e-8), "", `argument ${by}`);
  }
  const loss = (...x: T[]) => fx.sum(fx.square(smooth(x[0]!, x[1]!, x[2]!)));
  const blocks = fx.hessian(loss, { argnums: [0, 1, 2] })(w, b, s) as unknown as T[][];
  for (const i of [0, 1, 2])
    for (const k of [0, 1, 2]) {
      const gradient = (...x: T[]) => fx.grad(loss, { argnums: i })(...x) as T;
      t.equal(difference(blocks[i]![k]!, central(gradient, point, k), 1e-7), "", `block ${i}, ${k}`);
    }
  // A Hessian of a function with several results: one for each.
  const third = fx.hessian((x: T) => fx.pow(x, 3))(f64([2, -1]));
  t.same(third.toArray(), [
    [
      [12, 0],
      [0, 0],
    ],
    [
      [0, 0],
      [0, -6],
    ],
  ]);
});

onEach("Jacobians compose: Jacobians of Jacobians, of vmap, inside of jit and of grad", async (t) => {
  const x = f64([0.3, -0.7, 1.1]);
  const f = (x: T) => fx.mul(fx.sin(x), fx.sum(x));
  const values = x.toArray() as number[];
  const total = values.reduce((a, b) => a + b, 0);
  const want = values.map((a, i) => values.map((_, k) => Math.sin(a) + (i === k ? Math.cos(a) * total : 0)));
  for (const jacobian of [fx.jacfwd, fx.jacrev]) {
    t.equal(difference(fx.jit(jacobian(f))(x), f64(want), 1e-12), "", "inside of jit");
    const both = fx.vmap(jacobian(f))(fx.stack([x, fx.mul(x, 2)]));
    t.equal(difference(both, fx.stack([jacobian(f)(x), jacobian(f)(fx.mul(x, 2))]), 1e-12), "", "vmap of it");
    for (const outer of [fx.jacfwd, fx.jacrev]) {
      const second = outer(jacobian(f))(x);
      t.equal(difference(second, fx.hessian(f)(x), 1e-12), "", "of a Jacobian");
    }
    const norm = (x: T) => fx.sum(fx.square(jacobian(f)(x)));
    t.equal(
      difference(
        fx.grad(norm)(x),
        central((x) => norm(x!), [x], 0),
        1e-8,
      ),
      "",
      "grad through it",
    );
    const batch = jacobian((x: T) => fx.vmap((a: T) => fx.mul(a, a))(x))(x);
    t.equal(
      difference(batch, f64(values.map((a, i) => values.map((_, k) => (i === k ? 2 * a : 0)))), 1e-12),
      "",
      "of vmap",
    );
  }
  // The trace of a Jacobian: the divergence of a field.
  const divergence = (x: T) => fx.sum(fx.mul(fx.jacfwd(f)(x), fx.eye(3, 3, { dtype: "float64" })));
  t.ok(Math.abs(divergence(x).item() - want.reduce((sum, row, i) => sum + row[i]!, 0)) < 1e-12);
});

onEach("Jacobians have the structure of result and arguments", async (t) => {
  const p = { a: f64([1, 2]), b: [f64(3)] };
  const f = (p: { a: T; b: T[] }, k: T) => ({
    y: fx.mul(fx.mul(p.a, p.b[0]!), k),
    z: [fx.sum(p.a), "name"] as const,
  });
  for (const jacobian of [fx.jacfwd, fx.jacrev]) {
    const j = jacobian(f)(p, f64(2));
    t.same(j.y.a.toArray(), [
      [6, 0],
      [0, 6],
    ]);
    t.same(j.y.b[0]!.toArray(), [2, 4]);
    t.same([j.z[0].a.toArray(), j.z[0].b[0]!.item(), j.z[1]], [[1, 1], 0, "name"]);
    const [second, first] = jacobian(f, { argnums: [1, 0] })(p, f64(2)).y;
    t.same(
      [second.toArray(), first.b[0]!.toArray()],
      [
        [3, 6],
        [2, 4],
      ],
      "an array of argnums, in its order",
    );
    const whole = jacobian((x: T, i: T) => fx.take(x, i))(f64([5, 6]), fx.tensor([1, 1], { dtype: "int32" }));
    t.same(whole.toArray(), [
      [0, 1],
      [0, 1],
    ]);
    const mixed = jacobian((x: T) => fx.cast(fx.square(x), "float64"))(fx.tensor([1, 2]));
    t.same(
      [mixed.dtype, mixed.toArray()],
      [
        "float64",
        [
          [2, 0],
          [0, 4],
        ],
      ],
    );
    t.same(jacobian((_: T) => fx.zeros([2]))(f64([1, 2, 3])).shape, [2, 3], "a constant");
    t.same(jacobian((x: T) => fx.sin(x))(fx.zeros([0, 2])).shape, [0, 2, 0, 2], "of nothing");
    const shared = f64([2]);
    const both = jacobian((p: { a: T; b: T }) => fx.mul(p.a, fx.square(p.b)))({ a: shared, b: shared });
    t.same([both.a.item(), both.b.item()], [4, 8], "one tensor in two places");
  }
});

t.test("what has no Jacobian is an error that says why", async (t) => {
  const x = f64([1, 2]);
  const whole = fx.tensor([1, 2], { dtype: "int32" });
  for (const [name, jacobian] of Object.entries({ jacfwd: fx.jacfwd, jacrev: fx.jacrev })) {
    const refuses = (call: () => unknown, error: string, message: RegExp) =>
      t.throws(call, { name: error, message });
    refuses(() => jacobian((x: T) => x)(whole), "DTypeError", new RegExp(`${name}: argument 0 .* int32`));
    refuses(() => jacobian((x: T) => fx.argmax(x))(x), "DTypeError", /dtype int32; only floats/);
    refuses(() => jacobian((x: T) => x, { argnums: 1 })(x), "ValueError", /argnums 1 is out of range/);
    refuses(() => jacobian((x: T) => x, { argnums: -1 })(x), "ValueError", /argnums -1/);
    refuses(() => jacobian((x: T) => x)(3 as never), "ValueError", /no tensor to differentiate by/);
    refuses(() => jacobian("f" as never)(x as never), "ValueError", /expected a function/);
    refuses(() => jacobian(async (x: T) => x)(x), "ValueError", /async/);
  }
  t.throws(() => fx.hvp((x: T) => fx.sin(x), [x], [x]), { name: "ShapeError", message: /scalar/ });
  t.throws(() => fx.hvp((x: T) => fx.sum(x), x as never, x as never), {
    name: "ValueError",
    message: /array/,
  });
  t.throws(() => fx.hvp((x: T) => fx.sum(x), [x], [f64([1])]), {
    name: "ShapeError",
    message: /\[1\].*\[2\]/,
  });
  t.throws(() => fx.hvp((x: T) => fx.sum(x), [x], [fx.ones([2])]), {
    name: "DTypeError",
    message: /float32/,
  });
  t.throws(() => fx.hvp((x: T) => fx.sum(x), [whole], [whole]), { name: "DTypeError", message: /int32/ });
});
