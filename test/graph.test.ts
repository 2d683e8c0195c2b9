import * as fx from "fluxion";
import t from "tap";
import { liveNodes } from "#lib/graph/graph.js";
import { graphKey, printGraph } from "#lib/graph/print.js";
import { traceGraph } from "#lib/graph/trace.js";

type T = fx.Tensor;

fx.setBackend("typescript");

const f64 = (data: fx.NestedArray) => fx.tensor(data, { dtype: "float64" });
const list = (x: T) => Array.from(x.toTypedArray());

/** The primitives that the outputs of f need, in order. */
function primitives<A extends readonly unknown[]>(f: (...args: A) => unknown, ...args: A): string[] {
  const { graph } = fx.inspect(f, ...args);
  return liveNodes(graph.nodes, graph.outputs)
    .filter((node) => node.op !== "input")
    .map((node) => node.op);
}

const x = fx.ones([4, 2]);

t.test("a graph prints as text, one line a value", async (t) => {
  const f = (p: { w: T; b: T }, x: T) => fx.sum(fx.gelu(fx.add(fx.matmul(x, p.w), p.b)), 0);
  const { graph } = fx.inspect(f, { w: fx.ones([2, 3]), b: fx.ones([3]) }, x);
  const expected = [
    "input   %0: float32[3]",
    "input   %1: float32[2, 3]",
    "input   %2: float32[4, 2]",
    "%3: float32[4, 3] = matmul %2 %1",
    "%4: float32[4, 3] = broadcast{axes=[1]} %0",
    "%5: float32[4, 3] = add %3 %4",
    "%6: float32[4, 3] = gelu{order=0} %5",
    "%7: float32[3] = reduceSum{axes=[0]} %6",
    "output  %7",
  ].join("\n");
  t.equal(String(graph), expected);
  t.equal(
    `${fx.inspect(f, { w: fx.zeros([2, 3]), b: fx.ones([3]) }, x).graph}`,
    expected,
    "tracing again prints the same",
  );
});

t.test("the print shows captured tensors, constants and their exact values", async (t) => {
  const w = fx.ones([2]);
  const text = String(
    fx.inspect((x: T) => [fx.mul(x, w), fx.full([], -0), fx.full([], Number.NaN)], fx.ones([2])).graph,
  );
  t.match(text, /^capture %\d: float32\[2\]$/m);
  t.match(text, /constant\{value=-0\}/);
  t.match(text, /constant\{value=NaN\}/);
  t.match(text, /^output {2}%\d %\d %\d$/m);
});

t.test("graphs that compute the same have one key, others have others", async (t) => {
  const key = (f: (x: T) => unknown, x: T) => graphKey(fx.inspect(f, x).graph);
  const first = fx.tensor([0], { dtype: "int32" });
  t.equal(
    key((x) => fx.take(x, first), x),
    key((x) => fx.take(x, first), x),
    "lines of the user's code are no part of the key",
  );
  t.equal(
    key((x) => fx.sin(fx.add(x, 1)), x),
    key((x) => fx.sin(fx.add(x, 1)), fx.zeros([4, 2])),
  );
  const keys = [
    key((x) => fx.sin(x), x),
    key((x) => fx.cos(x), x),
    key((x) => fx.sin(x), fx.ones([2, 4])),
    key((x) => fx.sin(x), fx.ones([4, 2], { dtype: "float64" })),
    key((x) => fx.add(fx.sin(x), 1), x),
    key((x) => fx.add(fx.sin(x), 2), x),
    key((x) => fx.div(x, fx.full([], 0)), x),
    key((x) => fx.div(x, fx.full([], -0)), x),
    key((x) => fx.sub(x, fx.flip(x, 0)), x),
    key((x) => fx.sub(fx.flip(x, 0), x), x),
    key((x) => [x, fx.sin(x)], x),
    key((x) => [fx.sin(x), x], x),
    key((x) => fx.sum(x, 0), x),
    key((x) => fx.sum(x, 1), x),
  ];
  t.equal(new Set(keys).size, keys.length);
});

t.test("an expression that was computed before is not computed again", async (t) => {
  t.same(
    primitives((x: T) => fx.add(fx.sin(x), fx.sin(x)), x),
    ["sin", "add"],
  );
  t.same(
    primitives((x: T) => [fx.sum(x, 0), fx.sum(x, [0])], x),
    ["reduceSum"],
  );
  t.same(
    primitives((x: T) => fx.mul(fx.sub(x, fx.mean(x)), fx.sub(x, fx.mean(x))), x).filter(
      (op) => op === "reduceSum",
    ).length,
    1,
  );
  t.same(primitives((x: T) => [fx.sum(x, 0), fx.sum(x, 1)], x).length, 2, "other attributes, another value");
  // f and its gradient share what they have in common: one sine, one cosine.
  const twice = primitives((x: T) => [fx.sum(fx.sin(x)), fx.grad((x: T) => fx.sum(fx.sin(x)))(x)], x);
  t.same(twice.filter((op) => op === "sin").length, 1);
  t.same(twice.filter((op) => op === "cos").length, 1);
});

t.test("what the outputs do not need is gone from the print and from the plan", async (t) => {
  const f = (x: T) => {
    fx.matmul(fx.exp(x), fx.transpose(x));
    return fx.sin(x);
  };
  t.same(primitives(f, x), ["sin"]);
  const { plan } = fx.inspect(f, x);
  t.equal(plan.steps.length, 1);
  t.equal(plan.buffers.length, 2, "one buffer in, one out");
  const tangentOnly = fx.inspect((x: T) => fx.jvp((x: T) => fx.exp(fx.sum(fx.sin(x))), [x], [x])[0], x);
  t.notMatch(String(tangentOnly), /cos/, "an unused tangent is not computed");
  const unusedInput = fx.inspect((a: T, _: T) => fx.neg(a), x, x);
  t.equal(unusedInput.plan.inputs.length, 2, "an unused argument stays an input");
});

t.test("simplifications shorten the graph", async (t) => {
  const nothing: { [name: string]: (x: T) => T } = {
    "x + 0": (x) => fx.add(x, 0),
    "0 + x": (x) => fx.add(0, x),
    "x - 0": (x) => fx.sub(x, 0),
    "x * 1": (x) => fx.mul(x, 1),
    "1 * x": (x) => fx.mul(1, x),
    "x / 1": (x) => fx.div(x, 1),
    "-(-x)": (x) => fx.neg(fx.neg(x)),
    "-1 * (-1 * x)": (x) => fx.mul(-1, fx.mul(x, -1)),
    "transpose twice": (x) => fx.transpose(fx.transpose(x)),
    "reshape there and back": (x) => fx.reshape(fx.reshape(x, [8]), [4, 2]),
    "broadcast to its own shape": (x) => fx.broadcastTo(x, [4, 2]),
    "slice of everything": (x) => fx.slice(x, [0, 0], [4, 2]),
    "pad by nothing": (x) =>
      fx.pad(x, [
        [0, 0],
        [0, 0],
      ]),
    "concat of one": (x) => fx.concat([x], 0),
    "flip along no axis": (x) => fx.flip(x, []),
    "sum over no axis": (x) => fx.sum(x, []),
    "max over no axis": (x) => fx.max(x, []),
    "cast to its own dtype": (x) => fx.cast(x, "float32"),
  };
  for (const [name, f] of Object.entries(nothing)) t.same(primitives(f, x), [], name);
  const one: { [op: string]: (x: T) => T } = {
    transpose: (x) => fx.transpose(fx.transpose(fx.reshape(x, [2, 2, 2]), [1, 2, 0]), [0, 2, 1]),
    neg: (x) => fx.mul(x, -1),
    constant: (x) => fx.add(fx.mul(fx.full([...x.shape], 2), 3), fx.full([...x.shape], 1)),
    broadcast: (x) => fx.broadcastTo(fx.broadcastTo(x, [1, 4, 2]), [3, 4, 2]),
  };
  t.same(
    primitives((x: T) => one.transpose!(x), x),
    ["reshape", "transpose"],
  );
  t.same(
    primitives((x: T) => one.neg!(x), x),
    ["neg"],
  );
  t.same(
    primitives((x: T) => one.constant!(x), x),
    ["constant"],
  );
  t.same(
    primitives((x: T) => one.broadcast!(x), x),
    ["broadcast"],
  );
  t.same(
    primitives((x: T) => fx.sum(x, 1), fx.ones([4, 1])),
    ["reshape"],
    "a sum of one element",
  );
});

t.test("simplifications keep the bits of every value, NaN, infinities and zeros included", async (t) => {
  const special = [0, 1, -1, 1.5, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN, 5e-324];
  const data = f64(special);
  // The same with the constants hidden in arguments, where nothing is known of them.
  const pairs: { [name: string]: (x: T, zero: T, one: T, minus: T) => [T, T] } = {
    "x + 0": (x, zero) => [fx.add(x, 0), fx.add(x, zero)],
    "x - 0": (x, zero) => [fx.sub(x, 0), fx.sub(x, zero)],
    "x * 1": (x, _, one) => [fx.mul(x, 1), fx.mul(x, one)],
    "x * -1": (x, _, __, minus) => [fx.mul(x, -1), fx.mul(x, minus)],
    "x / 1": (x, _, one) => [fx.div(x, 1), fx.div(x, one)],
    "0 * x": (x, zero) => [fx.mul(x, 0), fx.mul(x, zero)],
    "0 / x": (x, zero) => [fx.div(0, x), fx.div(zero, x)],
    "1 / 0": (_, zero, one) => [fx.div(fx.ones([], { dtype: "float64" }), 0), fx.div(one, zero)],
    "0 - x": (x, zero) => [fx.sub(0, x), fx.sub(zero, x)],
    "x * -1 of -1": (x, _, __, minus) => [fx.mul(fx.mul(x, -1), -1), fx.mul(fx.mul(x, minus), minus)],
  };
  const scalars = [0, 1, -1].map((n) => f64(n)) as [T, T, T];
  for (const [name, f] of Object.entries(pairs)) {
    const [short, long] = fx.jit((x: T, a: T, b: T, c: T) => f(x, a, b, c))(data, ...scalars);
    t.ok(
      list(short).every((v, i) => Object.is(v, list(long)[i])),
      `${name}: ${list(short)} is ${list(long)}`,
    );
  }
  const negative = fx.jit((x: T) => fx.div(1, fx.mul(x, -1)))(f64([0]));
  t.equal(negative.item(), Number.NEGATIVE_INFINITY, "0 * -1 is -0");
});

t.test("constants fold in the precision of their dtype", async (t) => {
  const f = (dtype: fx.DType) =>
    fx
      .jit(() => fx.sub(fx.add(fx.full([], 0.1, { dtype }), 0.2), 0.3))()
      .item();
  t.equal(f("float64"), 0.1 + 0.2 - 0.3);
  t.equal(f("float32"), Math.fround(Math.fround(Math.fround(0.1) + Math.fround(0.2)) - Math.fround(0.3)));
  const whole = fx.jit(() => fx.mul(fx.full([], 65536, { dtype: "int32" }), 65536))();
  t.equal(whole.item(), 0, "integers wrap");
});

t.test("views of views keep their values", async (t) => {
  const data = f64([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  const chains: { [name: string]: (x: T) => T } = {
    transposes: (x) => fx.transpose(fx.transpose(fx.reshape(x, [1, 2, 3]), [1, 2, 0]), [2, 0, 1]),
    "reshapes of a transpose": (x) => fx.reshape(fx.reshape(fx.transpose(x), [6]), [2, 3]),
    broadcasts: (x) => fx.broadcastTo(fx.broadcastTo(fx.reshape(x, [2, 1, 3]), [2, 2, 3]), [2, 2, 2, 3]),
    "transpose of a broadcast": (x) => fx.transpose(fx.broadcastTo(x, [2, 2, 3]), [2, 0, 1]),
    "slice of a flip": (x) => fx.slice(fx.flip(x, 1), [0, 1], [2, 2]),
    "flip of a slice": (x) => fx.flip(fx.slice(x, [1, 0], [1, 2]), [0, 1]),
  };
  for (const [name, f] of Object.entries(chains)) {
    const fused = fx.jit((x: T) => fx.add(f(x), 1))(data);
    const stepwise = fx.add(f(data), 1);
    t.same([fused.shape, list(fused)], [stepwise.shape, list(stepwise)], name);
  }
  t.same(list(chains["reshapes of a transpose"]!(data)), [1, 4, 2, 5, 3, 6]);
  t.same(list(chains["slice of a flip"]!(data)), [2, 1, 5, 4]);
  t.same(list(chains["flip of a slice"]!(data)), [5, 4]);
});

t.test("a derivative of a linear function has no trace of the function's argument", async (t) => {
  const w = fx.ones([2, 3]);
  const f = (x: T, v: T) => fx.jvp((x: T) => fx.matmul(x, w), [x], [v])[1];
  const text = String(fx.inspect(f, x, x).graph);
  t.equal(text.match(/matmul/g)?.length, 1);
  const relu = primitives((x: T) => fx.grad((x: T) => fx.sum(fx.neg(x)))(x), x);
  t.same(relu, ["constant"], "a constant gradient is a constant");
});

/** The graph as it was traced, its calls not expanded. */
const printed = (f: (...x: T[]) => fx.tree.Tree, ...args: T[]) =>
  printGraph(traceGraph((xs) => fx.tree.leaves(f(...xs)), args));

t.test("a loop prints with its body, a call by its name, and their results as picks", async (t) => {
  const f = (c: T, xs: T) => fx.scan((c: T, x: T) => [fx.mul(c, x), fx.sin(c)], c, xs, { reverse: true });
  t.equal(
    printed(f, fx.ones([2]), fx.ones([5, 2])),
    [
      "input   %0: float32[2]",
      "input   %1: float32[5, 2]",
      "%2: (float32[2], float32[5, 2]) = scan{body=... length=5 reverse=true consts=0 carries=1} %0 %1",
      "    input   %0: float32[2]",
      "    input   %1: float32[2]",
      "    %2: float32[2] = mul %0 %1",
      "    %3: float32[2] = sin %0",
      "    output  %2 %3",
      "%3: float32[2] = pick{index=0} %2",
      "%4: float32[5, 2] = pick{index=1} %2",
      "output  %3 %4",
    ].join("\n"),
  );
  const calls = printed(
    (x: T) => [
      fx.checkpoint((x: T) => fx.sin(x))(x),
      fx.customJvp(
        (x: T) => x,
        ([x], [dx]) => [x, dx],
      )(x),
      fx.customVjp(
        (x: T) => x,
        (x) => [x, []],
        (_, ct) => [ct],
      )(x),
    ],
    fx.ones([2]),
  );
  for (const name of ["checkpoint", "customJvp", "customVjp"])
    t.match(calls, new RegExp(`^%\\d: \\(float32\\[2\\]\\) = call\\{callee=${name}\\} %0$`, "m"));
});

t.test("loops that compute the same have one key, others have others", async (t) => {
  const key = (body: (c: T, x: T) => readonly [T, T], length = 3, reverse = false) =>
    graphKey(
      fx.inspect((c: T, xs: T) => fx.scan(body, c, xs, { reverse }), fx.ones([2]), fx.ones([length, 2]))
        .graph,
    );
  t.equal(
    key((c, x) => [fx.mul(c, x), c]),
    key((c, x) => [fx.mul(c, x), c]),
  );
  const keys = [
    key((c, x) => [fx.mul(c, x), c]),
    key((c, x) => [fx.mul(c, x), x]),
    key((c, x) => [fx.mul(x, c), c]),
    key((c, x) => [fx.mul(c, x), c], 4),
    key((c, x) => [fx.mul(c, x), c], 3, true),
  ];
  t.equal(new Set(keys).size, keys.length);
});
