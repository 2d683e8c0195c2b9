import * as fx from "fluxion";
import t from "tap";
import { dormandPrincePair } from "#lib/flow/samplers/dormand-prince.js";
import { rungeKuttaStep } from "#lib/flow/samplers/fixed.js";
import { close } from "./support/close.js";
import { onEach } from "./support/each-backend.js";

const { flow } = fx;
const f64 = { dtype: "float64" } as const;
const tracked = { trajectory: true } as const;
type Orientation = fx.flow.Orientation;
const orientations: Orientation[] = ["data-to-noise", "noise-to-data"];

const flat = (x: fx.Tensor): number[] => Array.from(x.toTypedArray());
const normal = (seed: number, shape: number[]) => fx.random.normal(fx.random.key(seed), shape, f64);
const largest = (x: readonly number[]) => Math.max(...x.map(Math.abs));
const apart = (a: readonly number[], b: readonly number[]) => largest(a.map((x, i) => x - b[i]!));
/** The times at which a draw begins and ends. */
const ends = (orientation: Orientation) =>
  (orientation === "data-to-noise" ? [1, 0] : [0, 1]) as [number, number];

type Velocity = (z: fx.Tensor, time: fx.Tensor) => fx.Tensor;
const velocity = (apply: Velocity): fx.models.VelocityField<null> => ({
  kind: "velocity",
  init: () => null,
  apply: (_, z, time) => apply(z, time),
});
/** An average-velocity field that is right where r = t alone. */
const average = (apply: Velocity): fx.models.AverageVelocityField<null> => ({
  kind: "average-velocity",
  init: () => null,
  apply: (_, z, r, time) => fx.add(apply(z, time), fx.mul(fx.sub(time, r), 1e3)),
});

/**
 * In the plane, with radius r and angle a: dr/dt = r (1 - r^2), da/dt = 2 + 3 cos 3t. It is nonlinear, coupled and depends on
 * time, so that every condition of order counts.
 */
const spiral: Velocity = (z, time) => {
  const [x, y] = fx.split(z, 2, 1) as [fx.Tensor, fx.Tensor];
  const turn = fx.add(2, fx.mul(3, fx.cos(fx.mul(time, 3))));
  const growth = fx.sub(1, fx.add(fx.square(x), fx.square(y)));
  return fx.concat(
    [fx.sub(fx.mul(x, growth), fx.mul(turn, y)), fx.add(fx.mul(y, growth), fx.mul(turn, x))],
    1,
  );
};
const spiralStart = fx.tensor(
  [
    [0.6, 0.2],
    [-0.8, 0.5],
    [0.3, -0.9],
  ],
  f64,
);
/** r^2 / (1 - r^2) grows by exp(2t). */
function spiralEnd(from: number, to: number): number[] {
  return (spiralStart.toArray() as number[][]).flatMap(([x, y]) => {
    const start = x! ** 2 + y! ** 2;
    const square = 1 / (1 + (1 / start - 1) * Math.exp(2 * (from - to)));
    const angle = Math.atan2(y!, x!) + 2 * (to - from) + Math.sin(3 * to) - Math.sin(3 * from);
    return [Math.sqrt(square) * Math.cos(angle), Math.sqrt(square) * Math.sin(angle)];
  });
}

/** Dormand and Prince's method of order 5 with given steps. */
const dormandPrinceStep = rungeKuttaStep(dormandPrincePair.tableau);
function dormandPrinceSteps({ steps }: { steps: number }): fx.flow.FixedSampler<fx.models.FieldKind> {
  const { times } = flow.euler({ steps });
  const kinds = ["velocity", "average-velocity"] as const;
  return {
    type: "fixed",
    name: "fifth order",
    kinds,
    times,
    step: dormandPrinceStep,
    evaluations: 6 * steps,
  };
}

/** Least squares: the slope of y over x. */
function slope(x: readonly number[], y: readonly number[]): number {
  const mean = (v: readonly number[]) => v.reduce((a, b) => a + b, 0) / v.length;
  const [mx, my] = [mean(x), mean(y)];
  const products = x.map((v, i) => (v - mx) * (y[i]! - my));
  return mean(products) / mean(x.map((v) => (v - mx) ** 2));
}

// ---- fixed steps ----

t.test("the error of each solver falls with the power of the step that is its order", async (t) => {
  for (const [sampler, order, steps] of [
    [flow.euler, 1, [128, 256, 512, 1024]],
    [flow.midpoint, 2, [64, 128, 256, 512]],
    [flow.heun, 2, [64, 128, 256, 512]],
    [flow.rungeKutta4, 4, [32, 64, 128, 256]],
    // Its terms of order 6 are large beside those of order 5, so it takes short steps to see the latter.
    [dormandPrinceSteps, 5, [96, 144, 216, 324]],
  ] as const)
    for (const orientation of orientations) {
      const want = spiralEnd(...ends(orientation));
      const errors = steps.map((n) =>
        apart(
          flat(flow.sample(velocity(spiral), null, spiralStart, sampler({ steps: n }), { orientation })),
          want,
        ),
      );
      const measured = slope(
        steps.map((n) => Math.log(1 / n)),
        errors.map(Math.log),
      );
      t.ok(Math.abs(measured - order) < 0.15, `${sampler.name}, ${orientation}: order ${measured}`);
    }
});

t.test("the order holds on an uneven grid", async (t) => {
  const error = (n: number) => {
    const times = Array.from({ length: n + 1 }, (_, i) => (i / n + (i / n) ** 2) / 2);
    const got = flow.sample(velocity(spiral), null, spiralStart, flow.rungeKutta4({ times }));
    return apart(flat(got), spiralEnd(1, 0));
  };
  const order = Math.log2(error(64) / error(128));
  t.ok(Math.abs(order - 4) < 0.2, `order ${order}`);
});

t.test("one step is the formula of the method", async (t) => {
  const v = (z: number, s: number) => Math.sin(2 * z) + s * s * z;
  const field: Velocity = (z, s) => fx.add(fx.sin(fx.mul(z, 2)), fx.mul(fx.square(s), z));
  const formulas = {
    euler: (z: number, s: number, h: number) => z + h * v(z, s),
    midpoint: (z: number, s: number, h: number) => z + h * v(z + (h / 2) * v(z, s), s + h / 2),
    heun: (z: number, s: number, h: number) => z + (h / 2) * (v(z, s) + v(z + h * v(z, s), s + h)),
    rungeKutta4: (z: number, s: number, h: number) => {
      const a = v(z, s);
      const b = v(z + (h / 2) * a, s + h / 2);
      const c = v(z + (h / 2) * b, s + h / 2);
      return z + (h / 6) * (a + 2 * b + 2 * c + v(z + h * c, s + h));
    },
  };
  const noise = normal(1, [4, 3]);
  for (const [name, formula] of Object.entries(formulas) as [keyof typeof formulas, typeof formulas.euler][])
    for (const orientation of orientations) {
      const grid = [0, 0.25, 0.4, 1];
      const passed = orientation === "data-to-noise" ? grid.toReversed() : grid;
      const want = flat(noise).map((start) =>
        passed.slice(1).reduce((z, to, i) => formula(z, passed[i]!, to - passed[i]!), start),
      );
      for (const times of [grid, grid.toReversed()]) {
        const sampler = flow[name]({ times });
        const drawn = flow.sample(velocity(field), null, noise, sampler, { orientation, ...tracked });
        close(t, flat(drawn.final), want, 1e-13, `${name}, ${orientation}`);
        t.same(drawn.times, passed);
      }
    }
});

t.test("mean-flow steps of an exact average velocity are exact on any grid", async (t) => {
  // z(t) = z(s) + sin(3t) - sin(3s): u = (sin 3t - sin 3r) / (t - r), whatever z is.
  const wave = (x: fx.Tensor) => fx.sin(fx.mul(x, 3));
  const exact: fx.models.AverageVelocityField<null> = {
    kind: "average-velocity",
    init: () => null,
    apply: (_, z, r, s) => fx.broadcastTo(fx.div(fx.sub(wave(s), wave(r)), fx.sub(s, r)), z.shape),
  };
  const noise = normal(2, [3, 2]);
  for (let seed = 0; seed < 5; seed++) {
    const inner = flat(fx.random.uniform(fx.random.key(seed), [1 + 2 * seed], f64)).sort((a, b) => a - b);
    const sampler = flow.meanFlowSteps({ times: [0, ...inner, 1] });
    for (const orientation of orientations) {
      const [from, to] = ends(orientation);
      const moved = Math.sin(3 * to) - Math.sin(3 * from);
      const got = flow.sample(exact, null, noise, sampler, { orientation });
      close(t, flat(got), flat(fx.add(noise, moved)), 1e-13);
    }
  }
});

t.test("an average-velocity field is sampled by its velocity u(z, t, t)", async (t) => {
  for (const sampler of [
    flow.euler({ steps: 3 }),
    flow.midpoint({ steps: 3 }),
    flow.heun({ steps: 3 }),
    flow.rungeKutta4({ steps: 3 }),
    flow.dormandPrince(),
  ])
    for (const orientation of orientations) {
      const options = { orientation };
      close(
        t,
        flat(flow.sample(average(spiral), null, spiralStart, sampler, options)),
        flat(flow.sample(velocity(spiral), null, spiralStart, sampler, options)),
        1e-13,
        `${sampler.name}, ${orientation}`,
      );
    }
});

t.test("a sampler of fixed steps knows how often it evaluates the field", async (t) => {
  for (const [sampler, each] of [
    [flow.euler, 1],
    [flow.midpoint, 2],
    [flow.heun, 2],
    [flow.rungeKutta4, 4],
    [flow.meanFlowSteps, 1],
  ] as const) {
    let evaluated = 0;
    const spy = average((z) => {
      evaluated++;
      return fx.neg(z);
    });
    const drawn = flow.sample(spy, null, spiralStart, sampler({ steps: 7 }), tracked);
    t.equal(sampler({ steps: 7 }).evaluations, 7 * each, sampler.name);
    t.equal(sampler({ times: [0, 0.1, 1] }).evaluations, 2 * each, sampler.name);
    t.equal(drawn.evaluations, 7 * each);
    t.equal(evaluated, each, "in the loop's body");
  }
  t.equal(flow.oneStep().evaluations, 1);
});

t.test("solvers go into compiled functions and through derivatives", async (t) => {
  // dz/dt = p z from 1 to 0: z = e exp(-p), whose derivative by p is -z.
  const field: fx.models.VelocityField<fx.Tensor> = {
    kind: "velocity",
    init: () => fx.tensor(0.5, f64),
    apply: (p, z) => fx.mul(p, z),
  };
  const noise = normal(3, [4, 1]);
  const total = (p: fx.Tensor) => fx.sum(flow.sample(field, p, noise, flow.rungeKutta4({ steps: 64 })));
  const [value, gradient] = fx.jit(fx.valueAndGrad(total))(fx.tensor(0.5, f64));
  const want = flat(noise).reduce((a, e) => a + e * Math.exp(-0.5), 0);
  close(t, [value.item(), gradient.item()], [want, -want], 1e-9);
});

// ---- Dormand and Prince's pair ----

t.test("the pair's estimate is the difference of two methods, the lower one of order 4", async (t) => {
  const { tableau, error } = dormandPrincePair;
  const [nodes, stages] = [
    [...tableau.nodes, 1],
    [...tableau.stages, tableau.weights],
  ];
  close(
    t,
    stages.map((row) => row.reduce((a, b) => a + b, 0)),
    nodes,
    1e-14,
    "nodes are sums of rows",
  );
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
  const times = (a: readonly number[], b: readonly number[]) => a.map((x, i) => x * b[i]!);
  const applied = (x: readonly number[]) => stages.map((row) => dot(row, x));
  const [c, one] = [nodes, nodes.map(() => 1)];
  const c2 = times(c, c);
  // The trees up to order 4. Both methods meet their conditions, so the difference meets them with 0.
  const trees = [
    [one, 1],
    [c, 1 / 2],
    [c2, 1 / 3],
    [applied(c), 1 / 6],
    [times(c, c2), 1 / 4],
    [times(c, applied(c)), 1 / 8],
    [applied(c2), 1 / 12],
    [applied(applied(c)), 1 / 24],
  ] as const;
  for (const [tree, value] of trees) {
    close(t, [dot(tableau.weights, tree), dot(error, tree)], [value, 0], 1e-15);
  }
  const fifth = [
    [times(c2, c2), 1 / 5],
    [times(c2, applied(c)), 1 / 10],
    [times(c, applied(c2)), 1 / 15],
    [times(c, applied(applied(c))), 1 / 30],
    [times(applied(c), applied(c)), 1 / 20],
    [applied(times(c, c2)), 1 / 20],
    [applied(times(c, applied(c))), 1 / 40],
    [applied(applied(c2)), 1 / 60],
    [applied(applied(applied(c))), 1 / 120],
  ] as const;
  for (const [tree, value] of fifth)
    close(t, [dot(tableau.weights, tree)], [value], 1e-15, "the higher one has order 5");
  t.ok(Math.abs(dot(error, times(c2, c2))) > 1e-4, "the lower one has not");
});

/** A problem dz/dt = v(z, t) with its solution: the state at `to` of one that is z at `from`. */
interface Problem {
  readonly name: string;
  readonly v: Velocity;
  readonly flow: (z: number, from: number, to: number) => number;
}
const smooth: Problem = {
  name: "smooth",
  v: (z, time) => fx.mul(fx.add(z, 1), fx.cos(time)),
  flow: (z, from, to) => (z + 1) * Math.exp(Math.sin(to) - Math.sin(from)) - 1,
};
/** dz/dt = -rate (z - cos t): z falls fast (where time passes in the rate's direction) to a slow curve. */
function stiff(rate: number): Problem {
  const slow = (s: number) => (rate * (rate * Math.cos(s) + Math.sin(s))) / (1 + rate * rate);
  return {
    name: "stiff",
    v: (z, time) => fx.mul(fx.sub(z, fx.cos(time)), -rate),
    flow: (z, from, to) => slow(to) + (z - slow(from)) * Math.exp(-rate * (to - from)),
  };
}
const problems = (orientation: Orientation) => [smooth, stiff(orientation === "data-to-noise" ? -60 : 60)];

onEach("every step is within the tolerance of every sample, and lands exactly at the end", async (t) => {
  const noise = normal(4, [6, 2]);
  for (const orientation of orientations)
    for (const { name, v, flow: exact } of problems(orientation)) {
      const [from, to] = ends(orientation);
      const want = flat(noise).map((z) => exact(z, from, to));
      const costs: number[] = [];
      for (const tolerance of [1e-3, 1e-5, 1e-7, 1e-9]) {
        const sampler = flow.dormandPrince({ relativeTolerance: tolerance, absoluteTolerance: tolerance });
        const drawn = flow.sample(velocity(v), null, noise, sampler, { orientation, ...tracked });
        const { times, final, trajectory, evaluations } = drawn;
        const title = `${name}, ${orientation}, ${tolerance}`;
        const states = fx.split(trajectory, times.length).map((x) => flat(x));
        const worst = states.slice(1).map((state, k) => {
          const before = states[k]!;
          const ratios = state.map((z, i) => {
            const error = z - exact(before[i]!, times[k]!, times[k + 1]!);
            return error / (tolerance * (1 + Math.max(Math.abs(z), Math.abs(before[i]!))));
          });
          return Math.max(
            ...[0, 1, 2, 3, 4, 5].map(
              (row) => Math.hypot(ratios[2 * row]!, ratios[2 * row + 1]!) / Math.SQRT2,
            ),
          );
        });
        t.ok(largest(worst) <= 1, `${title}: largest error of a step, in tolerances, ${largest(worst)}`);
        t.ok(apart(flat(final), want) < 5 * tolerance, `${title}: error ${apart(flat(final), want)}`);
        t.same([times[0], times.at(-1)], [from, to], title);
        t.ok(
          times.every((time, i) => i === 0 || (time - times[i - 1]!) * (to - from) > 0),
          "times pass in one direction",
        );
        t.same(trajectory.shape, [times.length, 6, 2]);
        t.same([states[0], states.at(-1)], [flat(noise), flat(final)], "the trajectory's ends");
        t.same(flat(flow.sample(velocity(v), null, noise, sampler, { orientation })), flat(final));
        costs.push(evaluations);
      }
      t.ok(
        costs.every((cost, i) => i === 0 || cost > costs[i - 1]!),
        `${name}, ${orientation}: evaluations ${costs}`,
      );
    }
});

onEach("float32 states are drawn to their tolerance, with times of that dtype", async (t) => {
  const noise = fx.random.normal(fx.random.key(5), [6, 2]);
  const field = velocity(smooth.v);
  for (const orientation of orientations) {
    const [from, to] = ends(orientation);
    const { final, times } = flow.sample(field, null, noise, flow.dormandPrince(), {
      orientation,
      ...tracked,
    });
    close(
      t,
      flat(final),
      flat(noise).map((z) => smooth.flow(z, from, to)),
      5e-5,
    );
    t.equal(final.dtype, "float32");
    t.same([times[0], times.at(-1), times.map(Math.fround)], [from, to, times]);
  }
});

t.test("samples and steps of any shape are drawn alike", async (t) => {
  const noise = normal(6, [3, 2, 2]);
  const image = flow.sample(velocity(smooth.v), null, fx.reshape(noise, [3, 4]), flow.dormandPrince());
  // A time [batch, 1] must be made a column of the state's rank by the field.
  const column: Velocity = (z, time) => smooth.v(z, fx.reshape(time, [3, 1, 1]));
  for (const sampler of [flow.dormandPrince(), flow.rungeKutta4({ steps: 50 })])
    close(t, flat(flow.sample(velocity(column), null, noise, sampler)), flat(image), 1e-5, sampler.name);
});

t.test("a sample's steps are as short in a batch of easy ones as they are alone", async (t) => {
  // dz/dt = rate z cos(rate t) with a rate for each sample; those of rate 0 stand still.
  const field: fx.models.VelocityField<null> = {
    kind: "velocity",
    init: () => null,
    apply: (_, z, time, rate) =>
      fx.mul(fx.mul(rate as fx.Tensor, z), fx.cos(fx.mul(rate as fx.Tensor, time))),
  };
  const n = 256;
  const draw = (rates: number[]) =>
    flow.sample(field, null, fx.ones([rates.length, 2], f64), flow.dormandPrince(), {
      condition: fx.tensor(rates, { shape: [rates.length, 1], ...f64 }),
      orientation: "noise-to-data",
      ...tracked,
    });
  const alone = draw([30]);
  const hidden = draw(Array.from({ length: n }, (_, i) => (i === 200 ? 30 : 0)));
  t.same(hidden.times, alone.times);
  const want = Math.exp(Math.sin(30));
  const row = flat(hidden.final).slice(400, 402);
  t.ok(apart(row, [want, want]) < 5e-5, `error ${apart(row, [want, want])}`);
  t.same(flat(hidden.final).slice(0, 4), [1, 1, 1, 1]);
});

t.test("rejected steps are counted, and a draw's cost is told", async (t) => {
  // The velocity turns in the middle: steps that were right before are too long there.
  const turn: Velocity = (z, time) => fx.add(fx.mul(z, 0), fx.tanh(fx.mul(fx.sub(time, 0.5), 200)));
  const [calm, rough] = [smooth.v, turn].map((v) =>
    flow.sample(
      velocity(v),
      null,
      normal(7, [2, 1]),
      flow.dormandPrince({ relativeTolerance: 1e-7 }),
      tracked,
    ),
  ) as [fx.flow.Trajectory, fx.flow.Trajectory];
  const accepted = (drawn: fx.flow.Trajectory) => drawn.times.length - 1;
  t.equal(calm.evaluations, 2 + 6 * accepted(calm), "two to find the first step, and six a step");
  t.equal((rough.evaluations - 2) % 6, 0);
  t.ok(rough.evaluations > 2 + 6 * accepted(rough), `${rough.evaluations} for ${accepted(rough)} steps`);
});

t.test("one set of programs serves every draw of a field", async (t) => {
  let traced = 0;
  const field = velocity((z) => {
    traced++;
    return fx.neg(z);
  });
  const noise = normal(8, [3, 2]);
  flow.sample(field, null, noise, flow.dormandPrince());
  t.equal(traced, 8, "the first slope, a trial, and the six of a step");
  for (const orientation of orientations)
    for (const relativeTolerance of [1e-2, 1e-9])
      flow.sample(field, null, noise, flow.dormandPrince({ relativeTolerance }), { orientation, ...tracked });
  t.equal(traced, 8);
});

t.test("a field at rest, and one that is constant, are drawn exactly", async (t) => {
  const noise = normal(9, [3, 2]);
  const still = flow.sample(
    velocity((z) => fx.mul(z, 0)),
    null,
    noise,
    flow.dormandPrince(),
    tracked,
  );
  t.same(flat(still.final), flat(noise));
  const constant = velocity((z) => fx.full(z.shape, 2, f64));
  const zeros = fx.zeros([3, 2], f64);
  close(t, flat(flow.sample(constant, null, zeros, flow.dormandPrince())), Array(6).fill(-2), 1e-14);
});

t.test("conditions of one tensor and of several reach the field", async (t) => {
  const noise = normal(10, [2, 2]);
  const rate = fx.tensor([[1], [-2]], f64);
  const want = flat(fx.mul(noise, fx.exp(fx.neg(rate))));
  const one: fx.models.VelocityField<null> = {
    kind: "velocity",
    init: () => null,
    apply: (_, z, _time, condition) => fx.mul(condition as fx.Tensor, z),
  };
  const several: fx.models.AverageVelocityField<null> = {
    kind: "average-velocity",
    init: () => null,
    apply: (_, z, _r, _time, condition) => fx.mul((condition as { rate: fx.Tensor }).rate, z),
  };
  for (const sampler of [flow.dormandPrince(), flow.rungeKutta4({ steps: 30 })]) {
    close(t, flat(flow.sample(one, null, noise, sampler, { condition: rate })), want, 1e-4, sampler.name);
    const condition = { rate };
    close(t, flat(flow.sample(several, null, noise, sampler, { condition })), want, 1e-4, sampler.name);
  }
});

onEach("off the main thread the samples have the same bits, and the event loop stays free", async (t) => {
  const field = fx.models.velocityMlp({ dim: 2, hidden: 8, layers: 2 });
  const params = field.init(fx.random.key(1));
  const noise = fx.random.normal(fx.random.key(2), [16, 2]);
  for (const sampler of [flow.dormandPrince({ relativeTolerance: 1e-6 }), flow.heun({ steps: 5 })]) {
    const here = flow.sample(field, params, noise, sampler, tracked);
    let turns = 0;
    const turn = () => {
      turns++;
      next = setImmediate(turn);
    };
    let next = setImmediate(turn);
    const there = await flow.sampleAsync(field, params, noise, sampler, tracked);
    clearImmediate(next);
    t.same(flat(there.trajectory), flat(here.trajectory), sampler.name);
    t.same([there.times, there.evaluations], [here.times, here.evaluations]);
    t.same(flat(await flow.sampleAsync(field, params, noise, sampler)), flat(here.final));
    // A fixed draw is one call, which may end within one turn; between the many calls of an adaptive one there are turns.
    if (sampler.type === "adaptive") t.ok(turns > 0, `${turns} turns of the event loop in between`);
  }
});

t.test("a trainer draws with any sampler", async (t) => {
  const trainer = new fx.Trainer({
    model: fx.models.velocityMlp({ dim: 2, hidden: 8, layers: 1 }),
    objective: flow.flowMatching(),
    data: fx.data.checkerboard(),
    optimizer: fx.optim.adam({ learningRate: 1e-3 }),
    batchSize: 8,
  });
  const exact = await trainer.sample(5, { sampler: flow.dormandPrince({ relativeTolerance: 1e-6 }) });
  for (const sampler of [
    flow.midpoint({ steps: 50 }),
    flow.heun({ steps: 50 }),
    flow.rungeKutta4({ steps: 9 }),
  ])
    close(t, flat(await trainer.sample(5, { sampler })), flat(exact), 1e-3, sampler.name);
  const { times, evaluations } = await trainer.sample(5, { sampler: flow.dormandPrince(), ...tracked });
  t.same([times[0], times.at(-1), evaluations % 6], [1, 0, 2]);
  trainer.dispose();
});

// ---- what cannot be drawn ----

const value = (message: RegExp) => ({ name: "ValueError", message });

t.test("adaptive sampling inside of a traced function says what to use there", async (t) => {
  const field = velocity(smooth.v);
  const message = /sample \(dormandPrince\): .* traced function .* fixed steps .* rungeKutta4/;
  const draw = (z: fx.Tensor) => fx.sum(flow.sample(field, null, z, flow.dormandPrince()));
  t.throws(() => fx.jit(draw)(spiralStart), value(message));
  t.throws(() => fx.grad(draw)(spiralStart), value(message));
});

t.test("a draw that does not come to its end says where it stands", async (t) => {
  const draw = (v: Velocity, options: fx.flow.DormandPrinceOptions = {}, start = normal(11, [3, 1])) => {
    const sampler = flow.dormandPrince(options);
    return () => flow.sample(velocity(v), null, start, sampler, { orientation: "noise-to-data" });
  };
  const nonFinite = (message: RegExp) => ({ name: "NonFiniteError", message });
  t.throws(
    draw((z) => fx.mul(z, Number.NaN)),
    nonFinite(/\(dormandPrince\).* at time 0, first in row 0/),
  );
  const start = fx.tensor([[1], [-1], [1]], f64);
  const roots: Velocity = (z) => fx.sqrt(z);
  t.throws(draw(roots, {}, start), nonFinite(/at time 0, first in row 1/));
  // dz/dt = log(0.25 - t) is finite up to 0.25 only.
  const ends: Velocity = (z, time) => fx.add(fx.mul(z, 0), fx.log(fx.sub(0.25, time)));
  t.throws(draw(ends), nonFinite(/at time 0\.2(5|49\d*), first in row 0/));
  // dz/dt = z^2 from 4 is infinite at time 0.25.
  const blowUp = draw((z) => fx.square(z), {}, fx.tensor([[0], [4]], f64));
  t.throws(blowUp, value(/at time 0\.2(5|49)\d* no step that float64 resolves .* in row 1/));
  t.throws(
    draw(stiff(2000).v, { maxSteps: 40 }),
    value(/maxSteps = 40 steps are used up at time 0\.\d+, before time 1/),
  );
  await t.rejects(
    flow.sampleAsync(velocity(smooth.v), null, start, flow.dormandPrince({ maxSteps: 1 })),
    value(/maxSteps = 1 steps are used up at time 0\.\d+, before time 0/),
  );
});

t.test("options that cannot be are named", async (t) => {
  t.throws(
    () => flow.dormandPrince({ tolerance: 1 } as never),
    value(/dormandPrince: unknown option "tolerance"/),
  );
  t.throws(() => flow.dormandPrince({ relativeTolerance: -1 }), value(/relativeTolerance .* >= 0, got -1/));
  t.throws(() => flow.dormandPrince({ absoluteTolerance: 0 }), value(/absoluteTolerance .* > 0, got 0/));
  t.throws(() => flow.dormandPrince({ maxSteps: 1.5 }), value(/maxSteps must be a whole number/));
  for (const solver of [flow.euler, flow.midpoint, flow.heun, flow.rungeKutta4]) {
    const named = (rest: string) => value(new RegExp(`^${solver.name}: ${rest}`));
    t.throws(() => solver({ steps: 0 }), named("steps must be a whole number >= 1"));
    t.throws(() => solver({} as never), named("give either steps or times"));
    t.throws(() => solver({ steps: 1, times: [0, 1] }), named("give either steps or times"));
    t.throws(() => solver({ times: [0, 0.5, 0.5, 1] }), named("times must go strictly from 0 to 1"));
    t.throws(() => solver({ times: [0] }), named("times must be an array of at least two"));
    t.throws(() => solver({ times: [0, 2] }), named("times\\[1\\] must be"));
  }
});

t.test("samplers and fields that do not fit are named", async (t) => {
  const draw =
    (sampler: unknown, field: unknown = velocity(smooth.v), z: fx.Tensor = spiralStart) =>
    () =>
      flow.sample(field as never, null, z, sampler as never);
  const good = flow.dormandPrince();
  t.throws(draw({ ...good, type: "clever" }), value(/needs a sampler, such as euler/));
  t.throws(draw({ ...good, maxSteps: undefined }), value(/sample \(dormandPrince\): maxSteps/));
  t.throws(draw(good, { kind: "speed", apply() {} }), value(/needs a field of kind "velocity" or "average-/));
  t.throws(
    draw(flow.dormandPrince({ absoluteTolerance: 1e-50 }), undefined, fx.ones([2, 2])),
    value(/is zero in/),
  );
  const narrow = velocity((z) => fx.sum(z, 1, { keepDims: true }));
  for (const sampler of [good, flow.euler({ steps: 2 }), flow.rungeKutta4({ steps: 2 })])
    t.throws(draw(sampler, narrow), {
      name: "ShapeError",
      message: /must give the shape of z, \[3, 2\], got \[3, 1\]/,
    });
});
