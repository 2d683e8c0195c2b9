import { readFileSync } from "node:fs";
import * as fx from "fluxion";
import t from "tap";

// Values that PyTorch computed in float64 (test/golden/README.md), and ways to compute them here.

type T = fx.Tensor;

const read = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../../test/golden/${name}`, import.meta.url), "utf8"));

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

export interface ProgramCase {
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

export interface FlowCase extends Points {
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
export class Comparison {
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

/** A case's inputs, tangents and functions. */
function programOf(c: ProgramCase, by: Comparison) {
  const xs = c.inputs.map((input) => by.tensor(input));
  const vs = c.inputs.map(({ tangent, shape }) => by.tensor({ data: tangent, shape }));
  const w = by.tensor({ data: c.weights, shape: c.expected.shape });
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
  const gradient = fx.grad(scalar, { argnums }) as (...inputs: T[]) => T[];
  const alongTangents = fx.grad((...x: T[]) => fx.jvp(scalar, x, vs)[1], { argnums }) as (
    ...inputs: T[]
  ) => T[];
  const eachInput = (what: string, got: readonly T[], want: number[][]) => {
    want.forEach((values, i) => {
      by.same(`${what} ${i}`, got[i]!, values);
    });
  };
  return { xs, vs, w, argnums, f, scalar, gradient, alongTangents, eachInput };
}

/** By operations at once, by transforms outside of jit, and by jit. */
export function checkProgram(c: ProgramCase, by: Comparison): void {
  const { expected } = c;
  const { xs, vs, w, argnums, f, scalar, gradient, alongTangents, eachInput } = programOf(c, by);
  by.same("value", f(...xs), expected.out);
  by.same("jit", fx.jit(f)(...xs), expected.out);
  const [y, dy] = fx.jvp(f, xs, vs);
  by.same("jvp primal", y, expected.out);
  by.same("jvp", dy, expected.jvpOut);
  const [value, gradients] = fx.valueAndGrad(scalar, { argnums })(...xs);
  by.same("valueAndGrad", value, [expected.value]);
  eachInput("grad", gradients as T[], expected.grads);
  eachInput("vjp", fx.vjp(f, ...xs)[1](w), expected.grads);
  eachInput("forward over reverse", fx.jvp(gradient, xs, vs)[1], expected.hvp);
  eachInput("reverse over forward", alongTangents(...xs), expected.hvp);
  eachInput("jit of reverse over forward", fx.jit(alongTangents)(...xs), expected.hvp);
}

/** All in one compiled program. */
export function checkProgramAtOnce(c: ProgramCase, by: Comparison): void {
  const { expected } = c;
  const { xs, vs, argnums, f, scalar, gradient, alongTangents, eachInput } = programOf(c, by);
  const all = fx.jit((...x: T[]) => ({
    jvp: fx.jvp(f, x, vs),
    gradient: fx.valueAndGrad(scalar, { argnums })(...x),
    forwardOverReverse: fx.jvp(gradient, x, vs)[1],
    reverseOverForward: alongTangents(...x),
  }))(...xs);
  by.same("value", all.jvp[0], expected.out);
  by.same("jvp", all.jvp[1], expected.jvpOut);
  by.same("valueAndGrad", all.gradient[0], [expected.value]);
  eachInput("grad", all.gradient[1] as T[], expected.grads);
  eachInput("forward over reverse", all.forwardOverReverse, expected.hvp);
  eachInput("reverse over forward", all.reverseOverForward, expected.hvp);
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

/** Loss and gradient, or a training by Adam; `atOnce`: by compiled programs alone. */
export function checkFlow(c: FlowCase, by: Comparison, { atOnce = false } = {}): void {
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
    const ways = { "jit: ": fx.jit(lossAndGradient), ...(atOnce ? {} : { "": lossAndGradient }) };
    for (const [how, run] of Object.entries(ways)) {
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

export const programs: readonly ProgramCase[] = read("programs.json");
export const flows: readonly FlowCase[] = read("flow.json");

export const nameOfFlow = (c: FlowCase, i: number) =>
  `flow ${i}: ${c.objective} ${JSON.stringify(c.options)}`;

/** A test of all cases on a backend, in one dtype, by `run`. */
export function check<C>(
  name: string,
  cases: readonly C[],
  backend: fx.BackendName,
  dtype: "float32" | "float64",
  nameOf: (c: C, i: number) => string,
  run: (c: C, by: Comparison) => void,
): void {
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
    t.ok(count > 4 * cases.length, `${count} comparisons in ${cases.length} cases`);
  });
}
