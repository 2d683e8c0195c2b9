import * as fx from "fluxion";

/** Operand n of the stored reference values: element i is ((7 i + 3 n + i^2) mod 11 - 5) / 4. */
export function operand(shape: readonly number[], n: number, dtype: fx.DType = "float64"): fx.Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  const data = Array.from({ length: size }, (_, i) => (((7 * i + 3 * n + i * i) % 11) - 5) / 4);
  return fx.tensor(data, { shape, dtype });
}

/** Pattern n of the stored reference values, of higher rank: element i is (37 (i + 1) (i + 13 + 5 n) mod 257 - 128) / 128. */
export function pattern(shape: readonly number[], n: number, dtype: fx.DType = "float64"): fx.Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  const data = Array.from(
    { length: size },
    (_, i) => (((37 * (i + 1) * (i + 13 + 5 * n)) % 257) - 128) / 128,
  );
  return fx.tensor(data, { shape, dtype });
}
