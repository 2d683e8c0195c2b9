import * as fx from "fluxion";

/** Where two tensors differ by more than the tolerance, relative to the largest element; "" where they do not. */
export function difference(got: fx.Tensor, want: fx.Tensor, tolerance: number): string {
  if (got.dtype !== want.dtype || `${got.shape}` !== `${want.shape}`)
    return `${got.dtype}[${got.shape}], expected ${want.dtype}[${want.shape}]`;
  const [a, b] = [got.toTypedArray(), want.toTypedArray()];
  let scale = 1;
  for (const v of b) if (Number.isFinite(v)) scale = Math.max(scale, Math.abs(v));
  for (let i = 0; i < b.length; i++)
    if (!(Object.is(a[i], b[i]) || Math.abs(a[i]! - b[i]!) <= tolerance * scale))
      return `[${i}] is ${a[i]}, expected ${b[i]}`;
  return "";
}

/** The differences of two lists of tensors, in words. Those that are not floats must be equal. */
export function differences(
  name: string,
  got: readonly fx.Tensor[],
  want: readonly fx.Tensor[],
  tolerance: number,
): string[] {
  if (got.length !== want.length) return [`${name}: ${got.length} results, expected ${want.length}`];
  return want.flatMap((x, i) => {
    const found = difference(got[i]!, x, x.dtype.startsWith("float") ? tolerance : 0);
    return found === "" ? [] : [`${name}, result ${i}: ${found}`];
  });
}

export const sameBits = (a: fx.Tensor, b: fx.Tensor): boolean => {
  const bytes = (x: fx.Tensor) => {
    const { buffer, byteOffset, byteLength } = x.toTypedArray();
    return Buffer.from(buffer, byteOffset, byteLength);
  };
  return a.dtype === b.dtype && `${a.shape}` === `${b.shape}` && bytes(a).equals(bytes(b));
};

/** Runs a check on programs of these seeds and says which ones fail, the first ten of them. */
export function eachSeed(first: number, count: number, check: (seed: number) => string[]): string[] {
  const failures: string[] = [];
  for (let seed = first; seed < first + count && failures.length < 10; seed++) {
    try {
      failures.push(...check(seed).map((what) => `seed ${seed}: ${what}`));
    } catch (error) {
      failures.push(`seed ${seed}: threw ${error instanceof Error ? error.stack : error}`);
    }
  }
  return failures.slice(0, 10);
}

const isFloat = ({ dtype }: fx.Tensor): boolean => dtype === "float32" || dtype === "float64";

/** A float64 number that depends smoothly on all float tensors of a tree: their weighted sum. */
export const total = (tree: fx.tree.Tree): fx.Tensor =>
  fx.tree
    .leaves(tree)
    .filter(isFloat)
    .map((y) => {
      const weights = fx.reshape(fx.linspace(0.5, 1.5, y.size, { dtype: y.dtype as "float64" }), y.shape);
      return fx.cast(fx.sum(fx.mul(y, weights)), "float64");
    })
    .reduce((a, b) => fx.add(a, b), fx.zeros([], { dtype: "float64" }));
