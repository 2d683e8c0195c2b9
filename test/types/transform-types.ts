import * as fx from "fluxion";

// Compiled, never run: what the types of transforms keep and refuse.

type T = fx.Tensor;
const x: T = fx.ones([2]);
interface Params {
  weight: T;
  layers: { bias: T }[];
}
const params: Params = { weight: x, layers: [{ bias: x }] };

export const mapped: { a: T; b: T[] } = fx.vmap((p: Params, y: T) => ({ a: p.weight, b: [y] }), [null, 0])(
  params,
  x,
);

export const jacobian: T = fx.jacfwd((y: T) => fx.sin(y))(x);
export const byParams: Params = fx.jacrev((p: Params) => p.weight)(params);
export const ofTree: { u: Params; v: Params } = fx.jacfwd((p: Params) => ({ u: p.weight, v: p.weight }))(
  params,
);
export const byBoth: [T, Params] = fx.jacrev((y: T, p: Params) => fx.add(y, p.weight), { argnums: [0, 1] })(
  x,
  params,
);
export const second: T = fx.hessian((y: T) => fx.sum(y))(x);
export const product: [T, Params] = fx.hvp(
  (y: T, p: Params) => fx.sum(fx.add(y, p.weight)),
  [x, params],
  [x, params],
);

export const [last, all]: [T, { y: T }] = fx.scan(
  (c: T, s: { a: T }) => [fx.add(c, s.a), { y: c }] as const,
  x,
  { a: x },
);
export const looped: Params = fx.forLoop(0, 3, (_i: T, p: Params) => p, params);
export const kept: (p: Params) => T = fx.checkpoint((p: Params) => p.weight);

export const ruled: (y: T, n: number) => T = fx.customJvp(
  (y: T, n: number) => fx.mul(y, n),
  ([y, n], [dy]) => [fx.mul(y, n), fx.mul(dy, n)],
);
export const reversed: (y: T) => T = fx.customVjp(
  (y: T) => y,
  (y: T) => [y, { kept: y }] as const,
  ({ kept: residual }, ct) => [fx.mul(residual, ct)],
);

// @ts-expect-error: the loop's value changes its type
fx.forLoop(0, 3, (_i: T, p: Params) => p.weight, params);
const short = ([y]: [T]): [T] => [y];
// @ts-expect-error: the rule gives no tangent
fx.customJvp((y: T) => y, short);
