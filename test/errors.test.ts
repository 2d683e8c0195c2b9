import { readFileSync } from "node:fs";
import * as fx from "fluxion";
import ndarray from "ndarray";
import t, { type Test } from "tap";
import { onEach } from "./support/each-backend.js";

/** The library's functions by name. */
const byName = { ...fx };

type ErrorName = "ShapeError" | "DTypeError" | "ValueError" | "TraceError" | "BackendError";
/** A faulty call, the error's class, and words that its message must have. */
type Case = [() => unknown, ErrorName, ...string[]];

function refuse(t: Test, cases: readonly Case[]): void {
  for (const [call, name, ...words] of cases) {
    const title = `${call.toString().slice(6)} is a ${name}`;
    try {
      call();
      t.fail(`${title}: nothing was thrown`);
    } catch (error) {
      const { message } = error as Error;
      const missing = words.filter((word) => !message.includes(word));
      if (!(error instanceof fx.FluxionError)) t.fail(`${title}: got ${String(error)}`);
      else if (!(error instanceof byName[name]) || error.name !== name)
        t.fail(`${title}: got ${error.name}: ${message}`);
      else if (missing.length > 0) t.fail(`${title}: "${message}" lacks ${missing.join(" and ")}`);
      else t.pass(title);
    }
  }
}

const f = (shape: readonly number[]) => fx.zeros(shape);
const d = (shape: readonly number[]) => fx.zeros(shape, { dtype: "float64" });
const i = (shape: readonly number[]) => fx.zeros(shape, { dtype: "int32" });
const u = (shape: readonly number[]) => fx.zeros(shape, { dtype: "uint32" });
const b = (shape: readonly number[]) => fx.zeros(shape, { dtype: "bool" });
/** A value of a wrong type, as JavaScript may give it. */
// biome-ignore lint/suspicious/noExplicitAny: that is the point.
const wrong = (value: unknown): any => value;

t.test("every error is a FluxionError with its own name", async (t) => {
  for (const name of [
    "ShapeError",
    "DTypeError",
    "ValueError",
    "TraceError",
    "BackendError",
    "FileError",
    "NonFiniteError",
  ] as const) {
    const error = new byName[name]("what is needed", { cause: "because" });
    t.ok(error instanceof fx.FluxionError && error instanceof Error);
    t.equal(error.name, name);
    t.equal(error.cause, "because");
  }
});

t.test("tensor: ragged arrays, counts, and what is no number", async (t) => {
  refuse(t, [
    [() => fx.tensor([[1, 2], [3]]), "ShapeError", "ragged", "axis 1", "2", "1"],
    [() => fx.tensor([[1, 2], 3]), "ShapeError", "ragged", "number"],
    [() => fx.tensor([1, [2]]), "ShapeError", "ragged"],
    [() => fx.tensor([[], [1]]), "ShapeError", "ragged", "0", "1"],
    [() => fx.tensor([[[1]], [[1, 2]]]), "ShapeError", "ragged", "axis 2"],
    [() => fx.tensor([1, 2, 3], { shape: [2, 2] }), "ShapeError", "[2, 2]", "4", "3"],
    [() => fx.tensor(new Float32Array(5), { shape: [2, 3] }), "ShapeError", "[2, 3]", "6", "5"],
    [() => fx.tensor([1], { shape: wrong(1) }), "ShapeError", "array of whole numbers"],
    [() => fx.tensor([1], { shape: [-1] }), "ShapeError", "[-1]"],
    [() => fx.tensor([1], { shape: [1.5] }), "ShapeError", "1.5"],
    [() => fx.tensor([1], { shape: [wrong("1")] }), "ShapeError", "whole numbers"],
    [() => fx.tensor(wrong("12")), "ValueError", "string"],
    [() => fx.tensor(wrong(["1"])), "ValueError", "string"],
    [() => fx.tensor(wrong([null])), "ValueError", "null"],
    [() => fx.tensor(wrong(undefined)), "ValueError", "undefined"],
    [() => fx.tensor(wrong({})), "ValueError", "object"],
    [() => fx.tensor(wrong(1n)), "ValueError", "bigint"],
    [() => fx.tensor(wrong(BigInt64Array.of(1n))), "DTypeError", "BigInt64Array", "Float32Array"],
    [() => fx.tensor(wrong(Uint8ClampedArray.of(1))), "DTypeError", "Uint8ClampedArray"],
    [() => fx.tensor(wrong(new DataView(new ArrayBuffer(8)))), "DTypeError", "DataView"],
    [() => fx.tensor([1], { dtype: wrong("float16") }), "DTypeError", "float16", "float32", "uint32"],
    [() => fx.tensor([1], { dtype: wrong(32) }), "DTypeError", "32"],
    [() => fx.tensor([1], { dtype: wrong("toString") }), "DTypeError", "toString"],
    [() => fx.tensor([1.5], { dtype: "int32" }), "DTypeError", "1.5", "int32"],
    [() => fx.tensor([0, -1], { dtype: "uint32" }), "DTypeError", "element 1", "-1", "uint32"],
    [() => fx.tensor([2 ** 31], { dtype: "int32" }), "DTypeError", "2147483648", "int32"],
    [() => fx.tensor([2 ** 32], { dtype: "uint32" }), "DTypeError", "4294967296"],
    [() => fx.tensor([2], { dtype: "bool" }), "DTypeError", "2", "bool"],
    [() => fx.tensor([Number.NaN], { dtype: "int32" }), "DTypeError", "NaN"],
    [() => fx.tensor(Float64Array.of(0.5), { dtype: "int32" }), "DTypeError", "0.5"],
    [() => fx.tensor(Uint32Array.of(2 ** 31), { dtype: "int32" }), "DTypeError", "2147483648"],
    [() => f([2]).item(), "ValueError", "item", "[2]"],
    [() => f([0]).item(), "ValueError", "[0]"],
  ]);
});

t.test("zeros, ones, full, eye, arange and linspace", async (t) => {
  refuse(t, [
    [() => fx.zeros(wrong(3)), "ShapeError", "zeros", "3"],
    [() => fx.zeros([2, -3]), "ShapeError", "zeros", "-3"],
    [() => fx.ones([0.5]), "ShapeError", "ones", "0.5"],
    [() => fx.ones([1], { dtype: wrong("int64") }), "DTypeError", "ones", "int64", "int32"],
    [() => fx.full([Number.NaN], 1), "ShapeError", "full"],
    [() => fx.full([1], 1.5, { dtype: "int32" }), "DTypeError", "full", "1.5", "int32"],
    [() => fx.full([1], -1, { dtype: "uint32" }), "DTypeError", "-1", "uint32"],
    [() => fx.full([1], wrong("1")), "DTypeError", "full"],
    [() => fx.eye(-1), "ShapeError", "eye", "-1"],
    [() => fx.eye(2.5), "ShapeError", "eye", "2.5"],
    [() => fx.eye(2, 2, { dtype: wrong("f4") }), "DTypeError", "eye", "f4"],
    [() => fx.arange(Number.NaN), "ValueError", "arange", "NaN"],
    [() => fx.arange(0, 5, 0), "ValueError", "arange", "step"],
    [() => fx.arange(0, Number.POSITIVE_INFINITY), "ValueError", "Infinity"],
    [() => fx.arange(-2, 2, 1, { dtype: "uint32" }), "DTypeError", "-2", "uint32"],
    [() => fx.arange(0, 2, 0.5, { dtype: "int32" }), "DTypeError", "0.5", "int32"],
    [() => fx.linspace(0, 1, -1), "ShapeError", "linspace", "-1"],
    [() => fx.linspace(0, 1, 1.5), "ShapeError", "1.5"],
    [() => fx.linspace(0, 1, 3, { dtype: "int32" }), "DTypeError", "linspace", "int32"],
    [() => fx.linspace(Number.NaN, 1, 3), "ValueError", "NaN"],
  ]);
});

t.test("elementwise operations: shapes, dtypes, and what is no tensor", async (t) => {
  const binary = [
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "remainder",
    "maximum",
    "minimum",
    "equal",
    "notEqual",
    "greater",
    "greaterEqual",
    "less",
    "lessEqual",
  ] as const;
  for (const name of binary) {
    const op = byName[name];
    refuse(t, [
      [() => op(f([2, 3]), f([2, 4])), "ShapeError", name, "[2, 3]", "[2, 4]"],
      [() => op(f([3]), f([2])), "ShapeError", "[3]", "[2]"],
      [() => op(f([0]), f([2])), "ShapeError", "[0]", "[2]"],
      [() => op(f([2]), d([2])), "DTypeError", name, "float32", "float64", "cast"],
      [() => op(i([2]), u([2])), "DTypeError", "int32", "uint32"],
      [() => op(f([2]), wrong([1, 2])), "ValueError", name, "array", "tensor("],
      [() => op(wrong("x"), f([2])), "ValueError", name, "string"],
      [() => op(f([2]), wrong(undefined)), "ValueError", name, "undefined"],
      [() => op(f([2]), wrong(null)), "ValueError", "null"],
      [() => f([2])[name](f([3])), "ShapeError", "[2]", "[3]"],
    ]);
  }
  for (const name of ["add", "sub", "mul", "remainder", "maximum", "minimum", "div", "pow"] as const)
    refuse(t, [[() => byName[name](b([2]), b([2])), "DTypeError", name, "bool", "cast"]]);
  for (const name of ["div", "pow"] as const)
    refuse(t, [[() => byName[name](i([2]), i([2])), "DTypeError", name, "int32", "float32"]]);
  for (const name of ["add", "mul", "maximum", "greater"] as const)
    refuse(t, [
      [() => byName[name](i([2]), 1.5), "DTypeError", name, "1.5", "int32"],
      [() => byName[name](u([2]), -1), "DTypeError", name, "-1", "uint32"],
      [() => byName[name](i([2]), 2 ** 31), "DTypeError", "2147483648", "int32"],
      [() => byName[name](i([2]), Number.NaN), "DTypeError", "NaN"],
    ]);
  for (const name of ["logicalAnd", "logicalOr"] as const)
    refuse(t, [
      [() => byName[name](f([2]), f([2])), "DTypeError", name, "bool", "float32"],
      [() => byName[name](b([2]), b([3])), "ShapeError", name, "[2]", "[3]"],
      [() => byName[name](b([2]), i([2])), "DTypeError", "bool", "int32"],
    ]);
  const floatOnly = [
    "sqrt",
    "rsqrt",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sin",
    "cos",
    "tanh",
    "erf",
    "sigmoid",
    "gelu",
    "silu",
    "softplus",
    "floor",
    "round",
    "isFinite",
  ] as const;
  for (const name of floatOnly)
    refuse(t, [
      [() => byName[name](i([2])), "DTypeError", name, "float32", "int32", "cast"],
      [() => byName[name](b([2])), "DTypeError", name, "bool"],
    ]);
  for (const name of ["neg", "abs", "sign", "square", "relu"] as const)
    refuse(t, [[() => byName[name](b([2])), "DTypeError", name, "bool", "cast"]]);
  for (const name of [...floatOnly, "neg", "abs", "sign", "square", "relu"] as const)
    refuse(t, [
      [() => byName[name](wrong([1])), "ValueError", name, "array"],
      [() => byName[name](wrong(undefined)), "ValueError", name, "undefined"],
    ]);
  refuse(t, [
    [() => fx.logicalNot(f([1])), "DTypeError", "logicalNot", "bool", "float32"],
    [() => fx.where(f([2]), f([2]), f([2])), "DTypeError", "where", "bool", "float32"],
    [() => fx.where(wrong(1), f([2]), f([2])), "DTypeError", "where", "bool"],
    [() => fx.where(b([2]), f([2]), d([2])), "DTypeError", "where", "float32", "float64"],
    [() => fx.where(b([2]), f([3]), f([3])), "ShapeError", "where", "[2]", "[3]"],
    [() => fx.where(b([2]), f([2]), f([3])), "ShapeError", "where", "[2]", "[3]"],
    [() => fx.where(b([2]), i([2]), 0.5), "DTypeError", "where", "0.5", "int32"],
    [() => fx.where(b([2]), wrong([1]), f([2])), "ValueError", "where", "array"],
    [() => fx.clip(f([2]), 3, 1), "ValueError", "clip", "3", "1"],
    [() => fx.clip(wrong([2]), 0, 1), "ValueError", "clip", "array"],
    [() => fx.clip(i([2]), 0.5), "DTypeError", "0.5", "int32"],
    [() => fx.cast(f([1]), wrong("complex64")), "DTypeError", "cast", "complex64", "float64"],
    [() => fx.cast(f([1]), wrong(undefined)), "DTypeError", "cast"],
    [() => fx.cast(wrong([1]), "int32"), "ValueError", "cast", "array"],
  ]);
});

t.test("reductions: axes, dtypes and empty tensors", async (t) => {
  const all = ["sum", "mean", "variance", "max", "min", "prod", "logsumexp"] as const;
  for (const name of all) {
    const op = byName[name];
    refuse(t, [
      [() => op(f([2, 3]), 2), "ShapeError", name, "axis 2", "rank 2"],
      [() => op(f([2, 3]), -3), "ShapeError", name, "axis -3", "rank 2"],
      [() => op(f([2, 3]), [0, 0]), "ShapeError", name, "[0, 0]"],
      [() => op(f([2, 3]), [1, -1]), "ShapeError", name, "repeat"],
      [() => op(f([2]), 0.5), "ShapeError", name, "0.5"],
      [() => op(f([]), 0), "ShapeError", name, "rank 0"],
      [() => op(wrong([1, 2])), "ValueError", name, "array"],
      [() => op(wrong(3)), "ValueError", name, "number"],
      [() => f([2])[name](1), "ShapeError", "axis 1"],
    ]);
  }
  for (const name of ["argmax", "argmin"] as const)
    refuse(t, [
      [() => byName[name](f([2, 3]), 2), "ShapeError", name, "axis 2", "rank 2"],
      [() => byName[name](wrong([1])), "ValueError", name, "array"],
      [() => byName[name](f([0])), "ShapeError", name, "[0]"],
      [() => byName[name](f([3, 0]), 1), "ShapeError", name, "[3, 0]"],
    ]);
  for (const name of ["mean", "variance", "max", "min", "logsumexp"] as const)
    refuse(t, [
      [() => byName[name](f([0])), "ShapeError", name, "[0]"],
      [() => byName[name](f([2, 0]), 1), "ShapeError", name, "[2, 0]", "[1]"],
      [() => byName[name](f([2, 0, 3]), [0, 1]), "ShapeError", name, "[2, 0, 3]"],
    ]);
  for (const name of ["mean", "variance", "logsumexp", "softmax", "logSoftmax"] as const)
    refuse(t, [
      [() => byName[name](i([2])), "DTypeError", name, "float32", "int32"],
      [() => byName[name](b([2])), "DTypeError", name, "bool"],
    ]);
  for (const name of ["softmax", "logSoftmax"] as const)
    refuse(t, [
      [() => byName[name](f([2]), 1), "ShapeError", name, "axis 1", "rank 1"],
      [() => byName[name](f([])), "ShapeError", name, "rank 0"],
      [() => byName[name](f([2, 0])), "ShapeError", name, "[2, 0]"],
      [() => byName[name](wrong([1])), "ValueError", name, "array"],
    ]);
  refuse(t, [
    [() => fx.prod(b([2])), "DTypeError", "prod", "bool"],
    [() => fx.argsort(f([])), "ShapeError", "argsort", "scalar"],
    [() => fx.cumsum(wrong([1])), "ValueError", "cumsum", "array"],
    [() => fx.cumsum(f([2, 3]), 2), "ShapeError", "cumsum", "axis 2", "rank 2"],
    [() => fx.cumsum(f([2]), 0, wrong({ revers: true })), "ValueError", "cumsum", "revers"],
    [() => fx.cumsum(f([2]), 0, { reverse: wrong(1) }), "ValueError", "cumsum", "reverse", "1"],
    [() => fx.argsort(wrong([1])), "ValueError", "argsort", "array"],
  ]);
});

t.test("matmul: inner sizes, batches, dtypes, ranks", async (t) => {
  refuse(t, [
    [() => fx.matmul(f([3, 4]), f([5, 6])), "ShapeError", "matmul: inner dimensions differ: [3, 4] x [5, 6]"],
    [() => fx.matmul(f([3]), f([4])), "ShapeError", "[3] x [4]"],
    [() => fx.matmul(f([2, 3]), f([2])), "ShapeError", "[2, 3] x [2]"],
    [() => fx.matmul(f([3]), f([2, 3])), "ShapeError", "[3] x [2, 3]"],
    [() => fx.matmul(f([2, 2, 3]), f([3, 3, 4])), "ShapeError", "matmul", "[2, 2, 3]", "[3, 3, 4]"],
    [() => fx.matmul(f([0, 3]), f([2, 0])), "ShapeError", "[0, 3] x [2, 0]"],
    [() => fx.matmul(f([]), f([2])), "ShapeError", "matmul", "[] x [2]"],
    [() => fx.matmul(f([2]), f([])), "ShapeError", "[2] x []"],
    [() => fx.matmul(f([2, 2]), d([2, 2])), "DTypeError", "matmul", "float32", "float64", "cast"],
    [() => fx.matmul(b([2, 2]), b([2, 2])), "DTypeError", "matmul", "bool"],
    [() => fx.matmul(wrong([[1]]), f([1, 1])), "ValueError", "matmul", "array"],
    [() => fx.matmul(f([1, 1]), wrong(2)), "ValueError", "matmul", "number"],
  ]);
});

t.test("operations on shapes", async (t) => {
  refuse(t, [
    [() => fx.transpose(f([2, 3]), [0]), "ShapeError", "transpose", "[0]", "[2, 3]"],
    [() => fx.transpose(f([2, 3]), [0, 0]), "ShapeError", "transpose", "[0, 0]", "[2, 3]"],
    [() => fx.transpose(f([2, 3]), [0, -2]), "ShapeError", "transpose"],
    [() => fx.transpose(f([2, 3]), [0, 2]), "ShapeError", "transpose", "axis 2", "rank 2"],
    [() => fx.transpose(f([2, 3]), [0, 1, 2]), "ShapeError", "transpose"],
    [() => fx.transpose(wrong([[1]])), "ValueError", "transpose", "array"],
    [() => fx.reshape(f([2, 3]), [4]), "ShapeError", "reshape", "[2, 3]", "6", "[4]", "4"],
    [() => fx.reshape(f([2, 3]), [4, -1]), "ShapeError", "reshape", "[2, 3]", "6", "[4, -1]"],
    [() => fx.reshape(f([2, 3]), [-1, -1]), "ShapeError", "reshape", "-1"],
    [() => fx.reshape(f([2, 3]), [-2, 3]), "ShapeError", "reshape", "-2"],
    [() => fx.reshape(f([0]), [0, -1]), "ShapeError", "reshape", "[0, -1]"],
    [() => fx.reshape(f([6]), wrong(6)), "ShapeError", "reshape", "array", "6"],
    [() => fx.reshape(f([6]), [1.5, 4]), "ShapeError", "1.5"],
    [() => fx.reshape(wrong([1]), [1]), "ValueError", "reshape", "array"],
    [() => fx.broadcastTo(f([2, 3]), [3]), "ShapeError", "broadcastTo", "[2, 3]", "[3]"],
    [() => fx.broadcastTo(f([2]), [3]), "ShapeError", "broadcastTo", "[2]", "[3]"],
    [() => fx.broadcastTo(f([3]), [1]), "ShapeError", "broadcastTo", "[3]", "[1]"],
    [() => fx.broadcastTo(f([2]), [-1]), "ShapeError", "-1"],
    [() => fx.broadcastTo(wrong(1), [2]), "ValueError", "broadcastTo", "number"],
    [() => fx.expandDims(f([2]), 2), "ShapeError", "expandDims", "axis 2"],
    [() => fx.expandDims(f([2]), -3), "ShapeError", "expandDims", "axis -3"],
    [() => fx.expandDims(f([2]), wrong(undefined)), "ShapeError", "expandDims", "undefined"],
    [() => fx.expandDims(wrong([2]), 0), "ValueError", "expandDims", "array"],
    [() => fx.squeeze(f([2, 1]), 0), "ShapeError", "squeeze", "axis 0", "[2, 1]", "2"],
    [() => fx.squeeze(f([2, 1]), 2), "ShapeError", "squeeze", "axis 2", "rank 2"],
    [() => fx.squeeze(f([1, 1]), [0, 0]), "ShapeError", "squeeze", "repeat"],
    [() => fx.squeeze(wrong([2])), "ValueError", "squeeze", "array"],
    [() => fx.concat([]), "ValueError", "concat", "at least one"],
    [() => fx.concat(wrong(f([2]))), "ValueError", "concat", "array"],
    [() => fx.concat([f([2]), wrong([1])]), "ValueError", "concat", "array"],
    [() => fx.concat([f([2, 3]), f([3, 3])], 1), "ShapeError", "concat", "[2, 3]", "[3, 3]", "axis 1"],
    [() => fx.concat([f([2]), f([2, 1])]), "ShapeError", "concat", "[2]", "[2, 1]"],
    [() => fx.concat([f([2]), d([2])]), "DTypeError", "concat", "float32", "float64"],
    [() => fx.concat([f([2]), f([2])], 1), "ShapeError", "concat", "axis 1", "rank 1"],
    [() => fx.concat([f([]), f([])]), "ShapeError", "concat", "rank 0"],
    [() => fx.stack([]), "ValueError", "stack", "at least one"],
    [() => fx.stack([f([2]), f([3])]), "ShapeError", "stack", "[2]", "[3]"],
    [() => fx.stack([f([2]), i([2])]), "DTypeError", "float32", "int32"],
    [() => fx.stack([f([2])], 2), "ShapeError", "stack", "axis 2"],
    [() => fx.stack([wrong(1)]), "ValueError", "stack", "number"],
    [() => fx.split(f([5]), 2), "ShapeError", "split", "5", "2"],
    [() => fx.split(f([5]), 0), "ShapeError", "split", "0"],
    [() => fx.split(f([4]), 1.5), "ShapeError", "split", "1.5"],
    [() => fx.split(f([5]), [2, 2]), "ShapeError", "split", "[2, 2]", "5"],
    [() => fx.split(f([5]), [6, -1]), "ShapeError", "split", "-1"],
    [() => fx.split(f([5]), 1, 1), "ShapeError", "split", "axis 1", "rank 1"],
    [() => fx.split(wrong([5]), 1), "ValueError", "split", "array"],
    [() => fx.slice(f([3, 4]), [0], [1]), "ShapeError", "slice", "2 axes", "[3, 4]"],
    [() => fx.slice(f([3, 4]), [0, 2], [3, 3]), "ShapeError", "slice", "[0, 2]", "[3, 3]", "[3, 4]"],
    [() => fx.slice(f([3]), [-1], [1]), "ShapeError", "slice", "[-1]"],
    [() => fx.slice(f([3]), [4], [-1]), "ShapeError", "slice", "[4]", "[3]"],
    [() => fx.slice(f([3]), [0], [-2]), "ShapeError", "slice", "[-2]"],
    [() => fx.slice(f([3]), [0.5], [1]), "ShapeError", "slice", "0.5"],
    [() => fx.slice(f([3]), wrong(0), wrong(1)), "ShapeError", "slice"],
    [() => fx.slice(wrong([3]), [0], [1]), "ValueError", "slice", "array"],
    [() => fx.pad(f([2, 2]), [[1, 1]]), "ShapeError", "pad", "2 axes", "[2, 2]"],
    [() => fx.pad(f([2]), [[-1, 0]]), "ShapeError", "pad", "-1"],
    [() => fx.pad(f([2]), [[0.5, 0]]), "ShapeError", "pad", "0.5"],
    [() => fx.pad(f([2]), wrong([1])), "ShapeError", "pad", "[before, after]"],
    [() => fx.pad(f([2]), wrong([[1, 1, 1]])), "ShapeError", "pad"],
    [() => fx.pad(b([2]), [[1, 1]]), "DTypeError", "pad", "bool"],
    [() => fx.pad(wrong([2]), [[1, 1]]), "ValueError", "pad", "array"],
    [() => fx.flip(f([2]), 1), "ShapeError", "flip", "axis 1", "rank 1"],
    [() => fx.flip(f([2, 2]), [0, -2]), "ShapeError", "flip", "repeat"],
    [() => fx.flip(wrong([2])), "ValueError", "flip", "array"],
  ]);
});

onEach("take and oneHot: dtypes, axes, and indices out of range", async (t) => {
  const x = fx.tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  const index = (list: number[], dtype: fx.DType = "int32") => fx.tensor(list, { dtype });
  refuse(t, [
    [() => fx.take(x, f([2])), "DTypeError", "take", "int32", "float32"],
    [() => fx.take(x, b([2])), "DTypeError", "take", "bool"],
    [() => fx.take(x, wrong([0])), "ValueError", "take", "array"],
    [() => fx.take(x, wrong(0)), "ValueError", "take", "number"],
    [() => fx.take(wrong([1]), index([0])), "ValueError", "take", "array"],
    [() => fx.take(x, index([0]), 2), "ShapeError", "take", "axis 2", "rank 2"],
    [() => fx.take(f([0, 2]), index([0])), "ShapeError", "take", "[0, 2]"],
    [() => fx.oneHot(f([2]), 3), "DTypeError", "oneHot", "float32", "int32"],
    [() => fx.oneHot(index([0]), -1), "ValueError", "oneHot", "-1"],
    [() => fx.oneHot(index([0]), 1.5), "ValueError", "oneHot", "1.5"],
    [() => fx.oneHot(wrong([0]), 2), "ValueError", "oneHot", "array"],
    [() => fx.oneHot(index([0]), 2, { dtype: wrong("half") }), "DTypeError", "oneHot", "half"],
  ]);
  const outside: [number[], number, fx.DType, string, string][] = [
    [[0, 2], 0, "int32", "2", "2"],
    [[0, -3], 0, "int32", "-3", "2"],
    [[3], 1, "int32", "3", "3"],
    [[-4], -1, "int32", "-4", "3"],
    [[7], 1, "uint32", "7", "3"],
    [[2 ** 31 - 1], 1, "int32", "2147483647", "3"],
    [[-(2 ** 31)], 1, "int32", "-2147483648", "3"],
  ];
  for (const [list, axis, dtype, given, size] of outside) {
    const needed = new RegExp(`${given} .*${size}`);
    t.throws(() => fx.take(x, index(list, dtype), axis), { message: needed }, `take ${list} of axis ${axis}`);
    const jitted = fx.jit((y: fx.Tensor, k: fx.Tensor) => fx.take(y, k, axis).mul(2));
    t.throws(() => jitted(x, index(list, dtype)), { message: needed }, "in jit");
    await t.rejects(jitted.async(x, index(list, dtype)), { message: needed }, "in async");
    t.same(jitted(x, index([0], dtype)).dtype, "float32", "the program still runs");
    try {
      fx.take(x, index(list, dtype), axis);
    } catch (error) {
      t.ok(error instanceof fx.FluxionError, "an error of the library's own");
    }
  }
  // 2^32 - 1 is not -1.
  for (const big of [2 ** 32 - 1, 2 ** 31, 2 ** 32 - 3])
    t.throws(
      () => fx.take(x, index([big], "uint32"), 1),
      { name: "BackendError", message: /is out of range for an axis of size/ },
      `${big} is not a negative index`,
    );
});

onEach("shapes that no memory holds are clear errors", async (t) => {
  const huge = 2 ** 40;
  const x = f([1]);
  const calls: [string, () => unknown][] = [
    ["zeros", () => fx.zeros([huge])],
    ["ones", () => fx.ones([2 ** 20, 2 ** 20], { dtype: "float64" })],
    ["full", () => fx.full([huge], 1)],
    ["eye", () => fx.eye(2 ** 20)],
    ["arange", () => fx.arange(huge)],
    ["linspace", () => fx.linspace(0, 1, huge)],
    ["broadcastTo", () => fx.broadcastTo(x, [huge])],
    ["pad", () => fx.pad(x, [[0, huge]])],
    ["jit", () => fx.jit(() => fx.zeros([huge]))()],
    ["jit of a chain", () => fx.jit((y: fx.Tensor) => fx.exp(y.broadcastTo([2 ** 20, 2 ** 20])))(x)],
    ["outer sum", () => f([2 ** 20, 1]).add(f([1, 2 ** 20]))],
    ["matmul", () => fx.matmul(f([2 ** 20, 1]), f([1, 2 ** 20]))],
    ["oneHot", () => fx.oneHot(i([2 ** 10]), 2 ** 30)],
  ];
  for (const [name, call] of calls) {
    try {
      call();
      t.fail(`${name}: nothing was thrown`);
    } catch (error) {
      t.ok(error instanceof fx.FluxionError, `${name}: an error of the library's own: ${String(error)}`);
      t.match((error as Error).message, /\d{13}|1048576, 1048576/, `${name} names the size`);
    }
  }
  await t.rejects(fx.jit(() => fx.zeros([huge])).async(), /1099511627776/);
  refuse(t, [
    [() => fx.zeros([2 ** 30, 2 ** 30]), "ShapeError", "zeros", "[1073741824, 1073741824]"],
    [() => fx.zeros([2 ** 53]), "ShapeError", "zeros"],
    [() => fx.broadcastTo(x, [2 ** 30, 2 ** 30]), "ShapeError", "broadcastTo"],
    [() => fx.pad(x, [[2 ** 52, 2 ** 52]]), "ShapeError", "pad"],
    [() => fx.random.uniform(fx.random.key(0), [huge]), "ShapeError", "2^32"],
  ]);
  t.same(x.add(1).toArray(), [1], "and the engine still works");
});

onEach("a detached or resized buffer is an error, never a crash", async (t) => {
  const detached = () => {
    const data = Float32Array.of(1, 2, 3, 4);
    const x = fx.tensor(ndarray(data, [2, 2]));
    structuredClone(data.buffer, { transfer: [data.buffer] });
    return x;
  };
  const x = detached();
  const y = fx.ones([2, 2]);
  const jitted = fx.jit((a: fx.Tensor, c: fx.Tensor) => a.matmul(c).add(1));
  jitted(y, y);
  const uses: [string, () => unknown][] = [
    ["toArray", () => x.toArray()],
    ["toTypedArray", () => x.toTypedArray()],
    ["toNdarray", () => x.toNdarray()],
    ["add", () => x.add(1)],
    ["add on the right", () => y.add(x)],
    ["sum", () => x.sum()],
    ["matmul", () => y.matmul(x)],
    ["transpose", () => x.transpose()],
    ["reshape", () => x.reshape([4])],
    ["cast", () => x.cast("int32")],
    ["concat", () => fx.concat([y, x])],
    ["take", () => x.take(i([1]))],
    ["argsort", () => x.argsort()],
    ["jit", () => jitted(x, y)],
    ["captured by jit", () => fx.jit((a: fx.Tensor) => a.mul(x))(y)],
    ["grad", () => fx.grad((a: fx.Tensor) => a.square().sum())(x)],
  ];
  for (const [name, use] of uses)
    t.throws(use, { name: /ValueError|BackendError/, message: /detached|resized/ }, name);
  await t.rejects(jitted.async(x, y), { message: /detached|resized/ });
  await t.rejects(x.read(), { message: /detached|resized/ });
  t.match(x.toString(), "detached");
  t.same(
    jitted(y, y).toArray(),
    [
      [3, 3],
      [3, 3],
    ],
    "the program still runs",
  );

  // One buffer, detached between two runs of a program that captured it.
  const data = Float32Array.of(1, 2, 3);
  const captured = fx.tensor(ndarray(data, [3]));
  const scale = fx.jit((a: fx.Tensor) => a.mul(captured));
  t.same(scale(fx.ones([3])).toArray(), [1, 2, 3]);
  structuredClone(data.buffer, { transfer: [data.buffer] });
  t.throws(() => scale(fx.ones([3])), { message: /detached|resized/ }, "detached after it was captured");

  // A buffer that shrinks and grows under a view that tracks its length.
  const Resizable = ArrayBuffer as unknown as new (
    n: number,
    options: { maxByteLength: number },
  ) => ArrayBuffer & { resize(n: number): void };
  const buffer = new Resizable(16, { maxByteLength: 64 });
  const view = new Float32Array(buffer);
  view.set([1, 2, 3, 4]);
  const z = fx.tensor(ndarray(view, [4]));
  t.same(z.add(1).toArray(), [2, 3, 4, 5]);
  for (const bytes of [8, 0]) {
    buffer.resize(bytes);
    t.throws(() => z.add(1), { message: /detached|resized/ }, `resized to ${bytes} bytes`);
    t.throws(() => z.toArray(), { message: /detached|resized/ });
  }
  buffer.resize(16);
  t.same(z.add(1).toArray(), [1, 1, 1, 1], "whole again");
});

onEach("a detached buffer while a program runs off the main thread", async (t) => {
  const data = new Float32Array(1 << 16).fill(1);
  const x = fx.tensor(ndarray(data, [256, 256]));
  const slow = fx.jit((a: fx.Tensor) => {
    let c = a;
    for (let k = 0; k < 8; k++) c = c.matmul(a).mul(1 / 256);
    return c;
  });
  const result = slow.async(x);
  structuredClone(data.buffer, { transfer: [data.buffer] });
  try {
    const y = await result;
    t.ok(
      y.toTypedArray().every((v) => v === 1),
      "the run had its data",
    );
  } catch (error) {
    t.ok(error instanceof fx.FluxionError, `an error of the library's own: ${String(error)}`);
  }
});

t.test("backends, jit and trees name what was given", async (t) => {
  refuse(t, [
    [() => fx.setBackend(wrong("gpu")), "ValueError", "gpu", "cpu", "typescript"],
    [() => fx.setBackend(wrong(undefined)), "ValueError", "cpu"],
    [() => fx.jit(wrong(3)), "ValueError", "jit", "number"],
    [() => fx.tree.map((a) => a, [f([1])], { a: f([1]) }), "ValueError", "tree.map"],
    [() => fx.tree.unflatten(fx.tree.flatten([f([1])]).structure, []), "ValueError", "1", "0"],
  ]);
  const loop: unknown[] = [];
  loop.push(loop);
  refuse(t, [[() => fx.tree.leaves(loop), "ValueError", "tree", "200"]]);
});

// ---- Where in the user's code.

const file = "test/errors.test.ts";
const source = readFileSync(file, "utf8").split("\n");

/** The place that a message must end with: the line of this file that has the comment "at <marker>". */
function placeOf(marker: string): RegExp {
  const lines = source.flatMap((line, i) => (line.endsWith(`// at ${marker}`) ? [i + 1] : []));
  if (lines.length !== 1) throw new Error(`${lines.length} lines are marked "${marker}"`);
  return new RegExp(` \\(at ${file}:${lines[0]}:\\d+\\)$`);
}

function failsAt(t: Test, marker: string, call: () => unknown): void {
  try {
    call();
    t.fail(`${marker}: nothing was thrown`);
  } catch (error) {
    if (!(error instanceof fx.FluxionError)) throw error;
    t.match(error.message, placeOf(marker), marker);
    t.equal(error.message, `${error.problem} (at ${error.location})`);
    t.match(error.stack, error.message);
  }
}

async function rejectsAt(t: Test, marker: string, promise: Promise<unknown>): Promise<void> {
  await t.rejects(promise, { message: placeOf(marker) }, marker);
}

const narrow = f([2, 3]);
const wide = f([5]);

onEach("an error names the line of the call that failed", async (t) => {
  failsAt(t, "an eager call", () => {
    fx.exp(narrow);
    fx.add(narrow, wide); // at an eager call
  });
  failsAt(t, "a method", () => {
    narrow.mul(2).add(wide); // at a method
  });
  const helper = (x: fx.Tensor) => x.matmul(wide); // at a nested function
  const outer = (x: fx.Tensor) => helper(fx.exp(x)).sum();
  failsAt(t, "a nested function", () => outer(narrow));
  failsAt(t, "a nested function", () => fx.jit(outer)(narrow));
  failsAt(t, "a nested function", () => fx.grad(outer)(narrow));
  failsAt(t, "a nested function", () => fx.vjp(outer, narrow));
  failsAt(t, "a nested function", () => fx.jvp(outer, [narrow], [narrow]));
  failsAt(t, "a nested function", () => fx.inspect(fx.jit(fx.grad(outer)), narrow));
  failsAt(t, "the call of a gradient", () => {
    const gradient = fx.grad((x: fx.Tensor) => x.mul(2));
    gradient(narrow); // at the call of a gradient
  });
  failsAt(t, "a pullback", () => {
    const [, pullback] = fx.vjp((x: fx.Tensor) => fx.exp(x), narrow);
    pullback(wide); // at a pullback
  });
  failsAt(t, "a module", () => {
    const layer = fx.nn.mlp({ sizes: [4, 8, 1] });
    layer.apply(layer.init(fx.random.key(0)), wide); // at a module
  });
  failsAt(
    t,
    "making a tensor",
    () => fx.tensor([[1, 2], [3]]), // at making a tensor
  );
});

t.test("an error names the user's line however deep in the library it arises", async (t) => {
  const field = {
    kind: "velocity" as const,
    dim: 2,
    init: () => f([2, 3]),
    apply: (params: fx.Tensor, z: fx.Tensor) => fx.matmul(params, z), // at a field inside of a trainer
  };
  const trainer = new fx.Trainer({
    model: field,
    objective: fx.flow.flowMatching(),
    data: fx.data.checkerboard(),
    optimizer: fx.optim.sgd({ learningRate: 1 }),
    batchSize: 8,
  });
  const limit = Error.stackTraceLimit;
  for (const small of [limit, 1, 0]) {
    Error.stackTraceLimit = small;
    try {
      await rejectsAt(t, "a field inside of a trainer", trainer.fit({ steps: 1 }));
      t.equal(Error.stackTraceLimit, small, "the limit stays");
    } finally {
      Error.stackTraceLimit = limit;
    }
  }
  let tree: unknown = narrow;
  for (let i = 0; i < 250; i++) tree = [tree];
  failsAt(t, "a deep tree", () => {
    fx.tree.leaves(tree as never); // at a deep tree
  });
});

onEach("an index out of range names the line that took it", async (t) => {
  const x = f([3, 2]);
  const good = i([2]).add(1);
  const bad = i([2]).add(7);
  failsAt(t, "take at once", () => {
    fx.take(x, good);
    fx.take(x, bad); // at take at once
  });
  failsAt(t, "take at once, again", () => x.take(bad)); // at take at once, again
  const first = (x: fx.Tensor, k: fx.Tensor) => x.take(k).sum(); // at take in a function
  const second = (x: fx.Tensor, k: fx.Tensor) => x.take(k).sum(); // at take in another function
  // The first call of each makes a program, which the others find in the cache.
  for (const k of [good, bad]) {
    for (const [marker, g] of [
      ["take in a function", first],
      ["take in another function", second],
    ] as const) {
      const jitted = fx.jit(g);
      const calls: [string, () => unknown][] = [
        ["jit", () => jitted(x, k)],
        ["grad", () => fx.grad(g)(x, k)],
        ["jit of grad", () => fx.jit(fx.grad(g))(x, k)],
        ["jvp", () => fx.jvp((y: fx.Tensor) => g(y, k), [x], [x])],
        ["grad of grad", () => fx.grad((y: fx.Tensor) => fx.grad(g)(y.square(), k).sum())(x)],
      ];
      for (const [how, call] of calls) {
        if (k === good) t.doesNotThrow(call, how);
        else failsAt(t, marker, call);
      }
      jitted(x, good);
      if (k === bad) await rejectsAt(t, marker, jitted.async(x, k));
    }
  }
});

onEach("an index out of range inside of loops, checkpoints, rules and batches names its line", async (t) => {
  const x = f([3]);
  const good = i([2]).add(1);
  const bad = i([2]).add(7);
  const programs: { [marker: string]: (k: fx.Tensor) => unknown } = {
    "take in a loop": (k) => fx.scan((c: fx.Tensor) => [c, c.take(k)], x, undefined, { length: 2 })[1], // at take in a loop
    "take in a loop's gradient": (k) =>
      fx.grad(
        (y: fx.Tensor) => fx.forLoop(0, 2, (_, c: fx.Tensor) => c.add(c.take(k).sum()), y).sum(), // at take in a loop's gradient
      )(x),
    "take in a checkpoint": (k) =>
      fx.grad(
        (y: fx.Tensor) => fx.checkpoint((z: fx.Tensor) => z.take(k).square().sum())(y), // at take in a checkpoint
      )(x),
    "take in a rule": (k) =>
      fx.grad((y: fx.Tensor) =>
        fx.customJvp(
          (z: fx.Tensor) => z.sum(),
          ([z], [dz]) => [z.sum(), dz.take(k).sum()], // at take in a rule
        )(y),
      )(x),
    "take in a batch": (k) =>
      fx.vmap(
        (row: fx.Tensor, own: fx.Tensor) => row.take(own), // at take in a batch
      )(fx.stack([x, x]), fx.stack([good, k])),
  };
  for (const [marker, program] of Object.entries(programs))
    for (const run of [program, fx.jit(program)]) {
      t.doesNotThrow(() => run(good), marker);
      failsAt(t, marker, () => run(bad));
    }
});

onEach("an index out of range in a batch is told as it was given", async (t) => {
  const rows = f([2, 3]);
  const k = fx.tensor([0, -4], { dtype: "int32" });
  t.throws(() => fx.vmap((row: fx.Tensor, own: fx.Tensor) => row.take(own))(rows, k), {
    name: "BackendError",
    message: /index -4 is out of range for an axis of size 3/,
  });
});

onEach("what a pullback gathers and scatters stands where the function took it", async (t) => {
  const x = f([3]);
  // The indices of the pullback's scatter are captured, and change between the two runs.
  const data = Int32Array.of(0, 1);
  const k = fx.tensor(ndarray(data, [2]));
  const [, pullback] = fx.vjp((y: fx.Tensor) => y.take(k), x); // at a pullback's take
  pullback(f([2]));
  data[1] = 9;
  failsAt(t, "a pullback's take", () => pullback(f([2])));
  data[1] = 1;
  const [, apply] = fx.linearize((y: fx.Tensor) => y.take(k), x); // at a linear program's take
  apply(x);
  data[1] = 9;
  failsAt(t, "a linear program's take", () => apply(x));
});

onEach("a loop off the main thread names the line, too", async (t) => {
  const table = f([4, 2]);
  const trainer = new fx.Trainer({
    model: fx.models.velocityMlp({ dim: 2, hidden: 8, layers: 1 }),
    objective: fx.flow.flowMatching(),
    data: {
      name: "rows",
      dim: 2,
      sample: (_key, n) => table.take(fx.arange(n)), // at data in a loop
    },
    optimizer: fx.optim.sgd({ learningRate: 0.1 }),
    batchSize: 8,
  });
  await rejectsAt(t, "data in a loop", trainer.fit({ steps: 2 }));
  trainer.dispose();
});

t.test("the reason why a backend is missing is without a line", async (t) => {
  const { reason } = fx.backends().find(({ name }) => name === "cuda")!;
  t.notMatch(reason, / \(at /);
});
