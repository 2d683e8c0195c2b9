import * as fx from "fluxion";
import t from "tap";
import { lower } from "#lib/compile/lower.js";
import type { Expression, MapStep, MatMulStep, Plan, ReduceStep, Step, View } from "#lib/compile/plan.js";
import { byteSize } from "#lib/tensor/dtype.js";
import { rowMajor } from "#lib/tensor/shape.js";
import { backends } from "./support/backends.js";
import { randomProgram } from "./support/random-program.js";

type T = fx.Tensor;

fx.setBackend("typescript");

const planOf = <A extends readonly unknown[]>(f: (...args: A) => unknown, ...args: A): Plan =>
  lower(fx.inspect(f, ...args).graph);
const kinds = <A extends readonly unknown[]>(f: (...args: A) => unknown, ...args: A): string[] =>
  planOf(f, ...args).steps.map((step) => step.kind);
const opsOf = (step: Step): string[] => (step as MapStep).expression.instructions.map((i) => i.op);

const x = fx.ones([6, 4]);
const row = fx.ones([4]);
const w = fx.ones([4, 5]);

// ---- Fusion.

t.test("a chain of elementwise operations is one map", async (t) => {
  const f = (x: T, b: T) => fx.mul(fx.tanh(fx.add(fx.sin(x), b)), fx.where(fx.greater(x, 0), fx.exp(x), 2));
  const plan = planOf(f, x, row);
  t.same(
    plan.steps.map((s) => s.kind),
    ["map"],
  );
  t.equal(plan.buffers.length, 3, "two buffers in, one out, none between");
  t.equal(plan.arenaBytes, 0);
  t.equal(opsOf(plan.steps[0]!).filter((op) => op === "load").length, 2, "each input is read once");
});

t.test("one map gives several outputs", async (t) => {
  const plan = planOf((x: T) => [fx.sin(x), fx.cos(x), fx.mul(fx.sin(x), fx.cos(x))], x);
  t.equal(plan.steps.length, 1);
  t.equal((plan.steps[0] as MapStep).expression.outputs.length, 3);
  t.equal(opsOf(plan.steps[0]!).filter((op) => op === "sin").length, 1);
});

t.test("a product takes what follows it along", async (t) => {
  const layer = (x: T, w: T, b: T) => fx.gelu(fx.add(fx.matmul(x, w), b));
  const plan = planOf(layer, x, w, fx.ones([5]));
  t.same(
    plan.steps.map((s) => s.kind),
    ["matmul"],
  );
  const { expression, m, n, k } = plan.steps[0] as MatMulStep;
  t.same([m, n, k], [6, 5, 4]);
  t.same(
    expression.instructions.map((i) => i.op),
    ["accumulator", "load", "add", "gelu"],
  );
  t.same(
    kinds((x: T, w: T) => fx.matmul(fx.transpose(x), fx.matmul(x, w)), x, w),
    ["matmul", "matmul"],
    "a product of a product",
  );
  t.same(
    kinds((x: T, w: T) => fx.add(fx.matmul(x, w), fx.matmul(x, fx.neg(w))), x, w).filter(
      (k) => k === "matmul",
    ).length,
    2,
  );
});

t.test("a factor goes with the product that it multiplies, not with the one it is made of", async (t) => {
  const layer = (x: T, w: T) => fx.gelu(fx.matmul(x, w));
  const { steps } = planOf((x: T, v: T, w: T) => fx.jvp((x: T) => layer(x, w), [x], [v]), x, x, w);
  t.same(
    steps.map((step) => opsOf(step).filter((op) => op !== "load")),
    [
      ["accumulator", "gelu", "geluSlope"],
      ["accumulator", "mul"],
    ],
  );
});

t.test("gelu and its derivative are computed in one step", async (t) => {
  const f = (x: T, v: T) => fx.jvp((x: T) => fx.gelu(fx.add(x, row)), [x], [v]);
  const plan = planOf(f, x, x);
  t.equal(plan.steps.length, 1);
  const ops = opsOf(plan.steps[0]!);
  t.equal(ops.filter((op) => op === "gelu").length, 1);
  t.equal(ops.filter((op) => op === "geluSlope").length, 1);
  const layer = planOf(
    (x: T, w: T) => fx.vjp((h: T) => fx.gelu(h), fx.matmul(x, w))[1](fx.ones([6, 5])),
    x,
    w,
  );
  t.equal(layer.steps.length, 1, "in a product's step too");
});

t.test("a reduction computes what it reduces", async (t) => {
  const plan = planOf((x: T) => fx.sum(fx.square(fx.sub(x, 1))), x);
  t.same(
    plan.steps.map((s) => s.kind),
    ["reduce"],
  );
  t.equal(plan.arenaBytes, 0);
  const { shape, reducedRank, reducer } = plan.steps[0] as ReduceStep;
  t.same([shape, reducedRank, reducer], [[6, 4], 2, "sum"]);
  t.same(
    kinds((x: T) => fx.mean(fx.square(x), 0), x),
    ["reduce", "map"],
  );
  t.same(
    kinds((x: T) => [fx.exp(x), fx.sum(fx.exp(x))], x),
    ["map", "reduce"],
    "what is needed elsewhere is computed once",
  );
  t.equal(
    kinds((x: T) => fx.softmax(x), x).filter((kind) => kind === "reduce").length,
    2,
    "softmax: a maximum and a sum",
  );
});

t.test("long chains are split where a kernel would grow too large, and stay right", async (t) => {
  const f = (x: T) => {
    let y = x;
    for (let i = 0; i < 700; i++) y = fx.add(fx.mul(y, 0.999), fx.sin(y));
    return y;
  };
  const plan = planOf(f, x);
  t.ok(plan.steps.length > 1 && plan.steps.length < 20, `${plan.steps.length} steps for 2100 operations`);
  let want = 1;
  for (let i = 0; i < 700; i++) want = want * 0.999 + Math.sin(want);
  for (const name of backends) {
    fx.setBackend(name);
    const one = fx.ones([2], { dtype: "float64" });
    t.ok(Math.abs(fx.jit(f)(one).toTypedArray()[1]! - want) < 1e-9, name);
    t.ok(
      Math.abs(
        fx
          .jit((x: T) => fx.sum(f(x)))(one)
          .item() -
          2 * want,
      ) < 1e-9,
      `${name}, inside of a reduction`,
    );
  }
  fx.setBackend("typescript");
});

// ---- Views.

t.test("views before elementwise operations cost strides, not steps", async (t) => {
  const views: { [name: string]: (x: T) => T } = {
    transpose: (x) => fx.transpose(x),
    slice: (x) => fx.slice(x, [1, 2], [3, 2]),
    flip: (x) => fx.flip(x, 1),
    broadcast: (x) => fx.broadcastTo(x, [3, 6, 4]),
    reshape: (x) => fx.reshape(x, [2, 3, 2, 2]),
    "slice of a flip of a transpose": (x) => fx.slice(fx.flip(fx.transpose(x), 0), [1, 1], [2, 3]),
    "reshape that splits an axis of a transpose": (x) => fx.reshape(fx.transpose(x), [2, 2, 6]),
    stopGradient: (x) => fx.stopGradient(x),
    squeeze: (x) => fx.squeeze(fx.expandDims(fx.transpose(x), 1)),
  };
  for (const [name, view] of Object.entries(views)) {
    t.same(
      kinds((x: T) => fx.sin(view(x)), x),
      ["map"],
      `${name}, then elementwise`,
    );
    t.same(
      kinds((x: T) => fx.sum(fx.sin(view(x)), 0), x),
      ["reduce"],
      `${name}, then a reduction`,
    );
    t.same(
      kinds((x: T) => fx.add(view(fx.sin(x)), 1), x),
      ["map", "map"],
      `${name} of a computed value`,
    );
  }
  t.same(
    kinds((x: T, w: T) => fx.matmul(fx.transpose(w), fx.transpose(x)), x, w),
    ["matmul"],
    "products read transposes in place",
  );
  t.same(
    kinds((x: T) => fx.add(fx.cast(fx.arange(4), "float32"), x), row),
    ["map"],
    "arange is computed from the index",
  );
});

t.test("views of no elements lie inside of their buffers", async (t) => {
  const none: { [name: string]: (x: T) => T } = {
    "slice past a flip": (x) => fx.slice(fx.flip(x, 0), [6, 0], [0, 4]),
    "slice past two flips": (x) => fx.slice(fx.flip(x), [6, 4], [0, 0]),
    "slice at the end": (x) => fx.slice(x, [6, 4], [0, 0]),
    "flip of a slice": (x) => fx.flip(fx.slice(x, [6, 4], [0, 0])),
    "reshape of a slice of a flip": (x) => fx.reshape(fx.slice(fx.flip(x, 1), [0, 4], [6, 0]), [0, 3]),
  };
  for (const [name, view] of Object.entries(none)) {
    for (const f of [(x: T) => fx.sin(view(x)), (x: T) => fx.sum(view(x)), (x: T) => view(x)])
      t.same(checkPlan(planOf(f, x)), [], name);
    for (const backend of backends) {
      fx.setBackend(backend);
      t.equal(
        fx
          .jit((x: T) => fx.sum(view(x)))(x)
          .item(),
        0,
        `${name}, ${backend}`,
      );
    }
    fx.setBackend("typescript");
  }
});

t.test("a reshape that strides cannot express is written out, once", async (t) => {
  const f = (x: T) => {
    const y = fx.reshape(fx.transpose(x), [24]);
    return [fx.sin(y), fx.sum(fx.exp(y))];
  };
  t.same(kinds(f, x).sort(), ["map", "map", "reduce"]);
  const data = fx.tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  t.same(
    Array.from(
      fx
        .jit((x: T) => fx.add(fx.reshape(fx.transpose(x), [6]), 0.5))(data)
        .toTypedArray(),
    ),
    [1.5, 4.5, 2.5, 5.5, 3.5, 6.5],
  );
});

t.test("random numbers are computed inside of the kernel that uses them", async (t) => {
  const key = fx.random.key(1);
  t.same(
    kinds((k: T, x: T) => fx.add(x, fx.random.normal(k, [24]).reshape([6, 4])), key, x),
    ["map", "map"],
  );
  t.same(
    kinds((k: T, x: T) => fx.add(x, fx.random.uniform(k, [24])), key, fx.ones([24])),
    ["map"],
  );
});

// ---- Outputs.

t.test("outputs may be inputs, constants, views, and repeated", async (t) => {
  const data = fx.tensor([
    [1, 2],
    [3, 4],
  ]);
  const f = (x: T) => {
    const y = fx.sin(x);
    return [
      x,
      x,
      y,
      y,
      fx.transpose(x),
      fx.transpose(y),
      fx.full([2], 7),
      fx.reshape(x, [4]),
      fx.sum(y, 0),
      fx.arange(3),
    ];
  };
  const { graph } = fx.inspect(f, data);
  const plan = lower(graph);
  t.equal(plan.outputs.length, 10);
  t.equal(new Set([...plan.inputs, ...plan.outputs]).size, 11, "no buffer is two of them");
  t.same(checkPlan(plan), []);
  const got = fx.jit(f)(data);
  const sines = [1, 2, 3, 4].map((v) => Math.fround(Math.sin(v)));
  t.same(
    got.slice(0, 2).map((y) => Array.from(y.toTypedArray())),
    [
      [1, 2, 3, 4],
      [1, 2, 3, 4],
    ],
  );
  t.equal(got[2], got[3], "a repeated output is one tensor");
  t.equal(got[0], data, "an input that comes back is the tensor itself");
  t.ok(Array.from(got[2]!.toTypedArray()).every((v, i) => Math.abs(v - sines[i]!) < 1e-6));
  t.same(Array.from(got[4]!.toTypedArray()), [1, 3, 2, 4]);
  t.same(
    [Array.from(got[6]!.toTypedArray()), Array.from(got[9]!.toTypedArray())],
    [
      [7, 7],
      [0, 1, 2],
    ],
  );
  t.same(fx.jit(() => [])(), [], "no outputs");
  t.equal(
    fx
      .jit(() => fx.zeros([]))()
      .item(),
    0,
    "no inputs",
  );
});

t.test("an output that has to be written out is written once, where it belongs", async (t) => {
  for (const f of [
    (x: T) => fx.reshape(fx.transpose(x), [24]),
    (x: T) => fx.reshape(fx.broadcastTo(x, [2, 6, 4]), [12, 4]),
    (x: T) => fx.transpose(x),
    (x: T) => fx.slice(x, [1, 1], [2, 2]),
  ]) {
    const plan = planOf(f, x);
    t.same(checkPlan(plan), []);
    t.equal(plan.steps.length, 1);
  }
});

t.test("a plan is plain data", async (t) => {
  const plan = planOf((x: T, w: T) => fx.variance(fx.gelu(fx.matmul(x, w)), 0), x, w);
  t.same(structuredClone(plan), plan);
  t.same(JSON.parse(JSON.stringify(plan)), plan);
});

// ---- Every plan.

/** The elements of a buffer that a view over a shape meets. */
function elementsOf({ offset, strides }: View, shape: readonly number[]): number[] {
  let at = [offset];
  shape.forEach((n, axis) => {
    at = at.flatMap((base) => Array.from({ length: n }, (_, i) => base + i * strides[axis]!));
  });
  return at;
}

interface Touch {
  readonly buffer: number;
  readonly elements: number[];
}

const dense = (buffer: number, size: number): Touch => ({
  buffer,
  elements: Array.from({ length: size }, (_, i) => i),
});

/** The views of a step, those that meet no element included. */
function views(step: Step): View[] {
  if (step.kind === "attention")
    return [step.q, step.k, step.v, step.mask, step.o, step.l, ...step.directions].filter(
      (v) => v !== undefined,
    );
  if (step.kind !== "map" && step.kind !== "reduce" && step.kind !== "matmul") return [];
  const { instructions, outputs } = step.expression;
  const loads = instructions.flatMap((i) => (i.op === "load" ? [i.view] : []));
  return [...loads, ...outputs.map((o) => o.view), ...(step.kind === "matmul" ? [step.a, step.b] : [])];
}

/** What a step reads and writes, element by element. */
function touches(step: Step): { reads: Touch[]; writes: Touch[] } {
  const of = ({ instructions, outputs }: Expression, shape: readonly number[], written = shape) => ({
    reads: instructions.flatMap((i) =>
      i.op === "load" ? [{ buffer: i.view.buffer, elements: elementsOf(i.view, shape) }] : [],
    ),
    writes: outputs.map(({ view }) => ({ buffer: view.buffer, elements: elementsOf(view, written) })),
  });
  switch (step.kind) {
    case "map":
      return of(step.expression, step.shape);
    case "reduce":
      return of(step.expression, step.shape, step.shape.slice(0, step.shape.length - step.reducedRank));
    case "matmul": {
      const { reads, writes } = of(step.expression, [...step.batch, step.m, step.n]);
      const a = { buffer: step.a.buffer, elements: elementsOf(step.a, [...step.batch, step.m, step.k]) };
      const b = { buffer: step.b.buffer, elements: elementsOf(step.b, [...step.batch, step.k, step.n]) };
      return { reads: [a, b, ...reads], writes };
    }
    case "gather":
    case "scatter": {
      const [from, to] = step.kind === "gather" ? [step.size, step.count] : [step.count, step.size];
      return {
        reads: [dense(step.input, step.outer * from * step.inner), dense(step.indices, step.count)],
        writes: [dense(step.output, step.outer * to * step.inner)],
      };
    }
    case "attention": {
      const { batch, n, m, d, e, q, k, v, mask, o, l, directions, outputs } = step;
      const [ofQ, ofK, ofV] = [
        [...batch, n, d],
        [...batch, m, d],
        [...batch, m, e],
      ];
      const results = [
        [...batch, n, e],
        [...batch, n],
      ];
      const inputs = [ofQ, ofK, ofV];
      const shapes = [
        ...inputs,
        [...batch, n, m],
        ...results,
        ...(step.part === "tangent" ? inputs : results),
      ];
      const written = step.part === "cotangent" ? inputs : results;
      return {
        reads: [q, k, v, mask, o, l, ...directions].flatMap((view, i) =>
          view ? [{ buffer: view.buffer, elements: elementsOf(view, shapes[i]!) }] : [],
        ),
        writes: outputs.flatMap((buffer, i) =>
          buffer === undefined
            ? []
            : [
                dense(
                  buffer,
                  written[i]!.reduce((size, x) => size * x, 1),
                ),
              ],
        ),
      };
    }
    case "sort":
      return {
        reads: [dense(step.input, step.rows * step.size)],
        writes: [dense(step.output, step.rows * step.size)],
      };
    case "cumsum": {
      const size = step.outer * step.size * step.inner;
      return { reads: [dense(step.input, size)], writes: [dense(step.output, size)] };
    }
    case "loop": {
      const all = (buffer: number, inner: number, turns: number) =>
        dense(buffer, turns * step.plan.buffers[inner]!.size);
      const { inputs, outputs } = step.plan;
      const fixed = [...step.consts, ...step.inits];
      return {
        reads: [...fixed, ...step.xs].map((b, i) => all(b, inputs[i]!, i < fixed.length ? 1 : step.length)),
        writes: [...step.carries, ...step.ys].map((b, i) =>
          all(b, outputs[i]!, i < step.carries.length ? 1 : step.length),
        ),
      };
    }
  }
}

/**
 * Follows a plan through memory: what breaks its rules, in words. Every element is written before it is read, and
 * not overwritten by another temporary in between; nothing reads what it writes; every output is written whole.
 */
function checkPlan({ buffers, steps, inputs, outputs, arenaBytes }: Plan): string[] {
  const wrong: string[] = [];
  // Who wrote each byte of the arena last, and which elements of the other buffers have been written.
  const owner = new Int32Array(arenaBytes).fill(-1);
  const written = buffers.map((b) => (b.kind === "temporary" ? new Uint8Array(0) : new Uint8Array(b.size)));
  for (const input of inputs) written[input]!.fill(1);
  const isWritten = (buffer: number, element: number): boolean => {
    const { kind, dtype, offset } = buffers[buffer]!;
    if (kind !== "temporary") return written[buffer]![element] === 1;
    const size = byteSize(dtype);
    const at = offset + element * size;
    return owner[at] === buffer && owner[at + size - 1] === buffer;
  };
  const write = (buffer: number, element: number): void => {
    const { kind, dtype, offset } = buffers[buffer]!;
    const size = byteSize(dtype);
    if (kind === "temporary") owner.fill(buffer, offset + element * size, offset + (element + 1) * size);
    else written[buffer]![element] = 1;
  };
  buffers.forEach((b, i) => {
    if (b.kind === "temporary" && (b.offset % 64 !== 0 || b.offset + b.size * byteSize(b.dtype) > arenaBytes))
      wrong.push(`buffer ${i} leaves the arena or is not aligned`);
  });
  steps.forEach((step, number) => {
    if (step.kind === "loop")
      wrong.push(...checkPlan(step.plan as Plan).map((what) => `in the loop of step ${number}: ${what}`));
    const { reads, writes } = touches(step);
    for (const { buffer, elements } of [...reads, ...writes])
      if (elements.some((e) => e < 0 || e >= buffers[buffer]!.size))
        wrong.push(`step ${number} leaves buffer ${buffer}`);
    for (const { buffer, elements } of reads)
      if (!elements.every((e) => isWritten(buffer, e)))
        wrong.push(`step ${number} reads buffer ${buffer} before it is written`);
    for (const { offset } of views(step))
      if (offset < 0) wrong.push(`step ${number} has a view at offset ${offset}`);
    const seen = new Set(reads.flatMap(({ buffer, elements }) => elements.map((e) => `${buffer}:${e}`)));
    for (const { buffer, elements } of writes) {
      if (inputs.includes(buffer)) wrong.push(`step ${number} writes input ${buffer}`);
      if (new Set(elements).size !== elements.length)
        wrong.push(`step ${number} writes an element of ${buffer} twice`);
      for (const e of elements) {
        if (seen.has(`${buffer}:${e}`)) wrong.push(`step ${number} writes what it reads in buffer ${buffer}`);
        write(buffer, e);
      }
    }
    // All that this step touches stands in memory at once.
    for (const { buffer, elements } of [...reads, ...writes])
      if (!elements.every((e) => isWritten(buffer, e)))
        wrong.push(`step ${number}: its buffers overlap (${buffer})`);
  });
  for (const output of outputs)
    if (!written[output]!.every((w) => w === 1)) wrong.push(`output ${output} is not written whole`);
  return wrong;
}

/** Temporaries that are alive at the same time and overlap in the arena, of the plan and of its loops. */
function overlaps({ buffers, steps }: Plan): string[] {
  const inside = steps.flatMap((step) => (step.kind === "loop" ? overlaps(step.plan as Plan) : []));
  const life = new Map<number, { from: number; to: number }>();
  steps.forEach((step, i) => {
    const { reads, writes } = touches(step);
    for (const { buffer } of [...reads, ...writes])
      life.set(buffer, { from: life.get(buffer)?.from ?? i, to: i });
  });
  const temporaries = [...life].filter(
    ([buffer]) => buffers[buffer]!.kind === "temporary" && buffers[buffer]!.size > 0,
  );
  const wrong: string[] = [...inside];
  for (const [a, la] of temporaries)
    for (const [b, lb] of temporaries) {
      if (a >= b || la.to < lb.from || lb.to < la.from) continue;
      const [p, q] = [buffers[a]!, buffers[b]!];
      const end = (buffer: typeof p) => buffer.offset + buffer.size * byteSize(buffer.dtype);
      if (p.offset < end(q) && q.offset < end(p)) wrong.push(`temporaries ${a} and ${b} overlap`);
    }
  return wrong;
}

t.test(
  "random programs become plans in which memory is written before it is read and never shared in time",
  async (t) => {
    const failures: string[] = [];
    let steps = 0;
    let shared = 0;
    for (let seed = 0; seed < 250; seed++) {
      const { f, inputs, floats } = randomProgram(seed, [0, 1, 2, 3, 4], seed % 2 === 0 ? 14 : 30);
      const scalar = (...xs: T[]) =>
        f(...xs)
          .filter((y) => y.dtype === "float32" || y.dtype === "float64")
          .map((y) => fx.cast(fx.sum(fx.square(y)), "float64"))
          .reduce((a, b) => fx.add(a, b), fx.zeros([], { dtype: "float64" }));
      const looped = (...xs: T[]) =>
        fx.scan((c: T[]) => [c.map((x) => fx.flip(x)), f(...c)], xs, undefined, { length: 3 });
      const loss = (...xs: T[]) => scalar(...looped(...xs)[0]);
      for (const g of [f, fx.grad(scalar, { argnums: floats }), looped, fx.grad(loss, { argnums: floats })]) {
        try {
          const plan = planOf(g as (...xs: T[]) => unknown, ...inputs);
          failures.push(...[...checkPlan(plan), ...overlaps(plan)].map((what) => `seed ${seed}: ${what}`));
          steps += plan.steps.length;
          const separate = plan.buffers
            .filter((b) => b.kind === "temporary")
            .reduce((sum, b) => sum + b.size * byteSize(b.dtype), 0);
          if (plan.arenaBytes > 0 && plan.arenaBytes < separate) shared++;
        } catch (error) {
          failures.push(`seed ${seed}: threw ${error instanceof Error ? error.stack : error}`);
        }
      }
    }
    t.same(failures, []);
    t.ok(steps > 5000, `${steps} steps`);
    t.ok(shared > 20, `${shared} plans put temporaries in the same place one after the other`);
  },
);

t.test("the checks above find what they are for", async (t) => {
  const f32 = (kind: "input" | "output" | "temporary", offset = 0) =>
    ({ kind, dtype: "float32", size: 4, offset }) as const;
  const view = (buffer: number): View => ({ buffer, offset: 0, strides: rowMajor([4]) });
  const copy = (from: number, to: number): Step => ({
    kind: "map",
    shape: [4],
    expression: {
      instructions: [{ op: "load", dtype: "float32", view: view(from) }],
      outputs: [{ value: 0, view: view(to) }],
    },
  });
  const plan = (steps: Step[], second = 64): Plan => ({
    buffers: [f32("input"), f32("output"), f32("temporary"), f32("temporary", second)],
    steps,
    inputs: [0],
    outputs: [1],
    arenaBytes: 128,
  });
  t.same(checkPlan(plan([copy(0, 2), copy(2, 1)])), []);
  t.match(checkPlan(plan([copy(2, 1), copy(0, 2)]))[0], /step 0 reads buffer 2 before/);
  t.match(checkPlan(plan([copy(0, 2)]))[0], /output 1 is not written/);
  t.match(checkPlan(plan([copy(0, 2), copy(0, 3), copy(2, 1)], 0))[0], /step 2 reads buffer 2 before/);
  t.match(overlaps(plan([copy(0, 2), copy(0, 3), copy(2, 1)], 0))[0], /2 and 3 overlap/);
  t.match(checkPlan(plan([copy(0, 1), copy(1, 1)]))[0], /writes what it reads/);
});

t.test("a chain of layers needs the memory of two of them", async (t) => {
  const deep = (x: T, w: T) => {
    let h = x;
    for (let i = 0; i < 12; i++) h = fx.tanh(fx.matmul(h, w));
    return h;
  };
  const plan = planOf(deep, fx.ones([32, 16]), fx.ones([16, 16]));
  t.equal(plan.steps.length, 12);
  t.equal(plan.arenaBytes, 2 * 32 * 16 * 4);
});

t.test("a network on rows with more axes runs as the same kernels as on rows in one axis", async (t) => {
  const network = fx.nn.mlp({ in: 8, hidden: 16, layers: 2, out: 8 });
  const params = network.init(fx.random.key(0));
  const kernels = (x: fx.Tensor) => {
    const loss = (p: typeof params) => fx.mean(fx.square(network.apply(p, x)));
    return fx.inspect(fx.grad(loss), params).kernels.map(({ description }) => description);
  };
  const rows = fx.random.normal(fx.random.key(1), [24, 8]);
  t.same(kernels(fx.reshape(rows, [2, 3, 4, 8])), kernels(rows));
});

t.test("what has more axes than a product is not computed with it", async (t) => {
  const [x, w] = [fx.ones([2, 3, 4]), fx.ones([4, 5])];
  const scaled = (by: fx.Tensor) => fx.inspect(() => fx.mul(fx.matmul(x, w), by)).kernels.length;
  t.equal(scaled(fx.ones([5])), 1, "a factor of each column");
  t.equal(scaled(fx.ones([2, 1, 5])), 2, "a factor of each first index");
  t.same(
    fx.mul(fx.matmul(x, w), fx.reshape(fx.arange(0, 10, 1, { dtype: "float32" }), [2, 1, 5])).toArray(),
    fx
      .mul(4, fx.broadcastTo(fx.reshape(fx.arange(0, 10, 1, { dtype: "float32" }), [2, 1, 5]), [2, 3, 5]))
      .toArray(),
  );
});
