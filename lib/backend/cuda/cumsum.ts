import type { CumsumStep } from "../../compile/plan.js";
import { indexType } from "./indices.js";
import { cTypes, type Lowering } from "./lowering.js";

/** From so many lines on, or up to so many elements of each, a thread a line is enough. */
const manyLines = 4096;
const shortLine = 64;

/**
 * Running sums, in double precision for floats. A thread walks through a line; where few lines are long, a block does. Those of
 * float64 are added in their order even so. Those of float32 are added as a tree, in double: that differs from their order by
 * roundings of double, far below those of the results. Integers wrap in whatever order.
 */
export function lowerCumsum(lowering: Lowering, step: CumsumStep): void {
  const { outer, size, inner, reverse, input, output } = step;
  const lines = outer * inner;
  if (lines * size === 0) return;
  const dtype = lowering.dtypeOf(output);
  const { unsigned, signed, suffix: u } = indexType([lines * size]);
  const byThread = lines >= manyLines || size <= shortLine;
  const way = byThread ? "cumsumLine" : dtype === "float64" ? "cumsumStaged" : "cumsumScan";
  const threads = way === "cumsumScan" ? 1024 : byThread ? 128 : 256;
  const start = reverse ? ` + ${(size - 1) * inner}${u}` : "";
  lowering.launch({
    name: "cumsum",
    threads,
    grid: [byThread ? Math.ceil(lines / threads) : lines, 1, 1],
    includes: ["cumsum.cuh"],
    writes: [output],
    body: (pointer) => {
      const run = [
        `const ${unsigned} at = line / ${inner}${u} * ${size * inner}${u} + line % ${inner}${u}${start};`,
        `fluxion::${way}<${cTypes[dtype]}, ${signed}>(${pointer(input)} + at, ${pointer(output)} + at, ${size}, ${reverse ? -inner : inner});`,
      ];
      if (!byThread) return [`const ${unsigned} line = blockIdx.x;`, ...run];
      return [
        `const ${unsigned} line = blockIdx.x * ${threads}${u} + threadIdx.x;`,
        `if (line < ${lines}${u}) {`,
        ...run.map((text) => `  ${text}`),
        "}",
      ];
    },
  });
}
