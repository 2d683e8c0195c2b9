import { readFileSync } from "node:fs";
import * as fx from "fluxion";
import t from "tap";
import { close } from "./support/close.js";
import { onEach } from "./support/each-backend.js";
import { operand } from "./support/operand.js";

type T = fx.Tensor;
const { rotaryEmbedding } = fx.nn;
interface Row {
  shape: number[];
  options: fx.nn.RotaryEmbeddingOptions;
  positions: number[] | number[][] | null;
  y: number[];
}

const golden: Row[] = JSON.parse(
  readFileSync(new URL("../../test/golden/rotary.json", import.meta.url), "utf8"),
);
const f64 = { dtype: "float64" } as const;
const list = (x: T) => Array.from(x.toTypedArray());
const layouts = ["half", "interleaved"] as const;
const random = (seed: number, shape: number[]) => fx.random.normal(fx.random.key(seed), shape, f64);

onEach("rotary embeddings are what two formulas in PyTorch give", (t) => {
  for (const { shape, options, positions, y } of golden) {
    const title = `[${shape}] ${JSON.stringify(options)}`;
    const given = positions === null ? undefined : fx.tensor(positions, f64);
    close(t, list(rotaryEmbedding(operand(shape, 0), { ...options, positions: given })), y, 1e-11, title);
    const single = rotaryEmbedding(operand(shape, 0, "float32"), { ...options, positions: given });
    t.equal(single.dtype, "float32");
    close(t, list(single), y, 5e-7, `${title} in float32, also far out`);
  }
});

onEach("a pair turns by its position times its frequency", (t) => {
  const x = fx.tensor([[1, 0, 1, 0]], f64);
  const positions = fx.tensor([3], { dtype: "int32" });
  const [a, b] = [3, 3 * 100 ** -0.5]; // w_0 = 1, w_1 = 100^(-2/4)
  close(t, list(rotaryEmbedding(x, { positions, base: 100, layout: "interleaved" })), [
    Math.cos(a),
    Math.sin(a),
    Math.cos(b),
    Math.sin(b),
  ]);
  const halves = fx.tensor([[1, 1, 0, 0]], f64);
  close(t, list(rotaryEmbedding(halves, { positions, base: 100 })), [
    Math.cos(a),
    Math.cos(b),
    Math.sin(a),
    Math.sin(b),
  ]);
});

onEach("a rotation keeps norms, and turns back", (t) => {
  const x = random(1, [2, 3, 5, 8]);
  const norms = (y: T) => list(fx.sum(fx.square(y), -1));
  for (const layout of layouts) {
    const y = rotaryEmbedding(x, { layout });
    close(t, norms(y), norms(x), 1e-12, layout);
    const backwards = fx.neg(fx.arange(0, 5, 1, f64));
    close(t, list(rotaryEmbedding(y, { layout, positions: backwards })), list(x), 1e-12);
    t.same(list(fx.slice(y, [0, 0, 0, 0], [2, 3, 1, 8])), list(fx.slice(x, [0, 0, 0, 0], [2, 3, 1, 8])));
  }
});

onEach("products of queries and keys depend on the distance only", (t) => {
  const n = 6;
  const q = fx.broadcastTo(random(2, [1, 8]), [n, 8]);
  const k = fx.broadcastTo(random(3, [1, 8]), [n, 8]);
  for (const layout of layouts) {
    const scores = (shift: number) => {
      const positions = fx.add(fx.arange(0, n, 1, f64), shift);
      return list(
        fx.matmul(
          rotaryEmbedding(q, { layout, positions }),
          fx.transpose(rotaryEmbedding(k, { layout, positions })),
        ),
      );
    };
    const s = scores(0);
    for (let i = 1; i < n; i++)
      for (let j = 1; j < n; j++)
        if (Math.abs(s[i * n + j]! - s[(i - 1) * n + j - 1]!) > 1e-12) t.fail(`${layout} ${i} ${j}`);
    close(t, scores(1000), s, 1e-11, "wherever the sequence begins");
  }
  // In the plane, on both distances.
  const at = (row: number, column: number) => fx.tensor([[row, column]], f64);
  const turned = (x: T, positions: T) =>
    rotaryEmbedding(fx.slice(x, [0, 0], [1, 8]), { positions, coordinates: 2 });
  const product = (p: T, r: T) => fx.sum(fx.mul(turned(q, p), turned(k, r))).item();
  close(t, [product(at(5, 7), at(3, 8))], [product(at(2, -1), at(0, 0))]);
});

onEach("derivatives of a rotation go to x and to positions", (t) => {
  const x = operand([2, 3, 4], 0);
  const positions = fx.tensor([0.3, 1.7, -2.1], f64);
  for (const layout of layouts) {
    const f = (y: T, p: T) => rotaryEmbedding(y, { positions: p, layout, base: 10 });
    t.doesNotThrow(() => fx.checkGrads(f, [x, positions]), layout);
    // A rotation's transpose is the rotation back.
    const w = operand([2, 3, 4], 1);
    const [, pullback] = fx.vjp((y: T) => f(y, positions), x);
    close(t, list(pullback(w)[0]), list(f(w, fx.neg(positions))));
  }
  const plane = fx.tensor(
    [
      [0.5, 1],
      [2, -1],
      [0, 3],
    ],
    f64,
  );
  t.doesNotThrow(() =>
    fx.checkGrads((y: T, p: T) => rotaryEmbedding(y, { positions: p, coordinates: 2, base: 10 }), [x, plane]),
  );
  const f = fx.jit((y: T) => rotaryEmbedding(y));
  t.same(list(f(x)), list(rotaryEmbedding(x)), "the same in jit");
});

t.test("what does not fit is named", async (t) => {
  const x = fx.ones([2, 3, 4]);
  const refused: [() => unknown, string, RegExp][] = [
    [() => rotaryEmbedding([1] as never), "ValueError", /rotaryEmbedding: expected a Tensor/],
    [() => rotaryEmbedding(fx.ones([2, 2], { dtype: "int32" })), "DTypeError", /needs float32 or float64/],
    [() => rotaryEmbedding(fx.ones([4])), "ShapeError", /\[\.\.\., n, d\], got \[4\]/],
    [() => rotaryEmbedding(x, { axis: -1 }), "ShapeError", /axis -1 is that of the features/],
    [() => rotaryEmbedding(x, { theta: 2 } as never), "ValueError", /unknown option "theta"/],
    [() => rotaryEmbedding(fx.ones([2, 3])), "ValueError", /3 features do not divide into pairs/],
    [() => rotaryEmbedding(x, { rotated: 6 }), "ValueError", /rotated is 6, but \[2, 3, 4\] has 4 features/],
    [() => rotaryEmbedding(x, { rotated: 2, coordinates: 2 }), "ValueError", /2 features .* 2 coordinates/],
    [() => rotaryEmbedding(x, { coordinates: 2 }), "ValueError", /needs positions of 2 coordinates each/],
    [() => rotaryEmbedding(x, { base: 0 }), "ValueError", /base must be a finite number > 0/],
    [() => rotaryEmbedding(x, { layout: "whole" as never }), "ValueError", /layout must be one of "half"/],
    [() => rotaryEmbedding(x, { positions: fx.ones([4]) }), "ShapeError", /positions of shape \[4\].*\[3\]/],
    [() => rotaryEmbedding(x, { positions: fx.ones([5, 3]) }), "ShapeError", /broadcast to \[2\]/],
    [
      () => rotaryEmbedding(x, { positions: fx.ones([3]), coordinates: 2 }),
      "ShapeError",
      /they need \[3, 2\]/,
    ],
    [() => rotaryEmbedding(x, { positions: fx.ones([]) }), "ShapeError", /positions of shape \[\]/],
    [() => rotaryEmbedding(x, { positions: [1] as never }), "ValueError", /positions: expected a Tensor/],
    [() => rotaryEmbedding(x, { positions: fx.ones([3], { dtype: "bool" }) }), "DTypeError", /bool/],
  ];
  for (const [use, name, message] of refused) t.throws(use, { name, message }, String(message));
});
