import * as fx from "fluxion";
import t from "tap";
import { onEach } from "./support/each-backend.js";

const list = (x: fx.Tensor) => Array.from(x.toTypedArray());

onEach("cumsum sums along an axis, from the beginning or from the end", (t) => {
  const x = fx.tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  t.same(x.cumsum(1).toArray(), [
    [1, 3, 6],
    [4, 9, 15],
  ]);
  t.same(x.cumsum(0).toArray(), [
    [1, 2, 3],
    [5, 7, 9],
  ]);
  t.same(x.cumsum(-1, { reverse: true }).toArray(), [
    [6, 5, 3],
    [15, 11, 6],
  ]);
  t.same(x.cumsum().toArray(), [1, 3, 6, 10, 15, 21], "flattened without an axis");
  t.same(x.transpose().cumsum(0).toArray(), x.cumsum(1).transpose().toArray(), "of a view");
  t.same(fx.cumsum(fx.tensor(3)).toArray(), [3], "a scalar is one element");
});

onEach("cumsum of integers wraps, and bool counts as int32", (t) => {
  t.same(list(fx.tensor([2 ** 31 - 1, 1, 5], { dtype: "int32" }).cumsum(0)), [
    2 ** 31 - 1,
    -(2 ** 31),
    -(2 ** 31) + 5,
  ]);
  t.same(list(fx.tensor([1, 2 ** 32 - 1, 7], { dtype: "uint32" }).cumsum(0)), [1, 0, 7]);
  const counts = fx.tensor([true, false, true, true], { dtype: "bool" }).cumsum(0);
  t.equal(counts.dtype, "int32");
  t.same(list(counts), [1, 1, 2, 3]);
  const many = fx.full([100_000], 2 ** 31 - 1, { dtype: "int32" }).cumsum(0);
  t.equal(list(many)[99_999], Number(BigInt.asIntN(32, 100_000n * (2n ** 31n - 1n))), "exact however long");
});

onEach("cumsum adds float32 in double and rounds each result", (t) => {
  const tenths = list(fx.full([3 * 2 ** 16], 0.1).cumsum(0));
  const exact = Math.fround(0.1);
  t.ok(
    tenths.every((y, i) => y === Math.fround((i + 1) * exact)),
    "as one rounding of the exact sum",
  );
  const small = fx.tensor([2 ** 24, 1, 1, -(2 ** 24)]).cumsum(0);
  t.same(list(small), [2 ** 24, 2 ** 24, 2 ** 24 + 2, 2]);
});

onEach("cumsum keeps what is not finite, and empty axes", (t) => {
  const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
  t.same(list(fx.tensor([1, inf, 2, -inf, 3]).cumsum(0)), [1, inf, inf, nan, nan]);
  t.same(list(fx.tensor([[1, nan, 2]]).cumsum(1, { reverse: true })), [nan, nan, 2]);
  t.same(fx.zeros([2, 0, 3]).cumsum(1).shape, [2, 0, 3]);
  t.same(fx.zeros([0]).cumsum().shape, [0]);
});

onEach("the gradient of cumsum is the sum from the other end", (t) => {
  const weights = fx.tensor([1, 10, 100]);
  const g = fx.grad((x: fx.Tensor) => x.cumsum(0).mul(weights).sum())(fx.tensor([1, 2, 3]));
  t.same(list(g), [111, 110, 100]);
  const back = fx.grad((x: fx.Tensor) => x.cumsum(0, { reverse: true }).mul(weights).sum())(fx.zeros([3]));
  t.same(list(back), [1, 11, 111]);
});

t.test("cumsum is one step, and fuses with neither side", async (t) => {
  const { plan } = fx.inspect((x: fx.Tensor) => x.exp().cumsum(1).log(), fx.ones([4, 5]));
  t.same(
    plan.steps.map((step) => step.kind),
    ["map", "cumsum", "map"],
  );
});
