import * as fx from "fluxion";
import t from "tap";
import type { Attributes, PrimitiveName, SingleResult } from "#lib/graph/primitives.js";
import { emit } from "#lib/graph/trace.js";
import { batchRules } from "#lib/ops/batching.js";
import { operation } from "#lib/ops/operation.js";
import { differences, eachSeed, total } from "./support/compare.js";
import { onEach } from "./support/each-backend.js";
import { Dice, randomProgram } from "./support/random-program.js";

type T = fx.Tensor;
type F = (...x: T[]) => T | T[];

const f64 = (data: fx.NestedArray | number[]) => fx.tensor(data, { dtype: "float64" });
const i32 = (data: fx.NestedArray | number[]) => fx.tensor(data, { dtype: "int32" });
const asList = (y: T | readonly T[]): readonly T[] => (y instanceof fx.Tensor ? [y] : y);

/** A tensor whose elements a seed fixes: floats in (-2, 2), whole numbers from 0 to 8. */
function filled(shape: readonly number[], dtype: fx.DType, seed: number): T {
  const dice = new Dice(seed);
  const size = shape.reduce((a, b) => a * b, 1);
  const draw = () =>
    dtype === "bool" ? dice.below(2) : dtype.startsWith("float") ? 4 * dice.unit() - 2 : dice.below(9);
  return fx.tensor(Array.from({ length: size }, draw), { shape, dtype });
}

const slice = (x: T, axis: number, i: number): T =>
  fx.squeeze(
    fx.slice(
      x,
      x.shape.map((_, k) => (k === axis ? i : 0)),
      x.shape.map((n, k) => (k === axis ? 1 : n)),
    ),
    axis,
  );

/** What vmap means: f of each instance, stacked. `axes` are those of the arguments, all from the front. */
function stacked(f: F, args: readonly T[], axes: readonly (number | null)[], size: number, out: number): T[] {
  const each = Array.from({ length: size }, (_, i) =>
    asList(f(...args.map((x, k) => (axes[k] == null ? x : slice(x, axes[k]!, i))))),
  );
  return each[0]!.map((_, k) =>
    fx.stack(
      each.map((y) => y[k]!),
      out,
    ),
  );
}

const prim = <P extends SingleResult>(op: P, attrs: Attributes[P]): F =>
  operation((...x: T[]) => emit(op, x, attrs));

interface Case {
  readonly f: F;
  /** The inputs of one instance. */
  readonly args: readonly (readonly [readonly number[], fx.DType])[];
  /** Changes the drawn inputs, so that they are in the operation's domain. */
  readonly into?: (x: T, i: number) => T;
}

const float = [[2, 3], "float64"] as const;
const whole = [[2, 3], "uint32"] as const;
const truth = [[2, 3], "bool"] as const;
const unary = (op: SingleResult): Case[] => [{ f: prim(op, {} as never), args: [float] }];
const binary = (op: SingleResult, kind: Case["args"][number] = float): Case[] => [
  { f: prim(op, {} as never), args: [kind, kind] },
];
const positive = (x: T) => fx.add(fx.abs(x), 0.5);
const onFirst = (x: T, i: number) => (i === 0 ? positive(x) : x);
/** Indices into an axis of 3 or more, from -3 to 2. */
const spreadIndices = (x: T, i: number) => (i === 1 ? fx.sub(fx.remainder(x, 6), 3) : x);

/** Every primitive, on its own. */
const cases: { readonly [P in PrimitiveName]: readonly Case[] | "no inputs" } = {
  input: "no inputs",
  constant: "no inputs",
  iota: "no inputs",
  neg: unary("neg"),
  abs: unary("abs"),
  sign: unary("sign"),
  sqrt: [{ ...unary("sqrt")[0]!, into: positive }],
  rsqrt: [{ ...unary("rsqrt")[0]!, into: positive }],
  exp: unary("exp"),
  expm1: unary("expm1"),
  log: [{ ...unary("log")[0]!, into: positive }],
  log1p: [{ ...unary("log1p")[0]!, into: positive }],
  sin: unary("sin"),
  cos: unary("cos"),
  tanh: unary("tanh"),
  erf: unary("erf"),
  sigmoid: unary("sigmoid"),
  softplus: unary("softplus"),
  gelu: [
    { f: prim("gelu", { order: 0 }), args: [float] },
    { f: prim("gelu", { order: 1 }), args: [float] },
  ],
  floor: unary("floor"),
  round: unary("round"),
  logicalNot: [{ f: prim("logicalNot", {}), args: [truth] }],
  cast: [{ f: prim("cast", { dtype: "int32" }), args: [float] }],
  stopGradient: unary("stopGradient"),
  barrier: unary("barrier"),
  add: binary("add"),
  sub: binary("sub"),
  mul: binary("mul"),
  div: [{ ...binary("div")[0]!, into: positive }],
  pow: [{ ...binary("pow")[0]!, into: onFirst }],
  maximum: binary("maximum"),
  minimum: binary("minimum"),
  remainder: binary("remainder"),
  equal: binary("equal", whole),
  notEqual: binary("notEqual", whole),
  greater: binary("greater"),
  greaterEqual: binary("greaterEqual", whole),
  less: binary("less"),
  lessEqual: binary("lessEqual", whole),
  logicalAnd: binary("logicalAnd", truth),
  logicalOr: binary("logicalOr", truth),
  where: [{ f: prim("where", {}), args: [truth, float, float] }],
  shiftRight: binary("shiftRight", whole),
  threefry: [
    { f: prim("threefry", { word: 1 }), args: [whole, whole, whole, whole] },
    { f: prim("threefry", { word: "xor" }), args: [whole, whole, whole, whole] },
  ],
  broadcast: [
    { f: prim("broadcast", { shape: [4, 2, 5, 3], axes: [1, 3] }), args: [float] },
    { f: prim("broadcast", { shape: [2, 3, 4], axes: [0, 1, 2] }), args: [[[2, 1, 4], "float64"]] },
    { f: prim("broadcast", { shape: [4], axes: [] }), args: [[[], "float64"]] },
  ],
  reshape: [{ f: prim("reshape", { shape: [3, 1, 2] }), args: [float] }],
  transpose: [{ f: prim("transpose", { perm: [2, 0, 1] }), args: [[[2, 3, 4], "float64"]] }],
  slice: [{ f: prim("slice", { start: [1, 0], size: [1, 2] }), args: [float] }],
  pad: [{ f: prim("pad", { before: [1, 0], after: [0, 2] }), args: [float] }],
  concat: [
    { f: prim("concat", { axis: 1 }), args: [float, [[2, 1], "float64"], float] },
    { f: prim("concat", { axis: 0 }), args: [float, float] },
  ],
  flip: [{ f: prim("flip", { axes: [1] }), args: [float] }],
  reduceSum: [
    { f: prim("reduceSum", { axes: [0] }), args: [float] },
    { f: prim("reduceSum", { axes: [0, 1] }), args: [float] },
  ],
  reduceMax: [{ f: prim("reduceMax", { axes: [1] }), args: [float] }],
  reduceMin: [{ f: prim("reduceMin", { axes: [0, 1] }), args: [float] }],
  argmax: [{ f: prim("argmax", { axis: 1 }), args: [float] }],
  argmin: [{ f: prim("argmin", { axis: 0 }), args: [float] }],
  matmul: [
    { f: prim("matmul", {}), args: [float, [[3, 4], "float64"]] },
    {
      f: prim("matmul", {}),
      args: [
        [[2, 2, 3], "float64"],
        [[2, 3, 2], "float64"],
      ],
    },
  ],
  gather: [
    {
      f: prim("gather", { axis: 0 }),
      args: [
        [[3, 2], "float64"],
        [[5], "int32"],
      ],
      into: spreadIndices,
    },
    {
      f: prim("gather", { axis: 1 }),
      args: [
        [[2, 4, 3], "float64"],
        [[5], "int32"],
      ],
      into: spreadIndices,
    },
    {
      f: prim("gather", { axis: 2 }),
      args: [
        [[2, 4, 3], "int32"],
        [[2], "int32"],
      ],
      into: spreadIndices,
    },
  ],
  scatter: [
    {
      f: prim("scatter", { axis: 0, size: 3 }),
      args: [
        [[5, 2], "float64"],
        [[5], "int32"],
      ],
      into: spreadIndices,
    },
    {
      f: prim("scatter", { axis: 1, size: 4 }),
      args: [
        [[2, 5], "float64"],
        [[5], "int32"],
      ],
      into: spreadIndices,
    },
    {
      f: prim("scatter", { axis: 2, size: 3 }),
      args: [
        [[2, 2, 5], "int32"],
        [[5], "int32"],
      ],
      into: spreadIndices,
    },
  ],
  argsort: unary("argsort"),
  cumsum: [
    { f: prim("cumsum", { axis: 0, reverse: false }), args: [[[3, 2], "float64"]] },
    { f: prim("cumsum", { axis: 1, reverse: true }), args: [[[2, 3], "int32"]] },
  ],
  attention: [
    {
      f: (q, k, v, mask) => [fx.attention(q!, k!, v!, { mask: mask! })],
      args: [
        [[3, 2], "float64"],
        [[4, 2], "float64"],
        [[4, 5], "float64"],
        [[3, 4], "bool"],
      ],
    },
    {
      f: (q, k, v) => [fx.attention(q!, k!, v!, { causal: true })],
      args: [
        [[2, 3, 2], "float64"],
        [[2, 3, 2], "float64"],
        [[2, 3, 1], "float64"],
      ],
    },
  ],
  pick: [
    {
      f: (c, x) => fx.scan((c: T, x: T) => [fx.add(fx.sin(c), x), fx.mul(c, x)], c!, x!),
      args: [
        [[2], "float64"],
        [[3, 2], "float64"],
      ],
    },
  ],
  call: [
    {
      f: (x, y) => fx.checkpoint((x: T, y: T) => [fx.mul(x, fx.sin(y)), fx.cos(y)])(x!, y!),
      args: [float, float],
    },
    {
      f: (x, y) =>
        fx.customJvp(
          (x: T, y: T) => fx.mul(x, fx.sin(y)),
          ([x, y], [dx]) => [fx.mul(x, fx.sin(y)), dx],
        )(x!, y!),
      args: [float, float],
    },
    {
      f: (x, y) =>
        fx.customVjp(
          (x: T, y: T) => [fx.mul(x, fx.sin(y)), fx.cos(y)],
          (x, y) => [[fx.mul(x, fx.sin(y)), fx.cos(y)], []],
          (_, [ct]) => [ct, undefined],
        )(x!, y!),
      args: [float, float],
    },
  ],
  scan: [
    {
      f: (w, c, x) =>
        fx.scan((c: T, x: T) => [fx.add(fx.mul(c, w!), x), fx.sin(c)], c!, x!, { reverse: true }),
      args: [
        [[2], "float64"],
        [[2], "float64"],
        [[3, 2], "float64"],
      ],
    },
    {
      f: (x) => fx.forLoop(1, 4, (i, c: T) => fx.add(fx.sin(c), fx.cast(i, "float64")), x!),
      args: [[[2], "float64"]],
    },
  ],
};

onEach("vmap of every primitive is its results for each instance, stacked", async (t) => {
  const wrong: string[] = [];
  for (const name of Object.keys(cases) as PrimitiveName[]) {
    const own = cases[name];
    if (own === "no inputs") continue;
    own.forEach(({ f, args, into = (x) => x }, number) => {
      const one = fx.inspect(f, ...args.map(([shape, dtype]) => fx.zeros(shape, { dtype })));
      const ranks = Math.min(...one.graph.outputs.map(({ shape }) => shape.length));
      // Every choice of batched and shared inputs, and batches of 3, of 1 and of 0 instances.
      for (let mask = 1; mask < 2 ** args.length; mask++)
        for (const size of mask === 1 ? [3, 1, 0] : [3]) {
          const dice = new Dice(mask);
          const axes = args.map(([shape], i) => (mask & (1 << i) ? dice.below(shape.length + 1) : null));
          const inputs = args.map(([shape, dtype], i) => {
            const at = axes[i];
            const full = at == null ? shape : [...shape.slice(0, at), size, ...shape.slice(at)];
            return into(filled(full, dtype, 31 * mask + i), i);
          });
          const out = dice.below(ranks + 1);
          const label = `${name} ${number}, batched [${axes}], ${size} instances, out ${out}`;
          // Negative axes count from the end.
          const inAxes = axes.map((at, i) => (at !== null && dice.chance(0.5) ? at - inputs[i]!.rank : at));
          try {
            const got = asList(fx.vmap(f, inAxes, out)(...inputs));
            if (size > 0) wrong.push(...differences(label, got, stacked(f, inputs, axes, size, out), 1e-12));
            else if (got.some((y) => y.shape[out] !== 0))
              wrong.push(`${label}: shapes ${got.map((y) => y.shape)}`);
          } catch (error) {
            wrong.push(`${label}: ${error instanceof Error ? error.stack : error}`);
          }
        }
    });
  }
  t.same(wrong.slice(0, 10), []);
  for (const name of Object.keys(batchRules) as SingleResult[]) {
    const own = cases[name];
    if (own === "no inputs") continue;
    for (const { f, args } of own) {
      const { graph } = fx.inspect(f, ...args.map(([shape, dtype]) => fx.zeros(shape, { dtype })));
      const met = graph.nodes.some((node) => node.op === name);
      t.ok(met, `the cases of ${name} meet it`);
    }
  }
});

// ---- Random programs.

const isFloat = (x: T) => x.dtype === "float32" || x.dtype === "float64";
const isSingle = (values: readonly { readonly dtype: fx.DType }[]) =>
  values.some((x) => x.dtype === "float32");

/** A random program with a batch for some of its inputs: what vmap is asked, and the same by instances. */
function batchedProgram(seed: number, size: number) {
  const program = randomProgram(seed);
  const dice = new Dice(seed + 77);
  const axes: (number | null)[] = program.inputs.map((x) =>
    dice.chance(0.6) ? dice.below(x.rank + 1) : null,
  );
  if (!axes.some((at) => at !== null)) axes[0] = 0;
  const draws = Array.from({ length: size }, (_, i) => program.draw(i));
  const inputs = program.inputs.map((x, k) =>
    axes[k] === null
      ? x
      : fx.stack(
          draws.map((draw) => draw[k]!),
          axes[k]!,
        ),
  );
  const instances = draws.map((draw) => draw.map((x, k) => (axes[k] === null ? program.inputs[k]! : x)));
  const { graph } = fx.inspect(program.f, ...program.inputs);
  const tolerance = isSingle(graph.nodes) ? 2e-4 : 1e-9;
  return { ...program, axes, inputs, instances, tolerance };
}

/** The results of a function for each instance, stacked. */
function byInstance(f: (...x: T[]) => T[], instances: readonly T[][]): T[] {
  const run = fx.jit(f);
  const each = instances.map((x) => run(...x));
  return each[0]!.map((_, k) => fx.stack(each.map((y) => y[k]!)));
}

onEach("vmap of a random program is the program of each instance, stacked", async (t) => {
  const failures = eachSeed(100_000, 200, (seed) => {
    const { f, axes, inputs, instances, tolerance } = batchedProgram(seed, 3);
    const want = byInstance(f, instances);
    return [
      ...differences("at once", fx.vmap(f, axes)(...inputs), want, tolerance),
      ...differences("jitted", fx.jit(fx.vmap(f, axes))(...inputs), want, tolerance),
    ];
  });
  t.same(failures, []);
});

onEach("vmap of gradients and tangents of a random program is those of each instance, stacked", async (t) => {
  const failures = eachSeed(101_000, 80, (seed) => {
    const { f, axes, inputs, instances, tolerance, floats } = batchedProgram(seed, 3);
    const gradient = (...x: T[]) => fx.grad((...x: T[]) => total(f(...x)), { argnums: floats })(...x) as T[];
    const tangents = (...x: T[]) => {
      const of = (...y: T[]) => f(...x.map((given, i) => y[floats.indexOf(i)] ?? given)).filter(isFloat);
      const primals = floats.map((i) => x[i]!);
      return fx.jvp(
        of,
        primals,
        primals.map((p) => fx.add(fx.mul(p, 0.5), 1)),
      )[1];
    };
    return [
      ...differences(
        "grad",
        fx.vmap(gradient, axes)(...inputs),
        byInstance(gradient, instances),
        5 * tolerance,
      ),
      ...differences(
        "jvp",
        fx.vmap(tangents, axes)(...inputs),
        byInstance(tangents, instances),
        5 * tolerance,
      ),
    ];
  });
  t.same(failures, []);
});

onEach(
  "derivatives of vmap of a random program are the sums and stacks of those of the instances",
  async (t) => {
    const failures = eachSeed(102_000, 80, (seed) => {
      const { f, axes, inputs, instances, tolerance, floats } = batchedProgram(seed, 3);
      // One program for all: the loss is the sum of the instances' losses.
      const whole = (...x: T[]) => fx.sum(fx.vmap((...x: T[]) => total(f(...x)), axes)(...x));
      const got = fx.grad(whole, { argnums: floats })(...inputs) as T[];
      const each = fx.jit(
        (...x: T[]) => fx.grad((...x: T[]) => total(f(...x)), { argnums: floats })(...x) as T[],
      );
      const gradients = instances.map((x) => each(...x));
      const want = floats.map((i, k) => {
        const own = gradients.map((g) => g[k]!);
        return axes[i] === null ? own.reduce((a, b) => fx.add(a, b)) : fx.stack(own, axes[i]!);
      });
      return differences("grad of vmap", got, want, 10 * tolerance);
    });
    t.same(failures, []);
  },
);

onEach("vmap of vmap of a random program is two stacks", async (t) => {
  const failures = eachSeed(103_000, 60, (seed) => {
    const { f, inputs, draw, tolerance } = batchedProgram(seed, 2);
    const dice = new Dice(seed);
    const rows = [0, 1].map((i) => [0, 1, 2].map((j) => draw(10 * i + j)));
    // Each input varies along the outer batch, the inner one, both or none.
    const kinds = inputs.map(() => dice.pick(["outer", "inner", "both", "none"] as const));
    if (!kinds.includes("both")) kinds[0] = "both";
    const base = draw(99);
    const at = (i: number, j: number) =>
      base.map((x, k) => {
        const kind = kinds[k]!;
        return kind === "both"
          ? rows[i]![j]![k]!
          : kind === "outer"
            ? rows[i]![0]![k]!
            : kind === "inner"
              ? rows[0]![j]![k]!
              : x;
      });
    const given = base.map((x, k) => {
      const kind = kinds[k]!;
      const line = (i: number) => fx.stack([0, 1, 2].map((j) => at(i, j)[k]!));
      return kind === "both"
        ? fx.stack([line(0), line(1)])
        : kind === "outer"
          ? fx.stack([0, 1].map((i) => at(i, 0)[k]!))
          : kind === "inner"
            ? line(0)
            : x;
    });
    const outer = kinds.map((kind) => (kind === "both" || kind === "outer" ? 0 : null));
    const inner = kinds.map((kind) => (kind === "both" || kind === "inner" ? 0 : null));
    const got = fx.vmap((...x: T[]) => fx.vmap(f, inner)(...x), outer)(...given);
    const run = fx.jit(f);
    const each = [0, 1].map((i) => [0, 1, 2].map((j) => run(...at(i, j))));
    const want = each[0]![0]!.map((_, k) => fx.stack(each.map((row) => fx.stack(row.map((y) => y[k]!)))));
    return differences("vmap of vmap", got, want, tolerance);
  });
  t.same(failures, []);
});

// ---- Indices, keys, axes.

onEach("indices of one instance never reach another", async (t) => {
  const x = f64([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  const take = fx.vmap((x: T, i: T) => fx.take(x, i));
  const scatter = operation((x: T, i: T) => emit("scatter", [x, i], { axis: 0, size: 3 }));
  const put = fx.vmap(scatter);
  const at = (a: number[], b: number[]) => i32([a, b]);
  t.same(take(x, at([0, -1], [-3, 2])).toArray(), [
    [1, 3],
    [4, 6],
  ]);
  t.same(
    put(
      f64([
        [1, 2],
        [3, 4],
      ]),
      at([0, -1], [-3, -3]),
    ).toArray(),
    [
      [1, 0, 2],
      [7, 0, 0],
    ],
  );
  for (const wrong of [3, 4, 5, -4, -5, -6, 2 ** 31 - 1, -(2 ** 31)])
    for (const indices of [at([0, wrong], [0, 0]), at([0, 0], [wrong, 0])]) {
      t.throws(() => take(x, indices), { name: "BackendError", message: /out of range/ }, `take ${wrong}`);
      t.throws(
        () =>
          put(
            f64([
              [1, 2],
              [3, 4],
            ]),
            indices,
          ),
        { name: "BackendError" },
        `scatter ${wrong}`,
      );
      t.throws(
        () => fx.vmap((i: T) => fx.take(f64([1, 2, 3]), i))(indices),
        { name: "BackendError", message: /out of range/ },
        `shared x, ${wrong}`,
      );
    }
  t.same(
    take(x, at([1, 1], [1, 1])).toArray(),
    [
      [2, 2],
      [5, 5],
    ],
    "and later calls run",
  );
  // Of indices that are shared, too.
  t.throws(() => fx.vmap((x: T) => fx.take(x, i32([3])))(x), {
    name: "BackendError",
    message: /index 3 .* 3/,
  });
});

onEach("draws are those of each instance's key, and the same for all where the key is shared", async (t) => {
  const keys = fx.stack(fx.random.split(fx.random.key(3), 4));
  const draws: { [name: string]: (key: T) => T } = {
    bits: (key) => fx.random.bits(key, [5]),
    uniform: (key) => fx.random.uniform(key, [2, 3]),
    normal: (key) => fx.random.normal(key, [7]),
    split: (key) => fx.stack(fx.random.split(key, 3)),
    permutation: (key) => fx.random.permutation(key, 6),
    randint: (key) => fx.random.randint(key, [4], 0, 10),
    foldIn: (key) => fx.random.foldIn(key, 5),
  };
  for (const [name, draw] of Object.entries(draws)) {
    const got = fx.vmap(draw)(keys);
    const want = fx.stack([0, 1, 2, 3].map((i) => draw(slice(keys, 0, i))));
    t.same(differences(name, [got], [want], 0), []);
    const shared = fx.vmap((key: T, x: T) => fx.mul(fx.cast(draw(key), "float64"), x), [null, 0]);
    const one = slice(keys, 0, 0);
    const each = fx.stack([1, 2].map((s) => fx.mul(fx.cast(draw(one), "float64"), s)));
    t.same(differences(`${name}, shared`, [shared(one, f64([1, 2]))], [each], 0), []);
  }
});

t.test("arguments and results are trees, with axes for each part", async (t) => {
  const p = {
    w: f64([
      [1, 2, 3],
      [4, 5, 6],
    ]),
    b: [f64([10, 20]), f64(100)] as const,
    name: "p",
  };
  const f = (p: { w: T; b: readonly [T, T]; name: string }, x: T) => ({
    y: fx.add(fx.mul(p.w, x), fx.add(p.b[0], p.b[1])),
    rest: [x, p.name, fx.sum(p.b[1])] as const,
  });
  const got = fx.vmap(f, [{ w: 1, b: [null, null], name: null }, 0], { y: 1, rest: [0, null, null] })(
    p,
    f64([1, 2, 3]),
  );
  t.same(got.y.toArray(), [
    [111, 114, 119],
    [124, 130, 138],
  ]);
  t.same([got.rest[0].toArray(), got.rest[1], got.rest[2].item()], [[1, 2, 3], "p", 100]);
  const all = fx.vmap((p: { a: T; b: T }) => [p, 7] as const)({ a: f64([1, 2]), b: f64([[3], [4]]) });
  t.same([all[0].a.toArray(), all[0].b.shape, all[1]], [[1, 2], [2, 1], 7]);
  t.same(
    fx.vmap((_: T) => fx.ones([2]), 0, 1)(f64([0, 0, 0])).shape,
    [2, 3],
    "a result that is shared is repeated",
  );
  t.same(
    fx
      .vmap((x: T) => x)(f64([1, 2]))
      .toArray(),
    [1, 2],
    "the identity",
  );
});

t.test("closures over concrete and traced tensors are shared by all instances", async (t) => {
  const w = f64([2, 3]);
  const f = (a: T) =>
    fx.sum(
      fx.vmap((x: T) => fx.mul(fx.mul(x, w), a))(
        f64([
          [1, 1],
          [2, 2],
        ]),
      ),
    );
  t.equal(f(f64(5)).item(), 75);
  t.equal(fx.grad(f)(f64(5)).item(), 15);
  t.equal(fx.jvp(f, [f64(5)], [f64(2)])[1].item(), 30);
  t.same(
    fx
      .vmap((a: T) => f(a))(f64([1, 2]))
      .toArray(),
    [15, 30],
    "of a traced tensor that is batched",
  );
});

t.test("what is the same for all instances is computed once", async (t) => {
  const { plan } = fx.inspect(
    (w: T, x: T) => fx.vmap((x: T) => fx.sum(fx.mul(x, fx.exp(w))))(x),
    fx.ones([4]),
    fx.ones([100, 4]),
  );
  const sizes = plan.steps.map((step) => (step.kind === "map" || step.kind === "reduce" ? step.shape : []));
  t.same(sizes, [[4], [100, 4]].slice(-sizes.length), "exp of w over 4 elements, or where it is read");
});

t.test("one right-hand side for all instances makes one product of all rows", async (t) => {
  const products = (x: T) =>
    fx
      .inspect((x: T, w: T) => fx.vmap((x: T) => fx.gelu(fx.matmul(x, w)))(x), x, fx.ones([4, 5]))
      .plan.steps.map((s) => (s.kind === "matmul" ? [...s.batch, s.m] : s.kind));
  t.same(products(fx.ones([10, 4])), [[10]], "vectors: as the layer written for a batch");
  t.same(products(fx.ones([10, 3, 4]))[0], [30], "matrices");
});

t.test("axes and sizes that do not fit are errors that say how", async (t) => {
  const x = f64([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  const twice = (x: T) => fx.add(x, x);
  const add = (x: T, y: T) => fx.add(x, y);
  const refuses = (call: () => unknown, name: string, message: RegExp) => t.throws(call, { name, message });
  refuses(() => fx.vmap(twice, 2)(x), "ShapeError", /axis 2 is out of range for a tensor of rank 2/);
  refuses(() => fx.vmap(twice, -3)(x), "ShapeError", /axis -3 is out of range/);
  refuses(() => fx.vmap(twice, 0.5)(x), "ShapeError", /axis 0.5/);
  refuses(() => fx.vmap(twice, Number.NaN)(x), "ShapeError", /axis NaN/);
  refuses(() => fx.vmap(twice)(f64(1)), "ShapeError", /axis 0 is out of range for a tensor of rank 0/);
  refuses(() => fx.vmap(add)(x, f64([1, 2, 3])), "ShapeError", /2 instances, but axis 0 .*\[3\] has 3/);
  refuses(() => fx.vmap(twice, [null])(x), "ValueError", /no argument has a batch axis/);
  refuses(() => fx.vmap(() => x)(), "ValueError", /no argument has a batch axis/);
  refuses(() => fx.vmap(twice, [0, 0])(x), "ValueError", /2 elements for 1 arguments/);
  refuses(() => fx.vmap(twice, "0" as never)(x), "ValueError", /inAxes must be/);
  refuses(
    () => fx.vmap(twice, null as never)(x),
    "ValueError",
    /no argument has a batch axis|inAxes must be/,
  );
  refuses(() => fx.vmap(twice, [[0]] as never)(x), "ValueError", /inAxes must be/);
  refuses(() => fx.vmap((p: { a: T }) => p.a, [{ b: 0 }])({ a: x }), "ValueError", /inAxes must be/);
  refuses(
    () => fx.vmap((p: { a: T; b: T }) => p.a, [{ a: 0 }])({ a: x, b: x }),
    "ValueError",
    /inAxes must be/,
  );
  refuses(() => fx.vmap(twice, 0, null)(x), "ValueError", /outAxes is null for a result that differs/);
  refuses(() => fx.vmap(twice, 0, 2)(x), "ShapeError", /outAxes: axis 2/);
  refuses(() => fx.vmap(twice, 0, [0])(x), "ValueError", /outAxes must be/);
  refuses(() => fx.vmap(3 as never)(x as never), "ValueError", /vmap: expected a function/);
  refuses(() => fx.vmap(async (x: T) => x)(x), "ValueError", /vmap: the function is async/);
  refuses(() => fx.vmap((x: T) => fx.matmul(x, f64([1, 2])))(x), "ShapeError", /matmul/);
});
