import { ValueError } from "../errors.js";

/**
 * How exactly a backend takes float32 matrix products: "float32" with every bit; "tf32" and "bfloat16" may round
 * the operands to 10 and 7 bits of mantissa, and add in float32.
 */
export type MatmulPrecision = "float32" | "tf32" | "bfloat16";

const precisions: readonly MatmulPrecision[] = ["float32", "tf32", "bfloat16"];
let chosen: MatmulPrecision | undefined;

/** The name of a precision, checked. Throws ValueError. */
export function checkMatmulPrecision(where: string, name: unknown): MatmulPrecision {
  if (precisions.includes(name as MatmulPrecision)) return name as MatmulPrecision;
  throw new ValueError(
    `${where}: unknown precision ${JSON.stringify(name)}; use one of ${precisions.join(", ")}`,
  );
}

/**
 * Allows less exact float32 matrix products, those of attention too, in what is compiled from now on: the cuda backend
 * then uses the tensor cores. Where it has no faster way for "bfloat16" it takes "tf32", which is more exact. The other
 * backends are always exact. Default: FLUXION_MATMUL_PRECISION, else "float32".
 *
 * @throws ValueError for another name
 */
export function setMatmulPrecision(precision: MatmulPrecision): void {
  chosen = checkMatmulPrecision("setMatmulPrecision", precision);
}

/** The precision in use. Throws ValueError where FLUXION_MATMUL_PRECISION is none. */
export function matmulPrecision(): MatmulPrecision {
  const environment = typeof process === "undefined" ? undefined : process.env.FLUXION_MATMUL_PRECISION;
  return chosen ?? (environment ? checkMatmulPrecision("FLUXION_MATMUL_PRECISION", environment) : "float32");
}

/** Does some work with a precision of its own; undefined: with the one in use. */
export function withMatmulPrecision<T>(precision: MatmulPrecision | undefined, work: () => T): T {
  const before = chosen;
  chosen = precision ?? chosen;
  try {
    return work();
  } finally {
    chosen = before;
  }
}
