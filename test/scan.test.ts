import * as fx from "fluxion";
import t from "tap";
import { setThreads, threads } from "#lib/backend/cpu.js";
import { lower } from "#lib/compile/lower.js";
import type { LoopStep, Plan, Step } from "#lib/compile/plan.js";
import { liveNodes } from "#lib/graph/graph.js";
import { difference, differences, eachSeed, sameBits, total } from "./support/compare.js";
import { onEach } from "./support/each-backend.js";
import { Dice, randomProgram } from "./support/random-program.js";

type T = fx.Tensor;
type Body<C, X, Y> = (carry: C, x: X) => readonly [C, Y];

const f64 = (data: fx.NestedArray | number[] | number) => fx.tensor(data, { dtype: "float64" });
const i32 = (data: fx.NestedArray | number[] | number) => fx.tensor(data, { dtype: "int32" });
const normal = (shape: readonly number[], seed: number) =>
  fx.random.normal(fx.random.key(seed), shape, { dtype: "float64" });
const isFloat = (x: T) => x.dtype === "float32" || x.dtype === "float64";

const row = (x: T, i: number): T =>
  fx.reshape(
    fx.slice(
      x,
      x.shape.map((_, k) => (k === 0 ? i : 0)),
      x.shape.map((n, k) => (k === 0 ? 1 : n)),
    ),
    x.shape.slice(1),
  );

/** What scan means: the turns one after the other. */
function unrolled<C, X, Y>(f: Body<C, X, Y>, init: C, xs: X, length: number, reverse = false): [C, Y] {
  let carry = init;
  const ys: Y[] = [];
  for (let turn = 0; turn < length; turn++) {
    const at = reverse ? length - 1 - turn : turn;
    const [next, y] = f(carry, fx.tree.map((x: T) => row(x, at), xs) as X);
    carry = next;
    ys[at] = y;
  }
  return [carry, fx.tree.map((...parts: T[]) => fx.stack(parts), ys[0], ...ys.slice(1)) as Y];
}

// ---- Random programs.

/**
 * A random program as the body of a loop. Its first input is carried and changed exactly (so that corners are met
 * alike), a number is carried that depends on all results; the second has slices; the others are closed over.
 */
function loopOf(seed: number, length: number) {
  const program = randomProgram(seed, [0, 1, 2, 3, 3, 4], 10);
  const dice = new Dice(seed + 5);
  const reverse = dice.chance(0.4);
  const slices = dice.chance(0.8);
  const run =
    (loop: typeof fx.scan | "unrolled") =>
    (...x: T[]): T[] => {
      const body = ([c, s]: readonly [T, T], slice: T | undefined) => {
        const outputs = program.f(c, slice ?? x[1]!, ...x.slice(2));
        const next = fx.tanh(fx.add(fx.mul(s, 0.5), total(outputs)));
        return [[fx.neg(c), next] as const, [...outputs, fx.mul(s, 2)]] as const;
      };
      const init = [x[0]!, x[x.length - 1]!] as const;
      const xs = slices ? x[1] : undefined;
      const [carry, ys] =
        loop === "unrolled"
          ? unrolled(body, init, xs, length, reverse)
          : loop(body, init, xs, { length, reverse });
      return [...carry, ...ys];
    };
  const inputs = program.inputs.map((x, i) =>
    i === 1 && slices ? fx.stack(Array.from({ length }, (_, k) => program.draw(k)[1]!)) : x,
  );
  inputs.push(f64(0.25));
  const floats = inputs.map((_, i) => i).filter((i) => isFloat(inputs[i]!));
  const { graph } = fx.inspect(program.f, ...program.inputs);
  const single = liveNodes(graph.nodes, graph.outputs).some((node) => node.dtype === "float32");
  const draw = (salt: number) =>
    inputs.map((x, i) =>
      i === 1 && slices ? fx.flip(x, 0) : i === inputs.length - 1 ? f64(salt / 7) : program.draw(salt)[i]!,
    );
  return {
    scanned: run(fx.scan),
    plain: run("unrolled"),
    inputs,
    floats,
    tolerance: single ? 1e-3 : 1e-9,
    draw,
  };
}

onEach("a loop over a random program is its turns one after the other", async (t) => {
  const failures = eachSeed(300_000, 80, (seed) => {
    const { scanned, plain, inputs, tolerance } = loopOf(seed, 1 + (seed % 4));
    const want = fx.jit(plain)(...inputs);
    return [
      ...differences("at once", scanned(...inputs), want, tolerance),
      ...differences("jitted", fx.jit(scanned)(...inputs), want, tolerance),
    ];
  });
  t.same(failures, []);
});

onEach("derivatives of a loop over a random program are those of its turns", async (t) => {
  const failures = eachSeed(301_000, 60, (seed) => {
    const { scanned, plain, inputs, floats, tolerance } = loopOf(seed, 1 + (seed % 4));
    const gradient =
      (f: typeof plain) =>
      (...x: T[]) =>
        fx.grad((...x: T[]) => total(f(...x)), { argnums: floats })(...x) as T[];
    const tangent =
      (f: typeof plain) =>
      (...x: T[]) => {
        const of = (...y: T[]) => f(...x.map((given, i) => y[floats.indexOf(i)] ?? given)).filter(isFloat);
        const primals = floats.map((i) => x[i]!);
        return fx.jvp(
          of,
          primals,
          primals.map((p) => fx.add(fx.mul(p, 0.5), 1)),
        )[1];
      };
    return [
      ...differences("grad", gradient(scanned)(...inputs), fx.jit(gradient(plain))(...inputs), tolerance),
      ...differences("jvp", tangent(scanned)(...inputs), fx.jit(tangent(plain))(...inputs), tolerance),
    ];
  });
  t.same(failures, []);
});

onEach("second derivatives of a loop over a random program are those of its turns", async (t) => {
  const failures = eachSeed(302_000, 25, (seed) => {
    const { scanned, plain, inputs, floats, tolerance } = loopOf(seed, 1 + (seed % 3));
    if (tolerance > 1e-6) return [];
    const second = (f: typeof plain) => {
      const of =
        (x: readonly T[]) =>
        (...y: T[]) =>
          total(f(...x.map((given, i) => y[floats.indexOf(i)] ?? given)));
      const at = (x: readonly T[]) => floats.map((i) => x[i]!);
      const gradient =
        (x: readonly T[]) =>
        (...y: T[]) =>
          fx.grad(of(x), { argnums: floats.map((_, i) => i) })(...y) as T[];
      const v = (x: readonly T[]) => at(x).map((p) => fx.add(fx.mul(p, 0.5), 1));
      const dot = (a: readonly T[], b: readonly T[]) =>
        a.map((p, i) => fx.sum(fx.mul(p, b[i]!))).reduce((p, q) => fx.add(p, q));
      return {
        "jvp of grad": (...x: T[]) => fx.jvp(gradient(x), at(x), v(x))[1],
        "grad of grad": (...x: T[]) =>
          fx.grad((...y: T[]) => dot(gradient(x)(...y), v(x)), { argnums: floats.map((_, i) => i) })(
            ...at(x),
          ) as T[],
        "grad of jvp": (...x: T[]) =>
          fx.grad((...y: T[]) => fx.jvp(of(x), y, v(x))[1], { argnums: floats.map((_, i) => i) })(
            ...at(x),
          ) as T[],
      };
    };
    const want = fx.jit(second(plain)["jvp of grad"])(...inputs);
    return Object.entries(second(scanned)).flatMap(([name, f]) =>
      differences(name, f(...inputs), want, 10 * tolerance),
    );
  });
  t.same(failures, []);
});

onEach("vmap of a loop over a random program, and of its gradient, are those of each instance", async (t) => {
  const failures = eachSeed(303_000, 40, (seed) => {
    const { scanned, inputs, draw, tolerance, floats } = loopOf(seed, 1 + (seed % 3));
    const dice = new Dice(seed);
    const axes: (number | null)[] = inputs.map((x) => (dice.chance(0.5) ? dice.below(x.rank + 1) : null));
    if (!axes.some((at) => at !== null)) axes[0] = 0;
    const draws = [1, 2].map((salt) => draw(salt));
    const given = inputs.map((x, k) =>
      axes[k] === null
        ? x
        : fx.stack(
            draws.map((d) => d[k]!),
            axes[k]!,
          ),
    );
    const gradient = (...x: T[]) =>
      fx.grad((...x: T[]) => total(scanned(...x)), { argnums: floats })(...x) as T[];
    return [scanned, gradient].flatMap((f, k) => {
      const run = fx.jit(f);
      const each = draws.map((d) => run(...d.map((x, i) => (axes[i] === null ? inputs[i]! : x))));
      const want = each[0]!.map((_, i) => fx.stack(each.map((y) => y[i]!)));
      return differences(["values", "gradients"][k]!, fx.vmap(f, axes)(...given), want, tolerance);
    });
  });
  t.same(failures, []);
});

// ---- What a loop can be made of.

/** A loop with two carries, an integer and a key beside them, trees of slices, and two closures. */
const rich = (loop: "scan" | "unrolled", length: number, reverse: boolean) => (w: T, b: T, c: T, xs: T) => {
  const body: Body<{ c: T; n: T; key: T }, { x: T; i: T }, { y: T; n: T; draw: T }> = (
    { c, n, key },
    { x, i },
  ) => {
    const [now, next] = fx.random.split(key, 2) as [T, T];
    const noise = fx.random.normal(now, [3], { dtype: "float64" });
    const h = fx.tanh(fx.add(fx.matmul(c, w), fx.add(fx.mul(x, b), fx.mul(noise, 0.1))));
    return [
      { c: h, n: fx.add(n, i), key: next },
      { y: fx.mul(h, fx.cast(n, "float64")), n, draw: noise },
    ];
  };
  const init = { c, n: i32(1), key: fx.random.key(4) };
  const slices = { x: xs, i: fx.arange(length) };
  return loop === "scan"
    ? fx.scan(body, init, slices, { reverse })
    : unrolled(body, init, slices, length, reverse);
};

onEach("closures, several carries, integers, keys and trees: as the turns, for every length", async (t) => {
  for (const length of [1, 2, 3, 6])
    for (const reverse of [false, true]) {
      const args = [normal([3, 3], 1), normal([3], 2), normal([3], 3), normal([length, 3], 4)] as const;
      const [scanned, plain] = [rich("scan", length, reverse), rich("unrolled", length, reverse)];
      const leaves = (x: fx.tree.Tree) => fx.tree.leaves(x);
      const name = `${length} turns${reverse ? ", reversed" : ""}`;
      t.same(differences(name, leaves(fx.jit(scanned)(...args)), leaves(fx.jit(plain)(...args)), 1e-12), []);
      const gradient = (f: typeof plain) =>
        fx.grad((...x: Parameters<typeof f>) => total(f(...x)), { argnums: [0, 1, 2, 3] });
      const want = gradient(plain)(...args);
      t.same(differences(`${name}, grad`, gradient(scanned)(...args), want, 1e-11), []);
      const [, pullback] = fx.vjp((...x: Parameters<typeof plain>) => total(scanned(...x)), ...args);
      t.same(differences(`${name}, vjp`, pullback(f64(1)), want, 1e-11), []);
      const [, apply] = fx.linearize((...x: Parameters<typeof plain>) => total(scanned(...x)), ...args);
      const along = args.map((x) => fx.cos(x)) as [T, T, T, T];
      const [, dy] = fx.jvp((...x: Parameters<typeof plain>) => total(plain(...x)), args, along);
      t.same(differences(`${name}, linearize`, [apply(...along)], [dy], 1e-11), []);
    }
});

onEach("a loop of no turns gives its carry, and nothing collected", async (t) => {
  const f = (c: T, xs: T) => fx.scan((c: T, x: T) => [fx.sin(fx.add(c, x)), fx.mul(c, x)], c, xs);
  const [c, xs] = [f64([1, 2]), fx.zeros([0, 2], { dtype: "float64" })];
  const [last, ys] = f(c, xs);
  t.same(
    [last.toArray(), ys.shape],
    [
      [1, 2],
      [0, 2],
    ],
  );
  const loss = (c: T, xs: T) => fx.sum(fx.square(f(c, xs)[0]));
  const [dc, dxs] = fx.grad(loss, { argnums: [0, 1] })(c, xs);
  t.same(
    [dc.toArray(), dxs.shape],
    [
      [2, 4],
      [0, 2],
    ],
  );
  t.same(fx.jvp((c: T) => f(c, xs)[0], [c], [f64([3, 5])])[1].toArray(), [3, 5]);
  t.same(
    fx
      .vmap((c: T) => f(c, xs)[0])(fx.stack([c, c]))
      .toArray(),
    [
      [1, 2],
      [1, 2],
    ],
  );
  t.same(fx.scan((c: T) => [fx.sin(c), c], c, undefined, { length: 0 })[0].toArray(), [1, 2]);
});

onEach("carries that change places, stay, or come out again", async (t) => {
  const swap = (n: number) => (a: T, b: T) =>
    fx.scan(([a, b]: readonly [T, T]) => [[b, a] as const, [a, a]], [a, b] as const, undefined, {
      length: n,
    });
  for (const n of [1, 2, 5]) {
    const [[a, b], [y, again]] = swap(n)(f64(1), f64(2));
    t.same([a.item(), b.item()], n % 2 ? [2, 1] : [1, 2], `${n} turns`);
    t.same([y!.toArray(), again!.toArray()], Array(2).fill([1, 2, 1, 2, 1].slice(0, n)));
    const gradient = fx.grad((a: T, b: T) => fx.mul(swap(n)(a, b)[0][0], 3), { argnums: [0, 1] })(
      f64(1),
      f64(2),
    );
    t.same(
      gradient.map((g) => g.item()),
      n % 2 ? [0, 3] : [3, 0],
    );
  }
  const same = f64([1, 2]);
  const [both] = fx.scan(
    ([a, b]: readonly [T, T], x: T) => [[fx.add(a, x), fx.sub(b, x)] as const, []],
    [same, same] as const,
    f64([1, 2]),
  );
  t.same(
    both.map((x) => x.toArray()),
    [
      [4, 5],
      [-2, -1],
    ],
    "one tensor for two carries",
  );
  t.same(
    fx.scan((c: T, x: T) => [x, c], f64(0), f64([1, 2, 3]))[1].toArray(),
    [0, 1, 2],
    "a slice is the next carry",
  );
  const constant = fx.scan(
    (_: T, _x: T) => [fx.ones([], { dtype: "float64" }), fx.full([2], 7)],
    f64(5),
    f64([1, 2]),
  );
  t.same(
    [constant[0].item(), constant[1].toArray()],
    [
      1,
      [
        [7, 7],
        [7, 7],
      ],
    ],
    "constants",
  );
});

onEach("a carry may become active, or batched, only after some turns", async (t) => {
  // x reaches c after three turns, one carry after the other.
  const delayed = (loop: "scan" | "unrolled", n: number) => (x: T) => {
    const body: Body<readonly [T, T, T], undefined, T> = ([a, b, c]) => [
      [fx.mul(a, x), fx.add(b, a), fx.add(c, fx.sin(b))],
      c,
    ];
    const one = () => fx.ones([], { dtype: "float64" });
    const init = [one(), one(), one()] as const;
    const [[, , c], ys] =
      loop === "scan" ? fx.scan(body, init, undefined, { length: n }) : unrolled(body, init, undefined, n);
    return fx.add(c, fx.sum(fx.square(ys)));
  };
  for (const n of [1, 2, 3, 4, 7]) {
    const [scanned, plain] = [delayed("scan", n), delayed("unrolled", n)];
    for (const [name, transform] of Object.entries({
      grad: (f: (x: T) => T) => fx.grad(f)(f64(0.8)),
      jvp: (f: (x: T) => T) => fx.jvp(f, [f64(0.8)], [f64(2)])[1],
      "grad of grad": (f: (x: T) => T) => fx.grad(fx.grad(f))(f64(0.8)),
      "jvp of grad": (f: (x: T) => T) => fx.jvp(fx.grad(f), [f64(0.8)], [f64(2)])[1],
      vmap: (f: (x: T) => T) => fx.vmap(f)(f64([0.8, 0.2])),
      "vmap of grad": (f: (x: T) => T) => fx.vmap(fx.grad(f))(f64([0.8, 0.2])),
      hessian: (f: (x: T) => T) => fx.hessian((x: T) => f(fx.sum(x)))(f64([0.5, 0.3])),
    }))
      t.equal(difference(transform(scanned), transform(plain), 1e-11), "", `${name}, ${n} turns`);
  }
});

onEach("loops inside of loops, and around and inside of checkpoints", async (t) => {
  const w = normal([2, 2], 1);
  const inner = (loop: "scan" | "unrolled", c: T, xs: T, w: T) => {
    const body: Body<T, T, T> = (c, x) => [fx.tanh(fx.add(fx.matmul(c, w), x)), fx.mul(c, x)];
    return loop === "scan" ? fx.scan(body, c, xs) : unrolled(body, c, xs, xs.shape[0]!);
  };
  const nested =
    (loop: "scan" | "unrolled", wrap: <F extends (...x: never[]) => unknown>(f: F) => F) =>
    (w: T, c: T, xs: T) => {
      const body = wrap((c: T, x: T) => {
        const [last, ys] = inner(loop, c, x, w);
        return [fx.sin(last), fx.sum(ys)] as const;
      });
      return wrap((c: T, xs: T) => {
        const [last, ys] = loop === "scan" ? fx.scan(body, c, xs) : unrolled(body, c, xs, 4);
        return fx.add(fx.sum(fx.square(last)), fx.sum(fx.cos(ys)));
      })(c, xs);
    };
  const plain = nested("unrolled", (f) => f);
  const args = [w, normal([2], 2), normal([4, 3, 2], 3)] as const;
  type Wrap = Parameters<typeof nested>[1];
  const wraps: { [name: string]: Wrap } = { "": (f) => f, "checkpointed, ": fx.checkpoint as Wrap };
  for (const [name, wrap] of Object.entries(wraps)) {
    const scanned = nested("scan", wrap);
    const argnums = [0, 1, 2] as const;
    t.equal(difference(scanned(...args), plain(...args), 1e-12), "", `${name}value`);
    t.same(
      differences(
        `${name}grad`,
        fx.grad(scanned, { argnums })(...args),
        fx.grad(plain, { argnums })(...args),
        1e-11,
      ),
      [],
    );
    const v = args.map((x) => fx.cos(x)) as [T, T, T];
    t.same(differences(`${name}hvp`, fx.hvp(scanned, args, v), fx.hvp(plain, args, v), 1e-10), []);
    const batch = [null, 0, null] as const;
    const many = fx.stack([args[1], fx.neg(args[1])]);
    const vmapped = (f: typeof plain) => fx.vmap(fx.grad(f, { argnums }), batch)(args[0], many, args[2]);
    t.same(differences(`${name}vmap of grad`, vmapped(scanned), vmapped(plain), 1e-11), []);
  }
});

onEach("forLoop counts, and is differentiable", async (t) => {
  const power = (n: number) => (x: T) =>
    fx.forLoop(0, n, (_, y: T) => fx.mul(y, x), fx.ones([], { dtype: "float64" }));
  t.equal(power(5)(f64(2)).item(), 32);
  t.equal(fx.grad(power(5))(f64(2)).item(), 80);
  t.equal(
    fx
      .grad(fx.grad(power(5)))(f64(2))
      .item(),
    160,
  );
  t.same(
    fx
      .vmap(power(3))(f64([1, 2, 3]))
      .toArray(),
    [1, 8, 27],
  );
  const sum = fx.forLoop(-2, 4, (i, s: { n: T; all: T }) => ({ n: fx.add(s.n, i), all: fx.mul(s.all, 2) }), {
    n: i32(0),
    all: i32(1),
  });
  t.same([sum.n.item(), sum.all.item(), sum.n.dtype], [3, 64, "int32"]);
  t.equal(fx.forLoop(3, 3, () => f64(9), f64(1)).item(), 1, "no turn");
  t.equal(fx.forLoop(3, -3, () => f64(9), f64(1)).item(), 1, "fewer than none");
  t.equal(
    fx.forLoop(2 ** 31 - 3, 2 ** 31 - 1, (i, s: T) => fx.maximum(s, i), i32(0)).item(),
    2 ** 31 - 2,
    "large bounds",
  );
  // Fibonacci: 0 1 1 2 3 5 8 ...
  const fibonacci = fx.jit((n: T) =>
    fx.forLoop(0, 30, (_, [a, b]: [T, T]): [T, T] => [b, fx.add(a, b)], [n, fx.add(n, 1)]),
  );
  t.equal(fibonacci(i32(0))[0].item(), 832040);
});

// ---- The program that a loop becomes.

const loopsOf = (plan: Plan): LoopStep[] =>
  plan.steps.filter((step: Step) => step.kind === "loop") as LoopStep[];
/** The number of steps of a plan, those of its loops once. */
const size = (plan: Plan): number =>
  plan.steps.reduce((sum, step) => sum + 1 + (step.kind === "loop" ? size(step.plan as Plan) : 0), 0);

t.test("a loop of 500 turns has the program of one of 5, forward and backward", async (t) => {
  const run = (c: T, xs: T, w: T) =>
    fx.sum(fx.scan((c: T, x: T) => [fx.tanh(fx.add(fx.matmul(c, w), x)), c], c, xs)[0]);
  const w = fx.ones([8, 8]);
  for (const f of [run, fx.grad(run, { argnums: [0, 1, 2] })]) {
    const sizes = [5, 500].map((n) =>
      size(lower(fx.inspect(f as typeof run, fx.ones([8]), fx.ones([n, 8]), w).graph)),
    );
    t.equal(sizes[0], sizes[1]);
    t.ok(sizes[1]! < 40, `${sizes[1]} steps`);
  }
});

t.test("results of a loop that nothing reads are not computed, nor what only they need", async (t) => {
  const f = (c: T, xs: T) => {
    const [[a, b, unused], [ya, yb]] = fx.scan(
      ([a, b, u]: readonly [T, T, T], x: T) =>
        [[fx.add(a, x), fx.sin(fx.mul(b, a)), fx.exp(u)] as const, [fx.cos(x), fx.erf(b)]] as const,
      [c, c, c] as const,
      xs,
    );
    return { a, b, unused, ya: ya!, yb: yb! };
  };
  const ops = (pick: (r: ReturnType<typeof f>) => T[]) => {
    const [loop] = loopsOf(
      lower(fx.inspect((c: T, xs: T) => pick(f(c, xs)), fx.ones([3]), fx.ones([4, 3])).graph),
    );
    const inside = (loop!.plan as Plan).steps.flatMap((s) =>
      s.kind === "map" ? s.expression.instructions.map((i) => i.op) : [],
    );
    return {
      counts: [loop!.consts.length, loop!.carries.length, loop!.xs.length, loop!.ys.length],
      ops: inside.filter((op) => ["sin", "exp", "cos", "erf"].includes(op)).sort(),
    };
  };
  t.same(
    ops((r) => [r.a]),
    { counts: [0, 1, 1, 0], ops: [] },
  );
  t.same(
    ops((r) => [r.b]),
    { counts: [0, 2, 1, 0], ops: ["sin"] },
    "a carry that another one needs stays",
  );
  t.same(
    ops((r) => [r.ya]),
    { counts: [0, 0, 1, 1], ops: ["cos"] },
  );
  t.same(
    ops((r) => [r.unused]),
    { counts: [0, 1, 0, 0], ops: ["exp"] },
  );
  t.same(
    ops((r) => [r.yb, r.ya]),
    { counts: [0, 2, 1, 2], ops: ["cos", "erf", "sin"] },
  );
});

t.test("checkpoints in a loop keep the carries alone for the backward pass", async (t) => {
  const deep = (wrap: (f: Body<T, T, fx.tree.Tree>) => Body<T, T, fx.tree.Tree>) => (w: T, c: T, xs: T) => {
    const body = wrap((c, x) => {
      let h = fx.add(c, x);
      for (let i = 0; i < 6; i++) h = fx.gelu(fx.matmul(h, w));
      return [h, []];
    });
    return fx.sum(fx.scan(body, c, xs)[0]);
  };
  const args = [fx.ones([16, 16]), fx.ones([8, 16]), fx.ones([40, 8, 16])] as const;
  const bytes = (f: ReturnType<typeof deep>) =>
    lower(fx.inspect((...x: [T, T, T]) => fx.grad(f)(...x), ...args).graph).arenaBytes;
  const [kept, again] = [bytes(deep((f) => f)), bytes(deep(fx.checkpoint))];
  const carries = 40 * 8 * 16 * 4;
  t.ok(kept >= 12 * carries, `${kept} bytes: two for each of six layers`);
  t.ok(again < 3 * carries, `${again} bytes`);
  const [x, y] = [deep((f) => f), deep(fx.checkpoint)].map((f) =>
    fx.grad(f)(normal([16, 16], 1), normal([8, 16], 2), normal([40, 8, 16], 3)),
  );
  t.equal(difference(x!, y!, 1e-12), "");
});

// ---- Runs.

t.test(
  "on cpu the bits of a loop do not depend on the number of threads",
  {
    skip: !fx.backends().some((b) => b.name === "cpu" && b.available),
  },
  async (t) => {
    fx.setBackend("cpu");
    const before = threads();
    t.teardown(() => setThreads(before));
    const f = fx.jit((w: T, c: T, xs: T) =>
      fx.valueAndGrad(
        (w: T, c: T) => {
          const [last, ys] = fx.scan(
            (c: T, x: T) => [fx.gelu(fx.add(fx.matmul(c, w), x)), fx.mean(c)],
            c,
            xs,
          );
          return fx.add(fx.sum(fx.square(last)), fx.sum(ys));
        },
        { argnums: [0, 1] },
      )(w, c),
    );
    const random = (shape: number[], seed: number) => fx.random.normal(fx.random.key(seed), shape);
    for (const rows of [3, 64, 700]) {
      const args = [
        fx.mul(random([48, 48], 1), 0.2),
        random([rows, 48], 2),
        random([7, rows, 48], 3),
      ] as const;
      setThreads(1);
      const one = fx.tree.leaves(f(...args));
      for (const count of [2, 3]) {
        setThreads(count);
        fx.tree.leaves(f(...args)).forEach((y, i) => {
          t.ok(sameBits(y, one[i]!), `result ${i} of ${rows} rows with ${count} threads`);
        });
      }
    }
  },
);

onEach("an index out of range inside of a loop is an error, and the program stays usable", async (t) => {
  const f = fx.jit((x: T, is: T) =>
    fx.scan((c: T, i: T) => [fx.add(c, fx.sum(fx.take(x, fx.reshape(i, [1])))), c], f64(0), is),
  );
  const x = f64([1, 2, 3]);
  const wrong = { name: "BackendError", message: /index 3 is out of range for an axis of size 3/ };
  for (let again = 0; again < 3; again++) {
    t.equal(f(x, i32([0, 2, -1]))[0].item(), 7);
    t.throws(() => f(x, i32([0, 3, 1])), wrong);
    await t.rejects(f.async(x, i32([0, 3, 1])), wrong);
    t.same((await f.async(x, i32([1, 1, 1])))[1].toArray(), [0, 2, 4]);
  }
});

onEach("one compiled loop runs for many callers at once", async (t) => {
  const f = fx.jit((c: T, xs: T) => fx.scan((c: T, x: T) => [fx.add(fx.mul(c, 0.5), x), fx.sum(c)], c, xs));
  const runs = Array.from({ length: 8 }, (_, i) => f.async(fx.full([2000], i), fx.full([31, 2000], i)));
  const results = await Promise.all(runs);
  results.forEach(([last], i) => {
    t.ok(Math.abs((last.toArray() as number[])[0]! - 2 * i) < 1e-5, `caller ${i}`);
  });
});

// ---- Errors.

t.test("what is no loop is an error that says why", async (t) => {
  const [c, xs] = [
    f64([1, 2]),
    f64([
      [1, 2],
      [3, 4],
    ]),
  ];
  const refuses = (call: () => unknown, name: string, message: RegExp) => t.throws(call, { name, message });
  const add = (c: T, x: T) => [fx.add(c, x), []] as const;
  refuses(() => fx.scan(3 as never, c, xs), "ValueError", /expected a function/);
  refuses(() => fx.scan(add, c, f64(1)), "ShapeError", /first axis.*scalar/);
  refuses(
    () => fx.scan(([a]: T[], [x, y]: T[]) => [[a!], [x, y]], [c], [xs, f64([1, 2, 3])]),
    "ShapeError",
    /2 turns, but an x of shape \[3\]/,
  );
  refuses(() => fx.scan(add, c, xs, { length: 3 }), "ShapeError", /3 turns, but an x of shape \[2, 2\]/);
  refuses(() => fx.scan((c: T) => [c, []], c, undefined), "ValueError", /the option length is needed/);
  for (const length of [-1, 0.5, Number.NaN, "3" as never])
    refuses(() => fx.scan((c: T) => [c, []], c, undefined, { length }), "ValueError", /length/);
  refuses(() => fx.scan((c: T) => c as never, c, xs), "ValueError", /must give \[carry, y\]/);
  refuses(() => fx.scan((c: T) => [c] as never, c, xs), "ValueError", /must give \[carry, y\]/);
  refuses(() => fx.scan((async (c: T) => [c, []]) as never, c, xs), "ValueError", /async/);
  refuses(
    () => fx.scan((c: T) => [fx.sum(c), []], c, xs),
    "ShapeError",
    /leaf 0 of the carry has shape \[2\], then \[\]/,
  );
  refuses(
    () => fx.scan((c: T) => [fx.cast(c, "float32"), []], c, xs),
    "DTypeError",
    /dtype float64, then float32/,
  );
  refuses(() => fx.scan((c: T) => [[c] as never, []], c, xs), "ValueError", /structure/);
  refuses(() => fx.scan((c: number) => [fx.add(c, 1) as never, []], 0, xs), "ValueError", /structure/);
  refuses(() => fx.forLoop(0, 2.5, (_, x: T) => x, c), "ValueError", /bound must be an int32, got 2.5/);
  refuses(() => fx.forLoop(Number.NaN, 2, (_, x: T) => x, c), "ValueError", /got NaN/);
  refuses(() => fx.forLoop(0, 2 ** 31, (_, x: T) => x, c), "ValueError", /got 2147483648/);
  refuses(() => fx.forLoop(0, 2, 7 as never, c), "ValueError", /expected a function/);
  refuses(() => fx.forLoop(0, 2, (_, x: T) => fx.sum(x), c), "ShapeError", /forLoop.*carry|carry/);
  refuses(() => fx.grad((c: T) => fx.scan(add, c, xs)[0])(c), "ShapeError", /scalar/);
});
