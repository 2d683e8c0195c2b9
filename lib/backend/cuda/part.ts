import type { KernelCall, Lowering } from "./lowering.js";

/** Threads of a block in which parts run. */
export const threads = 256;

/** Work for some blocks of a launch. */
export interface Part {
  /** The word for it in the kernel's name. */
  readonly name: string;
  readonly blocks: number;
  /** The threads of the blocks that have work: the first ones. */
  readonly busy: number;
  /** Whether the threads of a block meet at barriers. Others' warps may do without each other. */
  readonly barriers: boolean;
  readonly includes: readonly string[];
  readonly writes: readonly number[];
  /** Buffers through which the threads of a block pass values on. */
  readonly exchanged?: readonly number[];
  /** `block` and `thread` are C++ for the number of the block (unsigned), and of the thread in it. */
  lines(block: string, thread: string, pointer: Pointer): readonly string[];
}

export type Pointer = Parameters<KernelCall["body"]>[0];

/** One launch for parts that are independent of each other: each has its own range of blocks. */
export function launchParts(lowering: Lowering, parts: readonly Part[]): void {
  lowering.launch({
    name: [...new Set(parts.map(({ name }) => name))].join("_"),
    threads,
    grid: [parts.reduce((sum, { blocks }) => sum + blocks, 0), 1, 1],
    includes: parts.flatMap(({ includes }) => includes),
    writes: parts.flatMap(({ writes }) => writes),
    exchanged: parts.flatMap(({ exchanged }) => exchanged ?? []),
    body: (pointer) => {
      let first = 0;
      return parts.flatMap((part, i) => {
        const block = first === 0 ? "blockIdx.x" : `(blockIdx.x - ${first}u)`;
        const lines = part.lines(block, "threadIdx.x", pointer);
        first += part.blocks;
        if (parts.length === 1) return lines;
        const condition = i === parts.length - 1 ? "" : `if (blockIdx.x < ${first}u) `;
        return inside(`${i > 0 ? "else " : ""}${condition}`.trim(), lines);
      });
    },
  });
}

/**
 * The work of parts by one block: level after level, with barriers between them. Parts of a level are independent of each
 * other; where they can, they take different warps.
 */
export function inOneBlock(levels: readonly (readonly Part[])[]): Part {
  const parts = levels.flat();
  const writes = parts.flatMap(({ writes }) => writes);
  return {
    name: "small",
    blocks: 1,
    busy: threads,
    barriers: true,
    includes: parts.flatMap(({ includes }) => includes),
    writes,
    exchanged: writes,
    lines: (_block, _thread, pointer) =>
      levels.flatMap((level, i) => {
        let first = 0;
        const lines = level.flatMap((part) => {
          const thread =
            first === 0 || part.barriers
              ? "threadIdx.x"
              : `((threadIdx.x + ${threads - first}u) % ${threads}u)`;
          if (!part.barriers) first = (first + Math.ceil(part.busy / 32) * 32) % threads;
          if (part.blocks === 1) return inside("", part.lines("0u", thread, pointer));
          return inside(
            `for (unsigned block = 0; block < ${part.blocks}u; block++)`,
            part.lines("block", thread, pointer),
          );
        });
        return i === 0 ? lines : ["__syncthreads();", ...lines];
      }),
  };
}

/** Statements in braces, after what stands before the opening one. */
export function inside(head: string, lines: readonly string[]): string[] {
  return [head === "" ? "{" : `${head} {`, ...lines.map((line) => `  ${line}`), "}"];
}
