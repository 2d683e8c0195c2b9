import * as fx from "fluxion";
import { threads, workspaceBytes } from "#lib/backend/cpu.js";
import { lower } from "#lib/compile/lower.js";
import { programGraph } from "#lib/compile/program.js";
import {
  type Attend,
  type AttentionSize,
  type AttentionWork,
  attentionFlops,
  attentionInputs,
  attentionProgram,
  attentionWorks,
  fusedAttention,
  plainAttention,
} from "./attention-work.js";
import type { Bench } from "./bench.js";
import { engineering, percent, time, times } from "./format.js";
import { alternate, fastest, type Side, type Timed, timed } from "./measure.js";
import { type Torch, torchSide } from "./peers/torch.js";
import { ratio, type Summary, summarize } from "./statistics.js";
import type { OtherRow } from "./steps.js";

const titles: Readonly<Record<AttentionWork, string>> = {
  value: "value",
  jvp: "value and tangent",
  vjp: "value and gradients",
  hvp: "gradients and their tangents",
};

/** One work at one size. */
export interface AttentionRow extends AttentionSize {
  readonly name: string;
  readonly work: AttentionWork;
  readonly title: string;
  readonly seconds: Summary;
  /** Share of the peak of multiply-adds, measured in the same rounds, that the counted products reach. */
  readonly shareOfPeak?: Summary;
  readonly memory: AttentionMemory;
  /** softmax(scale q k^T) v in this library, and its time and memory over ours: above 1, ours takes less. */
  readonly plain: {
    readonly seconds: Summary;
    readonly ratio: Summary;
    readonly memory: AttentionMemory;
    readonly memoryRatio: number;
  };
  /** The plain composition in PyTorch, where it is there. */
  readonly torch?: OtherRow;
}

/** Bytes of a run besides inputs and outputs. */
export interface AttentionMemory {
  /** Temporaries of the plan, as fx.inspect counts them. */
  readonly temporaries: number;
  /** All that the addon holds, on the threads in use: with packed operands, partial sums and blocks of each thread. */
  readonly whole: number;
}

const usual = { d: 64, e: 64, causal: false };
const small: AttentionSize = { ...usual, heads: 8, n: 1024, m: 1024 };
/** Left out of a quick run. A turn may take a second: they are measured in fewer rounds. */
const large: AttentionSize = { ...usual, heads: 4, n: 4096, m: 4096 };
const roundsOfLarge = 5;

const isLarge = ({ n }: AttentionSize) => n >= large.n;

/** Without `sizes`, those of the bench. */
export async function benchAttention(
  bench: Bench,
  sizes: readonly AttentionSize[] = bench.quick ? [small] : [small, large, { ...large, causal: true }],
): Promise<AttentionRow[]> {
  bench.print(
    "  fx.attention beside the composition softmax(scale q k^T) v, in this library and in PyTorch.",
  );
  bench.print("  With an x: their time, or memory besides inputs and outputs, over that of fx.attention.");
  const rows: AttentionRow[] = [];
  const torchWays = new Map<AttentionWork, TorchWay>();
  const before = fx.backend();
  fx.setBackend("cpu");
  try {
    for (const size of sizes) {
      bench.print(`  ${nameOf(size)}`);
      for (const work of attentionWorks) rows.push(await compare(bench, work, size, torchWays));
    }
  } finally {
    fx.setBackend(before);
  }
  return rows;
}

function nameOf({ heads, n, m, d, e, causal }: AttentionSize): string {
  const sizes = `${heads} heads, ${n} queries, ${m} keys, ${d === e ? d : `${d} and ${e}`} features`;
  return `${sizes}${causal ? ", causal" : ""}`;
}

/** `torchWays`: how PyTorch did best at the small size, where all was tried; of the large ones a trial takes long. */
async function compare(
  bench: Bench,
  work: AttentionWork,
  size: AttentionSize,
  torchWays: Map<AttentionWork, TorchWay>,
): Promise<AttentionRow> {
  const title = titles[work];
  const name = nameOf(size);
  const { quick, peers } = bench;
  const repeats = quick || isLarge(size) ? 1 : 3;
  bench.progress(`${name}: ${title}, PyTorch`);
  const like = torchWays.get(work);
  const theirs =
    peers.torch && (await torchAtBest(peers.torch, work, size, repeats, !quick && like === undefined, like));
  if (theirs !== undefined && "side" in theirs) torchWays.set(work, theirs);
  bench.progress(`${name}: ${title}`);
  const inputs = attentionInputs(size);
  const fused = ours("fx.attention", work, fusedAttention(size), inputs, repeats);
  const plain = ours("plain", work, plainAttention(size), inputs, repeats);
  const flops = attentionFlops(work, size);
  const least = flops === undefined ? [] : [bench.peak.floor(flops, threads())];
  const peer = theirs !== undefined && "side" in theirs ? [theirs.side] : [];
  const rounds = isLarge(size) ? Math.min(bench.rounds, roundsOfLarge) : bench.rounds;
  const [own, other, ...rest] = await alternate([fused.side, plain.side, ...least, ...peer], rounds);
  const floor = least.length > 0 ? rest[0] : undefined;
  const torch = theirs && torchRow("failed" in theirs ? theirs : rest[least.length]!, own!);
  const row: AttentionRow = {
    ...size,
    name,
    work,
    title,
    seconds: summarize(own!.turns),
    ...(floor === undefined ? {} : { shareOfPeak: ratio(floor.turns, own!.turns) }),
    memory: fused.memory,
    plain: {
      seconds: summarize(other!.turns),
      ratio: ratio(other!.turns, own!.turns),
      memory: plain.memory,
      memoryRatio: plain.memory.whole / fused.memory.whole,
    },
    ...(torch === undefined ? {} : { torch }),
  };
  for (const line of linesOf(row)) bench.print(line);
  return row;
}

/** A program of ours, jitted, and the memory that it takes. */
function ours(
  label: string,
  work: AttentionWork,
  attend: Attend,
  inputs: ReturnType<typeof attentionInputs>,
  repeats: number,
): { side: Side; memory: AttentionMemory } {
  const program = attentionProgram(work, attend);
  const { graph, memory } = fx.inspect(program, ...inputs);
  const jitted = fx.jit(program);
  return {
    side: { label, turn: () => timed(repeats, 1, async () => jitted(...inputs)) },
    memory: {
      temporaries: memory.arena + memory.local,
      whole: workspaceBytes(lower(programGraph(graph))),
    },
  };
}

/** A way to have PyTorch do a work. */
interface TorchWay {
  readonly core: string;
  readonly jvp: string;
  readonly side: Side;
}

/**
 * PyTorch with the best of its settings and of its ways to such a derivative, or why it fails. `like`: only with the
 * kernels and the way to derive of this one.
 */
async function torchAtBest(
  { settings }: Torch,
  work: AttentionWork,
  { heads, n, m, d, e, causal }: AttentionSize,
  repeats: number,
  certain: boolean,
  like: TorchWay | undefined,
): Promise<TorchWay | { readonly failed: string }> {
  const jvps = work === "jvp" ? ["forward", "double-backward"] : ["none"];
  const request = { task: "attention", work, heads, n, m, d, e, causal: causal ? 1 : 0 };
  const ways = settings
    .flatMap((setting) =>
      jvps.map((jvp): TorchWay => {
        const note = jvp === "none" ? "" : `${jvp} JVP`;
        const { core } = setting;
        return { core, jvp, side: torchSide(setting, { ...request, jvp }, note, repeats, 1) };
      }),
    )
    .filter(({ core, jvp }) => like === undefined || (core === like.core && jvp === like.jvp));
  try {
    const best = await fastest(
      ways.map(({ side }) => side),
      certain,
    );
    return ways.find(({ side }) => side === best)!;
  } catch (error) {
    return { failed: (error as Error).message };
  }
}

/** How PyTorch's turns compare, or why it failed. */
function torchRow(peer: Timed | { readonly failed: string }, own: Timed): OtherRow {
  const name = "PyTorch";
  if (peer.failed !== undefined) return { name, failed: peer.failed };
  const { label, turns } = peer as Timed;
  return { name, setting: label, seconds: summarize(turns), ratio: ratio(turns, own.turns) };
}

function linesOf({ title, seconds, shareOfPeak, memory, plain, torch }: AttentionRow): string[] {
  const line = (title: string, who: string, rest: string) =>
    `    ${title.padEnd(28)} ${who.padEnd(12)} ${rest}`;
  const bytes = ({ whole }: AttentionMemory) => engineering(whole, "B").padStart(8);
  const share = shareOfPeak === undefined ? "" : `, ${percent(shareOfPeak.median)} of the peak`;
  const lines = [
    line(title, "fx.attention", `${time(seconds)}  ${"".padStart(12)} ${bytes(memory)}${share}`),
    line(
      "",
      "composition",
      `${time(plain.seconds)}  ${times(plain.ratio)} ${bytes(plain.memory)}, ${plain.memoryRatio.toPrecision(3)}x`,
    ),
  ];
  if (torch?.seconds !== undefined && torch.ratio !== undefined)
    lines.push(line("", torch.name, `${time(torch.seconds)}  ${times(torch.ratio)} (${torch.setting})`));
  else if (torch !== undefined) lines.push(line("", torch.name, torch.failed ?? ""));
  return lines;
}
