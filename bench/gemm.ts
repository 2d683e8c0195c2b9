import * as fx from "fluxion";
import { setThreads, threads as threadsInUse } from "#lib/backend/cpu.js";
import { backendOf } from "#lib/backend/index.js";
import type { Bench } from "./bench.js";
import { percent, threadsOf, time, times } from "./format.js";
import { alternate, fastest, type Side, timed } from "./measure.js";
import { torchSide } from "./peers/torch.js";
import { ratio, type Summary, summarize } from "./statistics.js";

interface Product {
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly batch: number;
  /** Which side lies transposed in memory. */
  readonly transposed: "none" | "left" | "right";
}

/** One product on so many threads. */
export interface GemmRow extends Product {
  readonly name: string;
  readonly threads: number;
  readonly seconds: Summary;
  /** Our share of the peak of multiply-adds, measured in the same rounds. */
  readonly shareOfPeak: Summary;
  /** OpenBLAS at its best, and its time over ours: above 1, ours is faster. */
  readonly openblas?: { readonly setting: string; readonly seconds: Summary; readonly ratio: Summary };
}

const product = (m: number, k: number, n: number, rest: Partial<Product> = {}): Product => ({
  m,
  k,
  n,
  batch: 1,
  transposed: "none",
  ...rest,
});

/** The products of a training step of the tutorial's network, forwards and backwards, and some square ones. */
const products: readonly Product[] = [
  product(4096, 128, 128),
  product(4096, 4, 128),
  product(4096, 128, 2),
  product(128, 4096, 128, { transposed: "left" }),
  product(4096, 128, 128, { transposed: "right" }),
  product(4096, 512, 512),
  product(512, 512, 512),
  product(64, 64, 64, { batch: 64 }),
];

/** Left out of a quick run. */
const largeProducts = [product(1024, 1024, 1024), product(2048, 2048, 2048)];

/** Operations between two looks at the clock: some milliseconds, long beside a call. */
const flopsAtOnce = 1e9;

export async function benchGemm(bench: Bench): Promise<GemmRow[]> {
  bench.print(
    `  ${"m x k x n".padEnd(32)} ${"".padEnd(9)} ${"ours".padStart(13)}  ${"OpenBLAS".padStart(13)}  ` +
      `OpenBLAS / ours  share of peak`,
  );
  const rows: GemmRow[] = [];
  const before = threadsInUse();
  try {
    for (const shape of bench.quick ? products : [...products, ...largeProducts]) {
      for (const threads of [1, 2]) {
        bench.progress(`${nameOf(shape)}, ${threadsOf(threads)}`);
        rows.push(await compare(bench, shape, threads));
      }
    }
  } finally {
    setThreads(before);
  }
  return rows;
}

async function compare(bench: Bench, shape: Product, threads: number): Promise<GemmRow> {
  const flops = 2 * shape.batch * shape.m * shape.k * shape.n;
  const inner = Math.max(1, Math.round(flopsAtOnce / flops));
  const mine = ours(shape, threads, inner);
  const theirs = await openblas(bench, shape, threads, inner);
  const sides = [mine, bench.peak.floor(flops, threads), ...(theirs === undefined ? [] : [theirs])];
  const [own, floor, peer] = await alternate(sides, bench.rounds);
  const seconds = summarize(own!.turns);
  const shareOfPeak = ratio(floor!.turns, own!.turns);
  const name = nameOf(shape);
  const row: GemmRow = { name, ...shape, threads, seconds, shareOfPeak };
  const start = `  ${name.padEnd(32)} ${threadsOf(threads).padEnd(9)} ${time(seconds)}`;
  const share = percent(shareOfPeak.median).padStart(6);
  if (peer === undefined || peer.failed !== undefined) {
    bench.print(`${start} ${"-".padStart(15)} ${"-".padStart(15)} ${share}${peer ? `  ${peer.failed}` : ""}`);
    return row;
  }
  const result = {
    setting: peer.label,
    seconds: summarize(peer.turns),
    ratio: ratio(peer.turns, own!.turns),
  };
  bench.print(`${start}  ${time(result.seconds)}  ${times(result.ratio)}  ${share}  (${peer.label})`);
  return { ...row, openblas: result };
}

function nameOf({ m, k, n, batch, transposed }: Product): string {
  const note = transposed === "none" ? "" : `, ${transposed} transposed`;
  return `${batch > 1 ? `${batch} of ` : ""}${m} x ${k} x ${n}${note}`;
}

/** The product in a loop that writes it to the same two places in turn; the peer's side has one place. */
function ours({ m, k, n, batch, transposed }: Product, threads: number, inner: number): Side {
  setThreads(threads);
  const lead = batch > 1 ? [batch] : [];
  const key = fx.random.key(0);
  const left = fx.random.normal(key, transposed === "left" ? [...lead, k, m] : [...lead, m, k]);
  const right = fx.random.normal(key, transposed === "right" ? [...lead, n, k] : [...lead, k, n]);
  const swap = [...lead.map((_, i) => i), lead.length + 1, lead.length];
  const step = () => {
    const a = transposed === "left" ? fx.transpose(left, swap) : left;
    const b = transposed === "right" ? fx.transpose(right, swap) : right;
    return { state: { c: fx.matmul(a, b) }, observed: [fx.zeros([])] };
  };
  const loop = fx.compileLoop(step, { c: fx.zeros([...lead, m, n]) }, { backend: backendOf("cpu") });
  return {
    label: "ours",
    turn() {
      setThreads(threads);
      return timed(3, inner, () => loop.run(inner));
    },
    end: () => loop.dispose(),
  };
}

/** OpenBLAS on so many threads with the best of its kernels, called by PyTorch or directly. */
async function openblas(
  { peers, print, quick }: Bench,
  shape: Product,
  threads: number,
  inner: number,
): Promise<Side | undefined> {
  if (peers.torch === undefined) return undefined;
  const { m, k, n, batch, transposed } = shape;
  const ways = peers.torch.settings
    .filter((setting) => setting.threads === threads)
    .flatMap((setting) =>
      ["matmul", "sgemm"].map((way) => {
        const work = { task: "gemm", way, m, k, n, batch, transposed, inner };
        return torchSide(setting, work, way, 3, inner);
      }),
    );
  try {
    return await fastest(ways, !quick);
  } catch (error) {
    print(`  OpenBLAS cannot do ${nameOf(shape)}: ${(error as Error).message}`);
    return undefined;
  }
}
