import { type DType, isFloat, type TypedArray } from "../../tensor/dtype.js";
import { compileSource } from "./sources.js";

/**
 * What multiplies matrices that are packed in panels: a panel of A is `rows` high, one of B `columns` wide, and
 * within a panel the elements of one step of k lie together.
 */
export interface Panels {
  readonly rows: number;
  readonly columns: number;
  /** Places for packed elements of A and B, and for elements of C. */
  open(aSize: number, bSize: number, cSize: number): PanelMemory;
}

export interface PanelMemory {
  readonly a: TypedArray;
  readonly b: TypedArray;
  readonly c: TypedArray;
  /**
   * Adds the product of the panels of A that begin at `aStart` and follow one another, and of the panel of B at
   * `bStart`, to tiles of C one below the other from `cStart` on. Numbers of elements; `stride` is that of C's rows.
   */
  multiply(
    aStart: number,
    bStart: number,
    depth: number,
    cStart: number,
    stride: number,
    panels: number,
  ): void;
}

type Multiply = (a: TypedArray, b: TypedArray, c: TypedArray, ...numbers: number[]) => void;

/** Panels in JavaScript. Floats are doubles until C is complete: a float32 product is rounded once, at the end. */
export function scalarPanels(dtype: DType): Panels {
  const array = isFloat(dtype) ? Float64Array : Int32Array;
  const [rows, columns] = [3, 4];
  const multiply = compileSource<Multiply>(multiplySource(isFloat(dtype), rows, columns));
  return {
    rows,
    columns,
    open(aSize, bSize, cSize) {
      const [a, b, c] = [new array(aSize), new array(bSize), new array(cSize)];
      return { a, b, c, multiply: (...numbers) => multiply(a, b, c, ...numbers) };
    },
  };
}

/** The loop over k with every element of a tile in a variable. */
function multiplySource(float: boolean, tileRows: number, tileColumns: number): string {
  const rows = Array.from({ length: tileRows }, (_, i) => i);
  const columns = Array.from({ length: tileColumns }, (_, j) => j);
  const cells = rows.flatMap((i) => columns.map((j) => [i, j] as const));
  const add = ([i, j]: readonly [number, number]) =>
    float ? `c${i}${j} += a${i} * b${j};` : `c${i}${j} = (c${i}${j} + Math.imul(a${i}, b${j})) | 0;`;
  return `// tiles of ${float ? "doubles" : "integers"}
return function multiply(A, B, C, p, start, depth, at, stride, panels) {
  for (; panels > 0; panels--) {
    let ${cells.map(([i, j]) => `c${i}${j} = 0`).join(", ")};
    let q = start;
    for (const end = p + depth * ${tileRows}; p < end; p += ${tileRows}, q += ${tileColumns}) {
      const ${columns.map((j) => `b${j} = B[q + ${j}]`).join(", ")};
      ${rows.map((i) => `const a${i} = A[p + ${i}]; ${columns.map((j) => add([i, j])).join(" ")}`).join("\n      ")}
    }
    ${rows.map((i) => `${columns.map((j) => `C[at + ${j}] += c${i}${j};`).join(" ")} at += stride;`).join("\n    ")}
  }
};`;
}
