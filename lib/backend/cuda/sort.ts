import type { SortStep } from "../../compile/plan.js";
import type { Lowering } from "./lowering.js";

/** Pairs that a block sorts in shared memory: 32 KB of them. */
const mostPairs = { Pair32: 4096, Pair64: 2048 };
/** A block has at least so many, of several rows where those are short. */
const leastPairs = 512;
/** Neighbours that a thread merges, after the search for where they begin. */
const merged = 8;
const mergeThreads = 256;

/**
 * The stable argsort of each row: tiles are sorted in shared memory, and where a row has several of them, neighbouring runs
 * merge in global memory until one is left.
 */
export function lowerSort(lowering: Lowering, { rows, size, input, output }: SortStep): void {
  if (rows * size === 0) return;
  const dtype = lowering.dtypeOf(input);
  const pair = dtype === "float64" ? "Pair64" : "Pair32";
  const width = Math.min(mostPairs[pair], 2 ** Math.ceil(Math.log2(Math.max(2, size))));
  const tiles = Math.ceil(size / width);
  const perBlock = tiles > 1 ? 1 : Math.max(1, leastPairs / width);
  const tile = perBlock * width;
  const threads = Math.min(1024, tile / 2);
  const scratch = (): number => lowering.scratch("float64", rows * size * (pair === "Pair64" ? 2 : 1));
  let from = tiles > 1 ? scratch() : output;
  lowering.launch({
    name: "sort",
    threads,
    grid: [Math.ceil((rows * tiles) / perBlock), 1, 1],
    includes: ["sort.cuh"],
    writes: [from],
    body: (pointer) => [
      `using Pair = fluxion::${pair};`,
      `__shared__ Pair pairs[${tile}];`,
      `for (int k = threadIdx.x; k < ${tile}; k += ${threads}) {`,
      `  const long long number = (long long)(blockIdx.x) * ${perBlock} + k / ${width};`,
      `  const long long row = number / ${tiles};`,
      `  const int place = int(number % ${tiles}) * ${width} + k % ${width};`,
      `  pairs[k] = row < ${rows} && place < ${size} ? Pair::of(fluxion::orderedKey(${pointer(input)}[row * ${size} + place]), place) : Pair::last();`,
      "}",
      `fluxion::sortTile<${threads}, ${tile}, ${width}>(pairs);`,
      ...(tiles > 1 ? [`Pair* const sorted = reinterpret_cast<Pair*>(${pointer(from)});`] : []),
      `for (int k = threadIdx.x; k < ${tile}; k += ${threads}) {`,
      `  const long long number = (long long)(blockIdx.x) * ${perBlock} + k / ${width};`,
      `  const long long row = number / ${tiles};`,
      `  const int place = int(number % ${tiles}) * ${width} + k % ${width};`,
      `  if (row < ${rows} && place < ${size}) ${
        tiles > 1
          ? `sorted[row * ${size} + place] = pairs[k]`
          : `${pointer(output)}[row * ${size} + place] = pairs[k].position()`
      };`,
      "}",
    ],
  });
  if (tiles === 1) return;

  let to = scratch();
  const perRow = Math.ceil(size / merged);
  for (let run = width; run < size; run *= 2) {
    const final = 2 * run >= size;
    const [source, target] = [from, final ? output : to];
    lowering.launch({
      name: "merge",
      threads: mergeThreads,
      grid: [Math.ceil((rows * perRow) / mergeThreads), 1, 1],
      includes: ["sort.cuh"],
      writes: [target],
      body: (pointer) => [
        `using Pair = fluxion::${pair};`,
        `const long long t = (long long)(blockIdx.x) * ${mergeThreads} + threadIdx.x;`,
        `const long long row = t / ${perRow};`,
        `if (row < ${rows}) {`,
        `  const int first = int(t % ${perRow}) * ${merged}, end = min(first + ${merged}, ${size});`,
        `  const Pair* const pairs = reinterpret_cast<const Pair*>(${pointer(source)}) + row * ${size};`,
        final
          ? `  int* const target = ${pointer(target)} + row * ${size};`
          : `  Pair* const target = reinterpret_cast<Pair*>(${pointer(target)}) + row * ${size};`,
        `  fluxion::mergeRuns(pairs, ${size}, ${run}, first, end, [target](int k, const Pair& p) { target[k] = ${final ? "p.position()" : "p"}; });`,
        "}",
      ],
    });
    [from, to] = [to, from];
  }
}
