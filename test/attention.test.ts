// Scaled dot-product attention: against PyTorch, and against its plain composition under every transform.
import { readFileSync } from "node:fs";
import * as fx from "fluxion";
import t, { type Test } from "tap";
import type { Plan, StrippedPlan } from "#lib/compile/plan.js";
import { difference, differences } from "./support/compare.js";
import { onEach } from "./support/each-backend.js";
import { operand } from "./support/operand.js";

type T = fx.Tensor;
type Float = "float32" | "float64";
type Options = fx.AttentionOptions;
type Attention = (q: T, k: T, v: T, options?: Options) => T;

const random = (seed: number, shape: readonly number[], dtype: Float = "float64") =>
  fx.random.normal(fx.random.key(seed), shape, { dtype });
const bools = (shape: readonly number[], visible: (i: number) => boolean) =>
  fx.tensor(
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => visible(i)),
    { shape, dtype: "bool" },
  );
/** The mask of the stored values: some of a few rows, and with `causal` all of the first. */
const mask = (shape: readonly number[]) => bools(shape, (i) => (i * i + 3 * i) % 7 > 1);
const list = (x: T) => Array.from(x.toTypedArray());

/** softmax(scale q k^T) v with the matrix of scores, which must be small; zeros where every key is hidden. */
const composed: Attention = (q, k, v, options = {}) => {
  const d = q.shape[q.rank - 1]!;
  const scores = fx.mul(fx.matmul(q, turned(k)), options.scale ?? 1 / Math.sqrt(Math.max(d, 1)));
  const [n, m] = scores.shape.slice(-2) as [number, number];
  let visible = options.mask ?? fx.ones([n, m], { dtype: "bool" });
  if (options.causal)
    visible = fx.logicalAnd(
      visible,
      bools([n, m], (i) => i % m <= Math.floor(i / m)),
    );
  const p = fx.where(visible, fx.exp(scores), 0);
  const total = fx.sum(p, -1, { keepDims: true });
  return fx.matmul(fx.div(p, fx.where(fx.equal(total, 0), 1, total)), v);
};

function turned(x: T): T {
  const axes = x.shape.map((_, i) => i);
  return fx.transpose(x, [...axes.slice(0, -2), x.rank - 1, x.rank - 2]);
}

const inner = (a: readonly T[], b: readonly T[]): T =>
  a.map((x, i) => fx.sum(fx.mul(x, b[i]!))).reduce((p, q) => fx.add(p, q));

/** Every nesting of derivatives up to the second order, and some of the third, of f at x along dx, ddx and w. */
function derivatives(
  f: (...x: T[]) => T,
  x: readonly T[],
  dx: readonly T[],
  ddx: readonly T[],
  w: T,
): { readonly [name: string]: () => readonly T[] } {
  const argnums = x.map((_, i) => i);
  const along = (...a: T[]) => fx.jvp(f, a, dx as T[])[1];
  const gradient = (...a: T[]) => fx.vjp(f, ...a)[1](w) as T[];
  const hvp = (...a: T[]) => fx.jvp(gradient, a, dx as T[])[1];
  const gradOf = (g: (...a: T[]) => T, at: readonly T[] = x) => fx.grad(g, { argnums })(...at) as T[];
  const slope = (...a: T[]) => fx.sum(fx.mul(along(...a), w));
  return {
    value: () => [f(...x)],
    jvp: () => [along(...x)],
    vjp: () => gradient(...x),
    "jvp of jvp": () => [fx.jvp(along, x as T[], ddx as T[])[1]],
    "jvp of vjp": () => hvp(...x),
    "grad of jvp": () => gradOf(slope),
    "grad of grad": () => gradOf((...a) => inner(gradient(...a), dx)),
    "jvp of jvp of vjp": () => fx.jvp(hvp, x as T[], ddx as T[])[1],
    "jvp of grad of jvp": () => fx.jvp((...a: T[]) => gradOf(slope, a), x as T[], ddx as T[])[1],
    "grad of jvp of vjp": () => gradOf((...a) => inner(hvp(...a), ddx)),
  };
}

/** Compares all derivatives of f and of g; only some of the arguments move. */
function alike(
  t: Test,
  name: string,
  f: (...x: T[]) => T,
  g: (...x: T[]) => T,
  x: readonly T[],
  {
    moving = x.map((_, i) => i),
    tolerance = 1e-11,
    jit = false,
    names = undefined as string[] | undefined,
  } = {},
): void {
  const only =
    (h: (...x: T[]) => T) =>
    (...some: T[]): T => {
      const all = [...x];
      moving.forEach((at, i) => {
        all[at] = some[i]!;
      });
      return h(...all);
    };
  const shape = g(...x).shape;
  const dtype = x[0]!.dtype as Float;
  const own = moving.map((i) => x[i]!);
  const given = [
    own,
    own.map(({ shape }, i) => random(50 + i, shape, dtype)),
    own.map(({ shape }, i) => random(60 + i, shape, dtype)),
    random(70, shape, dtype),
  ] as const;
  const got = derivatives(only(f), ...given);
  const found = Object.entries(derivatives(only(g), ...given)).flatMap(([what, want]) =>
    names === undefined || names.includes(what)
      ? differences(what, jit ? fx.jit(got[what]!)() : got[what]!(), want(), tolerance)
      : [],
  );
  t.same(found, [], name);
}

// ---- Against PyTorch (test/golden/attention.py).

interface Golden {
  readonly q: readonly number[];
  readonly k: readonly number[];
  readonly v: readonly number[];
  readonly mask: readonly number[] | null;
  readonly causal: boolean;
  readonly scale: number | null;
  readonly shape: readonly number[];
  readonly value: readonly number[];
  readonly jvp: readonly number[];
  readonly vjp: readonly (readonly number[])[];
  readonly second: readonly (readonly number[])[];
}

const golden: Golden[] = JSON.parse(
  readFileSync(new URL("../../test/golden/attention.json", import.meta.url), "utf8"),
);

for (const [dtype, tolerance] of [
  ["float64", 1e-13],
  ["float32", 1e-5],
] as const)
  onEach(`attention and its derivatives are PyTorch's in ${dtype}`, (t) => {
    for (const row of golden) {
      const options: Options = {
        causal: row.causal,
        ...(row.mask === null ? {} : { mask: mask(row.mask) }),
        ...(row.scale === null ? {} : { scale: row.scale }),
      };
      const shapes = [row.q, row.k, row.v];
      const x = shapes.map((shape, i) => operand(shape, i, dtype));
      const dx = shapes.map((shape, i) => operand(shape, i + 3, dtype));
      const f = (...[q, k, v]: T[]) => fx.attention(q!, k!, v!, options);
      const got = derivatives(f, x, dx, dx, operand(row.shape, 6, dtype));
      const stored = (values: readonly (readonly number[])[]) =>
        values.map((data, i) => fx.tensor([...data], { shape: shapes[i]!, dtype }));
      const one = (data: readonly number[]) => [fx.tensor([...data], { shape: row.shape, dtype })];
      const second = stored(row.second);
      const found = [
        ...differences("value", got["value"]!(), one(row.value), tolerance),
        ...differences("jvp", got["jvp"]!(), one(row.jvp), tolerance),
        ...differences("vjp", got["vjp"]!(), stored(row.vjp), tolerance),
        ...["jvp of vjp", "grad of jvp", "grad of grad"].flatMap((name) =>
          differences(name, got[name]!(), second, tolerance),
        ),
      ];
      t.same(found, [], `q [${row.q}], k [${row.k}], v [${row.v}], ${JSON.stringify(row.mask)}`);
    }
  });

// ---- Against the composition.

interface Setting {
  readonly name: string;
  readonly shapes: readonly [q: number[], k: number[], v: number[]];
  readonly options?: Options;
}

const settings: Setting[] = [
  {
    name: "causal, masked, of different sizes",
    shapes: [
      [2, 5, 3],
      [2, 7, 3],
      [2, 7, 4],
    ],
    options: { causal: true, mask: mask([2, 5, 7]) },
  },
  {
    name: "heads that share keys and values, and a mask over the keys",
    shapes: [
      [2, 4, 3, 2],
      [2, 1, 6, 2],
      [1, 6, 3],
    ],
    options: { mask: mask([2, 1, 1, 6]), scale: -0.8 },
  },
  {
    name: "one matrix each",
    shapes: [
      [9, 2],
      [4, 2],
      [4, 1],
    ],
    options: { causal: true },
  },
];

const inputsOf = ({ shapes }: Setting) => shapes.map((shape, i) => random(i + 1, shape));

const bothOf = ({ options = {} }: Setting) =>
  [fx.attention, composed].map(
    (f) =>
      (...[q, k, v]: T[]) =>
        f(q!, k!, v!, options),
  ) as [(...x: T[]) => T, (...x: T[]) => T];

onEach("every nesting of derivatives is the composition's", (t) => {
  for (const setting of settings) alike(t, setting.name, ...bothOf(setting), inputsOf(setting));
});

onEach("so it is when only some of the arguments move", (t) => {
  const [setting] = settings as [Setting];
  for (const moving of [[0], [1], [2], [0, 1], [0, 2], [1, 2]])
    alike(t, `arguments ${moving}`, ...bothOf(setting), inputsOf(setting), { moving });
});

onEach("so it is in jit, under checkpoint and in a scan", (t) => {
  const [setting] = settings as [Setting];
  const [f, g] = bothOf(setting);
  const x = inputsOf(setting);
  alike(t, "jit", f, g, x, { jit: true });
  alike(t, "checkpoint", fx.checkpoint(f), g, x);
  const layers = (h: (...x: T[]) => T) => (q: T, k: T, v: T) => {
    // Two turns; in each, what attention found is added to its queries.
    const turn = (carry: T, [key, value]: readonly [T, T]) => {
      const next = fx.add(carry, fx.slice(h(carry, key, value), [0, 0, 0], [2, 5, 3]));
      return [next, next] as const;
    };
    const both = (y: T) => fx.stack([y, fx.mul(y, 0.5)]);
    const [last, all] = fx.scan(turn, q, [both(k), both(v)] as const);
    return fx.concat([fx.expandDims(last, 0), all], 0);
  };
  const nestings = ["value", "jvp", "vjp", "jvp of vjp", "grad of jvp", "grad of grad"];
  alike(t, "scan", layers(f) as typeof f, layers(g) as typeof f, x, { names: nestings });
  alike(t, "checkpoint in scan", layers(fx.checkpoint(f)) as typeof f, layers(g) as typeof f, x, {
    names: ["jvp of vjp", "grad of jvp"],
  });
});

onEach("derivatives agree with central differences", (t) => {
  for (const setting of settings) {
    const [f] = bothOf(setting);
    t.doesNotThrow(() => fx.checkGrads(f, inputsOf(setting)), setting.name);
  }
});

onEach("any of the arguments may be batched, also the mask", (t) => {
  const shapes = [
    [2, 4, 3],
    [2, 5, 3],
    [2, 5, 2],
  ];
  for (const maskShape of [[2, 4, 5], [5]])
    for (let subset = 1; subset < 16; subset++) {
      const batched = [0, 1, 2, 3].map((i) => (subset & (1 << i)) !== 0);
      const sizes = (i: number) => (batched[i] ? [3] : []);
      const x = shapes.map((shape, i) => random(i + 1, [...sizes(i), ...shape]));
      const visible = mask([...sizes(3), ...maskShape]);
      const all = [...x, visible];
      const of =
        (h: Attention) =>
        (...[q, k, v, m]: T[]): T[] => {
          const f = (...[q, k, v]: T[]) => h(q!, k!, v!, { mask: m!, causal: true });
          const given = [q!, k!, v!];
          const dx = given.map((y, i) => random(20 + i, y.shape));
          const w = random(30, [2, 4, 2]);
          const all = derivatives(f, given, dx, dx, w);
          return ["value", "jvp", "vjp", "grad of jvp"].flatMap((name) => all[name]!());
        };
      const got = fx.jit(
        fx.vmap(
          of(fx.attention),
          batched.map((b) => (b ? 0 : null)),
        ),
      )(...all);
      const each = [0, 1, 2].map((row) =>
        of(composed)(
          ...all.map((y, i) => (batched[i] ? fx.take(y, fx.tensor(row, { dtype: "int32" }), 0) : y)),
        ),
      );
      const want = each[0]!.map((_, i) => fx.stack(each.map((results) => results[i]!)));
      t.same(differences("vmap", got, want, 1e-11), [], `[${maskShape}], batched: ${batched}`);
    }
});

onEach("more scores than are computed at a time go in groups of the batch", (t) => {
  // 256 of the batch have about half of 2^19 scores. Each of the 1024 is on its own: two of them are compared.
  const shapes = [
    [1024, 9, 2],
    [1024, 128, 2],
    [1024, 128, 1],
  ];
  const few = fx.tensor([0, 1023], { dtype: "int32" });
  const x = shapes.map((shape, i) => random(i + 1, shape));
  const dx = shapes.map((shape, i) => random(i + 4, shape));
  const w = random(7, [1024, 9, 1]);
  const rows = (list: readonly T[]) => list.map((y) => fx.take(y, few, 0));
  for (const options of [{ causal: true, mask: mask([9, 128]) }, { mask: mask([128]) }] as Options[]) {
    const [f, g] = bothOf({ name: "", shapes: [[], [], []], options });
    const got = derivatives(f, x, dx, dx, w);
    const want = derivatives(g, rows(x), rows(dx), rows(dx), rows([w])[0]!);
    for (const name of ["jvp of vjp", "grad of jvp"])
      t.same(differences(name, rows(got[name]!()), want[name]!(), 1e-11), [], Object.keys(options).join());
  }
});

onEach("more scores of one entry than are computed at a time go in blocks, the last of them shorter", (t) => {
  const [n, m] = [700, 800]; // 2^19 scores are 655 rows of 800
  const shapes = [
    [2, n, 2],
    [2, m, 2],
    [2, m, 1],
  ];
  const x = shapes.map((shape, i) => random(i + 1, shape));
  const dx = shapes.map((shape, i) => random(i + 4, shape));
  const w = random(7, [2, n, 1]);
  for (const options of [
    { causal: true },
    { mask: mask([n, m]) },
    { mask: mask([2, 1, m]) },
    { mask: mask([2, n, 1]) },
  ]) {
    const [f, g] = bothOf({ name: "", shapes: [[], [], []], options });
    const [got, want] = [f, g].map((h) => derivatives(h, x, dx, dx, w));
    for (const name of ["jvp of vjp", "grad of jvp"])
      t.same(differences(name, got![name]!(), want![name]!(), 1e-11), [], Object.keys(options).join());
  }
});

// ---- Edges.

onEach("sizes of 0 and 1", (t) => {
  const sizes: [n: number, m: number, d: number, e: number, ...batch: number[]][] = [
    [1, 1, 1, 1],
    [0, 3, 2, 2],
    [3, 0, 2, 2],
    [3, 2, 0, 2],
    [3, 2, 2, 0],
    [0, 0, 0, 0],
    [3, 2, 2, 2, 0],
    [1, 4, 1, 1, 1],
    [4, 1, 1, 3, 2, 1],
  ];
  for (const [n, m, d, e, ...batch] of sizes)
    for (const options of [{}, { causal: true, mask: mask([n, m]) }]) {
      const setting: Setting = {
        name: `n ${n}, m ${m}, d ${d}, e ${e}, batch [${batch}], ${Object.keys(options)}`,
        shapes: [
          [...batch, n, d],
          [...batch, m, d],
          [...batch, m, e],
        ],
        options,
      };
      const names = ["value", "jvp", "vjp", "jvp of vjp", "grad of jvp"];
      alike(t, setting.name, ...bothOf(setting), inputsOf(setting), { names });
    }
});

onEach("a query that sees no key gives zeros, and moves nothing", (t) => {
  const [q, k, v] = [random(1, [3, 2]), random(2, [4, 2]), random(3, [4, 2])];
  const hidden = bools([3, 4], (i) => Math.floor(i / 4) !== 1);
  const rowOf = (x: T, row: number) => list(fx.take(x, fx.tensor(row, { dtype: "int32" }), 0));
  const all = derivatives(
    (q) => fx.attention(q!, k, v, { mask: hidden }),
    [q],
    [random(4, [3, 2])],
    [random(5, [3, 2])],
    random(6, [3, 2]),
  );
  for (const [name, run] of Object.entries(all)) {
    const [y] = run();
    t.same(rowOf(y!, 1).map(Math.abs), [0, 0], name);
    t.ok(
      [...rowOf(y!, 0), ...rowOf(y!, 2)].every((value) => Number.isFinite(value) && value !== 0),
      `${name}, the others`,
    );
  }
  const none = fx.zeros([3, 4], { dtype: "bool" });
  const toAll = derivatives(
    (...[q, k, v]) => fx.attention(q!, k!, v!, { mask: none }),
    [q, k, v],
    [q, k, v],
    [q, k, v],
    q,
  );
  for (const [name, run] of Object.entries(toAll))
    t.ok(
      run().every((x) => list(x).every((value) => value === 0)),
      `${name} where no query sees a key`,
    );
});

onEach("large scores neither overflow nor underflow", (t) => {
  for (const [dtype, tolerance] of [
    ["float64", 1e-9],
    ["float32", 2e-3],
  ] as const) {
    // Scores up to about 2^11: whole numbers in steps of 16, so that they are exact and often tie.
    const whole = (seed: number, shape: number[]) => fx.mul(fx.floor(random(seed, shape, dtype)), 16);
    const x = [whole(1, [6, 4]), whole(2, [7, 4]), random(3, [7, 3], dtype)];
    const soft = (...[q, k, v]: T[]) => fx.matmul(fx.softmax(fx.mul(fx.matmul(q!, turned(k!)), 0.5), -1), v!);
    const names = ["value", "jvp", "vjp", "jvp of vjp", "grad of jvp", "grad of grad"];
    alike(t, dtype, (...[q, k, v]) => fx.attention(q!, k!, v!), soft, x, { tolerance, names });
  }
  const huge = fx.attention(fx.tensor([[1e30]]), fx.tensor([[1e8], [-1e8]]), fx.tensor([[2], [3]]));
  t.same(list(huge), [2], "the largest score takes all");
});

onEach("float32 is as good as the composition in float32", (t) => {
  const [setting] = settings as [Setting];
  const [f, g] = bothOf(setting);
  const x = inputsOf(setting).map((y) => fx.cast(y, "float32"));
  alike(t, "float32", f, g, x, { tolerance: 1e-4 });
});

// ---- Memory.

/** All plans of a program: itself, and the bodies of its loops. */
function plansOf(plan: Plan | StrippedPlan): (Plan | StrippedPlan)[] {
  return [plan, ...plan.steps.flatMap((step) => (step.kind === "loop" ? plansOf(step.plan) : []))];
}

t.test("memory grows with n and m, not with n m", async (t) => {
  const measured = (n: number) => {
    const shape = [2, n, 16];
    const [x, dx] = [fx.zeros(shape), fx.zeros(shape)];
    const f = (...[q, k, v]: T[]) => fx.attention(q!, k!, v!, { causal: true });
    const all = [x, x, x, dx, dx, dx, dx, dx, dx, dx];
    const names = Object.keys(derivatives(f, [x], [x], [x], x));
    return names.map((name) => {
      const { plan } = fx.inspect(
        (...a: T[]) => derivatives(f, a.slice(0, 3), a.slice(3, 6), a.slice(6, 9), a[9]!)[name]!(),
        ...all,
      );
      const plans = plansOf(plan);
      return {
        name,
        arena: plans.reduce((sum, { arenaBytes }) => sum + arenaBytes, 0),
        largest: Math.max(...plans.flatMap(({ buffers }) => buffers.map((b) => b.size))),
      };
    });
  };
  const [small, medium, large] = [512, 1024, 2048].map(measured) as [
    ReturnType<typeof measured>,
    ReturnType<typeof measured>,
    ReturnType<typeof measured>,
  ];
  medium.forEach(({ name, arena, largest }, i) => {
    t.ok(largest < 2 * 1024 ** 2, `${name}: the largest buffer has ${largest} elements`);
    t.ok(large[i]!.largest < (2 * 2048 ** 2) / 4, `${name}: for n = 2048 it has ${large[i]!.largest}`);
    const growth = large[i]!.arena / arena;
    t.ok(growth < 2.1 || arena === 0, `${name}: the arena grows from ${arena} by ${growth}`);
  });
  // What has kernels of its own needs no blocks.
  for (const sizes of [small, medium, large])
    for (const { name, largest } of sizes.slice(0, 3))
      t.equal(largest, [512, 1024, 2048][[small, medium, large].indexOf(sizes)]! * 2 * 16, name);
});

// ---- Errors.

t.test("what does not fit is named", async (t) => {
  const x = fx.ones([2, 3, 4]);
  const bool = (...shape: number[]) => fx.ones(shape, { dtype: "bool" });
  const masked = (m: unknown) => () => fx.attention(x, x, x, { mask: m as T });
  const refused: [() => unknown, string, RegExp][] = [
    [() => fx.attention([1] as never, x, x), "ValueError", /attention: expected a Tensor/],
    [() => fx.attention(x, x, undefined as never), "ValueError", /attention: expected a Tensor/],
    [() => fx.attention(x, x, x, { masks: bool(3) } as never), "ValueError", /unknown option "masks"/],
    [() => fx.attention(fx.cast(x, "int32"), x, x), "DTypeError", /attention.*int32/],
    [() => fx.attention(x, fx.cast(x, "float64"), x), "DTypeError", /float32 and float64; use cast/],
    [() => fx.attention(x, x, fx.cast(x, "float64")), "DTypeError", /float32 and float64; use cast/],
    [() => fx.attention(fx.ones([4]), x, x), "ShapeError", /at least two axes, got shape \[4\]/],
    [() => fx.attention(x, x, fx.ones([4])), "ShapeError", /at least two axes, got shape \[4\]/],
    [() => fx.attention(x, fx.ones([2, 3, 5]), x), "ShapeError", /k \[2, 3, 5\] .* k \[\.\.\., m, d\]/],
    [() => fx.attention(x, x, fx.ones([2, 5, 4])), "ShapeError", /v \[2, 5, 4\] do not fit/],
    [() => fx.attention(x, fx.ones([3, 3, 4]), x), "ShapeError", /attention: .*\[2\].*\[3\]/],
    [masked([true]), "ValueError", /attention: mask: expected a Tensor/],
    [masked(fx.ones([3, 3])), "DTypeError", /attention: mask.*bool.*float32/],
    [masked(bool(4, 3)), "ShapeError", /attention: mask.*\[4, 3\].*\[2, 3, 3\]/],
    [masked(bool(3, 3, 3)), "ShapeError", /\[2\].*\[3\]/],
    [() => fx.attention(x, x, x, { scale: Number.NaN }), "ValueError", /scale must be a finite number/],
    [() => fx.attention(x, x, x, { scale: "1" as never }), "ValueError", /scale must be a finite number/],
    [
      () => fx.attention(x, x, x, { causal: 1 as never }),
      "ValueError",
      /causal must be true or false, got 1/,
    ],
    // A mask may add axes in front, but not more queries or keys than there are.
    [() => fx.attention(fx.ones([1, 4]), x, x, { mask: bool(5, 3) }), "ShapeError", /mask \[5, 3\]/],
  ];
  for (const [use, name, message] of refused) t.throws(use, { name, message }, String(message));
  const wide = fx.attention(fx.ones([3, 4]), fx.ones([3, 4]), fx.ones([3, 4]), { mask: bool(5, 3, 3) });
  t.same(wide.shape, [5, 3, 4]);
  t.equal(difference(fx.attention(x, x, x, { mask: bool() }), fx.attention(x, x, x), 0), "");
});
