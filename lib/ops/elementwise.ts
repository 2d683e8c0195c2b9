import { ValueError } from "../errors.js";
import { checkDType, type DType } from "../tensor/dtype.js";
import { broadcastShapes } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { aligned, needBool, needFloat, needNumber, operation, single, type TensorLike } from "./operation.js";
import * as raw from "./raw.js";

type Check = (where: string, x: Tensor) => Tensor;
type Unary = (x: TensorLike) => Tensor;
type Binary = (a: TensorLike, b: TensorLike) => Tensor;

const unary = (name: string, check: Check, f: (x: Tensor) => Tensor): Unary =>
  operation((x: TensorLike) => f(check(name, single(name, x))));

const binary = (name: string, check: Check, f: (a: Tensor, b: Tensor) => Tensor): Binary =>
  operation((a: TensorLike, b: TensorLike) => {
    const [x, y] = aligned(name, [a, b]);
    check(name, x!);
    return f(x!, y!);
  });

const anything: Check = (_, x) => x;

/** -x. */
export const neg = unary("neg", needNumber, raw.neg);
/** |x|, with derivative 0 at 0. */
export const abs = unary("abs", needNumber, raw.abs);
/** -1, 0 or 1. */
export const sign = unary("sign", needNumber, raw.sign);
/** x^2. */
export const square = unary("square", needNumber, (x) => raw.mul(x, x));
/** The square root. */
export const sqrt = unary("sqrt", needFloat, raw.sqrt);
/** 1 / sqrt(x). */
export const rsqrt = unary("rsqrt", needFloat, raw.rsqrt);
/** e^x. */
export const exp = unary("exp", needFloat, raw.exp);
/** e^x - 1, accurate near 0. */
export const expm1 = unary("expm1", needFloat, raw.expm1);
/** The natural logarithm. */
export const log = unary("log", needFloat, raw.log);
/** log(1 + x), accurate near 0. */
export const log1p = unary("log1p", needFloat, raw.log1p);
export const sin = unary("sin", needFloat, raw.sin);
export const cos = unary("cos", needFloat, raw.cos);
export const tanh = unary("tanh", needFloat, raw.tanh);
/** The error function 2 / sqrt(pi) * integral of exp(-s^2) over s in [0, x]. */
export const erf = unary("erf", needFloat, raw.erf);
/** 1 / (1 + exp(-x)). */
export const sigmoid = unary("sigmoid", needFloat, raw.sigmoid);
/** max(x, 0), with derivative 0 at 0; NaN stays NaN. */
export const relu = unary("relu", needNumber, (x) =>
  raw.where(raw.lessEqual(x, raw.constantLike(x, 0)), raw.constantLike(x, 0), x),
);
/** The exact Gaussian error linear unit x Phi(x), with Phi the standard normal distribution function (by erf). */
export const gelu = unary("gelu", needFloat, (x) => raw.gelu(x));
/** x sigmoid(x), also called swish. */
export const silu = unary("silu", needFloat, (x) => raw.mul(x, raw.sigmoid(x)));
/** log(1 + exp(x)), without overflow. */
export const softplus = unary("softplus", needFloat, raw.softplus);
/** The largest whole number <= x. */
export const floor = unary("floor", needFloat, raw.floor);
/** The nearest whole number; halves go to the even one. */
export const round = unary("round", needFloat, raw.round);
/** Elementwise not. */
export const logicalNot = unary("logicalNot", needBool, raw.logicalNot);

/** a + b, broadcast. */
export const add = binary("add", needNumber, raw.add);
/** a - b, broadcast. */
export const sub = binary("sub", needNumber, raw.sub);
/** a * b, broadcast. */
export const mul = binary("mul", needNumber, raw.mul);
/** a / b, broadcast; floats only. */
export const div = binary("div", needFloat, raw.div);
/** a - b floor(a / b), which has the sign of b (as % in Python). An integer remainder by 0 is 0. */
export const remainder = binary("remainder", needNumber, raw.remainder);
/** The larger one; NaN wins; in a tie each side takes half of the gradient. */
export const maximum = binary("maximum", needNumber, raw.maximum);
/** The smaller one; NaN wins; in a tie each side takes half of the gradient. */
export const minimum = binary("minimum", needNumber, raw.minimum);
/** a^b for floats. The derivative by b takes log(a): it is NaN for a < 0. */
export const pow = binary("pow", needFloat, (a, b) => raw.pow(a, b));
export const equal = binary("equal", anything, raw.equal);
export const notEqual = binary("notEqual", anything, raw.notEqual);
export const greater = binary("greater", anything, raw.greater);
export const greaterEqual = binary("greaterEqual", anything, raw.greaterEqual);
export const less = binary("less", anything, raw.less);
export const lessEqual = binary("lessEqual", anything, raw.lessEqual);
export const logicalAnd = binary("logicalAnd", needBool, raw.logicalAnd);
export const logicalOr = binary("logicalOr", needBool, raw.logicalOr);

/** a where the condition (bool) holds, else b; all three broadcast. The gradient goes to the branch that was taken. */
export const where = operation((condition: Tensor | boolean, a: TensorLike, b: TensorLike): Tensor => {
  const c = needBool("where", single("where", condition));
  const [x, y] = aligned("where", [a, b]);
  const shape = broadcastShapes("where", c.shape, x!.shape);
  return raw.where(raw.broadcastTo(c, shape), raw.broadcastTo(x!, shape), raw.broadcastTo(y!, shape));
});

/** x limited to [low, high] (either may be undefined). */
export const clip = operation((x: TensorLike, low?: TensorLike, high?: TensorLike): Tensor => {
  if (typeof low === "number" && typeof high === "number" && low > high)
    throw new ValueError(`clip: low (${low}) is above high (${high})`);
  let y = single("clip", x);
  if (low !== undefined) y = maximum(y, low);
  return high === undefined ? y : minimum(y, high);
});

/** Whether x is neither infinite nor NaN. */
export const isFinite = unary("isFinite", needFloat, (x) => raw.equal(raw.sub(x, x), raw.constantLike(x, 0)));

/** x in another dtype: floats are cut toward zero into integers (NaN is 0, too large saturates); bool is x != 0. */
export const cast = operation(
  (x: TensorLike, dtype: DType): Tensor => raw.cast(single("cast", x), checkDType("cast", dtype)),
);

/** x, as a constant: no derivative goes through it. */
export const stopGradient = unary("stopGradient", anything, raw.stopGradient);
