import { readFileSync } from "node:fs";
import * as fx from "fluxion";
import t from "tap";
import { close } from "./support/close.js";
import { onEach } from "./support/each-backend.js";
import { operand } from "./support/operand.js";

type T = fx.Tensor;
interface Row {
  name: "layerNorm" | "rmsNorm";
  shape: number[];
  axis: number[];
  epsilon: number;
  y: number[];
  gradients: number[][];
}

const golden: Row[] = JSON.parse(
  readFileSync(new URL("../../test/golden/normalization.json", import.meta.url), "utf8"),
);
const list = (x: T) => Array.from(x.toTypedArray());

onEach("layerNorm and rmsNorm have PyTorch's values and gradients", (t) => {
  for (const { name, shape, axis, epsilon, y, gradients } of golden)
    for (const [dtype, tolerance] of [["float64", 1e-12] as const, ["float32", 2e-5] as const]) {
      const inner = axis.map((a) => shape[a]!);
      const f = (x: T, scale: T, offset: T) =>
        name === "layerNorm"
          ? fx.layerNorm(x, { axis, scale, offset, epsilon })
          : fx.rmsNorm(x, { axis, scale, epsilon });
      const args = [operand(shape, 0, dtype), operand(inner, 1, dtype), operand(inner, 2, dtype)] as [
        T,
        T,
        T,
      ];
      const title = `${name} of [${shape}] over [${axis}] in ${dtype}`;
      close(t, list(f(...args)), y, tolerance, title);
      const loss = (...a: [T, T, T]) => fx.sum(fx.mul(f(...a), operand(shape, 3, dtype)));
      const got = fx.grad(loss, { argnums: [0, 1, 2] })(...args);
      gradients.forEach((want, i) => {
        close(t, list(got[i]!), want, 4 * tolerance, `gradient ${i} of ${title}`);
      });
    }
});

onEach("the functions and the modules are the same computation, bit for bit", (t) => {
  const [x, scale, offset] = [
    operand([4, 6], 0, "float32"),
    operand([6], 1, "float32"),
    operand([6], 2, "float32"),
  ];
  const centred = fx.sub(x, fx.mean(x, -1, { keepDims: true }));
  const over = (z: T, epsilon: number) =>
    fx.mul(z, fx.rsqrt(fx.add(fx.mean(fx.square(z), -1, { keepDims: true }), epsilon)));
  const byHand = list(fx.add(fx.mul(over(centred, 1e-5), scale), offset));
  t.same(list(fx.layerNorm(x, { scale, offset })), byHand);
  t.same(list(fx.nn.layerNorm({ dim: 6 }).apply({ scale, offset }, x)), byHand);
  t.same(list(fx.rmsNorm(x, { scale })), list(fx.mul(over(x, 1e-6), scale)));
  t.same(list(fx.nn.rmsNorm({ dim: 6 }).apply({ scale }, x)), list(fx.rmsNorm(x, { scale })));
});

onEach("without parameters the result has mean 0 and mean square 1", (t) => {
  const x = fx.tensor(
    Array.from({ length: 40 }, (_, i) => 100 + 3 * Math.sin(i * i)),
    {
      shape: [2, 5, 4],
      dtype: "float64",
    },
  );
  for (const axis of [-1, 0, [0, 2]]) {
    const y = fx.layerNorm(x, { axis, epsilon: 0 });
    close(t, list(fx.mean(y, axis)), list(fx.zeros(fx.mean(y, axis).shape)), 1e-12, `mean over ${axis}`);
    close(
      t,
      list(fx.variance(y, axis)),
      list(fx.ones(fx.mean(y, axis).shape)),
      1e-12,
      `variance over ${axis}`,
    );
    const r = fx.rmsNorm(x, { axis, epsilon: 0 });
    close(t, list(fx.mean(fx.square(r), axis)), list(fx.ones(fx.mean(r, axis).shape)), 1e-12);
  }
  t.same(list(fx.layerNorm(fx.full([1, 3], 7))), [0, 0, 0], "a constant row is 0");
});

onEach("normalisations are differentiable to second order", (t) => {
  const args = [operand([2, 4], 0), operand([4], 1), operand([4], 2)] as [T, T, T];
  const layer = (x: T, scale: T, offset: T) => fx.layerNorm(x, { scale, offset });
  t.doesNotThrow(() => fx.checkGrads(layer, args));
  t.doesNotThrow(() => fx.checkGrads((x: T, scale: T) => fx.rmsNorm(x, { scale }), [args[0], args[1]]));
});

t.test("options that do not fit are named", async (t) => {
  const x = fx.ones([2, 3]);
  const refused: [() => unknown, string, RegExp][] = [
    [() => fx.layerNorm([1] as never), "ValueError", /layerNorm: expected a Tensor/],
    [
      () => fx.layerNorm(fx.ones([2], { dtype: "int32" })),
      "DTypeError",
      /layerNorm: needs float32 or float64/,
    ],
    [
      () => fx.layerNorm(x, { eps: 1 } as never),
      "ValueError",
      /unknown option "eps"; known options: axis, scale/,
    ],
    [() => fx.rmsNorm(x, { offset: x } as never), "ValueError", /rmsNorm: unknown option "offset"/],
    [() => fx.layerNorm(x, { axis: 2 }), "ShapeError", /layerNorm: axis 2 is out of range/],
    [() => fx.layerNorm(fx.ones([2, 0])), "ShapeError", /nothing to normalise in \[2, 0\] over axes \[1\]/],
    [() => fx.layerNorm(fx.ones([])), "ShapeError", /rank 0/],
    [() => fx.rmsNorm(x, { epsilon: -1 }), "ValueError", /epsilon must be a finite number >= 0, got -1/],
    [() => fx.rmsNorm(x, { scale: fx.ones([2]) }), "ShapeError", /scale has the shape \[2\].* need \[3\]/],
    [() => fx.rmsNorm(x, { scale: 2 as never }), "ValueError", /rmsNorm: scale: expected a Tensor/],
    [
      () => fx.layerNorm(x, { offset: fx.ones([3], { dtype: "float64" }) }),
      "DTypeError",
      /offset is float64, x is float32/,
    ],
  ];
  for (const [use, name, message] of refused) t.throws(use, { name, message }, String(message));
});
