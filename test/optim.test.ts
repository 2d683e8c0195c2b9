import * as fx from "fluxion";
import t from "tap";
import { close } from "./support/close.js";

const { optim } = fx;
const f64 = { dtype: "float64" } as const;
const flat = (x: fx.Tensor): number[] => Array.from(x.toTypedArray());
const vector = (values: number[]) => fx.tensor(values, f64);

const start = { a: [0.5, -1, 2], b: [3] };
/** Gradients of some curved function, computed the same way on both sides. */
const slope = (x: number, k: number) => Math.sin(3 * x + k) + 0.1 * x;
const steps = 40;

type Rule = (x: number, g: number, memory: number[], k: number) => number;

/** The parameters after some steps of a rule in plain doubles, one scalar at a time. */
function reference(rule: Rule): number[] {
  return [...start.a, ...start.b].map((first, i) => {
    const memory = [0, 0];
    let x = first;
    for (let k = 1; k <= steps; k++) x = rule(x, slope(x, i), memory, k);
    return x;
  });
}

/** The parameters after the same steps of an optimizer, each step a compiled program. */
function run(optimizer: fx.optim.Optimizer): number[] {
  let params = { a: vector(start.a), b: vector(start.b) };
  let state = optimizer.init(params);
  const offsets = { a: vector([0, 1, 2]), b: vector([3]) };
  const step = fx.jit((p: typeof params, s: typeof state) => {
    const grads = fx.tree.map((x, k) => fx.add(fx.sin(fx.add(fx.mul(x, 3), k)), fx.mul(x, 0.1)), p, offsets);
    const [updates, next] = optimizer.update(grads, s, p);
    return [optim.applyUpdates(p, updates), next] as const;
  });
  for (let k = 0; k < steps; k++) [params, state] = step(params, state) as [typeof params, typeof state];
  return [...flat(params.a), ...flat(params.b)];
}

function adamRule(rate: (k: number) => number, decay = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8): Rule {
  return (x, g, memory, k) => {
    // The order of operations of PyTorch's Adam and AdamW.
    const kept = x * (1 - rate(k) * decay);
    memory[0] = beta1 * memory[0]! + (1 - beta1) * g;
    memory[1] = beta2 * memory[1]! + (1 - beta2) * g * g;
    const denominator = Math.sqrt(memory[1]) / Math.sqrt(1 - beta2 ** k) + epsilon;
    return kept - (rate(k) / (1 - beta1 ** k)) * (memory[0] / denominator);
  };
}

t.test("adam follows PyTorch's recurrence", async (t) => {
  close(t, run(optim.adam({ learningRate: 0.05 })), reference(adamRule(() => 0.05)));
  close(
    t,
    run(optim.adam({ learningRate: 0.1, beta1: 0, beta2: 0.9, epsilon: 1e-3 })),
    reference(adamRule(() => 0.1, 0, 0, 0.9, 1e-3)),
  );
});

t.test("adamw decays the parameters apart from the gradients", async (t) => {
  const optimizer = optim.adamw({ learningRate: 0.05, weightDecay: 0.2 });
  close(t, run(optimizer), reference(adamRule(() => 0.05, 0.2)));
});

t.test("a schedule sees the number of updates done before", async (t) => {
  const rate = (k: number) => 0.1 * 0.5 ** ((k - 1) / 10);
  const schedule = optim.exponentialDecay({ from: 0.1, rate: 0.5, steps: 10 });
  close(t, run(optim.adam({ learningRate: schedule })), reference(adamRule(rate)));
  close(
    t,
    run(optim.sgd({ learningRate: schedule })),
    reference((x, g, _, k) => x - rate(k) * g),
  );
});

t.test("adam's first step in float32 is the learning rate, times the sign of the gradient", async (t) => {
  const optimizer = optim.adam({ learningRate: 0.01 });
  const params = fx.zeros([4]);
  const [updates, state] = optimizer.update(fx.tensor([1, -1e-3, 30, 1e3]), optimizer.init(params), params);
  close(
    t,
    flat(updates).map((u) => u / 0.01),
    [-1, 1, -1, -1],
    2e-5,
  );
  t.same([state.step.dtype, state.step.shape, state.step.item()], ["int32", [], 1]);
  t.equal(updates.dtype, "float32");
});

t.test("sgd follows the recurrences of plain descent, momentum and Nesterov", async (t) => {
  const velocity = (memory: number[], g: number) => (memory[0] = 0.9 * memory[0]! + g);
  close(
    t,
    run(optim.sgd({ learningRate: 0.05 })),
    reference((x, g) => x - 0.05 * g),
  );
  close(
    t,
    run(optim.sgd({ learningRate: 0.05, momentum: 0.9 })),
    reference((x, g, memory) => x - 0.05 * velocity(memory, g)),
  );
  close(
    t,
    run(optim.sgd({ learningRate: 0.05, momentum: 0.9, nesterov: true })),
    reference((x, g, memory) => x - 0.05 * (g + 0.9 * velocity(memory, g))),
  );
});

t.test("clipByGlobalNorm scales long gradients and leaves short ones", async (t) => {
  const grads = { a: vector([3, 0]), b: fx.tensor([4]) };
  t.equal(optim.globalNorm(grads).item(), 5);
  const clip = (most: number) => optim.clipByGlobalNorm(most).update(grads, null, grads)[0];
  close(t, [...flat(clip(2.5).a), ...flat(clip(2.5).b)], [1.5, 0, 2]);
  t.equal(clip(2.5).b.dtype, "float32", "each leaf keeps its dtype");
  close(t, [...flat(clip(5).a), ...flat(clip(5).b)], [3, 0, 4]);
  const zero = vector([0, 0]);
  t.same(flat(optim.clipByGlobalNorm(1).update(zero, null, zero)[0]), [0, 0], "zero gradients stay zero");
});

t.test("chain hands the updates of one part to the next", async (t) => {
  const optimizer = optim.chain(optim.clipByGlobalNorm(0.1), optim.sgd({ learningRate: 0.5 }));
  const params = vector([3, 4]);
  const [updates, state] = optimizer.update(vector([30, 40]), optimizer.init(params), params);
  close(t, flat(updates), [-0.03, -0.04]);
  t.equal(state[1].step.item(), 1);
  close(t, run(optim.chain(optim.adam({ learningRate: 0.05 }))), reference(adamRule(() => 0.05)));
});

t.test("ema is a decaying average that starts at the first parameters", async (t) => {
  const average = optim.ema(0.75);
  let value = average.init({ w: vector([1, -2]) });
  const seen = [
    [2, 0],
    [5, 1],
    [-3, 4],
  ];
  const want = [1, -2];
  for (const params of seen) {
    value = average.update(value, { w: vector(params) });
    params.forEach((p, i) => {
      want[i] = 0.75 * want[i]! + 0.25 * p;
    });
  }
  close(t, flat(value.w), want);
});

t.test("schedules pass through their known points", async (t) => {
  const at = (schedule: fx.optim.Schedule, ...list: number[]) =>
    list.map((k) => schedule(fx.tensor(k, { dtype: "int32" })).item());
  close(t, at(optim.constant(0.3), 0, 5, 1e6), [0.3, 0.3, 0.3]);
  const cosine = optim.cosine({ from: 1, to: 0.2, steps: 100 });
  close(t, at(cosine, 0, 50, 100, 1000), [1, 0.6, 0.2, 0.2]);
  close(t, at(cosine, 25), [0.2 + 0.4 * (1 + Math.SQRT1_2)]);
  const warmup = optim.warmupCosine({ peak: 2, warmupSteps: 10, steps: 110, from: 1, to: 0 });
  close(t, at(warmup, 0, 5, 10, 60, 110, 200), [1, 1.5, 2, 1, 0, 0]);
  close(
    t,
    at(optim.warmupCosine({ peak: 2, warmupSteps: 0, steps: 10 }), 0, 5),
    [2, 1],
    1e-13,
    "without warm-up",
  );
  const decay = { from: 8, rate: 0.5, steps: 2 };
  close(t, at(optim.exponentialDecay(decay), 0, 1, 2, 6), [8, 8 * Math.SQRT1_2, 4, 1]);
  close(t, at(optim.exponentialDecay({ ...decay, staircase: true }), 0, 1, 2, 3, 6), [8, 8, 4, 4, 1]);
});

t.test("a custom schedule may give float32 for float64 parameters", async (t) => {
  const optimizer = optim.sgd({ learningRate: (step) => fx.div(1, fx.add(fx.cast(step, "float32"), 2)) });
  const params = vector([1]);
  const [updates] = optimizer.update(vector([3]), optimizer.init(params), params);
  close(t, flat(updates), [-1.5]);
});

t.test("wrong input is named", async (t) => {
  t.throws(() => optim.adam({ learningrate: 1 } as never), {
    name: "ValueError",
    message: 'adam: unknown option "learningrate"; known options: learningRate, beta1, beta2, epsilon',
  });
  t.throws(() => optim.adam({ learningRate: 1, weightDecay: 0.1 } as never), {
    message: /adam: unknown option "weightDecay"/,
  });
  t.throws(() => optim.adam({} as never), {
    name: "ValueError",
    message: /learningRate must be .* got undefined/,
  });
  t.throws(() => optim.adam({ learningRate: -1 }), { name: "ValueError", message: />= 0, got -1/ });
  t.throws(() => optim.adam({ learningRate: 1, beta2: 1 }), {
    name: "ValueError",
    message: /beta2 .* < 1, got 1/,
  });
  t.throws(() => optim.adam({ learningRate: Number.NaN }), { name: "ValueError", message: /got NaN/ });
  t.throws(() => optim.adamw({ learningRate: 1, weightDecay: -1 }), { name: "ValueError" });
  t.throws(() => optim.sgd({ learningRate: 1, nesterov: true }), {
    name: "ValueError",
    message: /needs a momentum/,
  });
  t.throws(() => optim.clipByGlobalNorm(0), { name: "ValueError", message: /maxNorm .* > 0, got 0/ });
  t.throws(() => optim.ema(1.5), { name: "ValueError", message: /decay/ });
  t.throws(() => optim.chain({} as never), { name: "ValueError", message: /argument 1 is not an optimizer/ });
  t.throws(() => optim.cosine({ from: 1, steps: 0 }), { name: "ValueError", message: /steps/ });
  t.throws(() => optim.warmupCosine({ peak: 1, warmupSteps: 5, steps: 5 }), {
    name: "ValueError",
    message: /must be below/,
  });
  t.throws(() => optim.exponentialDecay({ from: 1, rate: 0, steps: 5 }), {
    name: "ValueError",
    message: /rate/,
  });

  const optimizer = optim.adam({ learningRate: 1 });
  t.throws(() => optimizer.init({ w: fx.tensor([1], { dtype: "int32" }) }), {
    name: "DTypeError",
    message: /int32\[1\]/,
  });
  const params = { w: vector([1]) };
  t.throws(() => optimizer.update({ v: vector([1]) } as never, optimizer.init(params), params), {
    name: "ValueError",
  });
  const bad = optim.sgd({ learningRate: (() => 3) as never });
  t.throws(() => bad.update(params, bad.init(params), params), {
    name: "ValueError",
    message: /must give a tensor/,
  });
});

// ---- Muon.

/** Rows orthonormal by Gram and Schmidt, of random numbers: [n, n] as rows. */
function orthonormal(seed: number, n: number): number[][] {
  const rows = fx.random.normal(fx.random.key(seed), [n, n], f64).toArray() as number[][];
  const dot = (x: number[], y: number[]) => x.reduce((s, v, i) => s + v * y[i]!, 0);
  rows.forEach((row, i) => {
    for (let pass = 0; pass < 2; pass++)
      for (let j = 0; j < i; j++) {
        const share = dot(row, rows[j]!);
        row.forEach((_, k) => {
          row[k]! -= share * rows[j]![k]!;
        });
      }
    const size = Math.sqrt(dot(row, row));
    row.forEach((_, k) => {
      row[k]! /= size;
    });
  });
  return rows;
}

/** What the fifth iterate of x <- a x + b x^3 + c x^5 makes of a singular value: the iteration on one number. */
function quintic(x: number): number {
  for (let k = 0; k < 5; k++) x = 3.4445 * x - 4.775 * x ** 3 + 2.0315 * x ** 5;
  return x;
}

t.test("muon moves a matrix along its momentum's singular directions, which count alike", async (t) => {
  for (const [rows, columns] of [
    [20, 20],
    [17, 24],
    [24, 17],
  ] as const) {
    const least = Math.min(rows, columns);
    const [u, v] = [orthonormal(1, rows).slice(0, least), orthonormal(2, columns).slice(0, least)];
    const values = Array.from({ length: least }, (_, i) => 3 * 0.8 ** i);
    const size = Math.sqrt(values.reduce((s, x) => s + x * x, 0)) + 1e-7;
    const compose = (of: (value: number) => number) =>
      fx.matmul(
        fx.transpose(
          fx.mul(
            fx.tensor(u, f64),
            fx.tensor(
              values.map((x) => [of(x)]),
              f64,
            ),
          ),
        ),
        fx.tensor(v, f64),
      );
    const params = { w: fx.zeros([rows, columns], f64) };
    const grads = { w: compose((x) => x) };
    const plain = optim.muon({ learningRate: 0.5, nesterov: false });
    const [updates, state] = plain.update(grads, plain.init(params), params);
    const scale = -0.5 * 0.2 * Math.sqrt(Math.max(rows, columns));
    close(t, flat(updates.w), flat(compose((x) => scale * quintic(x / size))), 1e-10, `${rows} x ${columns}`);
    close(t, flat(state.momentum[0]!), flat(grads.w), 1e-15);
    for (const x of values.filter((value) => value / size > 0.01))
      t.ok(quintic(x / size) > 0.6 && quintic(x / size) < 1.3, "singular values end near 1");
  }
});

t.test("muon looks ahead along its momentum, and decays weights apart from it", async (t) => {
  const random = (seed: number) => fx.random.normal(fx.random.key(seed), [16, 16], f64);
  const [w, g, h] = [random(1), random(2), random(3)];
  const learningRate = 0.1;
  const direct = (direction: fx.Tensor) => {
    const rule = optim.muon({ learningRate, nesterov: false });
    return rule.update([direction], rule.init([w]), [w])[0][0]!;
  };
  const rule = optim.muon({ learningRate, momentum: 0.9, weightDecay: 0.3 });
  const [first, state] = rule.update([g], rule.init([w]), [w]);
  const decay = fx.mul(w, -learningRate * 0.3);
  close(t, flat(first[0]!), flat(fx.add(direct(fx.mul(g, 1.9)), decay)), 1e-9, "g + mu g");
  const [second] = rule.update([h], state, [w]);
  const ahead = fx.add(h, fx.mul(fx.add(fx.mul(g, 0.9), h), 0.9));
  close(t, flat(second[0]!), flat(fx.add(direct(ahead), decay)), 1e-9, "h + mu (mu g + h)");
});

t.test("muon leaves vectors and thin matrices to Adam, at the same learning rate", async (t) => {
  const shapes = { wide: [16, 32], thin: [15, 64], bias: [32], deep: [16, 16, 16] };
  const of = (seed: number) =>
    fx.tree.map(
      (x) => fx.random.normal(fx.random.foldIn(fx.random.key(seed), x.size), x.shape, f64),
      Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, fx.zeros(shape, f64)])),
    );
  const [params, grads] = [of(1), of(2)];
  const rates = {
    learningRate: optim.cosine({ from: 0.1, steps: 5 }),
    beta1: 0.8,
    beta2: 0.9,
    epsilon: 1e-3,
  };
  const [mixed, adam] = [optim.muon(rates), optim.adam(rates)];
  let [state, reference] = [mixed.init(params), adam.init(params)];
  t.equal(state.momentum.length, 1, "one matrix");
  for (let k = 0; k < 3; k++) {
    const [updates, next] = mixed.update(grads, state, params);
    const [expected, after] = adam.update(grads, reference, params);
    [state, reference] = [next, after];
    for (const name of ["thin", "bias", "deep"])
      close(t, flat(updates[name]!), flat(expected[name]!), 1e-12, name);
    t.notSame(flat(updates["wide"]!), flat(expected["wide"]!));
  }
  t.equal(state.adam.step.item(), 3);
});

t.test("muon fits a matrix, compiled, and names wrong options", async (t) => {
  const target = fx.random.normal(fx.random.key(5), [24, 16]);
  const rule = optim.muon({ learningRate: optim.cosine({ from: 0.1, steps: 200 }) });
  let params = { w: fx.zeros([24, 16]) };
  let state = rule.init(params);
  const loss = (p: typeof params) => fx.mean(fx.square(fx.sub(p.w, target)));
  const step = fx.jit((p: typeof params, s: typeof state) => {
    const [updates, next] = rule.update(fx.grad(loss)(p), s, p);
    return [optim.applyUpdates(p, updates), next] as const;
  });
  const before = loss(params).item();
  for (let k = 0; k < 200; k++) [params, state] = step(params, state) as [typeof params, typeof state];
  t.ok(loss(params).item() < 1e-3 * before, `${before} -> ${loss(params).item()}`);
  const wrong = { name: "ValueError" };
  t.throws(() => optim.muon({ learningRate: -1 }), wrong);
  t.throws(() => optim.muon({ learningRate: 1, momentum: 1 }), wrong);
  t.throws(() => optim.muon({ learningRate: 1, iterations: 0 }), wrong);
  t.throws(() => optim.muon({ learningRate: 1, decay: 0 } as never), /decay/);
  t.throws(() => optim.muon({ learningRate: 1 }).init({ w: fx.zeros([16, 16], { dtype: "int32" }) }), {
    name: "DTypeError",
  });
});
