import type { AttentionStep, View } from "../../compile/plan.js";
import { BackendError } from "../../errors.js";
import { sizeOf } from "../../tensor/shape.js";
import { sum } from "./expression.js";
import { cTypes, type Lowering } from "./lowering.js";

/**
 * Adds the kernels of an attention step. A block of threads holds a tile of queries and goes along the keys, tile by
 * tile (native/cuda/kernels/attention*.cuh), so no matrix of queries by keys is stored: value and tangent are one
 * kernel each, and the cotangent is one for the sums of each query and one for all results, in which other blocks hold
 * keys and go along the queries. Where there are more than 128 features, they pass through shared memory in chunks of 64,
 * and each block computes one chunk of the results.
 *
 * Where the target's precision allows it and there are more than 32 queries (or, of a cotangent, keys), float32 products
 * round their factors to TF32; sums, exponentials and the softmax stay float32.
 *
 * @throws BackendError for more queries, keys or blocks than 32-bit numbers count
 */
export function lowerAttention(lowering: Lowering, step: AttentionStep): void {
  const wanted = step.outputs.some((buffer) => buffer !== undefined && lowering.sizeOf(buffer) > 0);
  if (!wanted) return;
  if (Math.max(step.n, step.m, step.d, step.e) > maximumSize)
    throw new BackendError(
      `attention of ${step.n} queries and ${step.m} keys with ${step.d} and ${step.e} features is more than the cuda ` +
        `backend takes; use at most ${maximumSize} of each`,
    );
  ({ value: lowerValue, tangent: lowerTangent, cotangent: lowerCotangent })[step.part](lowering, step);
}

function lowerValue(lowering: Lowering, step: AttentionStep): void {
  const { n, outputs } = step;
  const tiles = chooseTiles(lowering, step, (tile) =>
    tileBytes(tile, { rowsD: 1, columnsD: 1, columnsE: 1 }),
  );
  launchTiles(lowering, step, tiles, "attention_value", [
    {
      count: Math.ceil(n / tiles.rows),
      call: (glue) =>
        `value<Sizes, ${outputs.map(isGiven).join(", ")}>(tile, slice, ${glue.scale}, ` +
        `${glue.operand(step.q)}, ${glue.operand(step.k)}, ${glue.operand(step.v)}, ${glue.operand(step.mask)}, ` +
        `${glue.result(0)}, ${glue.result(1)});`,
      bytes: "kValueBytes<Sizes>",
    },
  ]);
}

function lowerTangent(lowering: Lowering, step: AttentionStep): void {
  const { n, outputs, directions } = step;
  const [dq, dk, dv] = directions.map(isGiven);
  const copies = {
    rowsD: 1 + Number(dq),
    columnsD: 1 + Number(dk),
    columnsE: Number(dq || dk) + Number(dv),
  };
  const tiles = chooseTiles(lowering, step, (tile) => tileBytes(tile, copies));
  launchTiles(lowering, step, tiles, "attention_tangent", [
    {
      count: Math.ceil(n / tiles.rows),
      call: (glue) =>
        `tangent<Sizes, ${outputs.map(isGiven).join(", ")}>(tile, slice, ${glue.scale}, ` +
        `${[step.q, step.k, step.v, step.mask, step.o, step.l, ...directions].map(glue.operand).join(", ")}, ` +
        `${glue.result(0)}, ${glue.result(1)});`,
      bytes: `kTangentBytes<Sizes, ${dq}, ${dk}, ${dv}>`,
    },
  ]);
}

function lowerCotangent(lowering: Lowering, step: AttentionStep): void {
  const { n, m, d, e, outputs } = step;
  const [cO] = step.directions;
  const [wantsQ, wantsK, wantsV] = [
    isGiven(outputs[0]) && n * d > 0,
    isGiven(outputs[1]) && m * d > 0,
    isGiven(outputs[2]) && m * e > 0,
  ];
  const copies = { rowsD: 1, columnsD: 1, rowsE: Number(isGiven(cO)), columnsE: Number(isGiven(cO)) };
  const tiles = chooseTiles(lowering, step, (tile) => tileBytes(tile, copies));
  const shift = wantsQ || wantsK ? lowerShift(lowering, step) : undefined;
  const common = (glue: Glue) =>
    `${glue.operand(step.mask)}, ${glue.operand(step.l)}, ${glue.operand(shift)}`;
  const [q, k, v] = [step.q, step.k, step.v];
  const bytes = `kCotangentBytes<Sizes, ${isGiven(cO)}>`;
  launchTiles(lowering, step, tiles, "attention_cotangent", [
    // The keys' blocks go first: they take longer.
    {
      count: wantsK || wantsV ? Math.ceil(m / tiles.rows) : 0,
      call: (glue) =>
        `cotangent<Sizes, true, ${wantsK}, ${wantsV}>(tile, slice, ${glue.scale}, ` +
        `${[k, v, q, cO].map(glue.operand).join(", ")}, ${common(glue)}, ` +
        `${wantsK ? glue.result(1) : glue.nothing}, ${wantsV ? glue.result(2) : glue.nothing});`,
      bytes,
    },
    {
      count: wantsQ ? Math.ceil(n / tiles.rows) : 0,
      call: (glue) =>
        `cotangent<Sizes, false, true, false>(tile, slice, ${glue.scale}, ` +
        `${[q, cO, k, v].map(glue.operand).join(", ")}, ${common(glue)}, ${glue.result(0)}, ${glue.nothing});`,
      bytes,
    },
  ]);
}

/** rowsum(cO * O) - cL of each query, in scratch memory. */
function lowerShift(lowering: Lowering, step: AttentionStep): View {
  const { n, batch } = step;
  const rows = sizeOf(batch) * n;
  const buffer = lowering.scratch(step.dtype, rows);
  const [cO, cL] = step.directions;
  lowering.launch({
    name: "attention_shift",
    threads,
    grid: [checkedBlocks(Math.ceil(rows / (threads / 32))), 1, 1],
    includes: ["attention_cotangent.cuh"],
    writes: [buffer],
    body: (pointer) => {
      const glue = new Glue(step, pointer);
      return [
        `const long long number = (long long)(blockIdx.x) * ${threads / 32} + threadIdx.x / 32;`,
        `if (number >= ${rows}LL) return;`,
        `const long long entry = number / ${n};`,
        ...glue.coordinates,
        `fluxion::attention::shiftOf<${step.e}>(int(number % ${n}), ${glue.operand(step.o)}, ${glue.operand(cO)}, ` +
          `${glue.operand(cL)}, ${pointer(buffer)} + number);`,
      ];
    },
  });
  const strides = batch.map((_, axis) => n * sizeOf(batch.slice(axis + 1)));
  return { buffer, offset: 0, strides: [...strides, 1] };
}

/** What some blocks of a kernel do: `count` tiles for each index of the batch. */
interface Role {
  readonly count: number;
  /** The statement that computes `tile` and `slice`. */
  call(glue: Glue): string;
  /** C++ for the shared memory that it takes. */
  readonly bytes: string;
}

function launchTiles(
  lowering: Lowering,
  step: AttentionStep,
  tiles: ChosenTiles,
  name: string,
  roles: readonly Role[],
): void {
  const entries = sizeOf(step.batch);
  const active = roles.filter(({ count }) => count > 0);
  const blocks = active.reduce((total, { count }) => total + count * entries, 0);
  const { rows, columns, chunkD, chunkE, sharedBytes } = tiles;
  const features = (size: number, chunk: number) =>
    `fluxion::attention::Features<${cTypes[step.dtype]}, ${size}, ${chunk}, fluxion::attention::${tiles.cores}>`;
  // Of a causal step the last queries see most keys, and the first keys are seen by most queries: long tasks go first.
  const backwards = step.causal && step.part !== "cotangent";
  lowering.launch({
    name,
    threads,
    blocks: Math.min(3, Math.floor((lowering.target.sharedBytes + reserved) / (sharedBytes + reserved))),
    grid: [checkedBlocks(blocks), 1, slicesOf(step, tiles)],
    sharedBytes,
    includes: [`${name}.cuh`],
    writes: step.outputs.filter((buffer) => buffer !== undefined),
    body: (pointer) => {
      const glue = new Glue(step, pointer);
      const lines = [
        `using Sizes = fluxion::attention::Tiles<${cTypes[step.dtype]}, ${step.n}, ${step.m}, ${step.causal}, ` +
          `${rows}, ${columns}, ${features(step.d, chunkD)}, ${features(step.e, chunkE)}>;`,
        "const int slice = blockIdx.z;",
      ];
      let first = 0;
      for (const { count, call, bytes } of active) {
        const number = first === 0 ? "int(blockIdx.x)" : `(int(blockIdx.x) - ${first})`;
        const tile = `${number} % ${count}`;
        lines.push(
          `${first === 0 ? "" : "else "}if (blockIdx.x < ${first + count * entries}u) {`,
          `  static_assert(fluxion::attention::${bytes} <= ${sharedBytes}, "shared memory");`,
          `  const int tile = ${backwards ? `${count - 1} - ${tile}` : tile};`,
          `  const long long entry = ${number} / ${count};`,
          ...glue.coordinates.map((line) => `  ${line}`),
          `  fluxion::attention::${call(glue)}`,
          "}",
        );
        first += count * entries;
      }
      return lines;
    },
  });
}

/** A step's operands at the index `entry` of the batch, as C++. */
class Glue {
  readonly #step: AttentionStep;
  readonly #pointer: (buffer: number) => string;

  constructor(step: AttentionStep, pointer: (buffer: number) => string) {
    this.#step = step;
    this.#pointer = pointer;
  }

  /** Statements that find the index of the batch from its number. */
  get coordinates(): string[] {
    const { batch } = this.#step;
    return batch.map((size, axis) => {
      const inner = sizeOf(batch.slice(axis + 1));
      return `const long long i${axis} = entry / ${inner}LL % ${size}LL;`;
    });
  }

  readonly operand = (view: View | undefined): string => {
    if (view === undefined) return "fluxion::attention::Absent{}";
    const { batch, n, m, d, e } = this.#step;
    const [row, column = 0] = view.strides.slice(batch.length);
    const reach = Math.max(n, m) * Math.abs(row!) + Math.max(m, d, e) * Math.abs(column);
    const index = reach < 2 ** 31 ? "int" : "long long";
    const coordinates = batch.map((_, axis) => `i${axis}`);
    const base = `${this.#pointer(view.buffer)} + (${sum(view.offset, view.strides.slice(0, batch.length), coordinates)})`;
    return `${operandType(cTypes[this.#dtype(view)], index, row!, column)}{${base}}`;
  };

  #dtype(view: View): "bool" | "float32" | "float64" {
    return view === this.#step.mask ? "bool" : this.#step.dtype === "float64" ? "float64" : "float32";
  }

  /** The address of a result, null where it is not wanted. */
  result(output: number): string {
    const { n, m, d, e, part, outputs } = this.#step;
    const buffer = outputs[output];
    if (buffer === undefined) return this.nothing;
    const size = part === "cotangent" ? [n * d, m * d, m * e][output]! : [n * e, n][output]!;
    return `${this.#pointer(buffer)} + entry * ${size}LL`;
  }

  get nothing(): string {
    return `static_cast<${cTypes[this.#step.dtype]}*>(nullptr)`;
  }

  /** The literal has the dtype's exact value. */
  get scale(): string {
    const { scale, dtype } = this.#step;
    return `${cTypes[dtype]}(${Number.isInteger(scale) ? `${scale}.0` : scale})`;
  }
}

const operandType = (type: string, index: string, row: number, column: number) =>
  `fluxion::attention::Operand<${type}, ${index}, ${row}, ${column}>`;

/** What multiplies: see native/cuda/kernels/attention.cuh. */
type Cores = "FmaCores" | "Tf32Cores";

interface ChosenTiles {
  readonly cores: Cores;
  readonly rows: number;
  readonly columns: number;
  /** Features of a chunk. */
  readonly chunkD: number;
  readonly chunkE: number;
  readonly sharedBytes: number;
}

/** Strides of rows in shared memory, and bytes of an element. */
interface Tile {
  readonly rows: number;
  readonly columns: number;
  readonly d: number;
  readonly e: number;
  readonly elementBytes: number;
}

/** How many tiles of each kind are in shared memory at once. */
interface Copies {
  readonly rowsD: number;
  readonly columnsD: number;
  readonly rowsE?: number;
  readonly columnsE: number;
}

function tileBytes(
  { rows, columns, d, e, elementBytes }: Tile,
  { rowsD, columnsD, rowsE = 0, columnsE }: Copies,
): number {
  const weights = rows * (columns + vectorBytes / elementBytes);
  return elementBytes * (rows * (rowsD * d + rowsE * e) + columns * (columnsD * d + columnsE * e) + weights);
}

/**
 * The largest tiles of which two blocks find room on a multiprocessor; else those of which one does. They are no larger
 * than the matrices, nor than leaves each multiprocessor a block.
 */
function chooseTiles(lowering: Lowering, step: AttentionStep, bytesOf: (tile: Tile) => number): ChosenTiles {
  const { n, m, d, e, dtype, part } = step;
  const { multiprocessors, sharedBytes: most, precision } = lowering.target;
  const elementBytes = dtype === "float64" ? 8 : 4;
  const along = part === "cotangent" ? Math.max(n, m) : n;
  const across = part === "cotangent" ? Math.max(n, m) : m;
  // Doubles take two registers each.
  let highest = Math.min(dtype === "float64" ? 32 : 64, powerOfTwo(along));
  // Tensor cores need 16 rows for each warp, and are worth it where some multiprocessors stay without work.
  const cores: Cores =
    dtype === "float32" && precision !== "float32" && highest === 64 ? "Tf32Cores" : "FmaCores";
  while (
    cores === "FmaCores" &&
    highest > 16 &&
    sizeOf(step.batch) * Math.ceil(along / highest) < multiprocessors
  )
    highest /= 2;
  const lowest = cores === "Tf32Cores" ? 64 : 16;
  const widest = Math.min(64, powerOfTwo(across));
  const fitting = (limit: number, longest: number): ChosenTiles | undefined => {
    const [chunkD, chunkE] = [chunkOf(d, longest), chunkOf(e, longest)];
    for (const [rows, columns] of tileSizes) {
      if (rows > highest || rows < lowest || columns > widest) continue;
      const strides = { d: stride(chunkD, elementBytes, cores), e: stride(chunkE, elementBytes, cores) };
      const sharedBytes = bytesOf({ rows, columns, ...strides, elementBytes });
      if (sharedBytes <= limit) return { cores, rows, columns, chunkD, chunkE, sharedBytes };
    }
    return undefined;
  };
  const half = (most + reserved) / 2 - reserved;
  return fitting(half, 128) ?? fitting(most, 128) ?? fitting(half, 64) ?? fitting(most, 64)!;
}

const threads = 128;
const vectorBytes = 16;
/** Of a multiprocessor's shared memory that it takes for itself with each block; one block may have all but that. */
const reserved = 1024;
const maximumSize = 2 ** 31 - 256;

/** Rows and columns of a tile of scores, the better ones first. */
const tileSizes = [
  [64, 64],
  [64, 32],
  [32, 64],
  [32, 32],
  [64, 16],
  [32, 16],
  [16, 32],
  [16, 16],
] as const;

const chunkOf = (features: number, longest: number) => (features > longest ? 64 : Math.max(features, 1));

const slicesOf = ({ part, d, e }: AttentionStep, { chunkD, chunkE }: ChosenTiles) =>
  Math.max(1, Math.ceil(e / chunkE), part === "cotangent" ? Math.ceil(d / chunkD) : 1);

/** As in `Features` of attention.cuh: elements from row to row, an odd number of vectors. */
function stride(chunk: number, elementBytes: number, cores: Cores): number {
  const lanes = 16;
  const vector = vectorBytes / elementBytes;
  const up = (unit: number) => Math.ceil(chunk / unit) * unit;
  const width = chunk <= lanes ? 1 : vector === 2 || up(2 * lanes) < up(4 * lanes) ? 2 : 4;
  const filled = cores === "Tf32Cores" ? up(8) : Math.max(up(vector), up(lanes * width));
  return vector * ((filled / vector) | 1);
}

/** The least power of two that is at least x, and 16. */
const powerOfTwo = (x: number) => 2 ** Math.ceil(Math.log2(Math.max(x, 16)));

const isGiven = (x: unknown) => x !== undefined;

function checkedBlocks(blocks: number): number {
  if (blocks < 2 ** 31) return blocks;
  throw new BackendError(
    `attention in ${blocks} blocks of queries is more than the cuda backend takes; use smaller batches`,
  );
}
