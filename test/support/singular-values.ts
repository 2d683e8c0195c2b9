import type * as fx from "fluxion";

/** The singular values of a matrix [m, n], the largest first, by one-sided Jacobi rotations of its columns. */
export function singularValues(matrix: fx.Tensor): number[] {
  const rows = matrix.toArray() as number[][];
  const columns = rows[0]!.map((_, j) => rows.map((row) => row[j]!));
  const dot = (a: number[], b: number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
  for (let sweep = 0; sweep < 60; sweep++) {
    let turned = false;
    for (let p = 0; p < columns.length; p++)
      for (let q = p + 1; q < columns.length; q++) {
        const [a, b] = [columns[p]!, columns[q]!];
        const [aa, bb, ab] = [dot(a, a), dot(b, b), dot(a, b)];
        if (Math.abs(ab) <= 1e-15 * Math.sqrt(aa * bb)) continue;
        turned = true;
        const zeta = (bb - aa) / (2 * ab);
        const tangent = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
        const cosine = 1 / Math.hypot(1, tangent);
        const sine = cosine * tangent;
        columns[p] = a.map((x, i) => cosine * x - sine * b[i]!);
        columns[q] = a.map((x, i) => sine * x + cosine * b[i]!);
      }
    if (!turned) break;
  }
  return columns.map((c) => Math.sqrt(dot(c, c))).sort((a, b) => b - a);
}
