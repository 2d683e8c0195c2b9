import * as fx from "fluxion";

type T = fx.Tensor;
type F = (...inputs: T[]) => T | T[];

/** A layer. */
export const hidden = (x: T, w: T, b: T): T => fx.gelu(fx.add(fx.matmul(x, w), b));

/** Programs of x [n, 5], w1 [5, 32], b [32] and w2 [32, 3] whose rows run together, with all that may take part. */
export function rowPrograms(n: number): { readonly [name: string]: F } {
  return {
    "softmax of each row": (x, w1, b, w2) => {
      const logits = fx.matmul(hidden(x!, w1!, b!), w2!);
      return [fx.softmax(logits), fx.argmax(logits, 1), fx.max(logits, 1), fx.sum(fx.logSoftmax(logits))];
    },
    "largest and smallest over all rows": (x, w1, b, w2) => {
      const h = hidden(x!, w1!, b!);
      return [fx.max(h, 0), fx.min(h), fx.sum(h, 0), fx.mean(h), fx.argmin(h, 1), fx.matmul(h, w2!)];
    },
    "columns cut, turned and put together": (x, w1, b, w2) => {
      const h = hidden(x!, w1!, b!);
      const halves = [fx.slice(h, [0, 16], [n, 16]), fx.slice(h, [0, 0], [n, 16])];
      return fx.matmul(fx.sin(fx.flip(fx.concat(halves, 1), 1)), w2!);
    },
    "rows as the last axis": (x, w1, b, w2) => {
      const h = hidden(x!, w1!, b!);
      return [fx.matmul(fx.transpose(h), h), fx.transpose(fx.exp(fx.neg(fx.square(fx.matmul(h, w2!)))))];
    },
    "numbers drawn for each row": (x, w1, b, w2) => {
      const noise = fx.random.normal(fx.random.key(7), [n, 5], { dtype: x!.dtype as "float32" });
      return fx.matmul(hidden(fx.add(x!, noise), w1!, b!), w2!);
    },
    "groups within a row": (x, w1, b, w2) => {
      const h = fx.reshape(hidden(x!, w1!, b!), [n, 4, 8]);
      const scaled = fx.mul(h, fx.rsqrt(fx.add(fx.mean(fx.square(h), 2, { keepDims: true }), 1e-3)));
      return [fx.matmul(fx.reshape(scaled, [n, 32]), w2!), fx.sum(scaled, [0, 2])];
    },
  };
}
