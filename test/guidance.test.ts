import * as fx from "fluxion";
import t from "tap";
import { close } from "./support/close.js";

const { flow } = fx;
const f64 = { dtype: "float64" } as const;
type Orientation = fx.flow.Orientation;
const orientations: Orientation[] = ["data-to-noise", "noise-to-data"];

const flat = (x: fx.Tensor): number[] => Array.from(x.toTypedArray());
const column = (values: readonly number[]) => fx.tensor(values, { shape: [values.length, 1], ...f64 });
const labels = (values: readonly number[]) => fx.tensor(values, { dtype: "int32" });
const flags = (values: readonly number[]) => fx.cast(labels(values), "bool");
const numbers = (params: unknown): number[] => fx.tree.leaves(params).flatMap(flat);

/** The number of classes, and the label that stands for none. */
const classes = 2;

// ---- a linear field, for which loss and gradient are worked out by hand ----

/** Rows of one dimension: r = t in the first two; labelled and not; inside and outside of the intervals below. */
const rows = [
  { data: 0.3, noise: -1.1, r: 0.4, t: 0.4, label: 0, dropped: 0, scale: 2.5, start: 0, end: 1 },
  { data: -0.8, noise: 0.6, r: 0.9, t: 0.9, label: 1, dropped: 1, scale: 1.5, start: 0, end: 1 },
  { data: 1.2, noise: 0.1, r: 0.1, t: 0.7, label: 1, dropped: 0, scale: 4, start: 0.3, end: 0.6 },
  { data: -0.4, noise: 2.0, r: 0.35, t: 0.5, label: 0, dropped: 0, scale: 3, start: 0.2, end: 0.8 },
  { data: 0.9, noise: -0.7, r: 0.2, t: 0.95, label: 0, dropped: 1, scale: 6, start: 0.1, end: 0.99 },
  { data: -1.5, noise: 0.4, r: 0.0, t: 0.6, label: 1, dropped: 0, scale: 7, start: 0.0, end: 0.7 },
  { data: 0.5, noise: -0.2, r: 0.45, t: 0.55, label: 2, dropped: 0, scale: 5, start: 0.4, end: 0.6 },
] as const;
type Row = (typeof rows)[number];

const points = {
  data: column(rows.map((row) => row.data)),
  noise: column(rows.map((row) => row.noise)),
  r: column(rows.map((row) => row.r)),
  t: column(rows.map((row) => row.t)),
  condition: labels(rows.map((row) => row.label)),
  unlabelled: flags(rows.map((row) => row.dropped)),
  equalCount: 2,
};
const draws = {
  guidance: column(rows.map((row) => row.scale)),
  guidanceStart: column(rows.map((row) => row.start)),
  guidanceEnd: column(rows.map((row) => row.end)),
};

/** One head: a z + b t + c r + e guidance + f start + g end + label[y]. */
type Head<T> = Record<"a" | "b" | "c" | "e" | "f" | "g", T> & { label: T };
const slopes = ["a", "b", "c", "e", "f", "g"] as const;
interface Heads<T> {
  u: Head<T>;
  v: Head<T>;
}
const u = { a: 0.7, b: -0.4, c: 1.3, e: 0.2, f: -0.5, g: 0.3, label: [0.6, -0.9, 0.25] };
const v = { a: -0.3, b: 0.8, c: 0.5, e: -0.15, f: 0.4, g: 0.1, label: [-0.2, 1.1, 0.45] };

const headOf = (values: typeof u): Head<fx.Tensor> => ({
  ...(Object.fromEntries(slopes.map((name) => [name, fx.tensor(values[name], f64)])) as Record<
    (typeof slopes)[number],
    fx.Tensor
  >),
  label: fx.tensor(values.label, f64),
});

function apply(
  p: Head<fx.Tensor>,
  z: fx.Tensor,
  r: fx.Tensor,
  time: fx.Tensor,
  condition?: fx.models.Condition,
): fx.Tensor {
  const told = condition instanceof fx.Tensor ? { label: condition } : condition!;
  const given = (name: string): fx.Tensor | number => (told as Record<string, fx.Tensor>)[name] ?? 0;
  return [
    fx.mul(p.a, z),
    fx.mul(p.b, time),
    fx.mul(p.c, r),
    fx.mul(p.e, given("guidance")),
    fx.mul(p.f, given("guidanceStart")),
    fx.mul(p.g, given("guidanceEnd")),
    fx.expandDims(fx.take(p.label, told.label!), 1),
  ].reduce((x, y) => fx.add(x, y));
}

const field: fx.models.AverageVelocityField<Heads<fx.Tensor>> = {
  kind: "average-velocity",
  dim: 1,
  init: () => ({ u: headOf(u), v: headOf(v) }),
  apply: (p, z, r, time, condition) => apply(p.u, z, r, time, condition),
  applyWithVelocity: (p, z, r, time, condition) => ({
    u: apply(p.u, z, r, time, condition),
    v: apply(p.v, z, r, time, condition),
  }),
};
const params = field.init(fx.random.key(0));

interface Told {
  readonly label: number;
  readonly guidance: number;
  readonly start: number;
  readonly end: number;
}
const nothing = { guidance: 0, start: 0, end: 0 };
const at = (p: typeof u, z: number, r: number, s: number, { label, guidance, start, end }: Told) =>
  p.a * z + p.b * s + p.c * r + p.e * guidance + p.f * start + p.g * end + p.label[label]!;

interface ByHand {
  readonly orientation: Orientation;
  /** The share of the conditional (or guided) velocity in the tangent. */
  readonly weight: number;
  /** Whether the dropped rows lose their labels. Default true. */
  readonly dropout?: boolean;
  /** What the field is told, in the loss. */
  told(row: Row, label: number): Told;
  /** The guided velocity; the network's own one for the tangent. */
  velocities(
    row: Row,
    anchor: number,
    v: number,
    own: (told: Told) => number,
    label: number,
  ): { guided: number; own: number };
  readonly head?: { readonly weight: number };
  /** [L] to the weight of a row. */
  adaptive?(error: number): number;
}

/** Loss, raw loss and gradient: [loss, raw, du..., dv...] in the order of `slopes` and labels. */
function lossByHand({
  dropout = true,
  orientation,
  weight,
  told,
  velocities,
  head,
  adaptive,
}: ByHand): number[] {
  const isLater = orientation === "data-to-noise";
  const n = rows.length;
  let [loss, raw] = [0, 0];
  const gradient = { u: Array<number>(9).fill(0), v: Array<number>(9).fill(0) };
  for (const row of rows) {
    const { r, t: s } = row;
    const anchor = isLater ? s : r;
    const [start, end] = isLater ? [row.data, row.noise] : [row.noise, row.data];
    const z = (1 - anchor) * start + anchor * end;
    const conditional = end - start;
    const label = dropout && row.dropped === 1 ? classes : row.label;
    const network = (saying: Told) => at(head === undefined ? u : v, z, anchor, anchor, saying);
    const velocity = velocities(row, anchor, conditional, network, label);
    const guided = label === classes ? conditional : velocity.guided;
    const tangent = weight * guided + (1 - weight) * velocity.own;
    const target = isLater
      ? guided - (s - r) * (u.a * tangent + u.b)
      : guided + (s - r) * (u.a * tangent + u.c);
    const condition = told(row, label);
    const inputs = [z, s, r, condition.guidance, condition.start, condition.end];
    const add = (to: number[], error: number, factor: number) => {
      const scale = (adaptive?.(error ** 2) ?? 1) * factor;
      loss += (scale * error ** 2) / n;
      inputs.forEach((x, k) => {
        to[k]! += (2 * scale * error * x) / n;
      });
      to[6 + condition.label]! += (2 * scale * error) / n;
    };
    const error = at(u, z, r, s, condition) - target;
    raw += error ** 2 / n;
    add(gradient.u, error, 1);
    if (head !== undefined) add(gradient.v, at(v, z, r, s, condition) - guided, head.weight);
  }
  return [loss, raw, ...gradient.u, ...gradient.v];
}

function lossOf(
  objective: fx.flow.AverageVelocityObjective<fx.flow.GuidedPoints>,
  given: fx.flow.GuidedPoints,
): number[] {
  const f = (p: typeof params): [fx.Tensor, fx.Tensor] => {
    const { loss, raw } = objective.lossAndRaw(field, p, given);
    return [loss, raw];
  };
  const [[loss, raw], g] = fx.valueAndGrad(f, { hasAux: true })(params);
  const ordered = (head: Head<fx.Tensor>) => [
    ...slopes.map((name) => head[name].item()),
    ...flat(head.label),
  ];
  return [loss.item(), raw.item(), ...ordered(g.u), ...ordered(g.v)];
}

const inside = (s: number, [low, high]: readonly [number, number]) => s >= low && s <= high;

t.test("guided mean flow of a linear field agrees with the derivation by hand", async (t) => {
  for (const orientation of orientations)
    for (const { scale, mix = 0, interval = [0, 1] as const } of [
      { scale: 2 },
      { scale: 0.4, mix: 0.8 },
      { scale: 1, mix: 0 },
      { scale: 3, mix: 0.5, interval: [0.3, 0.65] },
    ] as { scale: number; mix?: number; interval?: readonly [number, number] }[])
      for (const weight of [1, 0.3, 0]) {
        const objective = flow.meanFlow({
          orientation,
          conditionalTangentWeight: weight,
          guidance: { scale, mix, interval, classes },
        });
        const want = lossByHand({
          orientation,
          weight,
          told: (_, label) => ({ label, ...nothing }),
          velocities: (_, anchor, conditional, own, label) => {
            const here = own({ label, ...nothing });
            const mixture = scale * conditional + mix * here;
            const guided = mixture + (1 - scale - mix) * own({ label: classes, ...nothing });
            return { guided: inside(anchor, interval) ? guided : conditional, own: here };
          },
        });
        const name = `${orientation}, ${scale}, ${mix}, ${interval}, ${weight}`;
        close(t, lossOf(objective, points), want, 1e-12, name);
        close(t, lossOf(objective, { ...points, equalCount: 0 }), want, 1e-12, `${name}, not split`);
        const named = { ...points, condition: { label: points.condition } };
        close(t, lossOf(objective, named), want, 1e-12, `${name}, label by name`);
      }
});

/** Flexible guidance by hand: the own velocity is that for the scale in force, on the whole of [0, 1]. */
const flexible = (interval: boolean) => ({
  told: (row: Row, label: number): Told => ({
    label,
    guidance: row.scale,
    start: interval ? row.start : 0,
    end: interval ? row.end : 0,
  }),
  velocities: (row: Row, anchor: number, conditional: number, own: (told: Told) => number, label: number) => {
    const always = { start: 0, end: interval ? 1 : 0 };
    const scale = !interval || inside(anchor, [row.start, row.end]) ? row.scale : 1;
    const here = own({ label, guidance: scale, ...always });
    const none = own({ label: classes, guidance: 1, ...always });
    return { guided: conditional + (1 - 1 / scale) * (here - none), own: here };
  },
});

t.test(
  "flexibly guided improved mean flow of a linear field agrees with the derivation by hand",
  async (t) => {
    for (const orientation of orientations)
      for (const interval of [false, true])
        for (const weight of [0, 0.6]) {
          const objective = flow.improvedMeanFlow({
            orientation,
            conditionalTangentWeight: weight,
            guidance: { classes, interval },
          });
          const want = lossByHand({ orientation, weight, ...flexible(interval) });
          const given = { ...points, ...draws };
          const name = `${orientation}, ${interval}, ${weight}`;
          close(t, lossOf(objective, given), want, 1e-12, name);
          close(t, lossOf(objective, { ...given, equalCount: 0 }), want, 1e-12, `${name}, not split`);
        }
  },
);

t.test("a velocity head gives tangent and guidance, and learns beside u", async (t) => {
  const given = { ...points, ...draws };
  const unguided: Pick<ByHand, "told" | "velocities" | "dropout"> = {
    dropout: false,
    told: (_, label) => ({ label, ...nothing }),
    velocities: (_row, _at, conditional, own, label) => ({
      guided: conditional,
      own: own({ label, ...nothing }),
    }),
  };
  for (const orientation of orientations)
    for (const [name, options, byHand] of [
      ["plain", {}, unguided],
      ["guided", { guidance: { classes, interval: true } }, flexible(true)],
    ] as const)
      for (const weight of [0, 0.6]) {
        const base = {
          orientation,
          conditionalTangentWeight: weight,
          tangent: "velocity-head",
          ...options,
        } as const;
        const check = (objective: ReturnType<typeof flow.improvedMeanFlow>, want: number[], what: string) => {
          close(t, lossOf(objective, given), want, 1e-11, what);
          close(t, lossOf(objective, { ...given, equalCount: 0 }), want, 1e-11, `${what}, not split`);
        };
        const title = `${name}, ${orientation}, ${weight}`;
        const hand = { orientation, weight, ...byHand };
        check(flow.improvedMeanFlow(base), lossByHand({ ...hand, head: { weight: 1 } }), title);
        check(
          flow.improvedMeanFlow({ ...base, velocityWeight: 0.25 }),
          lossByHand({ ...hand, head: { weight: 0.25 } }),
          `${title}, a quarter`,
        );
        // The two errors of a row are weighted each by itself.
        check(
          flow.improvedMeanFlow({
            ...base,
            velocityWeight: 0.25,
            weighting: flow.adaptiveWeighting({ power: 0.75, offset: 0.01 }),
          }),
          lossByHand({ ...hand, head: { weight: 0.25 }, adaptive: (error) => (error + 0.01) ** -0.75 }),
          `${title}, weighted`,
        );
      }
});

t.test("the network runs for what the target needs, and no more", async (t) => {
  const evaluated = (objective: ReturnType<typeof flow.improvedMeanFlow>) => {
    const calls: string[] = [];
    const spy: typeof field = {
      ...field,
      apply(p, z, r, time, condition) {
        calls.push(`u${z.shape[0]}`);
        return apply(p.u, z, r, time, condition);
      },
      applyWithVelocity(p, z, r, time, condition) {
        calls.push(`uv${z.shape[0]}`);
        return field.applyWithVelocity!(p, z, r, time, condition);
      },
    };
    objective.loss(spy, params, { ...points, ...draws });
    return calls.join(" ");
  };
  const guidance = { classes };
  t.equal(evaluated(flow.meanFlow({ guidance: { ...guidance, scale: 1 } })), "u2 u5", "label dropout");
  t.equal(evaluated(flow.meanFlow({ guidance: { ...guidance, scale: 2 } })), "u2 u2 u5 u5");
  t.equal(evaluated(flow.meanFlow({ guidance: { ...guidance, scale: 0.5, mix: 0.5 } })), "u2 u2 u5 u5");
  t.equal(evaluated(flow.meanFlow({ guidance: { ...guidance, scale: 1, mix: 0.5 } })), "u2 u2 u2 u5 u5 u5");
  t.equal(evaluated(flow.improvedMeanFlow({ guidance })), "u2 u2 u2 u5 u5 u5", "the tangent is at hand");
  t.equal(evaluated(flow.improvedMeanFlow({ tangent: "velocity-head" })), "uv2 uv5 uv5");
  t.equal(
    evaluated(flow.improvedMeanFlow({ tangent: "velocity-head", guidance })),
    "uv2 uv2 uv2 uv5 uv5 uv5",
  );
});

t.test("label dropout alone is the plain loss with labels replaced", async (t) => {
  const label = rows.map((row) => (row.dropped === 1 ? classes : row.label));
  const replaced = { ...points, condition: labels(label) };
  const dropout = flow.meanFlow({ guidance: { scale: 1, classes } });
  t.same(lossOf(dropout, points), lossOf(flow.meanFlow(), replaced));
});

t.test("without any label there is no guidance", async (t) => {
  const none = { ...points, ...draws, unlabelled: flags(rows.map(() => 1)) };
  const replaced = { ...points, condition: labels(rows.map(() => classes)) };
  const guided = flow.meanFlow({ guidance: { scale: 3, mix: 0.5, classes } });
  close(t, lossOf(guided, none), lossOf(flow.meanFlow(), replaced), 1e-14, "mean flow");
  const told = { ...replaced, condition: { label: replaced.condition, guidance: draws.guidance } };
  const flexibly = flow.improvedMeanFlow({ guidance: { classes } });
  close(t, lossOf(flexibly, none), lossOf(flow.improvedMeanFlow(), told), 1e-14, "improved mean flow");
});

t.test("samples of any shape are guided", async (t) => {
  const shape = [3, 2, 2];
  const whole = {
    ...points,
    ...draws,
    data: fx.random.normal(fx.random.key(1), [rows.length, ...shape], f64),
    noise: fx.random.normal(fx.random.key(2), [rows.length, ...shape], f64),
  };
  const flatPoints = {
    ...whole,
    data: fx.reshape(whole.data, [rows.length, 12]),
    noise: fx.reshape(whole.noise, [rows.length, 12]),
  };
  // Times, labels and scales shift all dimensions alike; z enters by itself.
  const own: typeof field = {
    ...field,
    dim: shape,
    apply(p, z, r, time, condition) {
      const rest = apply(p.u, fx.mul(time, 0), r, time, condition);
      return fx.add(fx.mul(p.u.a, z), fx.reshape(rest, [-1, ...z.shape.slice(1).map(() => 1)]));
    },
  };
  for (const objective of [
    flow.meanFlow({ guidance: { scale: 2, mix: 0.5, interval: [0.2, 0.6], classes } }),
    flow.improvedMeanFlow({ guidance: { classes, interval: true } }),
  ])
    close(
      t,
      [objective.loss(own, params, whole).item()],
      [objective.loss({ ...own, dim: 12 }, params, flatPoints).item()],
      1e-13,
      objective.name,
    );
});

t.test("a diffusion transformer takes the labels and scales", async (t) => {
  const n = rows.length;
  const image = [2, 2, 1];
  const given = {
    ...points,
    ...draws,
    data: fx.random.normal(fx.random.key(1), [n, ...image], f64),
    noise: fx.random.normal(fx.random.key(2), [n, ...image], f64),
  };
  const dit = { dim: [2, 2, 1], patch: 1, hidden: 8, depth: 1, heads: 2, classes, dtype: "float64" } as const;
  const check = (model: ReturnType<typeof fx.models.averageVelocityDit>, objective: typeof plain) => {
    // Its head begins at zero: another one is needed to see anything.
    const params = fx.tree.map(
      (x) => fx.add(x, fx.mul(fx.random.normal(fx.random.key(x.size), x.shape, f64), 0.1)),
      model.init(fx.random.key(3)),
    );
    const value = (equalCount: number) => objective.loss(model, params, { ...given, equalCount }).item();
    close(t, [value(2)], [value(0)], 1e-12, `${objective.name}, split at r = t or not`);
  };
  const plain = flow.meanFlow({ guidance: { scale: 2, mix: 0.3, classes } });
  check(fx.models.averageVelocityDit(dit), plain);
  check(
    fx.models.averageVelocityDit({ ...dit, guidance: true }),
    flow.improvedMeanFlow({ guidance: { classes } }),
  );
});

// ---- what it converges to ----

/**
 * Where training ends for a field that is one number for each label: rows with the label 0 have the velocity 2 on
 * average, those without a label 0.5.
 */
function fixedPoint(objective: fx.flow.AverageVelocityObjective<fx.flow.GuidedPoints>, scale = 1): number[] {
  const constant: fx.models.AverageVelocityField<fx.Tensor> = {
    kind: "average-velocity",
    init: () => fx.zeros([2], f64),
    apply: (p, _z, _r, _t, condition) =>
      fx.expandDims(fx.take(p, condition instanceof fx.Tensor ? condition : condition!.label!), 1),
  };
  const velocities = [1.3, 2.7, 0.2, 0.8];
  const given = {
    data: column(velocities.map((x) => -x)),
    noise: column([0, 0, 0, 0]),
    r: column([0.5, 0.2, 0.5, 0.1]),
    t: column([0.5, 0.9, 0.5, 0.6]),
    condition: labels([0, 0, 0, 0]),
    unlabelled: flags([0, 0, 1, 1]),
    guidance: column([scale, scale, scale, scale]),
  };
  const step = fx.jit((p: fx.Tensor) =>
    fx.sub(p, fx.mul(fx.grad((q: fx.Tensor) => objective.loss(constant, q, given))(p), 0.8)),
  );
  let p = constant.init(fx.random.key(0));
  for (let i = 0; i < 300; i++) p = step(p);
  return flat(p);
}

t.test("the fixed point of mean flow's guidance has the effective scale scale / (1 - mix)", async (t) => {
  for (const [scale, mix] of [
    [1, 0],
    [3, 0],
    [1, 0.5],
    [0.3, 0.9],
    [0.5, 0.5],
  ] as const) {
    const effective = scale / (1 - mix);
    const got = fixedPoint(flow.meanFlow({ guidance: { scale, mix, classes: 1 } }));
    close(t, got, [0.5 + effective * 1.5, 0.5], 1e-9, `scale ${scale}, mix ${mix}`);
  }
});

t.test(
  "at a scale w, flexible guidance has the fixed point of mean flow's with scale 1, mix 1 - 1 / w",
  async (t) => {
    for (const scale of [1, 2, 5]) {
      const got = fixedPoint(flow.improvedMeanFlow({ guidance: { classes: 1 } }), scale);
      close(t, got, [0.5 + scale * 1.5, 0.5], 1e-9, `the guided velocity, ${scale}`);
      const other = flow.meanFlow({ guidance: { scale: 1, mix: 1 - 1 / scale, classes: 1 } });
      close(t, got, fixedPoint(other), 1e-9, `that of mean flow, ${scale}`);
    }
  },
);

// ---- what is drawn ----

t.test("labels are dropped at random, in the share that was asked for", async (t) => {
  const n = 20_000;
  for (const labelDropout of [undefined, 0, 0.3, 1]) {
    const option = labelDropout === undefined ? {} : { labelDropout };
    for (const objective of [
      flow.meanFlow({ equalTimeFraction: 0.5, guidance: { scale: 2, classes, ...option } }),
      flow.improvedMeanFlow({ equalTimeFraction: 0.5, guidance: { classes, ...option } }),
    ]) {
      const { unlabelled } = objective.sampleTimes(fx.random.key(4), n);
      t.same([unlabelled!.dtype, unlabelled!.shape], ["bool", [n]]);
      const dropped = Array.from(flat(unlabelled!), Number);
      const p = labelDropout ?? 0.1;
      for (const half of [dropped.slice(0, n / 2), dropped.slice(n / 2)]) {
        const share = half.reduce((a, b) => a + b, 0) / half.length;
        t.ok(Math.abs(share - p) <= 4 * Math.sqrt((p * (1 - p)) / half.length), `${share} of ${p}`);
      }
    }
  }
});

t.test("scales are log-uniform, and an interval covers all of time where r = t", async (t) => {
  const n = 20_000;
  const objective = flow.improvedMeanFlow({
    equalTimeFraction: 0.25,
    guidance: { classes, scales: [1, 8], interval: true },
  });
  const drawn = objective.sampleTimes(fx.random.key(5), n, f64);
  const near = (values: readonly number[], below: number, p: number, name: string) => {
    const share = values.filter((x) => x < below).length / values.length;
    t.ok(Math.abs(share - p) < 2 / Math.sqrt(values.length), `${name} below ${below}: ${share} of ${p}`);
  };
  const scales = flat(drawn.guidance!);
  t.ok(scales.every((w) => w >= 1 && w <= 8));
  near(scales, 2, 1 / 3, "scales");
  near(scales, 4, 2 / 3, "scales");
  const [start, end] = [flat(drawn.guidanceStart!), flat(drawn.guidanceEnd!)];
  t.ok(start.slice(0, n / 4).every((x) => x === 0) && end.slice(0, n / 4).every((x) => x === 1));
  t.ok(start.slice(n / 4).every((x) => x >= 0 && x <= 0.5) && end.slice(n / 4).every((x) => x >= 0.5));
  near(start.slice(n / 4), 0.25, 0.5, "starts");
  near(end.slice(n / 4), 0.75, 0.5, "ends");
  t.same(
    flat(
      flow.improvedMeanFlow({ guidance: { classes, scales: [3, 3] } }).sampleTimes(fx.random.key(1), 2, f64)
        .guidance!,
    ).map((w) => w.toFixed(12)),
    ["3.000000000000", "3.000000000000"],
  );
  t.equal(drawn.guidance!.dtype, "float64");
  const compiled = fx.jit((k: fx.Tensor) => objective.sampleTimes(k, n, f64))(fx.random.key(5));
  t.same(numbers({ ...compiled }), numbers({ ...drawn }), "the same bits inside of a compiled step");
});

t.test("guidance draws beside the times, which stay the same", async (t) => {
  const times = flow.logitNormalTimes();
  const plain = flow.meanFlow({ times, equalTimeFraction: 0.5 }).sampleTimes(fx.random.key(6), 8);
  const guidance = { scale: 2, classes };
  const guided = flow.meanFlow({ times, equalTimeFraction: 0.5, guidance }).sampleTimes(fx.random.key(6), 8);
  t.same([flat(guided.r), flat(guided.t)], [flat(plain.r), flat(plain.t)]);
  t.same(Object.keys(plain).sort(), ["equalCount", "r", "t"]);
});

// ---- what is refused ----

t.test("guidance needs labels and what it draws, and says so", async (t) => {
  const mean = flow.meanFlow({ guidance: { scale: 2, classes } });
  const improved = flow.improvedMeanFlow({ guidance: { classes, interval: true } });
  const given = { ...points, ...draws };
  const refused = (
    objective: typeof mean,
    change: object,
    message: RegExp,
    name: "ValueError" | "DTypeError" | "ShapeError" = "ValueError",
  ) => t.throws(() => objective.loss(field, params, { ...given, ...change }), { name, message });
  for (const objective of [mean, improved]) {
    refused(objective, { condition: undefined }, /guidance: needs labels as the condition.*got none/);
    refused(objective, { condition: { guidance: draws.guidance } }, /needs labels as the condition/);
    refused(objective, { condition: points.data }, /labels must be int32, got float64/, "DTypeError");
    refused(
      objective,
      { condition: labels([0, 1, 2, 3, 0, 0, 0]) },
      /labels must be from 0 to 2.*got 3 in row 3/,
    );
    refused(
      objective,
      { unlabelled: undefined },
      /unlabelled must be bool \[7\], as sampleTimes draws it, got undefined/,
    );
    refused(objective, { unlabelled: points.condition }, /unlabelled must be bool \[7\].*got int32\[7\]/);
    refused(objective, { unlabelled: flags([1, 0]) }, /unlabelled must be bool \[7\].*got bool\[2\]/);
  }
  refused(improved, { guidance: undefined }, /guidance must be float64 \[7, 1\]/);
  refused(
    improved,
    { guidanceEnd: fx.ones([7, 1]) },
    /guidanceEnd must be float64 \[7, 1\].*got float32\[7, 1\]/,
  );
  refused(improved, { guidance: column([1, 2, 0, 1, 1, 1, 1]) }, /guidance must be above 0, got 0 in row 2/);
  const twice = { label: points.condition, guidance: draws.guidance };
  refused(improved, { condition: twice }, /the condition has a guidance already/);
});

t.test("options of guidance and head are checked", async (t) => {
  const mean = (guidance: object) => () => flow.meanFlow({ guidance: guidance as never });
  const improved = (guidance: object) => () => flow.improvedMeanFlow({ guidance: guidance as never });
  const refused = (f: () => unknown, message: RegExp) => t.throws(f, { name: "ValueError", message });
  refused(mean({ scale: 2 }), /meanFlow: guidance: classes must be a whole number >= 1, got undefined/);
  refused(mean({ classes: 2 }), /scale must be a finite number > 0, got undefined/);
  refused(mean({ classes: 2, scale: 0 }), /scale must be/);
  refused(mean({ classes: 2, scale: 1, mix: 1 }), /mix must be a finite number >= 0 and < 1, got 1/);
  refused(mean({ classes: 2, scale: 1, interval: [0.5, 0.2] }), /interval must be \[low, high\]/);
  refused(mean({ classes: 2, scale: 1, labelDropout: 1.5 }), /labelDropout must be/);
  refused(mean({ classes: 2, scales: [1, 2] }), /unknown option "scales"/);
  refused(improved({ classes: 2, scales: [0, 2] }), /scales\[0\] must be a finite number > 0/);
  refused(improved({ classes: 2, interval: [0, 1] }), /interval must be true or false/);
  refused(improved({ classes: 2, scale: 2 }), /unknown option "scale"/);
  refused(() => flow.improvedMeanFlow({ tangent: "head" as never }), /tangent must be one of/);
  refused(
    () => flow.improvedMeanFlow({ velocityWeight: 2 }),
    /velocityWeight is for tangent "velocity-head"/,
  );
  refused(
    () => flow.improvedMeanFlow({ tangent: "velocity-head", velocityWeight: -1 }),
    /velocityWeight must be/,
  );
  refused(() => flow.meanFlow({ tangent: "velocity-head" } as never), /unknown option "tangent"/);
});

t.test("a velocity head that is missing, or gives something else, is refused", async (t) => {
  const objective = flow.improvedMeanFlow({ tangent: "velocity-head" });
  const { applyWithVelocity, ...without } = field;
  t.throws(() => objective.loss(without, params, points), {
    name: "ValueError",
    message: /improvedMeanFlow: tangent "velocity-head" needs a field with a second head, applyWithVelocity/,
  });
  const wrong: typeof field = {
    ...field,
    applyWithVelocity: (...args) => ({ u: applyWithVelocity!(...args).u, v: fx.zeros([1, 1], f64) }),
  };
  t.throws(() => objective.loss(wrong, params, points), { name: "ShapeError", message: /the shape of z/ });
});

// ---- training ----

/** Two classes of points on a line, N(-1, 0.8^2) and N(1, 0.8^2), equally likely. */
const deviation = 0.8;
const line: fx.data.LabelledDistribution = {
  name: "line",
  dim: 1,
  classes: 2,
  classNames: ["left", "right"],
  sample: (key, n, options) => line.sampleLabelled(key, n, options).data,
  sampleLabelled(key, n, { dtype = "float32" } = {}) {
    const [a, b] = fx.random.split(key);
    const label = fx.random.randint(a!, [n], 0, 2);
    const mean = fx.reshape(fx.sub(fx.mul(fx.cast(label, dtype), 2), 1), [n, 1]);
    return { data: fx.add(mean, fx.mul(fx.random.normal(b!, [n, 1], { dtype }), deviation)), label };
  },
};

/**
 * The velocity E[noise - data | z_t = z, class], and without a class the mean of both by their posterior
 * probabilities; guided with scale w, w v(class) + (1 - w) v.
 */
function guidedVelocity(z: number, s: number, label: number, w: number): number {
  // Within a class data and z are jointly normal: cov(data, z) = (1 - t) s^2, var z = (1 - t)^2 s^2 + t^2.
  const variance = ((1 - s) * deviation) ** 2 + s ** 2;
  const ofClass = (mean: number) => {
    const away = z - (1 - s) * mean;
    const data = mean + (((1 - s) * deviation ** 2) / variance) * away;
    const noise = (s / variance) * away;
    return noise - data;
  };
  const right = 1 / (1 + Math.exp((-2 * (1 - s) * z) / variance));
  const none = right * ofClass(1) + (1 - right) * ofClass(-1);
  return w * ofClass(label === 1 ? 1 : -1) + (1 - w) * none;
}

/** Where the guided flow carries this noise: the middle of the end of the classical Runge-Kutta method. */
function exactEnd(noise: number, label: number, w: number): number {
  const steps = 200;
  const h = -1 / steps;
  let z = noise;
  for (let i = 0; i < steps; i++) {
    const s = 1 + i * h;
    const f = (dz: number, ds: number) => guidedVelocity(z + dz, s + ds, label, w);
    const k1 = f(0, 0);
    const k2 = f((h / 2) * k1, h / 2);
    const k3 = f((h / 2) * k2, h / 2);
    const k4 = f(h * k3, h);
    z += (h / 6) * (k1 + 2 * k2 + 2 * k3 + k4);
  }
  return z;
}

/** A perceptron that is told the label as one of three, and 1 / guidance if there is a scale. */
function perceptron(scales: boolean): fx.models.AverageVelocityField<fx.nn.MlpParams> {
  const network = fx.models.averageVelocityMlp({
    dim: 1,
    hidden: 48,
    layers: 2,
    activation: "tanh",
    conditionDim: scales ? 4 : 3,
  });
  return {
    ...network,
    apply(p, z, r, time, condition) {
      if (condition instanceof fx.Tensor) return network.apply(p, z, r, time, fx.oneHot(condition, 3));
      const { label, guidance } = condition as { label: fx.Tensor; guidance: fx.Tensor };
      const told = fx.concat([fx.oneHot(label, 3), fx.div(1, guidance)], 1);
      return network.apply(p, z, r, time, told);
    },
  };
}

const noises = Array.from({ length: 41 }, (_, i) => -2 + i / 10);
/** The mean of what becomes of the noises, each by its density. */
function meanEnd(values: readonly number[]): number {
  const densities = noises.map((e) => Math.exp(-e * e * 0.5));
  return values.reduce((a, x, i) => a + x * densities[i]!, 0) / densities.reduce((a, b) => a + b, 0);
}
const exactMean = (label: number, w: number) => meanEnd(noises.map((e) => exactEnd(e, label, w)));

/** The mean ends of one-step samples of each class, after some training. */
async function trained(
  model: ReturnType<typeof perceptron>,
  objective: fx.flow.AverageVelocityObjective<fx.flow.GuidedPoints>,
) {
  const steps = 2500;
  const optimizer = fx.optim.adam({ learningRate: fx.optim.cosine({ from: 1e-2, steps }) });
  const trainer = new fx.Trainer({ model, objective, data: line, optimizer, batchSize: 512, ema: 0.99 });
  await trainer.fit({ steps, progress: false });
  const params = trainer.emaParams!;
  trainer.dispose();
  return (label: number, w?: number) => {
    const n = noises.length;
    const wanted = labels(noises.map(() => label));
    const condition = w === undefined ? wanted : { label: wanted, guidance: fx.full([n, 1], w) };
    const noise = fx.tensor(noises, { shape: [n, 1] });
    return meanEnd(flat(flow.sample(model, params, noise, flow.oneStep(), { condition })));
  };
}

// The exact means are 1, 1.50 and 1.83 for the scales 1, 2 and 3. A network so small and so briefly trained falls
// short of them by up to a tenth.
const tolerance = 0.16;

t.test("a model trained on mean flow's guided target samples the guided flow in one step", async (t) => {
  const mean = await trained(
    perceptron(false),
    flow.meanFlow({ equalTimeFraction: 0.5, guidance: { scale: 1, mix: 0.5, labelDropout: 0.2, classes } }),
  );
  for (const label of [0, 1]) {
    const [got, want] = [mean(label), exactMean(label, 2)];
    t.ok(Math.abs(got - want) < tolerance, `class ${label}: ${got}, exactly ${want}`);
  }
});

t.test(
  "a model trained with flexible guidance samples, in one step, the flow of the scale it is told",
  async (t) => {
    const guidance = { scales: [1, 4], labelDropout: 0.2, classes } as const;
    const mean = await trained(perceptron(true), flow.improvedMeanFlow({ equalTimeFraction: 0.5, guidance }));
    for (const label of [0, 1])
      for (const w of [1, 2, 3]) {
        const [got, want] = [mean(label, w), exactMean(label, w)];
        t.ok(Math.abs(got - want) < tolerance, `class ${label}, scale ${w}: ${got}, exactly ${want}`);
      }
  },
);

t.test("a trainer hands labels, scales and intervals to a field with a velocity head", async (t) => {
  const trainer = new fx.Trainer({
    model: field,
    objective: flow.improvedMeanFlow({
      equalTimeFraction: 0.5,
      tangent: "velocity-head",
      weighting: flow.adaptiveWeighting(),
      guidance: { classes, interval: true },
    }),
    data: line,
    optimizer: fx.optim.adam({ learningRate: 1e-2 }),
    batchSize: 32,
  });
  await trainer.fit({ steps: 20, progress: false });
  t.ok(trainer.losses.every(Number.isFinite));
  const [before, after] = [numbers(params), numbers(trainer.params)];
  t.ok(
    before.every((x, i) => x !== after[i]),
    "every parameter of both heads learns",
  );
  const condition = {
    label: labels([0, 1]),
    guidance: column([2, 3]),
    guidanceStart: column([0, 0]),
    guidanceEnd: column([1, 1]),
  };
  const samples = await trainer.sample(2, { sampler: flow.oneStep(), condition });
  t.same(samples.shape, [2, 1]);
});

t.test("the library's models are told what guidance draws, with every option at once", async (t) => {
  const label = fx.tensor(
    Array.from({ length: 60 }, (_, i) => i % 3),
    { dtype: "int32" },
  );
  const [points, images] = [
    fx.random.normal(fx.random.key(1), [60, 2]),
    fx.random.normal(fx.random.key(2), [60, 4, 4, 1]),
  ];
  const told = { classes: 3, guidance: true, guidanceInterval: true, velocityHead: true } as const;
  const cases = [
    { model: fx.models.averageVelocityMlp({ dim: 2, hidden: 16, layers: 2, ...told }), x: points },
    {
      model: fx.models.averageVelocityDit({ dim: [4, 4, 1], hidden: 16, depth: 1, heads: 2, ...told }),
      x: images,
    },
  ];
  const n = 5;
  const column = (value: number) => fx.full([n, 1], value);
  for (const { model, x } of cases) {
    const trainer = new fx.Trainer({
      // biome-ignore lint/suspicious/noExplicitAny: two models of one kind, with parameters of their own.
      model: model as fx.models.AverageVelocityField<any>,
      objective: fx.flow.improvedMeanFlow({
        equalTimeFraction: 0.5,
        guidance: { scales: [1, 4], classes: 3, interval: true },
        tangent: "velocity-head",
      }),
      data: fx.data.fromTensor(x, { labels: label }),
      optimizer: fx.optim.adam({ learningRate: 1e-3 }),
      batchSize: 32,
    });
    await trainer.fit({ steps: 4, progress: false });
    const drawn = await trainer.sample(n, {
      sampler: fx.flow.oneStep(),
      condition: {
        label: fx.tensor([0, 1, 2, 3, 0], { dtype: "int32" }),
        guidance: column(2),
        guidanceStart: column(0),
        guidanceEnd: column(0.8),
      },
    });
    t.same(drawn.shape, [n, ...x.shape.slice(1)]);
    t.ok(Array.from(drawn.toTypedArray()).every(Number.isFinite));
    await t.rejects(
      trainer.sample(n, { sampler: fx.flow.oneStep(), condition: fx.zeros([n], { dtype: "int32" }) }),
      { name: "ValueError", message: /guidance/ },
    );
  }
});
