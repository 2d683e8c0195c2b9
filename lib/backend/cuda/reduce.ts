import { collapse, type Domain, mapStrides } from "../../compile/collapse.js";
import type { Reducer, ReduceStep, View } from "../../compile/plan.js";
import type { DType } from "../../tensor/dtype.js";
import { sizeOf } from "../../tensor/shape.js";
import { elementAt } from "./expression.js";
import { coordinateLines, type IndexType, indexType, reaches } from "./indices.js";
import { laneLines, lanesOf } from "./lanes.js";
import { cTypes, type Lowering } from "./lowering.js";
import { mapPart } from "./map.js";
import { inside, type Part, type Pointer, threads } from "./part.js";

/** Blocks that fill a large device. Not those of the device at hand: the order of the additions depends on shapes alone. */
const enoughBlocks = 132;

const states: Readonly<Record<Reducer, string>> = {
  sum: "Sum",
  max: "Max",
  min: "Min",
  argmax: "Argmax",
  argmin: "Argmin",
};

/**
 * Parts of launches, one after another, that fold the values of an expression over the last axes. A thread takes every so many-th of them in order, then the states of the
 * threads merge as a tree. Where that would leave the device idle, blocks fold chunks, and a second part their
 * results.
 */
export function reduceParts(lowering: Lowering, step: ReduceStep): Part[] {
  const firstReduced = step.shape.length - step.reducedRank;
  const keptShape = step.shape.slice(0, firstReduced);
  const output = step.expression.outputs[0]!;
  const dtype = step.expression.instructions[output.value]!.dtype;
  if (sizeOf(keptShape) === 0) return [];
  if (sizeOf(step.shape) === 0) {
    const instructions = [{ op: "constant", dtype, value: 0 }] as const;
    const expression = { instructions, outputs: [{ value: 0, view: output.view }] };
    return mapPart(lowering, { kind: "map", shape: keptShape, expression });
  }

  const position = step.reducer.startsWith("arg");
  const { shape, expression, firstReduced: rank } = arrange(step, position);
  const { value, view } = expression.outputs[0]!;
  const loads = expression.instructions.flatMap((i) => (i.op === "load" ? [i.view] : []));
  const sizes = { kept: shape.slice(0, rank), reduced: shape.slice(rank) };
  const [kept, reduced] = [sizeOf(sizes.kept), sizeOf(sizes.reduced)];
  const byColumns = runsAlongKept(shape, rank, loads);
  const lanes = byColumns ? 1 : lanesOf(shape, loads, (buffer) => lowering.sizeOf(buffer));
  const last = sizes.reduced.length - 1;
  const counted = sizes.reduced.map((n, axis) => (axis === last ? n / lanes : n));
  const way = byColumns ? columnWay(kept, reduced) : rowWay(kept, reduced / lanes);
  const type = indexType(reaches(shape, expression));
  const state = `fluxion::${states[step.reducer]}<${cTypes[dtype]}>`;

  const keptNames = sizes.kept.map((_, axis) => `k${axis}`);
  const reducedNames = sizes.reduced.map((_, axis) => `r${axis}`);
  const store = (pointer: Pointer, code: string) =>
    `${elementAt(pointer(view.buffer), { ...view, strides: view.strides.slice(0, rank) }, keptNames)} = ${code};`;
  const chunked = way.chunks > 1 ? partials(lowering, step.reducer, dtype, way.chunks * kept) : undefined;
  const whole = foldPart({
    name: step.reducer,
    kept,
    reduced: reduced / lanes,
    way,
    type,
    state,
    unroll: expression.instructions.length * lanes > 64 ? 1 : lanes > 1 ? 2 : 4,
    begin: () => coordinateLines("t", sizes.kept, keptNames, type),
    take: (pointer) => [
      ...coordinateLines(
        "r",
        counted,
        reducedNames.map((name, axis) => (lanes > 1 && axis === last ? "group" : name)),
        type,
      ),
      ...(lanes > 1 ? [`const ${type.signed} ${reducedNames[last]} = group * 4;`] : []),
      ...laneLines(expression, lanes, [...keptNames, ...reducedNames], pointer, (emitted, lane) => [
        `state.take(${emitted.value(value)}, ${position ? `int(r) * ${lanes} + ${lane}` : "0"});`,
      ]),
    ],
    writes: chunked ?? [view.buffer],
    finish: (pointer) =>
      chunked
        ? chunked.map((part, i) => `${pointer(part)}[chunk * ${kept} + t] = state.${i === 0 ? "a" : "b"};`)
        : [store(pointer, "state.result()")],
  });
  if (!chunked) return [whole];
  const rest = foldPart({
    name: `${step.reducer}_parts`,
    kept,
    reduced: way.chunks,
    way: { ...columnWay(kept, way.chunks), chunks: 1 },
    type,
    state,
    unroll: 4,
    begin: () => coordinateLines("t", sizes.kept, keptNames, type),
    take: (pointer) => {
      const members = chunked.map((part) => `${pointer(part)}[r * ${kept} + t]`);
      return [`state.merge(State::of(${members[0]}, ${members[1] ?? "0"}));`];
    },
    writes: [view.buffer],
    finish: (pointer) => [store(pointer, "state.result()")],
  });
  return [whole, rest];
}

/** The members of the states of the chunks, a row of `kept` ones for each chunk. */
function partials(lowering: Lowering, reducer: Reducer, dtype: DType, size: number): number[] {
  const first = lowering.scratch(dtype, size);
  if (reducer === "sum" && (dtype === "float32" || dtype === "float64"))
    return [first, lowering.scratch(dtype, size)];
  return reducer.startsWith("arg") ? [first, lowering.scratch("int32", size)] : [first];
}

/** The index space with few axes, in an order that memory likes: only positions need the reduced axes in theirs. */
function arrange(step: ReduceStep, position: boolean): Domain {
  const rank = step.shape.length;
  const firstReduced = rank - step.reducedRank;
  const output = step.expression.outputs[0]!;
  // The output does not move along the reduced axes.
  const strides = step.shape.map((_, axis) => output.view.strides[axis] ?? 0);
  const padded = {
    ...step.expression,
    outputs: [{ value: output.value, view: { ...output.view, strides } }],
  };
  const order = step.shape.map((_, axis) => axis);
  const lead = padded.instructions.find((i) => i.op === "load" && i.view.strides.some((s) => s !== 0));
  if (lead?.op === "load") {
    const group = (axis: number) => (axis < firstReduced ? 0 : 1);
    const step = (axis: number) => Math.abs(lead.view.strides[axis]!);
    order.sort(
      (a, b) => group(a) - group(b) || (position && group(a) === 1 ? 0 : step(b) - step(a)) || a - b,
    );
  }
  const sorted = mapStrides(padded, (s) => order.map((axis) => s[axis]!));
  const shape = order.map((axis) => step.shape[axis]!);
  const domain = collapse({ shape, expression: sorted, firstReduced });
  if (domain.shape.length > domain.firstReduced) return domain;
  // All reduced axes have size 1: one of them stays as the axis that is folded.
  return {
    ...domain,
    shape: [...domain.shape, 1],
    expression: mapStrides(domain.expression, (s) => [...s, 0]),
  };
}

/** Whether the loads take shorter steps along the last kept axis than along the last reduced one. */
function runsAlongKept(shape: readonly number[], kept: number, loads: readonly View[]): boolean {
  if (kept === 0) return false;
  // Beyond a sector of memory all strides cost the same.
  const cost = (stride: number) => Math.min(Math.abs(stride), 8);
  return (
    loads.reduce((sum, { strides }) => sum + cost(strides[kept - 1]!) - cost(strides[shape.length - 1]!), 0) <
    0
  );
}

/** How the threads of a block share the work. */
interface Way {
  /**
   * rows: `lanes` neighbouring threads fold an output. columns: neighbouring threads fold `columns` neighbouring outputs, in
   * `lanes` rows of threads.
   */
  readonly layout: "rows" | "columns";
  readonly lanes: number;
  /** The extent is cut in so many parts, of `chunk` elements each but for the last. */
  readonly chunks: number;
  readonly chunk: number;
}

function cut(extent: number, wanted: number): Pick<Way, "chunks" | "chunk"> {
  const chunk = Math.ceil(extent / Math.max(1, wanted));
  return { chunk, chunks: Math.ceil(extent / chunk) };
}

function rowWay(kept: number, extent: number): Way {
  const fill = enoughBlocks * 512;
  if (extent >= 1024 && kept * 32 < 2 * fill) {
    // A block for each output, or several.
    const few = kept < enoughBlocks && extent >= 32 * threads;
    const wanted = few ? Math.min((2 * enoughBlocks) / kept, extent / (4 * threads)) : 1;
    return { layout: "rows", lanes: threads, ...cut(extent, Math.floor(wanted)) };
  }
  let lanes = Math.min(32, powerFrom(extent / 4));
  while (kept * lanes < fill && lanes < 32 && lanes < extent) lanes *= 2;
  return { layout: "rows", lanes, ...cut(extent, 1) };
}

function columnWay(kept: number, extent: number): Way {
  const columns = extent <= 16 || kept >= enoughBlocks * 1024 ? threads : Math.min(32, powerFrom(kept));
  const lanes = threads / columns;
  const blocks = Math.ceil(kept / columns);
  const few = extent > 32 * lanes && blocks < enoughBlocks;
  const wanted = few ? Math.min((2 * enoughBlocks) / blocks, extent / (8 * lanes)) : 1;
  return { layout: "columns", lanes, ...cut(extent, Math.floor(wanted)) };
}

/** The least power of two that is not below x. */
function powerFrom(x: number): number {
  return 2 ** Math.max(0, Math.ceil(Math.log2(x)));
}

interface Fold {
  readonly name: string;
  readonly kept: number;
  readonly reduced: number;
  readonly way: Way;
  readonly type: IndexType;
  /** The C++ type of the state. */
  readonly state: string;
  /** Turns of the loop whose loads are under way together. */
  readonly unroll: number;
  /** What output `t` needs before the loop, what takes in index `r`, and what stores the folded state. */
  begin(): readonly string[];
  take(pointer: Pointer): readonly string[];
  finish(pointer: Pointer): readonly string[];
  readonly writes: readonly number[];
}

/** Chunk after chunk, blocks that fold each the chunk's part of some outputs. */
function foldPart(fold: Fold): Part {
  const { kept, reduced, way, type } = fold;
  const { layout, lanes, chunks, chunk } = way;
  const outputs = threads / lanes;
  const blocks = Math.ceil(kept / outputs);
  const { unsigned, suffix } = type;
  const merge =
    lanes === 1
      ? []
      : layout === "columns"
        ? [`fluxion::foldColumns<${threads}, ${outputs}>(state);`]
        : lanes > 32
          ? [`fluxion::foldBlock<${threads}>(state);`]
          : [`fluxion::foldNeighbours<${lanes}>(state);`];
  return {
    name: fold.name,
    blocks: blocks * chunks,
    busy: blocks > 1 ? threads : kept * lanes,
    barriers: lanes > 1 && (layout === "columns" || lanes > 32),
    includes: ["reduce.cuh", "scalars.cuh", "vectors.cuh"],
    writes: fold.writes,
    lines: (block, thread, pointer) => {
      const [output, lane] =
        layout === "rows"
          ? [`${thread} / ${lanes}`, `${thread} % ${lanes}`]
          : [`${thread} % ${outputs}`, `${thread} / ${outputs}`];
      const place = chunks > 1 ? `(${block} % ${blocks}u)` : block;
      const first = chunks > 1 ? `chunk * ${chunk}${suffix}` : "0";
      const end = chunks > 1 ? `min(first + ${chunk}${suffix}, ${reduced}${suffix})` : `${reduced}`;
      return [
        `using State = ${fold.state};`,
        `const ${unsigned} t = ${place} * ${outputs}${suffix} + ${output}, member = ${lane};`,
        ...(chunks > 1 ? [`const ${unsigned} chunk = ${block} / ${blocks}u;`] : []),
        `const ${unsigned} first = ${first}, end = ${end};`,
        "State state = State::initial();",
        ...inside(`if (t < ${kept}${suffix})`, [
          ...fold.begin(),
          `#pragma unroll ${fold.unroll}`,
          ...inside(`for (${unsigned} r = first + member; r < end; r += ${lanes})`, fold.take(pointer)),
        ]),
        ...merge,
        ...inside(`if (t < ${kept}${suffix} && member == 0)`, [...fold.begin(), ...fold.finish(pointer)]),
      ];
    },
  };
}
