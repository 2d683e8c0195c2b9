import { buffersOf, writtenBy } from "../../compile/memory.js";
import type { StripPart, StripStep } from "../../compile/plan.js";
import { byteSize } from "../../tensor/dtype.js";
import { sizeOf } from "../../tensor/shape.js";
import { expressionHeaders } from "./expression.js";
import { indexType, reach, reaches } from "./indices.js";
import type { Lowering } from "./lowering.js";
import { type Local, type Partials, partCode, partialsOf, type StripScope } from "./strip-parts.js";
import { pitchOf, slabBytes } from "./strip-profile.js";
import { lowerStripSums } from "./strip-sums.js";

const threads = 256;

/**
 * A strip as one kernel, and a second one that completes its sums.
 *
 * A block of threads takes the blocks of rows of one chunk, each through all parts. The local buffers lie in shared
 * memory. What sums over the rows goes to partial sums of the chunk, in memory.
 */
export function lowerStrip(lowering: Lowering, step: StripStep): void {
  const { rows, block, parts } = step;
  const locals = localsOf(lowering, step);
  const type = indexType([rows, ...parts.flatMap(placesOf)]);
  const partials = new Map<StripPart, Partials>();
  for (const part of parts)
    if (part.role === "sum") partials.set(part, partialsOf(lowering, part, step.chunks.length));

  const chunk = step.chunks[0]!;
  const writes = parts.flatMap((part) => {
    if (part.role === "sum") return partials.get(part)!.buffers;
    return writtenBy(part.step).filter((buffer) => !locals.has(buffer));
  });
  lowering.launch({
    name: "strip",
    threads,
    // More would not fit in shared memory, and there are no more: all registers are its own.
    blocks: 1,
    grid: [step.chunks.length, 1, 1],
    sharedBytes: step.localBytes + slabBytes,
    includes: [
      ...expressionHeaders,
      ...["shared.cuh", "strip_fold.cuh", "strip_product.cuh", "strip_sum.cuh", "strip_tensor.cuh"],
    ],
    writes,
    body(pointer) {
      const scope: StripScope = { step, lowering, pointer, locals, type, partials };
      const code = partsCode(scope);
      const turn = [`const int count = int(min((${type.signed})(${block}), last - first));`, ...code];
      return [
        "char* const memory = fluxion::dynamicShared();",
        `float* const slabs = reinterpret_cast<float*>(memory + ${step.localBytes});`,
        ...[...locals.values()].map(({ name, cType, offset }) => {
          return `${cType}* const ${name} = reinterpret_cast<${cType}*>(memory + ${offset});`;
        }),
        `const ${type.signed} start = (${type.signed})(blockIdx.x) * ${chunk};`,
        `const ${type.signed} last = min(start + ${chunk}, (${type.signed})(${rows}));`,
        ...(chunk > block
          ? [
              "#pragma unroll 1",
              `for (${type.signed} first = start; first < last; first += ${block}) {`,
              "const bool opens = first == start;",
              ...turn,
              "__syncthreads();",
              "}",
            ]
          : [`const ${type.signed} first = start;`, "constexpr bool opens = true;", ...turn]),
      ];
    },
  });
  if (partials.size > 0) lowerStripSums(lowering, partials, type);
}

function localsOf(lowering: Lowering, step: StripStep): Map<number, Local> {
  const locals = new Map<number, Local>();
  for (const buffer of step.parts.flatMap((part) => buffersOf(part.step))) {
    const { kind, dtype, size, offset } = lowering.specOf(buffer);
    if (kind !== "local" || locals.has(buffer)) continue;
    const pitch = pitchOf(size / step.rows, dtype);
    const bytes = pitch * byteSize(dtype) * step.block;
    locals.set(buffer, { name: `l${buffer}`, cType: lowering.cType(buffer), offset, pitch, bytes });
  }
  return locals;
}

/** The largest places and counts of a part. */
function placesOf({ step }: StripPart): number[] {
  if (step.kind === "matmul") {
    const { m, n, k, a, b } = step;
    return [m * n, reach(a, [m, k]), reach(b, [k, n]), ...reaches([m, n], step.expression)];
  }
  const shape = step.shape;
  const kept = step.kind === "reduce" ? shape.slice(0, shape.length - step.reducedRank) : shape;
  const { instructions, outputs } = step.expression;
  return [
    sizeOf(shape),
    ...instructions.flatMap((i) => (i.op === "load" ? [reach(i.view, shape)] : [])),
    ...outputs.map(({ view }) => reach(view, kept)),
  ];
}

/** The parts in order, with a barrier wherever a part meets what others did to the same memory since the last one. */
function partsCode(scope: StripScope): string[] {
  let since: { read: Region[]; written: Region[] } = { read: [], written: [] };
  let thread = 0;
  return scope.step.parts.flatMap((part) => {
    const { read, written } = regionsOf(part, scope.locals);
    const meets = (xs: Region[], ys: Region[]) => xs.some((x) => ys.some((y) => overlap(x, y)));
    const waits = meets(read, since.written) || meets(written, [...since.read, ...since.written]);
    if (waits) since = { read: [], written: [] };
    since.read.push(...read);
    since.written.push(...written);
    const { lines, busy } = partCode(scope, part, waits, thread);
    // The next small part begins where this one's threads end, and may run beside it.
    thread = (thread + Math.ceil(busy / 32) * 32) % threads;
    return lines;
  });
}

/** Bytes of shared memory, or (with no bytes) a buffer in memory. */
interface Region {
  readonly buffer: number;
  readonly begin: number;
  readonly end: number;
}

const overlap = (x: Region, y: Region) => x.buffer === y.buffer && x.begin <= y.end && y.begin <= x.end;

function regionsOf(
  part: StripPart,
  locals: ReadonlyMap<number, Local>,
): { read: Region[]; written: Region[] } {
  const region = (buffer: number): Region => {
    const local = locals.get(buffer);
    if (local === undefined) return { buffer, begin: 0, end: 0 };
    return { buffer: -1, begin: local.offset, end: local.offset + local.bytes - 1 };
  };
  // A sum's outputs, and what its expression reads, are touched when the rows are done.
  const outputs = part.role === "sum" ? [] : writtenBy(part.step);
  const written = new Set(outputs);
  const read = buffersOf(part.step).filter((buffer) => !written.has(buffer));
  return { read: read.map(region), written: outputs.map(region) };
}
