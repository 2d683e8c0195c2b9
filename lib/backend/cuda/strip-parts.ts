import type { Expression, MatMulStep, ReduceStep, StripPart, StripStep, View } from "../../compile/plan.js";
import type { DType } from "../../tensor/dtype.js";
import { sizeOf } from "../../tensor/shape.js";
import { type EmittedExpression, elementAt, emitExpression, emitStores, sum } from "./expression.js";
import { coordinateLines, type IndexType } from "./indices.js";
import { cTypes, type Lowering } from "./lowering.js";

const threads = 256;
const warps = 8;

/** A local buffer: rows of a block in shared memory, `pitch` elements apart. */
export interface Local {
  readonly name: string;
  readonly cType: string;
  readonly offset: number;
  readonly pitch: number;
  readonly bytes: number;
}

/** Where the partial sums of a part lie: `count` times `size` elements, or pairs of elements in two buffers. */
export interface Partials {
  readonly buffers: readonly number[];
  readonly size: number;
  /** Rows of partial sums that each chunk has. */
  readonly groups: number;
  readonly count: number;
}

/** Where the code of a part stands: `first` is the first row of the block, `count` the number of its rows. */
export interface StripScope {
  readonly step: StripStep;
  readonly lowering: Lowering;
  readonly pointer: (buffer: number) => string;
  readonly locals: ReadonlyMap<number, Local>;
  readonly type: IndexType;
  readonly partials: ReadonlyMap<StripPart, Partials>;
}

export const foldStates = { sum: "Sum", max: "Max", min: "Min", argmax: "Argmax", argmin: "Argmin" } as const;

/** The C++ type of a reduction's state. */
export function stateOf({ reducer, expression }: ReduceStep): string {
  return `fluxion::${foldStates[reducer]}<${cTypes[valueDtype(expression)]}>`;
}

const valueDtype = ({ instructions, outputs }: Expression): DType => instructions[outputs[0]!.value]!.dtype;

export const keptShape = ({ shape, reducedRank }: ReduceStep) => shape.slice(0, shape.length - reducedRank);

/** Makes the partial sums of a part. */
export function partialsOf(lowering: Lowering, { step }: StripPart, chunks: number): Partials {
  if (step.kind === "matmul") {
    const size = step.m * step.n;
    return { buffers: [lowering.scratch(step.dtype, chunks * size)], size, groups: 1, count: chunks };
  }
  const reduce = step as ReduceStep;
  const size = sizeOf(keptShape(reduce));
  const groups = size < 32 ? 1 : Math.max(1, Math.floor(threads / (Math.ceil(size / 32) * 32)));
  const count = chunks * groups;
  const dtype = valueDtype(reduce.expression);
  const pairs = reduce.reducer === "sum" && (dtype === "float32" || dtype === "float64");
  const buffers = Array.from({ length: pairs ? 2 : 1 }, () => lowering.scratch(dtype, count * size));
  return { buffers, size, groups, count };
}

/** `waits`: a barrier comes before what the part reads of others. `busy`: how many threads from `thread` on have work. */
export function partCode(
  scope: StripScope,
  part: StripPart,
  waits: boolean,
  thread: number,
): { lines: string[]; busy: number } {
  const { step, role } = part;
  const barrier = waits ? ["__syncthreads();"] : [];
  const own = "const int thread = fluxion::stripThread();";
  if (step.kind === "map") {
    const inner = sizeOf(step.shape.slice(1));
    return {
      lines: [...barrier, "{", own, ...mapCode(scope, step.shape, step.expression, thread), "}"],
      busy: scope.step.block * inner,
    };
  }
  let lines: string[];
  if (step.kind === "matmul")
    lines =
      role === "sum" ? [...barrier, ...sumProductCode(scope, part, step)] : productCode(scope, step, barrier);
  else lines = [...barrier, ...(role === "sum" ? foldSumCode(scope, part, step) : foldCode(scope, step))];
  return { lines: ["{", own, ...lines, "}"], busy: 0 };
}

/** An expression whose axis `axis` is the rows: `r` is the row in the block, `row` the row of all. */
function rowExpression(
  scope: StripScope,
  expression: Expression,
  coordinates: readonly string[],
  axis: number,
  accumulator?: string,
): { emitted: EmittedExpression; element: (view: View, rowAxis?: number, at?: readonly string[]) => string } {
  const element = (view: View, rowAxis = axis, at = coordinates) => {
    const local = scope.locals.get(view.buffer);
    if (local === undefined) return elementAt(scope.pointer(view.buffer), view, at);
    const strides = view.strides.map((stride, i) => (i === rowAxis ? 0 : stride));
    return `${local.name}[r * ${local.pitch} + ${sum(view.offset, strides, at)}]`;
  };
  const emitted = emitExpression(expression, {
    coordinates,
    element: (view) => element(view),
    ...(accumulator !== undefined && { accumulator }),
  });
  return { emitted, element };
}

const rowLine = ({ type }: StripScope) => `[[maybe_unused]] const ${type.signed} row = first + r;`;

function mapCode(
  scope: StripScope,
  shape: readonly number[],
  expression: Expression,
  thread: number,
): string[] {
  const { type } = scope;
  const inner = sizeOf(shape.slice(1));
  const names = shape.slice(1).map((_, axis) => `c${axis + 1}`);
  const { emitted, element } = rowExpression(scope, expression, ["row", ...names], 0);
  const from = thread === 0 ? "thread" : `(thread + ${threads - thread}) % ${threads}`;
  return [
    `for (${type.unsigned} e = ${from}; e < (${type.unsigned})(count) * ${inner}u; e += ${threads}) {`,
    `const int r = int(e / ${inner}u);`,
    rowLine(scope),
    `[[maybe_unused]] const ${type.unsigned} rest = e % ${inner}u;`,
    ...coordinateLines("rest", shape.slice(1), names, type),
    ...emitted.lines,
    ...emitStores(expression, emitted, { coordinates: [], element: (view) => element(view) }),
    "}",
  ];
}

/** A reduction of each row. */
function foldCode(scope: StripScope, step: ReduceStep): string[] {
  const { type } = scope;
  const kept = keptShape(step);
  const reduced = step.shape.slice(kept.length);
  const keptNames = kept.slice(1).map((_, axis) => `k${axis + 1}`);
  const reducedNames = reduced.map((_, axis) => `p${axis}`);
  const { emitted, element } = rowExpression(
    scope,
    step.expression,
    ["row", ...keptNames, ...reducedNames],
    0,
  );
  const { value, view } = step.expression.outputs[0]!;
  const keptLines = [
    rowLine(scope),
    ...unsignedLines("kept", "keptIndex", type),
    ...coordinateLines("keptIndex", kept.slice(1), keptNames, type),
  ];
  const result = step.reducer.startsWith("arg") ? "int" : cTypes[emitted.dtype(value)];
  return [
    "const auto value = [&](int r, int kept, int position) {",
    ...keptLines,
    ...unsignedLines("position", "positionIndex", type),
    ...coordinateLines("positionIndex", reduced, reducedNames, type),
    ...emitted.lines,
    `return ${emitted.value(value)};`,
    "};",
    `const auto store = [&](int r, int kept, ${result} result) {`,
    ...keptLines,
    `${element(view, 0, ["row", ...keptNames])} = result;`,
    "};",
    `fluxion::stripFoldRows<${stateOf(step)}, ${sizeOf(kept.slice(1))}, ${sizeOf(reduced)}>(thread, count, value, store);`,
  ];
}

export const unsignedLines = (name: string, target: string, type: IndexType) => [
  `[[maybe_unused]] const ${type.unsigned} ${target} = (${type.unsigned})(${name});`,
];

/** A reduction over the rows. */
function foldSumCode(scope: StripScope, part: StripPart, step: ReduceStep): string[] {
  const { type, pointer } = scope;
  const kept = keptShape(step);
  const others = step.shape.slice(kept.length + 1);
  const keptNames = kept.map((_, axis) => `k${axis}`);
  const otherNames = others.map((_, axis) => `p${axis}`);
  const coordinates = [...keptNames, "row", ...otherNames];
  const { emitted } = rowExpression(scope, step.expression, coordinates, kept.length);
  const { buffers, size, groups } = scope.partials.get(part)!;
  const at = (buffer: number) => `${pointer(buffer)} + blockIdx.x * ${size * groups}ll`;
  return [
    "const auto value = [&](int r, int kept, int other) {",
    rowLine(scope),
    ...unsignedLines("kept", "keptIndex", type),
    ...coordinateLines("keptIndex", kept, keptNames, type),
    ...unsignedLines("other", "otherIndex", type),
    ...coordinateLines("otherIndex", others, otherNames, type),
    ...emitted.lines,
    `return ${emitted.value(step.expression.outputs[0]!.value)};`,
    "};",
    `fluxion::stripFoldSum<${stateOf(step)}, ${size}, ${sizeOf(others)}, ${groups}>(`,
    `  thread, count, value, ${at(buffers[0]!)}, ${at(buffers.at(-1)!)}, opens);`,
  ];
}

/** A factor by rows: C++ for its StripRows, and for an element of it. */
function rowsOperand(scope: StripScope, view: View, rowAxis: number): { rows: string; element: string } {
  const local = scope.locals.get(view.buffer);
  const step = view.strides[1 - rowAxis]!;
  const pitch = local ? local.pitch : view.strides[rowAxis]!;
  const base = local
    ? `${local.name} + ${view.offset}`
    : `${scope.pointer(view.buffer)} + (${view.offset} + first * ${pitch})`;
  const whole = local !== undefined || scope.lowering.sizeOf(view.buffer) % 4 === 0;
  const vector = step === 1 && pitch % 4 === 0 && view.offset % 4 === 0 && whole;
  const at = `(${base})[(${scope.type.signed})(r) * ${pitch} + (${scope.type.signed})(i) * ${step}]`;
  return { rows: `fluxion::StripRows<${vector}>{${base}, ${pitch}, ${step}}`, element: at };
}

/** `compute` and `store` of a product by rows. */
function resultCode(scope: StripScope, { dtype, expression }: MatMulStep): string[] {
  const { emitted, element } = rowExpression(scope, expression, ["row", "column"], 0, "accumulator");
  const fields = expression.outputs.map(({ value }, i) => `${cTypes[emitted.dtype(value)]} o${i};`);
  return [
    `struct Values { ${fields.join(" ")} };`,
    `const auto compute = [&](int r, [[maybe_unused]] int column, ${cTypes[dtype]} accumulator) {`,
    rowLine(scope),
    ...emitted.lines,
    `return Values{${expression.outputs.map(({ value }) => emitted.value(value)).join(", ")}};`,
    "};",
    "const auto store = [&](int r, [[maybe_unused]] int column, const Values& values) {",
    rowLine(scope),
    ...expression.outputs.map(({ view }, i) => `${element(view)} = values.o${i};`),
    "};",
  ];
}

/** A product by rows. */
function productCode(scope: StripScope, step: MatMulStep, barrier: readonly string[]): string[] {
  const { dtype, n, k, a, b } = step;
  const { pointer, lowering, type } = scope;
  const left = rowsOperand(scope, a, 0);
  const [strideK, strideN] = b.strides as [number, number];
  const kind = productKind(scope, step);
  if (kind === undefined) {
    const right = `${pointer(b.buffer)}[${sum(b.offset, b.strides, [`(${type.signed})(i)`, `(${type.signed})(column)`])}]`;
    return [
      ...barrier,
      ...resultCode(scope, step),
      `fluxion::stripPlainProduct<${cTypes[dtype]}, ${k}, ${n}>(`,
      `  thread, count, [&](int r, int i) { return ${left.element}; },`,
      `  [&](int i, int column) { return ${right}; }, compute, store);`,
    ];
  }
  const alongK = strideK === 1 && strideN !== 1;
  const whole = b.offset % 4 === 0 && lowering.sizeOf(b.buffer) % 4 === 0;
  const vector =
    whole && (alongK ? k % 4 === 0 && strideN % 4 === 0 : strideN === 1 && n % 4 === 0 && strideK % 4 === 0);
  const block = scope.step.block;
  const template =
    kind.tile === undefined
      ? `fluxion::${kind.name}<${block}, ${k}, ${n}>`
      : `fluxion::${kind.name}<${block}, ${kind.tile}, ${k}, ${n}, ${alongK}, ${vector}>`;
  return [
    `${template} product(fluxion::StripMatrix{${pointer(b.buffer)} + ${b.offset}, ${strideK}, ${strideN}}, thread, slabs);`,
    "product.fetch();",
    ...barrier,
    ...resultCode(scope, step),
    `product.run(${left.rows}, count, compute, store);`,
  ];
}

/** Which of the kernels of strip_product.cuh and strip_tensor.cuh fits; undefined: a thread for each element. */
function productKind(
  { step: { block }, lowering, type }: StripScope,
  { dtype, n, k }: MatMulStep,
): { name: string; tile?: number } | undefined {
  if (dtype !== "float32" || type.signed !== "int") return undefined;
  if (k <= 8) return { name: "StripShortProduct" };
  if ((block / warps) * n <= 32 && Math.ceil(k / 32) * n <= 64) return { name: "StripThinProduct" };
  if (n < 8) return undefined;
  const tensor = lowering.target.precision !== "float32";
  // As tall a tile as leaves most warps something to do.
  const unit = tensor ? 16 : 8;
  const groups = Math.ceil(n / 16);
  let tile = block / unit;
  while (tile > (tensor ? 1 : 2) && groups * (block / (unit * tile)) < 6) tile /= 2;
  return { name: tensor ? "StripTensorProduct" : "StripProduct", tile };
}

/** A product that sums over the rows. */
function sumProductCode(scope: StripScope, part: StripPart, { dtype, m, n, a, b }: MatMulStep): string[] {
  const { pointer, lowering, type } = scope;
  const [left, right] = [rowsOperand(scope, a, 1), rowsOperand(scope, b, 0)];
  const { buffers, size } = scope.partials.get(part)!;
  const partial = `${pointer(buffers[0]!)} + blockIdx.x * ${size}ll`;
  if (dtype !== "float32" || type.signed !== "int" || m < 16 || n < 16)
    return [
      `fluxion::stripPlainSum<${cTypes[dtype]}, ${m}, ${n}>(thread, count, [&](int r, int i) { return ${left.element}; },`,
      `  [&](int r, int i) { return ${right.element}; }, ${partial}, opens);`,
    ];
  if (lowering.target.precision !== "float32") {
    const wide = Math.ceil(m / 32) * Math.ceil(n / 64) >= warps ? 2 : 1;
    return [
      `fluxion::stripTensorSum<${m}, ${n}, ${wide}>(thread, ${left.rows}, ${right.rows}, count, ${partial}, opens);`,
    ];
  }
  const [down, across] = [m > 64 ? 2 : 1, n > 64 ? 2 : 1];
  return [
    `fluxion::stripSum<${m}, ${n}, ${down}, ${across}>(thread, ${left.rows}, ${right.rows}, count, ${partial}, opens);`,
  ];
}
