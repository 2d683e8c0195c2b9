import * as fx from "fluxion";
import { backendOf } from "#lib/backend/index.js";
import type { Row } from "./index.js";
import { alternate, bestTorch, type Side } from "./measure.js";
import type { Setting } from "./peers/torch.js";

interface Product {
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly batch: number;
  /** Which side lies transposed in memory. */
  readonly transposed: "none" | "left" | "right";
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
  product(1024, 1024, 1024),
  product(64, 64, 64, { batch: 64 }),
];

/** Operations in one turn of one side, roughly: enough that a turn is long beside the call itself. */
const turnFlops = { cuda: 1e10, cpu: 4e8, typescript: 5e7 } as const;

export async function* benchGemm(
  backends: readonly fx.BackendName[],
  settings: readonly Setting[],
  quick: boolean,
): AsyncGenerator<Row> {
  for (const shape of quick ? products.slice(0, 5) : products) {
    const flops = 2 * shape.batch * shape.m * shape.k * shape.n;
    const inner = (budget: number) => Math.max(1, Math.round(budget / flops));
    const sides: Side[] = backends.map((name) => ours(name, shape, inner(turnFlops[name])));
    if (settings.length > 0) {
      const count = inner(turnFlops.cpu);
      const { m, k, n, batch, transposed } = shape;
      const work = { task: "gemm", m, k, n, batch, transposed, inner: count };
      sides.push(await bestTorch(settings, [work], 5, count));
    }
    const name = `${shape.batch > 1 ? `${shape.batch} of ` : ""}${shape.m} x ${shape.k} x ${shape.n}`;
    const note = shape.transposed === "none" ? "" : `, ${shape.transposed} side transposed`;
    yield { section: "gemm", name: name + note, flops, timings: await alternate(sides, quick ? 3 : 9) };
  }
}

/** The product in a loop that writes it to the same place again and again, as PyTorch's side does. */
function ours(name: fx.BackendName, shape: Product, inner: number): Side {
  const { m, k, n, batch, transposed } = shape;
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
  const loop = fx.compileLoop(step, { c: fx.zeros([...lead, m, n]) }, { backend: backendOf(name) });
  return {
    label: name,
    async turn() {
      const seconds: number[] = [];
      for (let i = 0; i < 5; i++) {
        const start = performance.now();
        await loop.run(inner);
        seconds.push((performance.now() - start) / 1000 / inner);
      }
      return seconds;
    },
  };
}
