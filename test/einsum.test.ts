import { readFileSync } from "node:fs";
import * as fx from "fluxion";
import t from "tap";
import { onEach } from "./support/each-backend.js";
import { operand } from "./support/operand.js";
import { Dice } from "./support/random-program.js";

type T = fx.Tensor;
type Row = [spec: string, operands: number[][], shape: number[], values: number[]];

const golden: Row[] = JSON.parse(
  readFileSync(new URL("../../test/golden/einsum.json", import.meta.url), "utf8"),
);
const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
const list = (x: T) => Array.from(x.toTypedArray());
onEach("einsum gives the values of PyTorch's", (t) => {
  for (const [spec, operands, shape, values] of golden)
    for (const dtype of ["float64", "float32"] as const) {
      const y = fx.einsum(spec, ...operands.map((s, n) => operand(s, n, dtype)));
      t.equal(y.dtype, dtype);
      t.same(y.shape, shape, `shape of ${spec}`);
      t.same(list(y), values, `${spec} in ${dtype}`);
    }
});

/** The definition: for every index of all labels, the product of the operands, added to the output's element. */
function byLoops(terms: readonly string[], output: string, operands: readonly T[]): number[] {
  const labels = [...new Set(terms.join(""))];
  const size = (label: string) =>
    Math.max(
      ...terms.flatMap((term, n) =>
        [...term].flatMap((l, axis) => (l === label ? [operands[n]!.shape[axis]!] : [])),
      ),
    );
  const sizes = labels.map(size);
  const result = new Array<number>(sizeOf([...output].map(size))).fill(0);
  const data = operands.map(list);
  for (let flat = 0; flat < sizeOf(sizes); flat++) {
    const index = new Map<string, number>();
    let rest = flat;
    for (let k = labels.length - 1; k >= 0; k--) {
      index.set(labels[k]!, rest % sizes[k]!);
      rest = Math.floor(rest / sizes[k]!);
    }
    const place = (term: string, shape: readonly number[]) =>
      [...term].reduce((at, l, axis) => at * shape[axis]! + (shape[axis] === 1 ? 0 : index.get(l)!), 0);
    const product = terms.reduce((p, term, n) => p * data[n]![place(term, operands[n]!.shape)]!, 1);
    result[place(output, [...output].map(size))]! += product;
  }
  return result;
}

onEach("random specifications give what loops over all indices give", (t) => {
  const wrong: string[] = [];
  for (let seed = 0; seed < 150; seed++) {
    const dice = new Dice(seed);
    const alphabet = [..."abcXyz"].slice(0, 2 + dice.below(5));
    const sizes = new Map(alphabet.map((label) => [label, 1 + dice.below(4)]));
    const terms = Array.from({ length: 1 + dice.below(4) }, () =>
      Array.from({ length: dice.below(4) }, () => dice.pick(alphabet)).join(""),
    );
    const operands = terms.map((term) => {
      // Now and then an axis of size 1 that broadcasts; never in a diagonal.
      const shape = [...term].map((label) =>
        dice.chance(0.15) && term.split(label).length === 2 ? 1 : sizes.get(label)!,
      );
      const data = Array.from({ length: sizeOf(shape) }, () => dice.below(9) - 4);
      return fx.tensor(data, { shape, dtype: "int32" });
    });
    const used = [...new Set(terms.join(""))];
    const output = used
      .filter(() => dice.chance(0.5))
      .sort(() => dice.unit() - 0.5)
      .join("");
    const spec = `${terms.join(",")}->${output}`;
    const got = list(fx.einsum(spec, ...operands));
    if (String(got) !== String(byLoops(terms, output, operands)))
      wrong.push(`${spec} of ${operands.map((x) => `[${x.shape}]`)}`);
  }
  t.same(wrong, []);
});

onEach("einsum's derivatives are those of central differences", (t) => {
  // biome-ignore format: a table
  const specs: [string, ...number[][]][] = [
    ["ij,jk->ki", [2, 3], [3, 2]], ["ii->i", [3, 3]], ["iij,jk->k", [2, 2, 3], [3, 2]], ["i,j->ij", [2], [3]],
    ["bij,bj->bi", [2, 2, 3], [2, 3]], ["...ij,jk->...ik", [2, 2, 3], [3, 2]], ["ij,jk,kl->", [2, 3], [3, 2], [2, 2]],
    ["bqhd,bkhd->bhqk", [1, 2, 2, 3], [1, 3, 2, 3]], ["ij,ij->i", [2, 1], [1, 3]], ["i,i,i->", [3], [3], [3]],
    ["ij->", [2, 3]],
  ];
  for (const [spec, ...shapes] of specs) {
    const args = shapes.map((shape, n) => operand(shape, n));
    t.doesNotThrow(() => fx.checkGrads((...x: T[]) => fx.sin(fx.einsum(spec, ...x)), args), spec);
  }
  t.doesNotThrow(() =>
    fx.checkGrads((x: T) => fx.einsum("ij,jk,kl->il", x, x, x), [operand([2, 2], 0)], { order: 3 }),
  );
});

onEach("a diagonal takes nothing from beside it", (t) => {
  const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
  const x = fx.tensor([
    [1, nan, inf],
    [nan, 2, nan],
    [-inf, nan, 3],
  ]);
  t.same(list(fx.einsum("ii->i", x)), [1, 2, 3]);
  t.equal(fx.einsum("ii", x).item(), 6);
  const g = fx.grad((y: T) => fx.square(fx.einsum("ii", y)))(x);
  t.same(list(g), [12, 0, 0, 0, 12, 0, 0, 0, 12]);
});

onEach("einsum of integers wraps, and of empty axes is zero", (t) => {
  const big = fx.full([2, 2], 2 ** 30, { dtype: "int32" });
  const two = fx.full([2], 2, { dtype: "int32" });
  t.same(list(fx.einsum("ij,j->i", big, two)), [0, 0]);
  t.same(fx.einsum("ij,jk->ik", fx.ones([2, 0]), fx.ones([0, 3])).toArray(), [
    [0, 0, 0],
    [0, 0, 0],
  ]);
  t.same(fx.einsum("ij,jk->ik", fx.ones([0, 2]), fx.ones([2, 3])).shape, [0, 3]);
  t.equal(
    fx.einsum("ij,ij->", fx.ones([0, 2]), fx.ones([1, 2])).item(),
    0,
    "an axis of size 1 repeats no times",
  );
});

const kinds = (spec: string, ...shapes: number[][]) =>
  fx
    .inspect((...x: T[]) => fx.einsum(spec, ...x), ...shapes.map((shape) => fx.ones(shape)))
    .plan.steps.map((step) => step.kind);

t.test("a contraction is one product, over views of its operands", async (t) => {
  t.same(kinds("ij,jk->ik", [20, 30], [30, 40]), ["matmul"]);
  t.same(kinds("ij,jk->ki", [20, 30], [30, 40]), ["matmul"], "in the output's order");
  t.same(kinds("ji,kj->ik", [30, 20], [40, 30]), ["matmul"]);
  t.same(kinds("bqhd,bkhd->bhqk", [2, 8, 4, 6], [2, 9, 4, 6]), ["matmul"], "attention's scores");
  t.equal(kinds("ij,j->i", [20, 30], [30])[0], "matmul");
  t.same(kinds("bi,bi->b", [3, 50], [3, 50]), ["reduce"], "a dot product a row");
  t.same(kinds("i,j->ij", [30], [50]), ["map"], "an outer product");
  t.same(kinds("ij,jk,kl->il", [2, 30], [30, 40], [40, 3]).sort(), ["matmul", "matmul"]);
});

t.test("the pair with the smallest result comes first", async (t) => {
  // x [100, 2], y [2, 100], z [100]: y z first costs 200 multiplications, x y 20,000.
  const { plan } = fx.inspect(
    (x: T, y: T, z: T) => fx.einsum("ij,jk,k->i", x, y, z),
    fx.ones([100, 2]),
    fx.ones([2, 100]),
    fx.ones([100]),
  );
  t.ok(Math.max(...plan.buffers.map((b) => b.size)) <= 200, "nothing is larger than the operands");
});

t.test("errors quote the specification and name the operand", async (t) => {
  const f = (...shape: number[]) => fx.ones(shape);
  const refused: [string, T[], string, RegExp][] = [
    ["ij,jk", [f(2, 3)], "ValueError", /einsum "ij,jk": 2 terms for 1 operands/],
    ["i", [f(2), f(2)], "ValueError", /1 term for 2 operands/],
    ["i1", [f(2, 2)], "ValueError", /"1" in "i1" is no index/],
    ["i..j", [f(2, 2)], "ValueError", /"\." in "i\.\.j" is no index/],
    ["i...j...", [f(2, 2)], "ValueError", /more than one ellipsis/],
    ["i->i->i", [f(2)], "ValueError", /more than one "->"/],
    ["i->ij", [f(2)], "ValueError", /index j of the output is in no operand/],
    ["i->ii", [f(2)], "ValueError", /index i is twice in the output/],
    ["i->i,", [f(2)], "ValueError", /"," in "i," is no index/],
    ["i...->i", [f(2, 3)], "ValueError", /the output "i" needs an ellipsis/],
    ["ij,jk", [f(2, 3), f(3)], "ShapeError", /operand 1 of shape \[3\] has 1 axes, "jk" names 2/],
    ["i...j", [f(2)], "ShapeError", /operand 0 of shape \[2\] has 1 axes, "i\.\.\.j" names 2/],
    [
      "ij,jk",
      [f(2, 3), f(4, 2)],
      "ShapeError",
      /einsum "ij,jk": index j is 3 in operand 0 and 4 in operand 1/,
    ],
    ["ii", [f(2, 3)], "ShapeError", /index i is 2 and 3 in operand 0/],
    ["ii", [f(1, 3)], "ShapeError", /index i is 1 and 3 in operand 0/],
    [
      "...i,...i",
      [f(2, 3), f(4, 3)],
      "ShapeError",
      /an axis under "\.\.\." is 2 in operand 0 and 4 in operand 1/,
    ],
    ["i,i", [f(2), fx.ones([2], { dtype: "float64" })], "DTypeError", /float32 and, of operand 1, float64/],
    ["i", [fx.ones([2], { dtype: "bool" })], "DTypeError", /needs numbers, got bool/],
  ];
  for (const [spec, operands, name, message] of refused)
    t.throws(() => fx.einsum(spec, ...operands), { name, message }, spec);
  t.throws(() => fx.einsum(f(2) as never, f(2)), {
    name: "ValueError",
    message: /specification is a string/,
  });
  t.throws(() => fx.einsum("i", [1] as never), {
    name: "ValueError",
    message: /operand 0: expected a Tensor/,
  });
  t.throws(() => fx.einsum(""), { name: "ValueError", message: /1 term for 0 operands/ });
});
