import type { GatherStep, MapStep, ScatterStep } from "../../compile/plan.js";
import { sum } from "./expression.js";
import { indexType } from "./indices.js";
import { cTypes, type KernelCall, type Lowering } from "./lowering.js";
import { mapPart } from "./map.js";
import { launchParts } from "./part.js";
import { lowerSort } from "./sort.js";

const threads = 256;

/** Warp steps of `sumWhere`, each for 32 indices, that cost less than to sort the indices. */
const fewScans = 2 ** 22;

/** output[o, j, i] = input[o, indices[j], i], after a check of the indices. */
export function lowerGather(lowering: Lowering, step: GatherStep): void {
  const { outer, size, inner, count, input, indices, output } = step;
  lowerCheck(lowering, step);
  const lanes =
    inner % 4 === 0 && [input, output].every((buffer) => lowering.sizeOf(buffer) % 4 === 0) ? 4 : 1;
  const width = inner / lanes;
  const total = outer * count * width;
  const type = indexType([outer * count * inner, outer * size * inner]);
  const { unsigned, suffix: u } = type;
  lowering.launch({
    name: "gather",
    threads,
    grid: [Math.ceil(total / threads), 1, 1],
    includes: ["indexing.cuh", "vectors.cuh"],
    writes: [output],
    body: (pointer) => [
      `const ${unsigned} t = blockIdx.x * ${threads}${u} + threadIdx.x;`,
      `if (t < ${total}${u}) {`,
      `  const ${unsigned} i = t % ${width}${u}, j = t / ${width}${u} % ${count}${u}, o = t / ${count * width}${u};`,
      `  const int row = fluxion::rowOf(${pointer(indices)}[j], ${size});`,
      `  const ${unsigned} from = ((o * ${size}${u} + row) * ${width}${u} + i) * ${lanes}${u};`,
      ...(lanes === 1
        ? [`  ${pointer(output)}[t] = ${pointer(input)}[from];`]
        : [
            `  ${cTypes[lowering.dtypeOf(input)]} elements[4];`,
            `  fluxion::load4(elements, ${pointer(input)} + from);`,
            `  fluxion::store4(${pointer(output)} + t * 4${u}, elements);`,
          ]),
      "}",
    ],
  });
}

/**
 * output = 0, then output[o, indices[j], i] += input[o, j, i] in the order of j, after a check of the indices. Each
 * output adds up its elements itself: a warp finds those of its row among all indices, or, where that is too much to look
 * at, the indices are sorted, so that each row's elements stand together, in the order of j.
 */
export function lowerScatter(lowering: Lowering, step: ScatterStep): void {
  const { outer, size, inner, count, input, indices, output } = step;
  lowerCheck(lowering, step);
  const columns = outer * inner;
  const type = indexType([outer * count * inner, outer * size * inner, size * Math.ceil(columns / 32) * 32]);
  const { unsigned, signed, suffix: u } = type;
  const dtype = cTypes[lowering.dtypeOf(output)];
  const common = { threads, includes: ["indexing.cuh"], writes: [output] } satisfies Partial<KernelCall>;
  const column = [
    `const ${unsigned} i = column % ${inner}${u}, o = column / ${inner}${u};`,
    `const ${unsigned} from = o * ${count * inner}${u} + i;`,
  ];
  const target = `${sum(0, [size * inner, inner, 1], ["o", "row", "i"])}`;

  const stretches = Math.ceil(columns / 32);
  const warps = size * stretches;
  if (warps * Math.ceil(count / 32) <= fewScans) {
    lowering.launch({
      ...common,
      name: "scatter",
      grid: [Math.ceil(warps / (threads / 32)), 1, 1],
      body: (pointer) => [
        `const ${unsigned} warp = blockIdx.x * ${threads / 32}${u} + threadIdx.x / 32;`,
        `const ${unsigned} row = warp / ${stretches}${u}, column = warp % ${stretches}${u} * 32 + threadIdx.x % 32;`,
        `const bool active = row < ${size}${u} && column < ${columns}${u};`,
        ...column,
        `const ${dtype} total = fluxion::sumWhere<${dtype}, ${signed}>(${pointer(indices)}, ${count}, ${size}, int(row), ${pointer(input)} + (active ? from : 0), ${inner}, active);`,
        `if (active) ${pointer(output)}[${target}] = total;`,
      ],
    });
    return;
  }

  const rows = lowering.scratch("uint32", count);
  const order = lowering.scratch("int32", count);
  launchParts(lowering, mapPart(lowering, rowsStep(step, rows)));
  lowerSort(lowering, { kind: "sort", rows: 1, size: count, input: rows, output: order });
  lowering.launch({
    ...common,
    name: "scatter_sorted",
    grid: [Math.ceil((size * columns) / threads), 1, 1],
    body: (pointer) => [
      `const ${unsigned} t = blockIdx.x * ${threads}${u} + threadIdx.x;`,
      `const ${unsigned} row = t / ${columns}${u}, column = t % ${columns}${u};`,
      `if (row < ${size}${u}) {`,
      ...column.map((line) => `  ${line}`),
      `  ${dtype} total = ${dtype}(0);`,
      `  const int first = fluxion::firstNotBelow(${pointer(rows)}, ${pointer(order)}, ${count}, unsigned(row));`,
      `  const int end = fluxion::firstNotBelow(${pointer(rows)}, ${pointer(order)}, ${count}, unsigned(row) + 1u);`,
      "  #pragma unroll 4",
      `  for (int k = first; k < end; k++) total = fluxion::add(total, ${pointer(input)}[from + (${unsigned})(${pointer(order)}[k]) * ${inner}${u}]);`,
      `  ${pointer(output)}[${target}] = total;`,
      "}",
    ],
  });
}

/** The indices as numbers of rows, counted from the start. */
function rowsStep({ size, count, indices }: ScatterStep, rows: number): MapStep {
  const view = (buffer: number) => ({ buffer, offset: 0, strides: [1] });
  return {
    kind: "map",
    shape: [count],
    expression: {
      instructions: [
        { op: "load", dtype: "int32", view: view(indices) },
        { op: "constant", dtype: "int32", value: 0 },
        { op: "constant", dtype: "int32", value: size },
        { op: "less", dtype: "bool", args: [0, 1] },
        { op: "add", dtype: "int32", args: [0, 2] },
        { op: "where", dtype: "int32", args: [3, 4, 0] },
        { op: "cast", dtype: "uint32", args: [5] },
      ],
      outputs: [{ value: 6, view: view(rows) }],
    },
  };
}

function lowerCheck(lowering: Lowering, { size, count, indices, site }: GatherStep | ScatterStep): void {
  const number = lowering.nextCheck();
  lowering.launch({
    name: "check",
    threads: count <= 256 ? 256 : 1024,
    grid: [count === 0 ? 0 : 1, 1, 1],
    includes: ["indexing.cuh"],
    writes: [],
    check: { number, size, site },
    body: (pointer) => [`fluxion::checkIndices(status, ${pointer(indices)}, ${count}, ${size}, ${number});`],
  });
}
