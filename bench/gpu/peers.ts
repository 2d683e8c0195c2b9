import type { Side } from "../measure.js";
import { PeerProcess, peerScript } from "../peers/process.js";
import type { GpuCase } from "./cases.js";
import { turnSeconds } from "./ours.js";

/** Milliseconds for one answer: a compiler that tries kernels takes minutes. */
const patience = 200_000;

interface Way {
  /** As the peer's script has it. */
  readonly way: string;
  readonly title: string;
  /** Shown in every case; the others where all ways are asked for. */
  readonly always: boolean;
}

interface Kind {
  readonly name: string;
  readonly script: string;
  readonly ways: readonly Way[];
  /** Ways that make sense for a matrix product. */
  readonly gemm: readonly string[];
}

const kinds: readonly Kind[] = [
  {
    name: "PyTorch",
    script: "gpu_torch.py",
    ways: [
      { way: "eager", title: "eager", always: true },
      { way: "max-autotune", title: "compile, max-autotune-no-cudagraphs", always: false },
      { way: "reduce-overhead", title: "compile, reduce-overhead", always: false },
      { way: "graph", title: "compiled, a step in a graph", always: false },
    ],
    gemm: ["eager"],
  },
  {
    name: "JAX",
    script: "gpu_jax.py",
    ways: [
      { way: "call", title: "jit, a call a step", always: false },
      { way: "scan", title: "jit, scan", always: true },
    ],
    gemm: ["scan"],
  },
];

/** PyTorch or JAX on the same card. */
export interface GpuPeer {
  readonly name: string;
  /** Their version, or why they are not here. */
  readonly about: { readonly version: string } | { readonly missing: string };
  sides(work: GpuCase): Side[];
}

/** Starts the peers, and says of each whether it is here. */
export async function findGpuPeers(python: string, device: string, quick: boolean): Promise<GpuPeer[]> {
  const peers: GpuPeer[] = [];
  for (const kind of kinds) {
    const args = [peerScript(kind.script), "--serve", "--device", device];
    const process = new PeerProcess(python, args, {}, patience);
    try {
      const { version } = await process.start();
      peers.push({
        name: kind.name,
        about: { version: String(version) },
        sides: (work) => waysOf(kind, work, quick).map((way) => sideOf(kind, way, process, work)),
      });
    } catch (error) {
      peers.push({ name: kind.name, about: { missing: (error as Error).message }, sides: () => [] });
    }
  }
  return peers;
}

function waysOf({ ways, gemm }: Kind, { work, allWays }: GpuCase, quick: boolean): readonly Way[] {
  if (work.task === "gemm") return ways.filter(({ way }) => gemm.includes(way));
  // A whole training at its best in little time: compiled in the lightest way that has no call a kernel.
  if (work.task === "tutorial")
    return ways.filter(({ way, always }) => always || (!quick && way === "reduce-overhead"));
  return ways.filter(({ always }) => always || allWays);
}

function sideOf(
  { name }: Kind,
  { way, title }: Way,
  process: PeerProcess,
  { work, precision }: GpuCase,
): Side {
  return {
    label: `${name} ${title}`,
    peer: true,
    turn: async () => {
      const [seconds] = await process.measure({ ...work, precision, way, target: turnSeconds }, 1);
      return seconds!;
    },
  };
}
