import { readFileSync } from "node:fs";
import * as fx from "fluxion";
import t from "tap";
import { backends } from "./support/backends.js";

// Values that PyTorch computed in float64 (test/golden/README.md), held against every way to compute them here.

type T = fx.Tensor;

const read = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../test/golden/${name}`, import.meta.url), "utf8"));

interface Data {
  readonly data: number[];
  readonly shape: number[];
}

interface Attributes {
  readonly axis?: number;
  readonly keepDims?: boolean;
  readonly perm?: number[];
  readonly shape?: number[];
  readonly start?: number[];
  readonly size?: number[];
  readonly before?: number[];
  readonly after?: number[];
  readonly indices?: number[];
}

interface ProgramCase {
  readonly seed: number;
  readonly inputs: (Data & { readonly tangent: number[] })[];
  readonly steps: { readonly op: string; readonly args: number[]; readonly attrs?: Attributes }[];
  readonly weights: number[];
  readonly expected: {
    readonly shape: number[];
    readonly out: number[];
    readonly value: number;
    readonly jvpOut: number[];
    readonly grads: number[][];
    readonly hvp: number[][];
  };
}

interface Points {
  readonly data: Data;
  readonly noise: Data;
  readonly r: Data;
  readonly t: Data;
}

interface FlowCase extends Points {
  readonly objective: "FM" | "MF" | "iMF" | "blend";
  readonly options: {
    readonly orientation?: "data-to-noise" | "noise-to-data";
    readonly adaptive?: { readonly p: number; readonly c: number };
    readonly tangentBlend?: number;
  };
  readonly params: [Data, Data][];
  readonly expected?: { readonly loss: number; readonly grads: [Data, Data][] };
  readonly trajectory: {
    readonly learningRate: number;
    readonly params: [Data, Data][];
    readonly batches: Points[];
    readonly losses: number[];
    readonly final: [Data, Data][];
  };
}

/** Compares values with what is expected in one dtype, and collects where they differ, in words. */
class Comparison {
  readonly differences: string[] = [];
  count = 0;
  readonly #dtype: fx.DType;
  readonly #tolerance: number;

  constructor(dtype: "float32" | "float64") {
    this.#dtype = dtype;
    this.#tolerance = dtype === "float64" ? 1e-9 : 2e-4;
  }

  tensor({ data, shape }: Data): T {
    return fx.tensor(data, { shape, dtype: this.#dtype });
  }

  same(what: string, got: T, want: number[]): void {
    this.count++;
    const values = Array.from(got.toTypedArray());
    const scale = Math.max(1, ...want.map(Math.abs));
    const off = values.findIndex((v, i) => !(Math.abs(v - want[i]!) <= this.#tolerance * scale));
    if (values.length !== want.length)
      this.differences.push(`${what}: ${values.length} elements, expected ${want.length}`);
    else if (off !== -1) this.differences.push(`${what}[${off}] is ${values[off]}, expected ${want[off]}`);
  }
}

// ---- Random programs.

const tame = (f: (x: T) => T) => (x: T) => f(fx.add(fx.softplus(x), 0.5));

const operations: { readonly [op: string]: (a: T[], at: Attributes) => T } = {
  exp_tame: ([x]) => fx.exp(fx.tanh(x!)),
  log_tame: ([x]) => tame(fx.log)(x!),
  sqrt_tame: ([x]) => tame(fx.sqrt)(x!),
  rsqrt_tame: ([x]) => tame(fx.rsqrt)(x!),
  log1p_tame: ([x]) => fx.log1p(fx.softplus(x!)),
  expm1_tame: ([x]) => fx.expm1(fx.tanh(x!)),
  div_tame: ([x, y]) => fx.div(x!, fx.add(1, fx.mul(y!, y!))),
  where_gt: ([x, y]) => fx.where(fx.greater(x!, y!), fx.add(fx.sin(x!), y!), fx.mul(x!, y!)),
  stopGradient: ([x]) => fx.stopGradient(x!),
  erf: ([x]) => fx.erf(x!),
  cos: ([x]) => fx.cos(x!),
  sin: ([x]) => fx.sin(x!),
  abs: ([x]) => fx.abs(x!),
  neg: ([x]) => fx.neg(x!),
  square: ([x]) => fx.square(x!),
  sigmoid: ([x]) => fx.sigmoid(x!),
  relu: ([x]) => fx.relu(x!),
  gelu: ([x]) => fx.gelu(x!),
  silu: ([x]) => fx.silu(x!),
  tanh: ([x]) => fx.tanh(x!),
  softplus: ([x]) => fx.softplus(x!),
  add: ([x, y]) => fx.add(x!, y!),
  sub: ([x, y]) => fx.sub(x!, y!),
  mul: ([x, y]) => fx.mul(x!, y!),
  maximum: ([x, y]) => fx.maximum(x!, y!),
  minimum: ([x, y]) => fx.minimum(x!, y!),
  matmul: ([x, y]) => fx.matmul(x!, y!),
  sum: ([x], { axis, keepDims = false }) => fx.sum(x!, axis, { keepDims }),
  mean: ([x], { axis, keepDims = false }) => fx.mean(x!, axis, { keepDims }),
  max: ([x], { axis, keepDims = false }) => fx.max(x!, axis, { keepDims }),
  logsumexp: ([x], { axis, keepDims = false }) => fx.logsumexp(x!, axis, { keepDims }),
  var: ([x], { axis, keepDims = false }) => fx.variance(x!, axis, { keepDims }),
  transpose: ([x], { perm }) => fx.transpose(x!, perm),
  reshape: ([x], { shape }) => fx.reshape(x!, shape!),
  broadcastTo: ([x], { shape }) => fx.broadcastTo(x!, shape!),
  slice: ([x], { start, size }) => fx.slice(x!, start!, size!),
  concat: (list, { axis }) => fx.concat(list, axis),
  softmax: ([x], { axis }) => fx.softmax(x!, axis),
  pad: ([x], { before, after }) =>
    fx.pad(
      x!,
      before!.map((b, i) => [b, after![i]!] as const),
    ),
  take: ([x], { indices, axis }) => fx.take(x!, fx.tensor(indices!, { dtype: "int32" }), axis),
  flip: ([x], { axis }) => fx.flip(x!, axis),
};
function checkProgram(c: ProgramCase, by: Comparison): void {
  const { expected } = c;
  const xs = c.inputs.map((input) => by.tensor(input));
  const vs = c.inputs.map(({ tangent, shape }) => by.tensor({ data: tangent, shape }));
  const w = by.tensor({ data: c.weights, shape: expected.shape });
  const argnums = xs.map((_, i) => i);
  const f = (...inputs: T[]): T => {
    const values = [...inputs];
    for (const { op, args, attrs = {} } of c.steps)
      values.push(
        operations[op]!(
          args.map((k) => values[k]!),
          attrs,
        ),
      );
    return values[values.length - 1]!;
  };
  const scalar = (...inputs: T[]) => fx.sum(fx.mul(f(...inputs), w));
  const eachInput = (what: string, got: readonly T[], want: number[][]) => {
    want.forEach((values, i) => {
      by.same(`${what} ${i}`, got[i]!, values);
    });
  };
  const alongTangents = fx.grad((...x: T[]) => fx.jvp(scalar, x, vs)[1], { argnums });

  by.same("value", f(...xs), expected.out);
  by.same("jit", fx.jit(f)(...xs), expected.out);
  const [y, dy] = fx.jvp(f, xs, vs);
  by.same("jvp primal", y, expected.out);
  by.same("jvp", dy, expected.jvpOut);
  const [value, gradients] = fx.valueAndGrad(scalar, { argnums })(...xs);
  by.same("valueAndGrad", value, [expected.value]);
  eachInput("grad", gradients as T[], expected.grads);
  eachInput("vjp", fx.vjp(f, ...xs)[1](w), expected.grads);
  const gradient = fx.grad(scalar, { argnums });
  eachInput("forward over reverse", fx.jvp((...x: T[]) => gradient(...x) as T[], xs, vs)[1], expected.hvp);
  eachInput("reverse over forward", alongTangents(...xs) as T[], expected.hvp);
  eachInput("jit of reverse over forward", fx.jit(alongTangents)(...xs) as T[], expected.hvp);
}

// ---- Losses of flows.

type Layers = [T, T][];

const network = (params: Layers, x: T): T =>
  params.reduce((h, [w, b], i) => {
    const y = fx.add(fx.matmul(h, w), b);
    return i < params.length - 1 ? fx.gelu(y) : y;
  }, x);

const unused = (): Layers => {
  throw new Error("the parameters are given");
};

function lossOf({
  objective,
  options,
}: FlowCase): (params: Layers, points: { data: T; noise: T; r: T; t: T }) => T {
  const { orientation = "data-to-noise", adaptive, tangentBlend } = options;
  const weighting = adaptive && fx.flow.adaptiveWeighting({ power: adaptive.p, offset: adaptive.c });
  const common = { orientation, ...(weighting ? { weighting } : {}) };
  if (objective === "FM") {
    const velocity = {
      kind: "velocity" as const,
      init: unused,
      apply: (p: Layers, z: T, t: T) => network(p, fx.concat([z, t], 1)),
    };
    const { loss } = fx.flow.flowMatching(common);
    return (params, { data, noise, t }) => loss(velocity, params, { data, noise, t });
  }
  const average = {
    kind: "average-velocity" as const,
    init: unused,
    apply: (p: Layers, z: T, r: T, t: T) => network(p, fx.concat([z, t, r], 1)),
  };
  const blend = tangentBlend === undefined ? {} : { conditionalTangentWeight: tangentBlend };
  const { loss } =
    objective === "iMF" ? fx.flow.improvedMeanFlow(common) : fx.flow.meanFlow({ ...common, ...blend });
  return (params, points) => loss(average, params, points);
}

function checkFlow(c: FlowCase, by: Comparison): void {
  const loss = lossOf(c);
  const layers = (list: [Data, Data][]): Layers => list.map(([w, b]) => [by.tensor(w), by.tensor(b)]);
  const points = ({ data, noise, r, t }: Points) => ({
    data: by.tensor(data),
    noise: by.tensor(noise),
    r: by.tensor(r),
    t: by.tensor(t),
  });
  const eachLayer = (what: string, got: Layers, want: [Data, Data][]) => {
    want.forEach((layer, i) => {
      layer.forEach(({ data }, j) => {
        by.same(`${what} ${i}.${j}`, got[i]![j]!, data);
      });
    });
  };
  if (c.expected) {
    const lossAndGradient = fx.valueAndGrad((p: Layers) => loss(p, points(c)));
    for (const [how, run] of Object.entries({ "": lossAndGradient, "jit: ": fx.jit(lossAndGradient) })) {
      const [value, gradient] = run(layers(c.params));
      by.same(`${how}loss`, value, [c.expected.loss]);
      eachLayer(`${how}gradient`, gradient, c.expected.grads);
    }
    return;
  }
  const { learningRate, batches, losses, final } = c.trajectory;
  const optimizer = fx.optim.adam({ learningRate });
  let params = layers(c.trajectory.params);
  let state = optimizer.init(params);
  const step = fx.jit((p: Layers, s: typeof state, batch: ReturnType<typeof points>) => {
    const [value, gradient] = fx.valueAndGrad((q: Layers) => loss(q, batch))(p);
    const [updates, next] = optimizer.update(gradient, s, p);
    return { value, params: fx.optim.applyUpdates(p, updates), state: next };
  });
  batches.forEach((batch, i) => {
    const after = step(params, state, points(batch));
    ({ params, state } = after);
    by.same(`loss of step ${i}`, after.value, [losses[i]!]);
  });
  eachLayer("parameters at the end", params, final);
}

// ---- Every case, on every backend, in both precisions.

const programs: ProgramCase[] = read("programs.json");
const flows: FlowCase[] = read("flow.json");

function check<C>(
  name: string,
  cases: readonly C[],
  nameOf: (c: C, i: number) => string,
  run: (c: C, by: Comparison) => void,
) {
  for (const backend of backends)
    for (const dtype of ["float64", "float32"] as const)
      t.test(`${name}, ${backend}, ${dtype}`, async (t) => {
        fx.setBackend(backend);
        let count = 0;
        cases.forEach((c, i) => {
          const by = new Comparison(dtype);
          try {
            run(c, by);
          } catch (error) {
            by.differences.push(`threw ${error instanceof Error ? error.stack : error}`);
          }
          count += by.count;
          if (by.differences.length > 0) t.fail(nameOf(c, i), { differences: by.differences });
        });
        t.ok(count > 5 * cases.length, `${count} comparisons in ${cases.length} cases`);
      });
}

check("random programs", programs, (c) => `program ${c.seed}`, checkProgram);
check(
  "losses of flows",
  flows,
  (c, i) => `flow ${i}: ${c.objective} ${JSON.stringify(c.options)}`,
  checkFlow,
);
